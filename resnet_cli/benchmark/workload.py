"""What is measured, a network and images for it, and on which machine."""

import logging
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model

from resnet_cli.checkpoint import open_checkpoint
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, Location, local_file
from resnet_cli.checkpoint.metadata.classes import ClassNames
from resnet_cli.checkpoint.network.architectures import (
    ARCHITECTURES,
    PLAIN,
    build_network,
    unknown_model_error,
)
from resnet_cli.errors import ImageError, InputError
from resnet_cli.images import Decoder
from resnet_cli.preprocess import PRESETS
from resnet_cli.records import Item, tidy_path
from resnet_cli.runtimes import Runtime
from resnet_cli.sources import FindOptions, find_inputs
from resnet_cli.system import cpu_name, installed_versions

SEED = 0
OUTPUTS = 1000

STREAMED = 256  # images that are taken of a stream

log = logging.getLogger("resnet_cli")


def find_measured_network(given: str) -> Checkpoint | ExportedCheckpoint:
    """Load a checkpoint, or build a model by name with random weights: nothing is downloaded.

    Raises:
        SettingError: no such model or file.
        CheckpointError: the file holds no ResNet.
    """
    if given in ARCHITECTURES:
        return random_checkpoint(given)
    if given and (path := local_file(given)).exists():
        return open_checkpoint(Location(path, "given"), LoadOptions())
    raise unknown_model_error(given, ARCHITECTURES, f"the models are {', '.join(ARCHITECTURES)}")


def random_checkpoint(name: str) -> Checkpoint:
    """Build a model with random weights, which are as fast as trained ones."""
    torch.manual_seed(SEED)
    network = get_model(name, weights=None, num_classes=OUTPUTS)
    return Checkpoint(
        path=Path(name),
        files=(),
        format="",
        layout="torchvision",
        state_key=f"random {name}, of seed {SEED}",  # networks that are converted are kept by it
        stripped_prefix="",
        model=name,
        num_classes=OUTPUTS,
        in_channels=3,
        head=(),
        assumed=False,
        variant=PLAIN,
        classes=ClassNames(tuple(map(str, range(OUTPUTS))), "random weights", made_up=True),
        preprocess=PRESETS["imagenet-v1"],
        preprocess_source="imagenet-v1",
        notes=(),
        activation="softmax",
        state=network.state_dict(),
        blanks=iter(partial(build_network, name, num_classes=OUTPUTS), None),
    )


class EndlessImages:
    """Images that repeat for as long as a measurement lasts; of a stream, the first ones.

    One that cannot be read is tried once and then excluded.

    Attributes:
        source: the INPUT.
        items: all of them.
        unreadable: identities of those that are excluded.
    """

    def __init__(self, source: str | Path, find: FindOptions | None = None) -> None:
        """Find the images, and check that at least one can be read.

        Args:
            source: an INPUT.
            find: which files to take.

        Raises:
            InputError: none can be read.
        """
        self.source = str(source)
        found = find_inputs([self.source], find)
        items, found = found.peek(STREAMED) if found.total is None else (found.known, found)
        for sentence in found.notes:
            log.info(sentence)
        self.items = [replace(item, path=tidy_path(item.path)) for item in items]
        self.unreadable: set[tuple[str, str]] = set()
        decode = Decoder("RGB", upright=True, exact=False)
        for item in self.items:
            try:
                decode(item.source)
            except ImageError as error:
                self.exclude(item, str(error))
            else:
                return
        raise InputError(
            f"cannot measure with {source}: none of its images can be read "
            f"({len(self.unreadable)} tried)"
        )

    def exclude(self, item: Item, reason: str) -> None:
        """Skip an image from now on, and log that once."""
        if item.identity not in self.unreadable:
            self.unreadable.add(item.identity)
            log.warning("left out of what is measured: %s: %s", item.words, reason)

    @property
    def readable(self) -> list[Item]:
        """Those that are not excluded."""
        return [item for item in self.items if item.identity not in self.unreadable]

    def cycle(self) -> Iterator[Item]:
        """Yield the images again and again, for as long as any can be read."""
        while readable := self.readable:
            yield from readable


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


LIBRARIES = {"openvino": ("openvino", "nncf"), "onnxruntime": ("onnxruntime", "onnx")}
"""Runtimes beside torch: the libraries whose versions are recorded."""


def versions_of_runtimes(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of what computes or converts, for runtimes beside torch."""
    return installed_versions(library for name in names for library in LIBRARIES.get(name, ()))


def describe_environment(runtimes: Sequence[Runtime], workers: int) -> dict[str, Any]:
    """Return the hardware, the versions, and how the network runs, for the record of a result."""
    return {
        "device": ", ".join(dict.fromkeys(runtime.hardware for runtime in runtimes)),
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
