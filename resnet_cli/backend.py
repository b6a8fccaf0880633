"""The network as it runs: device, precision, folded batch norm, memory format, compile."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.errors import DeviceError, describe
from resnet_cli.preprocess import Preprocess

log = logging.getLogger("resnet_cli")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

BATCH_SIZES = {"cpu": 8, "cuda": 64, "mps": 32}
"""Images in one pass, by type of device, where the user names no number.

On the CPU the largest activations of eight images stay under 32 MiB, above which glibc returns
every block to the kernel: at sixteen, clearing those pages anew takes 2 ms of a core per image.
"""


@dataclass(frozen=True, slots=True)
class Top:
    """The best classes of one pass, in host memory."""

    probs: Tensor  # float32 [N, k], best first
    indices: Tensor  # int64 [N, k]
    forward_ms: float  # of the whole pass, device waited for


class Backend:
    """Maps uint8 pixels to the probabilities of the best classes.

    Attributes:
        device: where it runs.
        limit: most images in one pass, lowered when the device runs out of memory.
    """

    def __init__(
        self,
        network: ResNet,
        preprocess: Preprocess,
        *,
        device: torch.device,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        """Make a network ready to run.

        Args:
            network: in evaluation mode, on the CPU, in fp32; it is changed in place.
            preprocess: for its normalisation.
            device: from ``find_device``.
            precision: ``fp32``, ``bf16`` or ``fp16``; normalisation and softmax stay in fp32.
            compiled: run through ``torch.compile``.
        """
        self.device = device
        self.limit: int | None = None
        self.preprocess = preprocess
        self.dtype = PRECISIONS[precision]
        ready = fold(network).to(device, self.dtype, memory_format=torch.channels_last)
        self.network: Callable[[Tensor], Tensor] = Compiled(ready) if compiled else ready
        if device.type == "cuda":  # cuda only
            # TF32 keeps 10 bits of mantissa: fp32 must mean fp32
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    def launch(self, pixels: Tensor, k: int) -> list[Callable[[], Top]]:
        """Start the network on a batch, in as many passes as the device's memory asks for.

        Args:
            pixels: uint8 [N, C, H, W] in host memory, at least one image.
            k: classes to keep for each image, at most the number there are.

        Returns:
            One function a pass, in order, that waits for its result.

        Raises:
            DeviceError: not even a single image fits.
        """
        passes: list[Callable[[], Top]] = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + (self.limit or len(pixels))]
            complaint = None
            try:
                passes.append(self.start(part, k))
                start += len(part)
            except torch.OutOfMemoryError as error:
                complaint = describe(error)
            if complaint is not None:  # out here nothing holds the activations of the failed pass
                self.halve(len(part), complaint)
        return passes

    def halve(self, size: int, complaint: str) -> None:
        """Lower the limit to half of a batch that did not fit.

        Raises:
            DeviceError: the batch was a single image.
        """
        if size == 1:
            raise DeviceError(f"out of memory on {self.device} with a single image: {complaint}")
        self.limit = size // 2
        log.warning("out of memory on %s: batches of %d from here on", self.device, self.limit)
        if self.device.type == "cuda":  # cuda only
            torch.cuda.synchronize(self.device)  # the passes in flight give theirs back
            torch.cuda.empty_cache()

    def start(self, pixels: Tensor, k: int) -> Callable[[], Top]:
        """Run one pass and wait for it; ``CudaBackend`` does not wait."""
        begun = perf_counter()
        probs, indices = self.top(pixels.to(self.device), k)
        top = Top(probs.cpu(), indices.cpu(), 1000 * (perf_counter() - begun))
        return lambda: top

    @torch.inference_mode()
    def top(self, pixels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Probabilities and indices [N, k] of the best classes, computed on the device."""
        images = self.preprocess.normalise(pixels).to(self.dtype, memory_format=torch.channels_last)
        probs = probabilities(self.network(images).float())
        best = probs.topk(k)
        return best.values, best.indices


class CudaBackend(Backend):  # cuda only
    """Copies on a stream of their own, so that a batch travels while the last one computes."""

    @cached_property
    def copies(self) -> torch.cuda.Stream:
        """The stream that batches travel on."""
        return torch.cuda.Stream(self.device)

    def start(self, pixels: Tensor, k: int) -> Callable[[], Top]:
        """Queue one pass and return at once; ``pixels`` should be pinned."""
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copies):
            on_device = pixels.to(self.device, non_blocking=True)
        compute.wait_stream(self.copies)
        on_device.record_stream(compute)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record(compute)
        probs, indices = self.top(on_device, k)
        ended.record(compute)
        host_probs = probs.to("cpu", non_blocking=True)
        host_indices = indices.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(compute)

        def wait() -> Top:
            arrived.synchronize()
            return Top(host_probs, host_indices, begun.elapsed_time(ended))

        return wait


class Compiled:
    """The network through ``torch.compile``, for one size of batch.

    Every size is a compilation of its own: a smaller batch, such as the last one, is padded.
    """

    def __init__(self, network: nn.Module) -> None:
        self.run = torch.compile(network, dynamic=False)
        self.size = 0  # of the batches it is compiled for
        self.lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes].

        Raises:
            DeviceError: it cannot be compiled here, for want of a C++ compiler for example.
        """
        count = len(images)
        if count > self.size:
            with self.lock:  # the other workers wait for the first to compile
                if count > self.size:
                    logits = self.first(images)
                    self.size = count
                    return logits
        # an out of memory on another thread may set the size to 0 meanwhile
        padding = (0, 0, 0, 0, 0, 0, 0, max(0, self.size - count))
        try:
            return self.run(nn.functional.pad(images, padding))[:count]
        except torch.OutOfMemoryError:
            self.size = 0  # the smaller batches that follow are compiled for themselves
            raise

    def first(self, images: Tensor) -> Tensor:
        """Compile for this size, and say how long it took."""
        begun = perf_counter()
        try:
            logits: Tensor = self.run(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch.compile's own errors derive from
            raise DeviceError(
                f"cannot compile the network ({describe(error)}): leave --compile out"
            ) from error
        log.info("compiled for batches of %d in %.0f s", len(images), perf_counter() - begun)
        return logits


def probabilities(logits: Tensor) -> Tensor:
    """Turn logits [N, C] into probabilities.

    A single output is a sigmoid, the probability of index 1: it becomes two columns.
    """
    if logits.shape[1] != 1:
        return logits.softmax(dim=1)
    return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)


def fold(network: ResNet) -> ResNet:
    """Fold every batch norm into the convolution before it, exactly, for inference.

    The weights leave the memory map of the checkpoint's file on the way, so that the file may
    change or vanish while the network runs.
    """
    for module in network.modules():
        if isinstance(module, ResNet | BasicBlock | Bottleneck):
            for number in (1, 2, 3):
                conv, norm = (getattr(module, f"{kind}{number}", None) for kind in ("conv", "bn"))
                if conv is not None and norm is not None:
                    setattr(module, f"conv{number}", fuse_conv_bn_eval(conv, norm))
                    setattr(module, f"bn{number}", nn.Identity())
            shortcut = getattr(module, "downsample", None)
            if shortcut is not None:
                module.downsample = nn.Sequential(fuse_conv_bn_eval(*shortcut))
    network.fc = copy.deepcopy(network.fc)
    return network


def find_device(name: str) -> torch.device:
    """Resolve ``auto`` or a name such as ``cpu``, ``cuda:1`` or ``mps``, and check that it works.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        known = accelerator is not None and accelerator.type in BATCH_SIZES
        return accelerator if accelerator is not None and known else torch.device("cpu")
    if name.partition(":")[0] not in BATCH_SIZES:
        raise DeviceError(f"cannot use device {name!r}: one of auto, cpu, cuda, cuda:1, mps")
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError) as error:  # a CPU-only build asserts
        reason = describe(error).partition(". ")[0][:120]  # torch lists all that it could do
        raise DeviceError(f"cannot use device {name!r} ({reason}): try auto") from error


def device_name(device: torch.device) -> str:
    """The device in words, with the name of the GPU."""
    if device.type == "cuda":  # cuda only
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
