"""What this machine can do at a precision: the measure that a network's speed is held against."""

from collections.abc import Callable
from time import perf_counter

import torch

SIDE = 2048  # of the matrices
IMAGES, CHANNELS, PIXELS = 4, 256, 56  # of the convolution, as in the middle of a ResNet

ROUNDS = 5


def peak_gflops(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """GFLOP/s of the better of a large matrix product and a large 3x3 convolution.

    On some processors the one is tuned well, on some the other: one machine gave 196 GFLOP/s in the
    product and 430 in a ResNet.

    Args:
        device: where.
        dtype: of the numbers.
        threads: CPU threads that share the work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return max(product(device, dtype), convolution(device, dtype))
    finally:
        torch.set_num_threads(before)


def product(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a matrix product."""
    left, right = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    return best(lambda: left @ right, 2 * SIDE**3, device)


def convolution(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a 3x3 convolution in channels-last."""
    layout = torch.channels_last
    images = torch.randn(IMAGES, CHANNELS, PIXELS, PIXELS, device=device)
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device)
    images, kernel = (t.to(dtype, memory_format=layout) for t in (images, kernel))
    flops = 2 * IMAGES * PIXELS**2 * CHANNELS**2 * 9
    return best(lambda: torch.conv2d(images, kernel, padding=1), flops, device)


def best(run: Callable[[], object], flops: int, device: torch.device) -> float:
    """GFLOP/s of the quickest of a few runs: what the machine does when nothing disturbs it."""
    run()
    seconds = []
    for _ in range(ROUNDS):
        wait(device)
        begun = perf_counter()
        run()
        wait(device)
        seconds.append(perf_counter() - begun)
    return flops / min(seconds) / 1e9


def wait(device: torch.device) -> None:
    """Let a device finish."""
    if device.type == "cuda":  # cuda only
        torch.cuda.synchronize(device)
