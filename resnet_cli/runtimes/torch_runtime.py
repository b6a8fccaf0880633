"""The network through torch, on the processor and on Apple's GPU."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from resnet_cli.errors import DeviceError, describe
from resnet_cli.records import Pixels
from resnet_cli.runtimes import SessionOptions, Top
from resnet_cli.runtimes.fusion import (
    Compiled,
    compile_whole,
    compiles_in_parts,
    fold_batch_norms,
    fuse_network,
)
from resnet_cli.runtimes.host import HostRuntime, precisions_with_units
from resnet_cli.runtimes.private import has_fused_operators
from resnet_cli.runtimes.winograd import count_algorithms, saves_time

if TYPE_CHECKING:
    from resnet_cli.graph import Graph

log = logging.getLogger("resnet_cli")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Run = Callable[[Tensor], Tensor]


class TorchRuntime(HostRuntime):
    """What the devices of torch have in common."""

    on_workers_cores = False
    compile_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})  # of torch.compile

    def __init__(self, device: str) -> None:
        """Use a device.

        Raises:
            DeviceError: this machine has no such device.
        """
        try:
            self.torch_device = torch.empty(0, device=device).device
        except (AssertionError, RuntimeError) as error:  # a CPU-only build asserts
            reason = describe(error).partition(". ")[0][:120]  # torch lists all that it could do
            raise DeviceError(f"cannot use device {device!r} ({reason}): try auto") from error
        self.device = device

    @property
    def precisions(self) -> frozenset[str]:
        """All that are floating point."""
        return frozenset(DTYPES)

    def load(self, network: "ResNet | Graph", options: SessionOptions) -> "TorchSession":
        """Make a network ready to run; see ``Runtime``."""
        return TorchSession(self, cast(ResNet, network), options)

    def optimise(self, folded: ResNet, pack: Callable[[nn.Module], Run], *, compiled: bool) -> Run:
        """Make a folded network as fast as this device runs it.

        Args:
            folded: on the device, its batch norms folded.
            pack: joins the network with its normalisation.
            compiled: through ``torch.compile``.
        """
        run = pack(folded)
        return Compiled(compile_whole(run, self.compile_options)) if compiled else run

    def compiling_pays(self, precision: str) -> bool:  # noqa: ARG002 - see ``Runtime``
        """Return True: ``torch.compile`` fuses what runs as single operators otherwise."""
        return True

    def name_algorithms(self, run: Run) -> Mapping[str, int]:  # noqa: ARG002 - see ``TorchCpu``
        """Return nothing: cuDNN and Apple choose, and do not say."""
        return {}

    def synchronize(self) -> None:  # cuda only
        """Wait until the device has finished all passes."""
        torch.accelerator.synchronize(self.torch_device)

    def release_memory(self) -> None:
        """Give memory that is only cached back to the device."""


class TorchCpu(TorchRuntime):
    """The processor, each worker on a core of its own.

    The activations of four images stay in the caches. Blocks over 32 MiB, which sixteen images
    need, are returned to the kernel every time by glibc: clearing those pages again takes 2 ms of a
    core per image.
    """

    on_workers_cores = True
    batch_size = 4
    compile_options = MappingProxyType({"options": {"freezing": True}})  # weights packed once

    @property
    def precisions(self) -> frozenset[str]:
        """The precisions that this processor has instructions for."""
        return precisions_with_units()

    def optimise(self, folded: ResNet, pack: Callable[[nn.Module], Run], *, compiled: bool) -> Run:
        """Fuse the network; compile the parts that gain by it, or the whole where that is not."""
        in_parts = compiled and compiles_in_parts(folded)
        if compiled and not in_parts:
            return super().optimise(folded, pack, compiled=True)
        run = pack(fuse_network(folded, compiled=in_parts))
        return Compiled(run) if in_parts else run

    def compiling_pays(self, precision: str) -> bool:
        """Return True where the convolutions are Winograd's, or nothing is fused without."""
        dtype = DTYPES[precision]
        return saves_time(dtype, compiled=True) or not has_fused_operators(dtype)

    def name_algorithms(self, run: Run) -> Mapping[str, int]:
        """Count the convolutions by algorithm; of a network compiled as a whole, none."""
        network = run.run if isinstance(run, Compiled) else run
        return count_algorithms(network) if isinstance(network, FromPixels) else {}

    def synchronize(self) -> None:
        """Return at once: the operators of the processor return when they are done."""


class TorchMps(TorchRuntime):
    """Apple's GPU."""

    batch_size = 32

    def __init__(self, device: str) -> None:
        """Use it.

        Raises:
            DeviceError: this machine has none.
        """
        if not self.is_available():
            raise DeviceError(f"cannot use device {device!r}: there is no Apple GPU here: try auto")
        super().__init__(device)

    @classmethod
    def is_available(cls) -> bool:
        """Return True if this machine has one."""
        return torch.backends.mps.is_available()


class TorchSession:
    """A network on a device of torch.

    Attributes:
        runtime: where it runs.
        limit: most images in one pass, lowered when the device runs out of memory.
        network: maps uint8 pixels [N, C, H, W] on the device to logits [N, classes].
    """

    def __init__(self, runtime: TorchRuntime, network: ResNet, options: SessionOptions) -> None:
        """Make a network ready to run; it is changed in place."""
        self.runtime = runtime
        self.device = runtime.torch_device
        self.activation = options.activation
        self.limit: int | None = None
        dtype = DTYPES[options.precision]
        normalise = Normalise(options.preprocess.mean, options.preprocess.std).to(self.device)
        self.network = runtime.optimise(
            fold_batch_norms(network, self.device, dtype),
            lambda ready: FromPixels(normalise, ready, dtype),
            compiled=options.compiled,
        )

    @property
    def algorithms(self) -> Mapping[str, int]:
        """How many convolutions are computed in which way, as of the last pass; see ``Session``."""
        return self.runtime.name_algorithms(self.network)

    def launch(self, pixels: Pixels, k: int) -> list[Callable[[], Top]]:
        """Start the network on uint8 pixels [N, H, W, C]; see ``Session``.

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
        self.runtime.release_memory()

    def start(self, pixels: Pixels, k: int) -> Callable[[], Top]:
        """Run one pass and wait for it; ``CudaSession`` does not wait."""
        begun = perf_counter()
        probs, indices = self.top(tensor_of_pixels(pixels).to(self.device), k)
        probs, indices = probs.cpu(), indices.cpu()
        top = Top(probs.numpy(), indices.numpy(), 1000 * (perf_counter() - begun))
        return lambda: top

    def repeat(self, pixels: Pixels, k: int) -> Callable[[], object]:
        """Move a batch to the device and return a function that queues one pass over it."""
        return partial(self.top, tensor_of_pixels(pixels).to(self.device), k)

    @torch.inference_mode()
    def top(self, pixels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Compute probabilities and indices [N, k] of the best classes, on the device."""
        best = to_probabilities(self.network(pixels), self.activation).topk(k)
        return best.values, best.indices


def tensor_of_pixels(pixels: Pixels) -> Tensor:
    """View uint8 pixels [N, H, W, C] as torch has them: [N, C, H, W], channels-last."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


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


class Normalise(nn.Module):
    """Maps uint8 [N, C, H, W] to float32 (x / 255 - mean) / std."""

    shift: Tensor  # float32 [1, C, 1, 1]
    scale: Tensor  # float32 [1, C, 1, 1]

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("shift", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("scale", 255 * torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise one batch, on the device that the buffers are on."""
        return pixels.float().sub_(self.row(self.shift, pixels)).div_(self.row(self.scale, pixels))

    def row(self, numbers: Tensor, pixels: Tensor) -> Tensor:
        """Repeat a number a channel [1, C, 1, 1] for each pixel of a row [1, C, 1, W].

        Beside channels-last pixels three numbers are too few for the processor's vectors: with a
        whole row in memory the same arithmetic takes an eighth of the time.
        """
        row = numbers.expand(-1, -1, -1, pixels.shape[-1])
        return row.contiguous(memory_format=torch.channels_last)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=1),  # one class an image
    "identity": torch.clone,  # the network gives probabilities
    "sigmoid": torch.sigmoid,  # any number of labels an image: each output for itself
}
"""Functions that turn logits [N, C] into probabilities."""


def to_probabilities(logits: Tensor, activation: str) -> Tensor:
    """Turn logits [N, C] into probabilities.

    A single output is a sigmoid, the probability of index 1: it becomes two columns.

    Args:
        logits: of the network.
        activation: one of ``ACTIVATIONS``.
    """
    if logits.shape[1] != 1:
        return ACTIVATIONS[activation](logits)
    return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
