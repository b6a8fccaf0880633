"""The network through torch on an NVIDIA GPU."""

from collections.abc import Callable
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torchvision.models import ResNet

from resnet_cli import system
from resnet_cli.records import Pixels
from resnet_cli.runtimes import SessionOptions, Top
from resnet_cli.runtimes.torch_runtime import TorchRuntime, TorchSession, tensor_of_pixels

if TYPE_CHECKING:
    from resnet_cli.graph import Graph


class TorchCuda(TorchRuntime):  # cuda only
    """An NVIDIA GPU."""

    batch_size = 64
    wants_processes = True
    times_passes = True
    compile_options = MappingProxyType({"mode": "reduce-overhead"})  # CUDA graphs: a launch a pass

    def __init__(self, device: str) -> None:
        """Use one, in full fp32.

        Raises:
            DeviceError: this machine has no such GPU.
        """
        super().__init__(device)
        system.disable_tf32()

    @classmethod
    def is_available(cls) -> bool:
        """Return True if this machine has one."""
        return torch.cuda.is_available()

    @property
    def hardware(self) -> str:
        """Name of the GPU."""
        return torch.cuda.get_device_name(self.torch_device)

    @property
    def description(self) -> str:
        """The device with the name of the GPU."""
        return f"{self.device} ({self.hardware})"

    def load(self, network: "ResNet | Graph", options: SessionOptions) -> "CudaSession":
        """Make a network ready to run; see ``Runtime``."""
        return CudaSession(self, cast(ResNet, network), options)

    def allocate(self, shape: tuple[int, ...]) -> Pixels:
        """Return pinned memory, which the GPU copies from by itself."""
        pinned: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned

    def time_pass(self, run: Callable[[], object]) -> "CudaPass":
        """Queue a pass between two events."""
        with torch.cuda.device(self.torch_device):  # events belong to the current one
            timed = CudaPass()
            timed.begun.record()
            run()
            timed.ended.record()
        return timed

    def release_memory(self) -> None:
        """Let the passes in flight finish, and give their memory back."""
        torch.cuda.synchronize(self.torch_device)
        torch.cuda.empty_cache()

    def reset_peak_memory(self) -> None:
        """Start measuring peak memory from here."""
        torch.cuda.empty_cache()  # what came before has left
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> int:
        """Return the most bytes that tensors have taken on the GPU since the reset."""
        return torch.cuda.max_memory_allocated(self.torch_device)

    def available_memory(self) -> int | None:
        """Return all bytes of the GPU."""
        return torch.cuda.mem_get_info(self.torch_device)[1]


class CudaPass:  # cuda only
    """A pass between two events of the current device."""

    def __init__(self) -> None:
        self.begun, self.ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def wait(self) -> None:
        """Wait until the pass is finished."""
        self.ended.synchronize()

    def milliseconds(self) -> float:
        """Return the time between the events."""
        return self.begun.elapsed_time(self.ended)


class CudaSession(TorchSession):  # cuda only
    """Copies on a stream of their own, so that a batch travels while the last one computes."""

    @cached_property
    def copies(self) -> torch.cuda.Stream:
        """The stream that batches travel on."""
        return torch.cuda.Stream(self.device)

    def start(self, pixels: Pixels, k: int) -> Callable[[], Top]:
        """Queue one pass and return at once; ``pixels`` should come from ``TorchCuda.allocate``."""
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copies):
            on_device = tensor_of_pixels(pixels).to(self.device, non_blocking=True)
        compute.wait_stream(self.copies)
        on_device.record_stream(compute)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record(compute)
        packed = pack_top(*self.top(on_device, k))
        ended.record(compute)
        on_host = packed.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(compute)

        def wait(_: Pixels = pixels) -> Top:  # kept: the GPU reads them until it has arrived
            arrived.synchronize()
            probs, indices = unpack_top(on_host)
            return Top(probs.numpy(), indices.numpy(), begun.elapsed_time(ended))

        return wait


def pack_top(probs: Tensor, indices: Tensor) -> Tensor:
    """Put float32 [N, k] and int64 [N, k] into int32 [2, N, k], one transfer for both."""
    return torch.stack([probs.view(torch.int32), indices.to(torch.int32)])


def unpack_top(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Take apart what ``pack_top`` put together."""
    return packed[0].view(torch.float32), packed[1].long()
