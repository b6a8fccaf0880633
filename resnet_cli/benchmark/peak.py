"""What this machine can do at a precision: the measure that a network's speed is held against."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from resnet_cli.runtimes import Runtime

CHANNELS, PIXELS = 256, 56  # of the convolution, as in the middle of a ResNet

ROUNDS = 5
LONGEST = 0.25  # seconds of one run; a processor without the arithmetic would take minutes


@dataclass(frozen=True, slots=True)
class Kernel:
    """Work of several sizes, of which larger ones keep a device busier."""

    make: Callable[[int, str, torch.dtype], Callable[[], Tensor]]
    flops: Callable[[int], int]  # floating-point operations of a size
    sizes: Sequence[int]


def matrix_product(side: int, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A product of two square matrices."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right


def large_convolution(count: int, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A 3x3 convolution of so many images, in channels-last."""
    images = torch.randn(count, CHANNELS, PIXELS, PIXELS, device=device)
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device)
    images, kernel = (t.to(dtype, memory_format=torch.channels_last) for t in (images, kernel))
    return lambda: torch.conv2d(images, kernel, padding=1)


KERNELS = (
    Kernel(matrix_product, lambda side: 2 * side**3, (256, 512, 1024, 2048, 4096, 8192)),
    Kernel(large_convolution, lambda n: 2 * n * PIXELS**2 * CHANNELS**2 * 9, (1, 4, 16, 64, 256)),
)


def peak_gflops(runtime: Runtime, dtype: torch.dtype, threads: int) -> float | None:
    """GFLOP/s of the better of a large matrix product and a large 3x3 convolution.

    On some processors the one is tuned well, on some the other: one machine gave 196 GFLOP/s in the
    product and 430 in a ResNet.

    Args:
        runtime: where.
        dtype: of the numbers.
        threads: CPU threads that share the work.

    Returns:
        None where not even the smallest of them has room.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            rates = [rate for kernel in KERNELS for rate in measure_sizes(kernel, runtime, dtype)]
    finally:
        torch.set_num_threads(before)
    return max(rates, default=None)


def measure_sizes(kernel: Kernel, runtime: Runtime, dtype: torch.dtype) -> Iterator[float]:
    """Yield the GFLOP/s of each size, for as long as a run is short and there is room."""
    rate = 0.0
    for size in kernel.sizes:
        flops = kernel.flops(size)
        if rate and flops / (1e9 * rate) > LONGEST:
            return
        try:
            rate = quickest_gflops(kernel.make(size, runtime.device, dtype), flops, runtime)
        except torch.OutOfMemoryError:
            return
        yield rate


def quickest_gflops(run: Callable[[], object], flops: int, runtime: Runtime) -> float:
    """GFLOP/s of the quickest of a few runs: what the machine does when nothing disturbs it."""
    run()
    seconds = []
    for _ in range(ROUNDS):
        runtime.synchronize()
        begun = perf_counter()
        run()
        runtime.synchronize()
        seconds.append(perf_counter() - begun)
    return flops / min(seconds) / 1e9
