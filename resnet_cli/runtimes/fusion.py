"""Make a network faster: fuse what follows a convolution into it, or compile the whole.

Fusing saves passes over memory; ``torch.compile`` runs for one batch size.

Folding a batch norm is algebra and works on every device. Fusing ReLU and the residual addition
needs operators of the CPU that may be missing (``private``); then the network runs unfused.
"""

import copy
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.errors import DeviceError, describe
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


log = logging.getLogger("resnet_cli")

KEPT = ThreadPoolExecutor(1)
"""The thread that compiles for the CPU; it never ends.

torch 2.11 crashes if the thread that compiled first has ended when another one compiles.
"""


def compile_whole(
    network: Callable[[Tensor], Tensor], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Wrap a network, which is compiled as a whole in its first pass.

    Args:
        network: maps images to logits.
        options: of ``torch.compile``, as its runtime states them.
    """
    run: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, **options)
    return run


def in_kept_thread(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Run a network on CPU images in the thread that compiles, with the settings of this one."""
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def work() -> Tensor:
        torch.set_num_threads(threads)  # a setting of each thread, which is compiled in
        with torch.inference_mode(inference):
            return run(images)

    return KEPT.submit(work).result()


class Compiled:
    """A network that is compiled for one batch size.

    Each size would be a compilation of its own: a smaller batch, such as the last one, is padded.
    """

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        """Take a network that compiles in its first pass, as a whole or in parts."""
        self.run = run
        self.size = 0  # of the batches that it is compiled for
        self.lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes].

        Raises:
            DeviceError: it cannot be compiled here, for example without a C++ compiler.
        """
        count = len(images)
        if count > self.size:
            with self.lock:  # the other workers wait for the first to compile
                if count > self.size:
                    logits = self.first(images)
                    self.size = count
                    return logits
        try:
            return self.run(self.padded(images))[:count]
        except torch.OutOfMemoryError:
            self.size = 0  # compile again for the smaller batches that follow
            raise

    def padded(self, images: Tensor) -> Tensor:
        """Pad a batch to the size that was compiled for."""
        missing = self.size - len(images)
        if missing <= 0:  # an out of memory on another thread may have set the size to 0 meanwhile
            return images
        # a tensor made in inference mode differs for the compiler, which would compile again
        with torch.inference_mode(mode=False):
            return nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))

    def first(self, images: Tensor) -> Tensor:
        """Compile for this size, and log how long it took."""
        log.info("compiling for batches of %d: a minute the first time, then seconds", len(images))
        begun = perf_counter()
        run = partial(in_kept_thread, self.run) if images.device.type == "cpu" else self.run
        try:
            logits = run(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # the base of torch.compile's errors
            reason = describe(error)
            if "CxxCompiler" in reason:  # torch's own message is about its internals
                reason = "no C++ compiler was found, such as g++"
            raise DeviceError(
                f"cannot compile the network ({reason}): leave --compile out"
            ) from error
        log.info(
            "ready for batches of %d after %.0f s: what is compiled is kept in %s",
            len(images),
            perf_counter() - begun,
            os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torch's cache"),
        )
        return logits
