"""A benchmark as text: the table that people read, and the .csv and .json that programs do."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from resnet_cli.benchmark import Benchmark, Row
from resnet_cli.benchmark.compare import Key, key_of

TITLES = ("mode", "precision", "batch", "images/s")
AFTER = ("GFLOP/s", "of peak", "MB")


def header(percentiles: Sequence[float], *, compared: bool) -> list[str]:
    """Titles of the columns."""
    titles = [*TITLES, *(f"p{percent:g} ms" for percent in percentiles), *AFTER]
    return [*titles, "ratio"] if compared else titles


def cells(row: Row, before: Mapping[Key, float] | None) -> list[str]:
    """A row as text, a cell a column; a row without figures says why in their place.

    Args:
        row: what was measured.
        before: images per second of an earlier run, for the column of ratios.
    """
    start = [row.mode, row.precision, str(row.batch_size)]
    if row.images_per_second is None:
        return [*start, row.status]
    found = [
        *start,
        f"{row.images_per_second:.1f}" + ("~" if row.status == "noisy" else ""),
        *(f"{ms:.1f}" for ms in row.latency_ms.values()),
        f"{row.gflops:.0f}",
        f"{100 * (row.peak_share or 0.0):.0f} %",
        f"{(row.peak_memory_bytes or 0) / 1e6:.0f}",
    ]
    if before is not None:
        then = before.get(key_of(row.record()))
        found.append("" if then is None else f"{row.images_per_second / then:.2f}")
    return found


def aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line: mode and precision to the left, numbers to the right."""
    pairs = zip(row, widths, strict=False)
    padded = [
        text.ljust(width) if column < 2 else text.rjust(width)
        for column, (text, width) in enumerate(pairs)
    ]
    return "  ".join(padded).rstrip()


def widths(percentiles: Sequence[float], *, compared: bool) -> list[int]:
    """Columns that are wide enough for any figure, so that rows can be shown as they come."""
    least = [10, 9, 5, 9, *(8 for _ in percentiles), 7, 7, 6, 5]
    titles = header(percentiles, compared=compared)
    return [max(len(title), width) for title, width in zip(titles, least, strict=False)]


def as_csv(benchmark: Benchmark) -> str:
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


def as_json(benchmark: Benchmark) -> str:
    """Everything, the environment and the settings too."""
    return json.dumps(benchmark.record(), indent=2) + "\n"
