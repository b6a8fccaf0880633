"""The ten ResNets of torchvision, and how their names follow from their blocks."""

from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models import ResNet, get_model

from resnet_cli.errors import SettingError


@dataclass(frozen=True, slots=True)
class Architecture:
    """What sets one ResNet apart from the others."""

    name: str  # torchvision's
    block: str  # BasicBlock or Bottleneck
    depths: tuple[int, int, int, int]  # blocks in layer1 .. layer4
    groups: int = 1  # of the 3x3 convolution in a bottleneck
    width_per_group: int = 64  # channels of one group in layer1


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("resnet18", "BasicBlock", (2, 2, 2, 2)),
        Architecture("resnet34", "BasicBlock", (3, 4, 6, 3)),
        Architecture("resnet50", "Bottleneck", (3, 4, 6, 3)),
        Architecture("resnet101", "Bottleneck", (3, 4, 23, 3)),
        Architecture("resnet152", "Bottleneck", (3, 8, 36, 3)),
        Architecture("resnext50_32x4d", "Bottleneck", (3, 4, 6, 3), 32, 4),
        Architecture("resnext101_32x8d", "Bottleneck", (3, 4, 23, 3), 32, 8),
        Architecture("resnext101_64x4d", "Bottleneck", (3, 4, 23, 3), 64, 4),
        Architecture("wide_resnet50_2", "Bottleneck", (3, 4, 6, 3), 1, 128),
        Architecture("wide_resnet101_2", "Bottleneck", (3, 4, 23, 3), 1, 128),
    )
}


def build(
    name: str,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    fc_bias: bool = True,
    dilated: bool = False,
) -> ResNet:
    """Build torchvision's network without memory for its weights.

    Args:
        name: of ``ARCHITECTURES``.
        num_classes: outputs of ``fc``.
        in_channels: inputs of ``conv1``.
        fc_bias: whether ``fc`` adds a bias.
        dilated: whether layer3 and layer4 dilate instead of taking strides; the tensors are the
            same.

    Returns:
        The network in evaluation mode on the meta device, mapping float [N, in_channels, H, W] to
        logits [N, num_classes].

    Raises:
        SettingError: a dilated network of basic blocks, which torchvision has not.
    """
    if dilated and ARCHITECTURES[name].block != "Bottleneck":
        raise SettingError(f"cannot dilate {name}: only networks of bottleneck blocks can be")
    settings = {"replace_stride_with_dilation": [False, True, True]} if dilated else {}
    with torch.device("meta"):
        network = get_model(name, weights=None, num_classes=num_classes, **settings)
        if in_channels != network.conv1.in_channels:
            network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        if not fc_bias:
            network.fc = nn.Linear(network.fc.in_features, num_classes, bias=False)
    assert isinstance(network, ResNet)
    return network.eval()
