"""The shapes of the tensors -> architecture, input channels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from resnet_cli.architectures import ARCHITECTURES, Architecture
from resnet_cli.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Detected:
    """The backbone that tensors fit."""

    architecture: Architecture
    in_channels: int  # of conv1

    @property
    def features(self) -> int:
        """Numbers that it gives for an image."""
        return 512 if self.architecture.block == "BasicBlock" else 2048


BLOCK_NAME = re.compile(r"layer([1-4])\.(\d{1,3})\.conv1\.weight")


def detect(state: Mapping[str, Tensor]) -> Detected:
    """Read the network off its tensors.

    Args:
        state: tensors under torchvision's names.

    Raises:
        CheckpointError: none of torchvision's ten ResNets, or another first convolution.
    """
    wanted = signature(state)
    matches = [a for a in ARCHITECTURES.values() if facts(a) == wanted]
    if not matches:
        block, depths, groups, width = wanted
        raise CheckpointError(
            f"a ResNet of {depths} {block}s with {groups} groups of width {width} is in it, which "
            f"is none of {', '.join(ARCHITECTURES)}"
        )
    return Detected(matches[0], input_channels(state))


def facts(architecture: Architecture) -> tuple[str, tuple[int, ...], int, int]:
    """What ``signature`` gives for the weights of an architecture."""
    a = architecture
    return a.block, a.depths, a.groups, a.width_per_group


def signature(state: Mapping[str, Tensor]) -> tuple[str, tuple[int, ...], int, int]:
    """Block, depths, groups and width per group of the network that ``state`` is of."""
    blocks = [match.groups() for name in state if (match := BLOCK_NAME.fullmatch(name))]
    depths = tuple(sum(layer == wanted for layer, _ in blocks) for wanted in "1234")
    if "layer1.0.conv3.weight" not in state:
        return "BasicBlock", depths, 1, kernel(state, "layer1.0.conv1")[0]
    width, per_group, *_ = kernel(state, "layer1.0.conv2")
    return "Bottleneck", depths, width // per_group, per_group


def input_channels(state: Mapping[str, Tensor]) -> int:
    """Input channels of the first convolution, which must be torchvision's 7x7 one.

    Raises:
        CheckpointError: it is of another size, as in ResNets for small pictures.
    """
    _, channels, *size = kernel(state, "conv1")
    if size != [7, 7]:
        raise CheckpointError(
            f"its first convolution is {size[0]}x{size[1]}, torchvision's is 7x7: "
            "a ResNet for small pictures?"
        )
    return channels


def kernel(state: Mapping[str, Tensor], name: str) -> tuple[int, int, int, int]:
    """Shape of a convolution's weight: channels out, channels in, height, width.

    Raises:
        CheckpointError: there is none, or none that a convolution could have.
    """
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != 4 or not weight.numel():
        shape = "is missing" if weight is None else f"has the shape {list(weight.shape)}"
        raise CheckpointError(f"{name}.weight {shape}: it is no ResNet of torchvision")
    out_channels, in_channels, height, width = weight.shape
    return out_channels, in_channels, height, width
