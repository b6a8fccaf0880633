"""Shapes and recorded settings -> architecture, input channels, and variant."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES, Architecture, Variant
from resnet_cli.checkpoint.network.layouts import TensorLayout
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError
from resnet_cli.text import amount


@dataclass(frozen=True, slots=True)
class Detected:
    """The architecture that the tensors of a backbone fit."""

    architecture: Architecture
    in_channels: int  # of conv1

    @property
    def features(self) -> int:
        """Size of its output for one image."""
        return 512 if self.architecture.block == "BasicBlock" else 2048


BLOCK_NAME = re.compile(r"layer([1-4])\.(\d{1,3})\..+")

Signature = tuple[str, tuple[int, ...], int, int]  # block, depths, groups, width per group


def detect_network(state: Mapping[str, Tensor]) -> Detected:
    """Read the architecture off the tensors.

    Args:
        state: tensors under torchvision's names.

    Raises:
        CheckpointError: not one of torchvision's ten ResNets, or another first convolution.
    """
    wanted = read_signature(state)
    matches = [a for a in ARCHITECTURES.values() if architecture_facts(a) == wanted]
    if not matches:
        raise CheckpointError(describe_unknown(wanted))
    return Detected(matches[0], input_channels(state))


def describe_unknown(wanted: Signature) -> str:
    """Describe a ResNet that is not one of the ten, and the nearest of them."""
    nearest = min(
        ARCHITECTURES.values(),
        key=lambda known: signature_distance(architecture_facts(known), wanted),
    )
    return (
        f"a ResNet of {describe_signature(wanted)} is in it, which is none of torchvision's ten: "
        f"the nearest is {nearest.name}, of {describe_signature(architecture_facts(nearest))}"
    )


def describe_signature(found: Signature) -> str:
    """Describe the blocks of a network."""
    block, depths, groups, width = found
    return f"{depths} {block}s with {amount(groups, 'group')} of width {width}"


def signature_distance(one: Signature, other: Signature) -> tuple[bool, bool, int]:
    """Return how unlike two networks are: in kind of block, in widths, in the number of blocks."""
    blocks = sum(abs(a - b) for a, b in zip(one[1], other[1], strict=True))
    return one[0] != other[0], one[2:] != other[2:], blocks


def architecture_facts(architecture: Architecture) -> Signature:
    """Return the signature of an architecture."""
    a = architecture
    return a.block, a.depths, a.groups, a.width_per_group


def read_signature(state: Mapping[str, Tensor]) -> Signature:
    """Read the signature of a network off its tensors, even if some are missing."""
    blocks = {match.groups() for name in state if (match := BLOCK_NAME.fullmatch(name))}
    depths = tuple(sum(layer == wanted for layer, _ in blocks) for wanted in "1234")
    if not any(name.endswith(".conv3.weight") for name in state):
        return "BasicBlock", depths, 1, kernel_shape(state, "layer1.0.conv1")[0]
    width, per_group, *_ = kernel_shape(state, "layer1.0.conv2")
    return "Bottleneck", depths, width // per_group, per_group


def input_channels(state: Mapping[str, Tensor]) -> int:
    """Return the input channels of the first convolution, which must be torchvision's 7x7 one.

    Raises:
        CheckpointError: it has another size, as in ResNets for small images.
    """
    _, channels, *size = kernel_shape(state, "conv1")
    if size != [7, 7]:
        raise CheckpointError(
            f"its first convolution is {size[0]}x{size[1]}, torchvision's is 7x7: "
            "a ResNet for small images?"
        )
    return channels


def kernel_shape(state: Mapping[str, Tensor], name: str) -> tuple[int, int, int, int]:
    """Return the shape of a convolution's weight: channels out, channels in, height, width.

    Raises:
        CheckpointError: it is missing, or not of a convolution.
    """
    weight = state.get(f"{name}.weight")
    if weight is None:
        raise CheckpointError(f"it is incomplete: {name}.weight is missing")
    if weight.ndim != 4 or not weight.numel():
        raise CheckpointError(
            f"{name}.weight has the shape {list(weight.shape)}: it is not a ResNet of torchvision"
        )
    out_channels, in_channels, height, width = weight.shape
    return out_channels, in_channels, height, width


POOLS = frozenset({"MaxPool2d", "Pooling"})

FOREIGN_MODULES = frozenset(
    {"LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Mish", "Hardswish", "Tanh", "Softplus", "SELU",
     "Hardtanh", "Hardsigmoid", "Sigmoid", "ReLU6", "RReLU", "CELU", "Softsign", "Threshold",
     "AvgPool2d", "AdaptiveMaxPool2d", "LPPool2d", "FractionalMaxPool2d", "InstanceNorm2d"}
)  # fmt: skip
"""Modules without tensors that no ResNet of torchvision contains."""

PLACES = {"relu": "ReLU", "maxpool": "MaxPool2d", "avgpool": "AdaptiveAvgPool2d"}
"""Names of torchvision's own parts, and their classes."""

Parts = Mapping[str, Part]


def backbone_parts(
    parts: Parts, prefix: str, layout: TensorLayout
) -> tuple[dict[str, Part], dict[str, Part]]:
    """Return the parts of the backbone under torchvision's names, and the other parts."""
    ours, others = {}, {}
    for name, part in parts.items():
        if name.startswith(prefix):
            own = name.removeprefix(prefix)
            known = layout.translate(f"{own}.weight")
            if known is None:
                others[own] = part
            elif known.removesuffix(".weight") not in ours or "eps" in part.settings:
                ours[known.removesuffix(".weight")] = part
    return ours, others


def variant_of(architecture: Architecture, ours: Parts, others: Parts, default: Variant) -> Variant:
    """Read off the parts how a network deviates from torchvision's default.

    Args:
        architecture: read off its tensors.
        ours: its parts, under torchvision's names; without settings where the file has none.
        others: the parts beside them, such as the max pool.
        default: what applies where the file states nothing.

    Raises:
        CheckpointError: no variant of torchvision's network computes so.
    """
    for name, part in others.items():
        wanted = PLACES.get(name.rpartition(".")[2], part.kind)
        if part.kind in FOREIGN_MODULES or part.kind != wanted:
            raise CheckpointError(
                f"its {name} is {part.kind}, which torchvision's network does not have"
            )
    variant = default
    pool = first_pool(others)
    if pool is not None:
        variant = replace(variant, ceil_pool=is_ceil(pool))
    if architecture.block == "Bottleneck" and stride_of(ours, "layer2.0.conv2") is not None:
        variant = replace(variant, stride_in_1x1=stride_of(ours, "layer2.0.conv1") == 2)
    return replace(variant, dilated=dilated_stages(architecture, ours, default))


def dilated_stages(
    architecture: Architecture, ours: Parts, default: Variant
) -> tuple[bool, bool, bool]:
    """Return for layer2, 3 and 4 whether they dilate instead of striding.

    Raises:
        CheckpointError: a layer does neither.
    """
    convs = ("conv1", "conv2") if architecture.block == "Bottleneck" else ("conv1",)
    found = []
    for layer, usual in zip((2, 3, 4), default.dilated, strict=True):
        strides = [stride_of(ours, f"layer{layer}.0.{conv}") for conv in convs]
        if None in strides:
            found.append(usual)
            continue
        if 2 not in strides and square_setting(ours.get(f"layer{layer}.1.conv2"), "dilation") in (
            1,
            None,
        ):
            raise CheckpointError(f"its layer{layer} neither strides nor dilates")
        found.append(2 not in strides)
    return found[0], found[1], found[2]


def stride_of(parts: Parts, name: str) -> int | None:
    """Return the stride of a convolution; None where the file does not state it."""
    return square_setting(parts.get(name), "stride")


def square_setting(part: Part | None, name: str) -> int | None:
    """Return a size of a part, which must be equal for height and width."""
    value: Any = None if part is None else part.settings.get(name)
    if isinstance(value, tuple | list) and value and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) else None


def first_pool(others: Parts) -> Part | None:
    """Return the pool behind the first convolution."""
    for part in others.values():
        if part.kind in POOLS and part.settings.get("pool", "MAX") == "MAX":
            return part
    return None


def is_ceil(pool: Part) -> bool:
    """Return whether the max pool is Caffe's: it rounds up and does not pad.

    Raises:
        CheckpointError: it is neither Caffe's nor torchvision's.
    """
    sizes = [square_setting(pool, name) for name in ("kernel_size", "stride")]
    padding = square_setting(pool, "padding" if pool.kind == "MaxPool2d" else "pad") or 0
    rounds_up = pool.settings.get("ceil_mode", pool.kind == "Pooling") is True
    if None in sizes:
        return pool.kind == "Pooling"
    if sizes != [3, 2] or (padding, rounds_up) not in ((1, False), (0, True)):
        raise CheckpointError(
            f"its max pool is {sizes[0]}x{sizes[0]} with stride {sizes[1]} and padding {padding}, "
            "torchvision's 3x3 with stride 2 and padding 1"
        )
    return rounds_up
