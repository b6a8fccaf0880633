"""A benchmark as a picture: throughput and latency over the batch size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from resnet_cli.benchmark import Benchmark, Row

INK, PALE = "#1f2933", "#d9dee3"
COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#5b8e7d", "#7a5195", "#8d6b4f")

SIZE = (10.0, 4.6)  # inches
DPI = 150


def plot(benchmark: Benchmark, path: Path) -> None:
    """Draw a benchmark into a file."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    curves = list(settings(benchmark.rows))
    for colour, (label, rows) in zip(COLOURS, curves, strict=False):
        throughput(left, label, rows, colour)
        latency(right, label, rows, colour)
    for axes in (left, right):
        finish(axes, sorted({row.batch_size for row in benchmark.rows}))
    left.set_ylim(bottom=0)
    left.set_ylabel("images/s")
    left.set_title("Throughput", loc="left", color=INK, fontweight="bold")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.set_ylabel("ms per batch")
    right.set_title(f"Latency: {span(benchmark)}", loc="left", color=INK, fontweight="bold")
    left.legend(frameon=False, loc="best")
    model = benchmark.rows[0].model
    where = benchmark.environment["device"]
    figure.suptitle(f"{model} on {where}", x=0.01, ha="left", color=INK, fontsize=13)
    figure.savefig(path)


def settings(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield each mode and precision with its rows, by batch size."""
    for mode, precision in dict.fromkeys((row.mode, row.precision) for row in rows):
        mine = [row for row in rows if (row.mode, row.precision) == (mode, precision)]
        found = [row for row in mine if row.images_per_second is not None]
        if found:
            yield f"{mode}, {precision}", sorted(found, key=lambda row: row.batch_size)


def throughput(axes: Axes, label: str, rows: Sequence[Row], colour: str) -> None:
    """A line of images per second, each point with its number."""
    sizes = [row.batch_size for row in rows]
    rates = [row.images_per_second or 0.0 for row in rows]
    axes.plot(sizes, rates, marker="o", color=colour, label=label, linewidth=2)
    for size, rate in zip(sizes, rates, strict=True):
        axes.annotate(
            f"{rate:.0f}",
            (size, rate),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
            color=colour,
            fontsize=8,
        )


def latency(axes: Axes, label: str, rows: Sequence[Row], colour: str) -> None:
    """A line of the lowest percentile, and a band up to the highest."""
    sizes = [row.batch_size for row in rows]
    least = [min(row.latency_ms.values()) for row in rows]
    most = [max(row.latency_ms.values()) for row in rows]
    axes.plot(sizes, least, marker="o", color=colour, label=label, linewidth=2)
    axes.fill_between(sizes, least, most, color=colour, alpha=0.2, linewidth=0)


def span(benchmark: Benchmark) -> str:
    """Which percentiles the band reaches over."""
    percentiles = benchmark.settings["percentiles"]
    low, high = min(percentiles), max(percentiles)
    return f"percentile {low:g}" if low == high else f"percentiles {low:g} to {high:g}"


def finish(axes: Axes, sizes: Sequence[int]) -> None:
    """Batch sizes as they were, quiet lines."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.set_xlabel("batch size")
    axes.margins(x=0.08, y=0.15)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
