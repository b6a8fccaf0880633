"""What a file says of a network besides its tensors: strides, dilation, pools, epsilons."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from resnet_cli.checkpoint.network.architectures import Architecture, Variant
from resnet_cli.checkpoint.network.layouts import TensorLayout
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

EPS = 1e-5  # of torchvision's batch norms

POOLS = frozenset({"MaxPool2d", "Pooling"})

STRANGERS = frozenset(
    {"LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Mish", "Hardswish", "Tanh", "Softplus", "SELU",
     "Hardtanh", "Hardsigmoid", "Sigmoid", "ReLU6", "RReLU", "CELU", "Softsign", "Threshold",
     "AvgPool2d", "AdaptiveMaxPool2d", "LPPool2d", "FractionalMaxPool2d", "InstanceNorm2d"}
)  # fmt: skip
"""Modules without tensors that no ResNet of torchvision has."""

PLACES = {"relu": "ReLU", "maxpool": "MaxPool2d", "avgpool": "AdaptiveAvgPool2d"}
"""What stands under the names of torchvision's own parts."""

COMPARED = ("stride", "padding", "dilation", "kernel_size", "groups")  # of convolutions

Parts = Mapping[str, Part]


def backbone_parts(
    parts: Parts, prefix: str, layout: TensorLayout
) -> tuple[dict[str, Part], dict[str, Part]]:
    """Parts of the backbone under torchvision's names, and the other ones beside them."""
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
    """Read off the parts where a network computes otherwise than torchvision's.

    Args:
        architecture: as its tensors say.
        ours: its parts, under torchvision's names; without settings where the file has none.
        others: the parts beside them, such as the max pool.
        default: what holds where the file says nothing.

    Raises:
        CheckpointError: a network that torchvision's cannot be turned into.
    """
    for name, part in others.items():
        wanted = PLACES.get(name.rpartition(".")[2], part.kind)
        if part.kind in STRANGERS or part.kind != wanted:
            raise CheckpointError(f"its {name} is {part.kind}, which torchvision's network has not")
    variant = default
    pool = first_pool(others)
    if pool is not None:
        variant = replace(variant, ceil_pool=is_ceil(pool))
    if architecture.block == "Bottleneck" and stride_of(ours, "layer2.0.conv2") is not None:
        variant = replace(variant, stride_in_1x1=stride_of(ours, "layer2.0.conv1") == 2)
    return replace(variant, dilated=dilated_stages(architecture, ours, default))


def require_same_convolutions(network: ResNet, ours: Parts) -> None:
    """Refuse convolutions that the file describes otherwise than the network has them.

    Raises:
        CheckpointError: names the first.
    """
    for name, part in ours.items():
        module = network.get_submodule(name)
        if not isinstance(module, nn.Conv2d):
            continue
        for key in COMPARED:
            value, wanted = part.settings.get(key), getattr(module, key)
            if value is not None and value not in (
                wanted,
                wanted[0] if key != "groups" else wanted,
            ):
                raise CheckpointError(f"its {name} has {key} {value}, torchvision's {wanted}")
        if part.settings.get("padding_mode", "zeros") != "zeros":
            raise CheckpointError(
                f"its {name} pads with {part.settings['padding_mode']}, not zeros"
            )


def dilated_stages(
    architecture: Architecture, ours: Parts, default: Variant
) -> tuple[bool, bool, bool]:
    """Which of layer2, 3 and 4 dilate instead of striding.

    Raises:
        CheckpointError: one does neither.
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
    """Stride of a convolution; None where its file does not say it."""
    return square_setting(parts.get(name), "stride")


def square_setting(part: Part | None, name: str) -> int | None:
    """A size of a part, which must be the same for height and width."""
    value: Any = None if part is None else part.settings.get(name)
    if isinstance(value, tuple | list) and value and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) else None


def first_pool(others: Parts) -> Part | None:
    """The pool behind the first convolution."""
    for part in others.values():
        if part.kind in POOLS and part.settings.get("pool", "MAX") == "MAX":
            return part
    return None


def is_ceil(pool: Part) -> bool:
    """Whether the max pool is Caffe's: rounding up, without padding.

    Raises:
        CheckpointError: neither Caffe's nor torchvision's.
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


def with_usual_eps(state: Mapping[str, Tensor], ours: Parts) -> dict[str, Tensor]:
    """Move what an epsilon differs from torchvision's into the variance, which is exact."""
    changed = dict(state)
    for name, part in ours.items():
        eps, variance = part.settings.get("eps"), f"{name}.running_var"
        if isinstance(eps, float) and eps != EPS and variance in state:
            changed[variance] = as_exact(state[variance]) + (eps - EPS)
    return changed


def as_exact(tensor: Tensor) -> Tensor:
    """A tensor in fp32, or fp64 where it was, so that sums do not round to fewer digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def with_biases_folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold the bias of each convolution into the batch norm behind it, which is exact.

    Raises:
        CheckpointError: a bias in front of no batch norm.
    """
    changed = dict(state)
    for name in state:
        conv, _, kind = name.rpartition(".")
        if kind == "bias" and is_conv(state, conv):
            norm = norm_behind(conv)
            mean = state.get(f"{norm}.running_mean")
            if mean is None or mean.shape != state[name].shape:
                raise CheckpointError(f"{name} is followed by no batch norm")
            changed[f"{norm}.running_mean"] = as_exact(mean) - as_exact(changed.pop(name))
    return changed


def is_conv(state: Mapping[str, Tensor], name: str) -> bool:
    """Whether a layer is a convolution."""
    weight = state.get(f"{name}.weight")
    return weight is not None and weight.ndim == 4


def norm_behind(conv: str) -> str:
    """Name of the batch norm that follows a convolution."""
    if conv.endswith("downsample.0"):
        return conv.removesuffix("0") + "1"
    start, _, own = conv.rpartition("conv")
    return f"{start}bn{own}"


def with_neutral_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give batch norms that only scale and shift the statistics by which they do nothing else."""
    changed = dict(state)
    for name, weight in state.items():
        norm = name.removesuffix(".weight")
        if norm == name or weight.ndim != 1 or f"{norm}.running_var" in state:
            continue
        zeros = torch.zeros(len(weight))
        changed |= {f"{norm}.running_mean": zeros, f"{norm}.running_var": zeros + (1 - EPS)}
    return changed


def with_shortcuts_complete(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each shortcut that is a convolution alone the batch norm that torchvision's has.

    It adds the bias of the convolution, and does nothing else.
    """
    changed = dict(state)
    for name, weight in state.items():
        conv = name.removesuffix(".weight")
        norm = norm_behind(conv)
        if not conv.endswith("downsample.0") or f"{norm}.running_mean" in state:
            continue
        zeros = torch.zeros(len(weight))
        changed |= {
            f"{norm}.weight": zeros + 1,
            f"{norm}.bias": changed.pop(f"{conv}.bias", zeros),
            f"{norm}.running_mean": zeros,
            f"{norm}.running_var": zeros + (1 - EPS),  # so that it divides by 1
        }
    return changed
