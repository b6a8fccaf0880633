"""A benchmark as text: the table that people read, and the .csv and .json that programs do."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from resnet_cli.benchmark import Benchmark, Row
from resnet_cli.benchmark.compare import Key, key_of

GAP = "  "

DROPPED = ("GFLOP/s", "MB")
"""What a narrow terminal does without, in this order; files always have it."""


@dataclass(frozen=True, slots=True)
class BenchmarkColumn:
    """One column of the table."""

    title: str
    text: Callable[[Row], str]
    least: int = 0  # characters: wide enough for any figure, so that rows are shown as they come
    left: bool = False  # aligned, as words are

    @property
    def width(self) -> int:
        """Characters."""
        return max(len(self.title), self.least)

    def aligned(self, text: str) -> str:
        """A cell as wide as the column."""
        return text.ljust(self.width) if self.left else text.rjust(self.width)


SETTINGS = (
    BenchmarkColumn("mode", lambda row: row.mode, len("end-to-end"), left=True),
    BenchmarkColumn("prec", lambda row: row.precision, left=True),
    BenchmarkColumn("batch", lambda row: str(row.batch_size)),
)

RATE = BenchmarkColumn(
    "images/s", lambda row: three_digits(row.images_per_second) + noise_mark(row)
)

COSTS = (
    BenchmarkColumn("GFLOP/s", lambda row: three_digits(row.gflops)),
    BenchmarkColumn("peak", lambda row: peak_text(row), 5),
    BenchmarkColumn("MB", lambda row: f"{(row.peak_memory_bytes or 0) / 1e6:.0f}", 5),
)


def choose_columns(
    percentiles: Sequence[float], before: Mapping[Key, Mapping[str, Any]] | None, width: int
) -> tuple[list[BenchmarkColumn], list[str]]:
    """The columns of a table, and the titles of those that it has no room for.

    Args:
        percentiles: of the latency.
        before: the rows of an earlier run, for a column of ratios.
        width: characters of the terminal.
    """
    latencies = [
        BenchmarkColumn(f"p{percent:g} ms", partial(latency_cell, name=f"p{percent:g}"), 6)
        for percent in percentiles
    ]
    ratios = (
        [] if before is None else [BenchmarkColumn("ratio", partial(ratio_cell, before=before))]
    )
    found = [*SETTINGS, RATE, *latencies, *COSTS, *ratios]
    left_out = []
    for title in DROPPED:
        if len(GAP.join(column.aligned("") for column in found)) > width:
            found = [column for column in found if column.title != title]
            left_out.append(title)
    return found, left_out


def header_line(columns: Sequence[BenchmarkColumn]) -> str:
    """The line of titles."""
    return align_cells(columns, [column.title for column in columns])


def row_line(columns: Sequence[BenchmarkColumn], row: Row) -> str:
    """A row; one without figures says why in their place."""
    if row.images_per_second is None:
        return align_cells(columns, [*(column.text(row) for column in SETTINGS), row.status])
    return align_cells(columns, [column.text(row) for column in columns])


def align_cells(columns: Sequence[BenchmarkColumn], cells: Sequence[str]) -> str:
    """Cells under each other."""
    pairs = zip(columns, cells, strict=False)
    return GAP.join(column.aligned(cell) for column, cell in pairs).rstrip()


def three_digits(value: float | None) -> str:
    """Three digits that mean something, and the whole ones before them."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def peak_text(row: Row) -> str:
    """A share of the machine's peak, marked where it is more than all of it."""
    if row.peak_share is None:
        return ""
    return f"{row.peak_share:.0%}" + "~" * (row.peak_share > 1)


def noise_mark(row: Row) -> str:
    """A mark on a figure that is not to be trusted."""
    return "~" if row.status == "noisy" else ""


def latency_cell(row: Row, *, name: str) -> str:
    """Milliseconds of a batch."""
    return three_digits(row.latency_ms.get(name))


def ratio_cell(row: Row, *, before: Mapping[Key, Mapping[str, Any]]) -> str:
    """How much faster it is now, marked if either is noisy; nothing where there was no such row."""
    then = before.get(key_of(row.record()))
    if then is None:
        return ""
    mark = "~" if then.get("status") == "noisy" else noise_mark(row)
    return f"{(row.images_per_second or 0.0) / then['images_per_second']:.2f}{mark}"


def benchmark_csv(benchmark: Benchmark) -> str:
    """A line a row; each percentile has a column."""
    out = io.StringIO()
    percentiles = benchmark.settings["percentiles"]
    latencies = [f"latency_ms_p{percent:g}" for percent in percentiles]
    names = [name for name in benchmark.rows[0].record() if name != "latency_ms"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *latencies])
    for row in benchmark.rows:
        record = row.record()
        times = [row.latency_ms.get(f"p{percent:g}") for percent in percentiles]
        writer.writerow([record[name] for name in names] + times)
    return out.getvalue()


def benchmark_json(benchmark: Benchmark) -> str:
    """Everything, the environment and the settings too."""
    return json.dumps(benchmark.record(), indent=2) + "\n"
