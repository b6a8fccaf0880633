"""A row of a benchmark: one setting, measured; and what it is compared by."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from resnet_cli.benchmark.timing import Stages

ROW_KEYS = {"mode": str, "runtime": str, "precision": str, "batch_size": int}
"""What identifies a row in two benchmarks, with its type in JSON."""

BEFORE: dict[str, Any] = {"runtime": "torch"}
"""What the rows of files mean that were written before these keys were."""

RowKey = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One setting, measured; None for what could not be measured."""

    mode: str  # forward, end-to-end
    model: str
    device: str
    runtime: str  # torch, openvino, onnxruntime
    precision: str
    batch_size: int
    compiled: bool
    images_per_second: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # of a batch, by percentile
    gflops: float | None = None  # GFLOP/s of convolutions and linear layers
    peak_share: float | None = None  # 0 to 1, of this machine's peak at this precision
    peak_memory_bytes: int | None = None
    iterations: int = 0  # passes that were counted
    status: str = "ok"  # or noisy, disturbed, out of memory
    error: str | None = None
    other_work: float | None = None  # 0 to 1, of the cores that it needed: what others took
    stages: Stages | None = None  # end-to-end only

    @property
    def speed(self) -> float:
        """Images per second, 0 where nothing was measured."""
        return self.images_per_second or 0.0

    def record(self) -> dict[str, Any]:
        """Return the row for files."""
        record = asdict(self)
        del record["stages"]
        return record


def fastest_row(rows: Sequence[BenchmarkRow]) -> BenchmarkRow | None:
    """Return the fastest measured row, preferably an end-to-end one; None without any."""
    measured = [row for row in rows if row.images_per_second is not None]
    whole = [row for row in measured if row.mode == "end-to-end"]
    return max(whole or measured, key=lambda row: row.speed, default=None)


def row_key(row: dict[str, Any]) -> RowKey:
    """Return what identifies the record of a row in another benchmark."""
    return tuple((BEFORE | row)[key] for key in ROW_KEYS)
