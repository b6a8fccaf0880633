"""Make what follows a convolution part of it, for fewer passes over memory.

Folding a batch norm is algebra and works on every device. Fusing ReLU and the residual addition
needs operators of the CPU that may be missing (``private``); then the network runs unfused.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.runtimes.private import FusedConv, Traced, can_trace, has_fused_operators
from resnet_cli.runtimes.winograd import WinogradConv, suits_winograd

BLOCKS = (BasicBlock, Bottleneck)

STAGES = ("layer1", "layer2", "layer3", "layer4")


def fold_batch_norms(network: ResNet, device: torch.device, dtype: torch.dtype) -> ResNet:
    """Fold each batch norm into the convolution before it, in place.

    The weights are copied out of the memory map of the checkpoint, whose file may then change or
    vanish while the network runs. One convolution is folded after the other, so that there is never
    a second copy of the whole network.

    Args:
        network: in evaluation mode, on the CPU, in fp32.
        device: where it will run.
        dtype: what it will run in, channels-last.
    """

    def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
        alone = fuse_conv_bn_eval(conv, norm)
        return alone.to(device, dtype).to(memory_format=torch.channels_last)

    for module in network.modules():
        if isinstance(module, ResNet | BasicBlock | Bottleneck):
            for number in (1, 2, 3):
                conv, norm = (getattr(module, f"{kind}{number}", None) for kind in ("conv", "bn"))
                if conv is not None and norm is not None:
                    setattr(module, f"conv{number}", folded(conv, norm))
                    setattr(module, f"bn{number}", nn.Identity())
            shortcut = getattr(module, "downsample", None)
            if shortcut is not None:
                module.downsample = nn.Sequential(folded(*shortcut))
    network.avgpool = network.avgpool.to(device)  # one that learns stays in fp32
    network.fc = copy.deepcopy(network.fc).to(device, dtype)
    return network


class FusedBlock(nn.Module):
    """One of torchvision's residual blocks, made of fused convolutions."""

    def __init__(self, block: BasicBlock | Bottleneck, *, compiled: bool) -> None:
        super().__init__()
        convs = [module for name, module in block.named_children() if name.startswith("conv")]
        self.convs = nn.ModuleList(
            WinogradConv(conv, compiled=compiled)
            if suits_winograd(conv, compiled=compiled)
            else FusedConv(conv, relu=True)
            for conv in convs
        )
        shortcut = block.downsample
        self.shortcut = nn.Identity() if shortcut is None else FusedConv(shortcut[0], relu=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, C, H, W] to the rectified sum of the convolutions and the shortcut."""
        output = images
        for conv in self.convs[:-1]:
            output = conv(output)
        result: Tensor = self.convs[-1](output, self.shortcut(images))
        return result


class CompiledPool(nn.Module):
    """Max-pooling in one vectorised loop, without PyTorch's indices of the maxima."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.run = Traced(pool)

    def forward(self, images: Tensor) -> Tensor:
        """Pool [N, C, H, W]."""
        return self.run(images)


def fuse_network(network: ResNet, *, compiled: bool = False) -> ResNet:
    """Fuse what follows each convolution of a folded network into it, in place.

    A network that cannot be fused stays as it is.

    Args:
        network: folded, channels-last, on the CPU, in the precision that it will run in.
        compiled: compile the parts that are faster for it.
    """
    if not is_fusable(network):
        return network
    network.conv1 = FusedConv(network.conv1, relu=True)
    network.relu = nn.Identity()
    if compiled and isinstance(network.maxpool, nn.MaxPool2d):
        network.maxpool = CompiledPool(network.maxpool)
    for stage in STAGES:
        blocks = getattr(network, stage)
        for number, block in enumerate(blocks):
            blocks[number] = FusedBlock(block, compiled=compiled)
    return network


def compiles_in_parts(network: ResNet) -> bool:
    """Return True if ``fuse_network(compiled=True)`` is faster than compiling the whole network."""
    return is_fusable(network) and can_trace()


def is_fusable(network: ResNet) -> bool:
    """Return True if a network is as torchvision builds it, and this torch has the operators."""
    return has_fused_operators(network.conv1.weight.dtype) and all(
        map(is_torchvision_part, network.modules())
    )


def is_torchvision_part(module: nn.Module) -> bool:
    """Return True if a part is as torchvision builds it, as far as fusing depends on it."""
    if isinstance(module, BLOCKS):
        return type(module) in BLOCKS and type(module.relu) is nn.ReLU
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return not isinstance(module, ResNet) or type(module.relu) is nn.ReLU
