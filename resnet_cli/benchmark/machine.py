"""The machine that a benchmark runs on: its peak GFLOP/s, its names and versions."""

import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from resnet_cli.runtimes import Runtime
from resnet_cli.system import cpu_name

CHANNELS, PIXELS = 256, 56  # of the convolution, as in the middle of a ResNet

ROUNDS = 5
LONGEST = 0.25  # seconds of one run; a CPU that emulates the arithmetic would take minutes


@dataclass(frozen=True, slots=True)
class Kernel:
    """Work in several sizes; larger ones keep a device busier."""

    make: Callable[[int, str, torch.dtype], Callable[[], Tensor]]
    flops: Callable[[int], int]  # floating-point operations of a size
    sizes: Sequence[int]


def matrix_product(side: int, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a function that multiplies two square matrices."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right


def large_convolution(count: int, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a function that runs a 3x3 convolution over ``count`` images in channels-last."""
    images = torch.randn(count, CHANNELS, PIXELS, PIXELS, device=device)
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device)
    images, kernel = (t.to(dtype, memory_format=torch.channels_last) for t in (images, kernel))
    return lambda: torch.conv2d(images, kernel, padding=1)


KERNELS = (
    Kernel(matrix_product, lambda side: 2 * side**3, (256, 512, 1024, 2048, 4096, 8192)),
    Kernel(large_convolution, lambda n: 2 * n * PIXELS**2 * CHANNELS**2 * 9, (1, 4, 16, 64, 256)),
)


def peak_gflops(runtime: Runtime, dtype: torch.dtype, threads: int) -> float | None:
    """Measure the GFLOP/s of a large matrix product and a large 3x3 convolution; keep the better.

    Some processors are tuned for one, some for the other: one machine gave 196 GFLOP/s in the
    product and 430 in a ResNet.

    Args:
        runtime: of the device to measure.
        dtype: of the numbers.
        threads: CPU threads that share the work.

    Returns:
        None where the memory is too small for any size.
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
    """Yield the GFLOP/s of each size, while a run stays short and fits into memory."""
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
    """Return the GFLOP/s of the quickest of a few runs, the one that was disturbed least."""
    run()
    seconds = []
    for _ in range(ROUNDS):
        runtime.synchronize()
        begun = perf_counter()
        run()
        runtime.synchronize()
        seconds.append(perf_counter() - begun)
    return flops / min(seconds) / 1e9


DRIVER = Path("/proc/driver/nvidia/version")


def describe_environment(runtime: Runtime, workers: int) -> dict[str, Any]:
    """Return the hardware, the versions, and how the network runs, for the record of a result."""
    return {
        "device": runtime.hardware,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": workers,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("resnet-cli", "torch", "torchvision")},
        "memory_format": "channels_last",
        "batch_norm": "folded",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver, or None without one."""
    try:
        match = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text())
    except OSError:
        return None
    return match[0] if match else None
