"""The network as it runs: device, precision, folded batch norm, memory format, compile."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from resnet_cli.errors import DeviceError, describe
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import PRECISIONS
from resnet_cli.runtimes.compilation import Compiled, compile_whole
from resnet_cli.runtimes.fusion import compiles_in_parts, fold_batch_norms, fuse_network

log = logging.getLogger("resnet_cli")


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
        network: maps uint8 pixels [N, C, H, W] on the device to logits [N, classes].
    """

    def __init__(
        self,
        network: ResNet,
        preprocess: Preprocess,
        *,
        device: torch.device,
        activation: str = "softmax",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        """Make a network ready to run.

        Args:
            network: in evaluation mode, on the CPU, in fp32; it is changed in place.
            preprocess: for its normalisation.
            device: from ``find_device``.
            activation: what makes probabilities of the outputs, of ``ACTIVATIONS``.
            precision: ``fp32``, ``bf16`` or ``fp16``; normalisation and softmax stay in fp32.
            compiled: run through ``torch.compile``.
        """
        self.device = device
        self.activation = activation
        self.limit: int | None = None
        self.dtype = PRECISIONS[precision]
        ready = fold_batch_norms(network, device, self.dtype)
        on_cpu = device.type == "cpu"
        in_parts = compiled and on_cpu and compiles_in_parts(ready)
        if on_cpu and (in_parts or not compiled):
            ready = fuse_network(ready, compiled=in_parts)
        run = FromPixels(preprocess.normalisation().to(device), ready, self.dtype)
        self.network: Callable[[Tensor], Tensor] = run
        if compiled:
            self.network = Compiled(run if in_parts else compile_whole(run, device.type))
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
        best = to_probabilities(self.network(pixels), self.activation).topk(k)
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
        packed = pack_top(*self.top(on_device, k))
        ended.record(compute)
        on_host = packed.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(compute)

        def wait() -> Top:
            arrived.synchronize()
            return Top(*unpack_top(on_host), begun.elapsed_time(ended))

        return wait


class FromPixels(nn.Module):
    """A network with its normalisation before it."""

    def __init__(self, normalise: nn.Module, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 [N, C, H, W] to float32 logits [N, classes]."""
        images = self.normalise(pixels).to(self.dtype, memory_format=torch.channels_last)
        logits: Tensor = self.network(images)
        return logits.float()


def pack_top(probs: Tensor, indices: Tensor) -> Tensor:
    """Put float32 [N, k] and int64 [N, k] into int32 [2, N, k], one transfer for both."""
    return torch.stack([probs.view(torch.int32), indices.to(torch.int32)])


def unpack_top(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Take apart what ``pack`` put together."""
    return packed[0].view(torch.float32), packed[1].long()


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=1),  # one class an image
    "sigmoid": torch.sigmoid,  # any number of labels an image: each output for itself
}
"""What makes probabilities of logits [N, C]."""


def to_probabilities(logits: Tensor, activation: str) -> Tensor:
    """Turn logits [N, C] into probabilities.

    A single output is a sigmoid, the probability of index 1: it becomes two columns.

    Args:
        logits: of the network.
        activation: of ``ACTIVATIONS``.
    """
    if logits.shape[1] != 1:
        return ACTIVATIONS[activation](logits)
    return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
