"""How fast a network runs here: a sweep over batch sizes and precisions, honest about its noise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from resnet_cli.benchmark.subject import Photographs
from resnet_cli.benchmark.timing import Effort, Stages
from resnet_cli.runtimes import Runtime


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """What is measured, and how."""

    runtime: Runtime
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    precisions: tuple[str, ...] = ("fp32",)
    compiled: bool = False
    workers: int = 1  # threads: streams on the CPU, decoders in front of a GPU
    img_size: int = 224  # pixels of a side
    photographs: Photographs | None = None  # to measure end to end as well
    effort: Effort = field(default_factory=Effort)
    percentiles: tuple[float, ...] = (50, 90, 99)

    @property
    def modes(self) -> tuple[str, ...]:
        """What is timed."""
        return ("forward",) if self.photographs is None else ("forward", "end-to-end")

    @property
    def total(self) -> int:
        """Rows of the sweep."""
        return len(self.precisions) * len(self.batch_sizes) * len(self.modes)

    def record(self) -> dict[str, Any]:
        """The settings as they are written into JSON."""
        return {
            "device": self.runtime.device,
            "batch_sizes": list(self.batch_sizes),
            "precisions": list(self.precisions),
            "compiled": self.compiled,
            "workers": self.workers,
            "img_size": self.img_size,
            "images": None if self.photographs is None else str(self.photographs.source),
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
    stages: Stages | None = None  # end to end: what the verdict goes by

    def record(self) -> dict[str, Any]:
        """The row as it is written into files."""
        record = asdict(self)
        del record["stages"]
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
