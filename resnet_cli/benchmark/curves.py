"""Throughput and latency over several batch sizes, as curves."""

from collections.abc import Iterator, Sequence
from math import log2

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from resnet_cli.benchmark import Row
from resnet_cli.benchmark.series import PALE, SMALL, Series, rate_text

TICKS = 12  # on the axis of batch sizes, at most
FINE = 1000  # times the lowest latency, below which its axis has more than powers of ten
HEADROOM = 1.12  # over the highest curve, for its number
HALO = 3.0  # points of white around a number
CLEAR = 0.07  # of the height, between two numbers over one batch size
LOWEST, STEP = 0.035, 0.055  # of the height: where marks for a lack of memory stand


def throughput_curves(axes: Axes, series: Sequence[Series]) -> None:
    """Images per second over the batch size; the best of each curve has its number."""
    for one in series:
        rates = [speed(row) for row in one.measured]
        sizes = [row.batch_size for row in one.measured]
        axes.plot(sizes, rates, label=one.name, **one.style)
    axes.set_ylim(0, HEADROOM * max(speed(row) for one in series for row in one.measured))
    numbers(axes, series)
    marks_without_room(axes, series)
    over_batch_sizes(axes, series)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def speed(row: Row) -> float:
    """Images per second."""
    return row.images_per_second or 0.0


def numbers(axes: Axes, series: Sequence[Series]) -> None:
    """The number of the best point of each curve where there is room, and the marks of noise."""
    top = axes.get_ylim()[1]
    taken: set[tuple[int, int]] = set()  # batch sizes, and heights in steps
    rows = sorted((row for one in series for row in one.measured), key=speed)
    highest = {row.batch_size: row for row in rows}
    for one in sorted(series, key=lambda one: -max(map(speed, one.measured), default=0.0)):
        best = max(one.measured, key=speed, default=None)
        for row in one.measured:
            over = row is highest[row.batch_size]  # where no other curve is
            step = round(speed(row) / top / CLEAR) + (1 if over else -1)
            places = {(row.batch_size, near) for near in (step - 1, step, step + 1)}
            if (row is best or row.status == "noisy") and step > 0 and not places & taken:
                taken.add((row.batch_size, step))
                number(axes, row, one.colour, is_best=row is best, over=over)


def number(axes: Axes, row: Row, colour: str, *, is_best: bool, over: bool) -> None:
    """The number of a point, or only the mark of a noisy one, legible where a curve crosses it."""
    axes.annotate(
        rate_text(row) if is_best else "~",
        (row.batch_size, speed(row)),
        textcoords="offset points",
        xytext=(0, 7 if over else -8),
        ha="center",
        va="bottom" if over else "top",
        color=colour,
        path_effects=[withStroke(linewidth=HALO, foreground="white")],
        fontsize=SMALL,
        fontweight="bold" if is_best else "normal",
    )


def marks_without_room(axes: Axes, series: Sequence[Series]) -> None:
    """Crosses over each batch size that did not fit."""
    heights: dict[int, float] = {}
    for one in series:
        for size in one.failed:
            height = heights.get(size, LOWEST)
            heights[size] = height + STEP
            axes.plot(
                size,
                height,
                marker="x",
                markersize=7,
                markeredgewidth=1.8,
                color=one.colour,
                linestyle="",
                transform=axes.get_xaxis_transform(),
            )


def latency_curves(axes: Axes, series: Sequence[Series]) -> None:
    """Milliseconds of a batch: the lowest percentile as a curve, a band up to the highest."""
    for one in series:
        measured = [row.batch_size for row in one.measured]
        least = [min(row.latency_ms.values()) for row in one.measured]
        most = [max(row.latency_ms.values()) for row in one.measured]
        axes.fill_between(measured, least, most, color=one.colour, alpha=0.18, linewidth=0)
        axes.plot(measured, least, label=one.name, **one.style)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < FINE * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    over_batch_sizes(axes, series)


def over_batch_sizes(axes: Axes, series: Sequence[Series]) -> None:
    """Batch sizes as they were measured, by their doublings."""
    sizes = sorted({row.batch_size for one in series for row in one.rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.35, sizes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(list(apart(sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("batch size")
    axes.grid(color=PALE, linewidth=0.8)


def apart(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the sizes whose numbers do not touch."""
    least = log2(sizes[-1] / sizes[0]) / TICKS
    last = 0.0
    for size in sizes:
        if not last or log2(size / last) >= least:
            last = size
            yield size
