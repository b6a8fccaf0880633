"""How fast a network runs here: a sweep over batch sizes and precisions, honest about its noise."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from resnet_cli.benchmark.memory import forget_peak, peak_bytes
from resnet_cli.benchmark.modes import time_end_to_end, time_forward
from resnet_cli.benchmark.peak import peak_gflops
from resnet_cli.benchmark.timing import Effort, Timing
from resnet_cli.checkpoint import Checkpoint
from resnet_cli.classifier import Classifier
from resnet_cli.devices import PRECISIONS
from resnet_cli.errors import DeviceError
from resnet_cli.inputs import find_inputs
from resnet_cli.summary import summarise
from resnet_cli.summary.networks import Subject

__all__ = ["Benchmark", "Row", "Settings", "measure"]

WIDE = 0.25  # spread from which a row is not to be trusted

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
"""What torch's allocators say; that of the CPU has no class of its own for it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and how."""

    device: torch.device
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    precisions: tuple[str, ...] = ("fp32",)
    compiled: bool = False
    workers: int = 1  # threads: streams on the CPU, decoders in front of a GPU
    img_size: int = 224  # pixels of a side
    images: Path | None = None  # folder of photographs, to measure end to end as well
    effort: Effort = field(default_factory=Effort)
    percentiles: tuple[float, ...] = (50, 90, 99)

    @property
    def modes(self) -> tuple[str, ...]:
        """What is timed."""
        return ("forward",) if self.images is None else ("forward", "end-to-end")

    @property
    def total(self) -> int:
        """Rows of the sweep."""
        return len(self.precisions) * len(self.batch_sizes) * len(self.modes)

    def record(self) -> dict[str, Any]:
        """The settings as they are written into JSON."""
        return {
            "device": str(self.device),
            "batch_sizes": list(self.batch_sizes),
            "precisions": list(self.precisions),
            "compiled": self.compiled,
            "workers": self.workers,
            "img_size": self.img_size,
            "images": None if self.images is None else str(self.images),
            "warmup": self.effort.warmup,
            "duration": self.effort.seconds,
            "iterations": self.effort.iterations,
            "percentiles": list(self.percentiles),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, measured; None for what could not be."""

    mode: str  # forward, end-to-end
    model: str
    device: str
    precision: str
    batch_size: int
    compiled: bool
    images_per_second: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # of a batch, by percentile
    gflops: float | None = None  # GFLOP/s of convolutions and linear layers
    peak_share: float | None = None  # of what this machine can do at this precision
    peak_memory_bytes: int | None = None
    iterations: int = 0  # passes that were counted
    status: str = "ok"  # or noisy, out of memory
    error: str | None = None
    decode_share: float | None = None  # of the work of an image, end to end

    def record(self) -> dict[str, Any]:
        """The row as it is written into files."""
        record = asdict(self)
        del record["decode_share"]
        return record


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All that was measured in one run."""

    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    verdict: str

    def record(self) -> dict[str, Any]:
        """The benchmark as it is written into JSON."""
        return {
            "environment": self.environment,
            "settings": self.settings,
            "rows": [row.record() for row in self.rows],
            "verdict": self.verdict,
        }


def measure(checkpoint: Checkpoint, settings: Settings) -> Iterator[Row]:
    """Measure a sweep, a row at a time.

    Args:
        checkpoint: the network, with weights of any kind.
        settings: what is measured.

    Yields:
        A row for each precision, batch size and mode.
    """
    gflop = gflop_per_image(checkpoint, settings.img_size)
    for precision in settings.precisions:
        peak = peak_gflops(settings.device, PRECISIONS[precision], settings.workers)
        for batch, mode in product(settings.batch_sizes, settings.modes):
            row = Row(
                mode,
                checkpoint.model,
                str(settings.device),
                precision,
                batch,
                settings.compiled,
            )
            try:
                forget_peak(settings.device)
                timing = timed(ready(checkpoint, settings, precision), settings, batch, mode)
            except (torch.OutOfMemoryError, DeviceError, RuntimeError, MemoryError) as error:
                yield replace(row, status="out of memory", error=complaint(error))
                continue
            yield completed(row, timing, settings, gflop, peak)


def timed(classifier: Classifier, settings: Settings, batch: int, mode: str) -> Timing:
    """Time one setting."""
    workers, effort = settings.workers, settings.effort
    if mode == "forward" or settings.images is None:
        return time_forward(
            classifier, batch=batch, side=settings.img_size, workers=workers, effort=effort
        )
    inputs = find_inputs([str(settings.images)])
    return time_end_to_end(classifier, inputs, batch=batch, workers=workers, effort=effort)


def ready(checkpoint: Checkpoint, settings: Settings, precision: str) -> Classifier:
    """A classifier of its own for each row: a compiled network is made for one batch size."""
    side = settings.img_size
    return Classifier.of(
        checkpoint,
        reason="to be measured",
        device=settings.device,
        precision=precision,
        compile=settings.compiled,
        preprocess=lambda recorded: replace(
            recorded, crop_size=side, resize_size=max(side, recorded.resize_size)
        ),
    )


def completed(row: Row, timing: Timing, settings: Settings, gflop: float, peak: float) -> Row:
    """A row with what was measured."""
    rate = timing.images_per_second
    return replace(
        row,
        images_per_second=rate,
        latency_ms={
            f"p{percent:g}": timing.percentile(percent) for percent in settings.percentiles
        },
        gflops=rate * gflop,
        peak_share=rate * gflop / peak,
        peak_memory_bytes=peak_bytes(settings.device),
        iterations=len(timing.latencies_ms),
        status="noisy" if timing.spread > WIDE else "ok",
        decode_share=timing.decode_share,
    )


def complaint(error: Exception) -> str:
    """The message of an error that means that memory ran out.

    Raises:
        Exception: the error itself, if it means anything else.
    """
    message = next(iter(str(error).splitlines()), type(error).__name__)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory or any(phrase in message.lower() for phrase in OUT_OF_MEMORY):
        return message
    raise error


def gflop_per_image(checkpoint: Checkpoint, side: int) -> float:
    """GFLOP of convolutions and linear layers for one image: two for each multiply-add."""
    subject = Subject(
        checkpoint.model,
        str(checkpoint.path),
        checkpoint.blank,
        checkpoint.in_channels,
        checkpoint.num_classes,
        is_resnet=True,
    )
    return summarise(subject, img_size=(side, side)).totals.gflops
