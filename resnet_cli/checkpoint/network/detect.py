"""The shapes of the tensors -> architecture, input channels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES, Architecture
from resnet_cli.errors import CheckpointError
from resnet_cli.text import amount


@dataclass(frozen=True, slots=True)
class Detected:
    """The backbone that tensors fit."""

    architecture: Architecture
    in_channels: int  # of conv1

    @property
    def features(self) -> int:
        """Numbers that it gives for an image."""
        return 512 if self.architecture.block == "BasicBlock" else 2048


BLOCK_NAME = re.compile(r"layer([1-4])\.(\d{1,3})\..+")

Signature = tuple[str, tuple[int, ...], int, int]  # block, depths, groups, width per group


def detect_network(state: Mapping[str, Tensor]) -> Detected:
    """Read the network off its tensors.

    Args:
        state: tensors under torchvision's names.

    Raises:
        CheckpointError: none of torchvision's ten ResNets, or another first convolution.
    """
    wanted = read_signature(state)
    matches = [a for a in ARCHITECTURES.values() if architecture_facts(a) == wanted]
    if not matches:
        raise CheckpointError(describe_unknown(wanted))
    return Detected(matches[0], input_channels(state))


def describe_unknown(wanted: Signature) -> str:
    """A sentence on a ResNet that is none of the ten, with the nearest of them."""
    nearest = min(
        ARCHITECTURES.values(),
        key=lambda known: signature_distance(architecture_facts(known), wanted),
    )
    return (
        f"a ResNet of {describe_signature(wanted)} is in it, which is none of torchvision's ten: "
        f"the nearest is {nearest.name}, of {describe_signature(architecture_facts(nearest))}"
    )


def describe_signature(found: Signature) -> str:
    """What a network is made of."""
    block, depths, groups, width = found
    return f"{depths} {block}s with {amount(groups, 'group')} of width {width}"


def signature_distance(one: Signature, other: Signature) -> tuple[bool, bool, int]:
    """How unlike two networks are: in their kind of block, in its widths, in how many there are."""
    blocks = sum(abs(a - b) for a, b in zip(one[1], other[1], strict=True))
    return one[0] != other[0], one[2:] != other[2:], blocks


def architecture_facts(architecture: Architecture) -> Signature:
    """What ``signature`` gives for the weights of an architecture."""
    a = architecture
    return a.block, a.depths, a.groups, a.width_per_group


def read_signature(state: Mapping[str, Tensor]) -> Signature:
    """What the network is made of that ``state`` is of, even if it lacks some tensors."""
    blocks = {match.groups() for name in state if (match := BLOCK_NAME.fullmatch(name))}
    depths = tuple(sum(layer == wanted for layer, _ in blocks) for wanted in "1234")
    if not any(name.endswith(".conv3.weight") for name in state):
        return "BasicBlock", depths, 1, kernel_shape(state, "layer1.0.conv1")[0]
    width, per_group, *_ = kernel_shape(state, "layer1.0.conv2")
    return "Bottleneck", depths, width // per_group, per_group


def input_channels(state: Mapping[str, Tensor]) -> int:
    """Input channels of the first convolution, which must be torchvision's 7x7 one.

    Raises:
        CheckpointError: it is of another size, as in ResNets for small pictures.
    """
    _, channels, *size = kernel_shape(state, "conv1")
    if size != [7, 7]:
        raise CheckpointError(
            f"its first convolution is {size[0]}x{size[1]}, torchvision's is 7x7: "
            "a ResNet for small images?"
        )
    return channels


def kernel_shape(state: Mapping[str, Tensor], name: str) -> tuple[int, int, int, int]:
    """Shape of a convolution's weight: channels out, channels in, height, width.

    Raises:
        CheckpointError: there is none, or none that a convolution could have.
    """
    weight = state.get(f"{name}.weight")
    if weight is None:
        raise CheckpointError(f"it is not whole: {name}.weight is missing")
    if weight.ndim != 4 or not weight.numel():
        raise CheckpointError(
            f"{name}.weight has the shape {list(weight.shape)}: it is not a ResNet of torchvision"
        )
    out_channels, in_channels, height, width = weight.shape
    return out_channels, in_channels, height, width
