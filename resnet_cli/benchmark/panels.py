"""What belongs together in a picture: the rows of one mode and precision, and how they look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

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

INK, GREY, PALE = "#1f2933", "#67727e", "#e3e7eb"

COLOURS = {"fp32": "#0072b2", "bf16": "#d55e00", "fp16": "#009e73"}
"""Of Okabe and Ito's palette, whose colours are not alike to anybody."""

SMALL = 8.5  # points


@dataclass(frozen=True, slots=True)
class Series:
    """Rows of one mode and precision, by batch size."""

    mode: str
    precision: str
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """As the legend has it."""
        return f"{self.precision} {self.mode}"

    @property
    def colour(self) -> str:
        """The precision."""
        return COLOURS[self.precision]

    @property
    def is_alone(self) -> bool:
        """Whether the network is measured without what comes before it."""
        return self.mode == "forward"

    @property
    def measured(self) -> list[Row]:
        """The rows that have figures."""
        return [row for row in self.rows if row.images_per_second is not None]

    @property
    def failed(self) -> list[int]:
        """Batch sizes without figures."""
        return [row.batch_size for row in self.rows if row.images_per_second is None]

    @property
    def style(self) -> dict[str, Any]:
        """Line and marker: the precision is the colour, the mode is whether they are filled."""
        return {
            "color": self.colour,
            "linewidth": 1.8,
            "linestyle": "-" if self.is_alone else (0, (4, 2)),
            "marker": "o",
            "markersize": 6,
            "markeredgewidth": 1.6,
            "markerfacecolor": self.colour if self.is_alone else "white",
        }


def series_of(rows: Sequence[Row]) -> Iterator[Series]:
    """Yield each mode and precision with its rows."""
    for mode, precision in dict.fromkeys((row.mode, row.precision) for row in rows):
        mine = {
            row.batch_size: row for row in rows if (row.mode, row.precision) == (mode, precision)
        }
        yield Series(mode, precision, [mine[size] for size in sorted(mine)])


def rate_text(row: Row) -> str:
    """Images per second in few characters, with a mark where they are not to be trusted."""
    rate = row.images_per_second or 0.0
    return (f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}") + (
        "~" if row.status == "noisy" else ""
    )


THICKNESS = 0.5  # of a bar, where the next one is 1 away
ROOM = 1.18  # times the longest bar, for the numbers behind it


def throughput_bars(axes: Axes, series: Sequence[Series]) -> None:
    """A bar for each mode and precision, with its number behind it."""
    for place, one in enumerate(series):
        [row] = one.rows
        rate = row.images_per_second or 0.0
        axes.barh(
            place,
            rate,
            THICKNESS,
            facecolor=one.colour if one.is_alone else "white",
            edgecolor=one.colour,
            linewidth=1.6,
            label=one.name,
        )
        measured = row.images_per_second is not None
        axes.annotate(
            rate_text(row) if measured else row.status,
            (rate, place),
            textcoords="offset points",
            xytext=(6, 0),
            va="center",
            color=one.colour if measured else GREY,
            fontsize=SMALL + 1,
            fontweight="bold" if measured else "normal",
        )
    a_place_each(axes, series)
    axes.set_yticks(range(len(series)), [one.name for one in series], color=INK)
    axes.set_xlim(0, ROOM * max(row.images_per_second or 0.0 for one in series for row in one.rows))


def latency_ranges(axes: Axes, series: Sequence[Series]) -> None:
    """A dot for each percentile, with its number above; the names are those of the bars."""
    for place, one in enumerate(series):
        for row in one.measured:
            values = list(row.latency_ms.values())
            axes.plot(values, [place] * len(values), **(one.style | {"linestyle": "-"}))
    a_place_each(axes, series)
    axes.set_yticks(())
    axes.set_xlim(0, ROOM * axes.get_xlim()[1])
    middle = axes.get_xlim()[1] / 2
    for place, one in enumerate(series):
        for row in one.measured:
            low, high = min(row.latency_ms.values()), max(row.latency_ms.values())
            to_the_left = high > middle  # where there is room
            axes.annotate(
                "  ".join(f"{name} {ms:,.4g}" for name, ms in row.latency_ms.items()),
                (high if to_the_left else low, place),
                textcoords="offset points",
                xytext=(0, 8),
                ha="right" if to_the_left else "left",
                color=one.colour,
                fontsize=SMALL,
            )


def a_place_each(axes: Axes, series: Sequence[Series]) -> None:
    """Room for each mode and precision, from the top down."""
    axes.set_ylim(len(series) - 0.4, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALE, linewidth=0.8)


TICKS = 12  # on the axis of batch sizes, at most
FINE = 1000  # times the lowest latency, below which its axis has more than powers of ten
HEADROOM = 1.12  # over the highest curve, for its number
HALO = 3.0  # points of white around a number
CLEAR = 0.07  # of the height, between two numbers over one batch size
LOWEST, STEP = 0.035, 0.055  # of the height: where marks for a lack of memory stand


def throughput_curves(axes: Axes, series: Sequence[Series]) -> None:
    """Images per second over the batch size; the best of each curve has its number."""
    for one in series:
        rates = [curve_speed(row) for row in one.measured]
        sizes = [row.batch_size for row in one.measured]
        axes.plot(sizes, rates, label=one.name, **one.style)
    axes.set_ylim(0, HEADROOM * max(curve_speed(row) for one in series for row in one.measured))
    write_numbers(axes, series)
    marks_without_room(axes, series)
    over_batch_sizes(axes, series)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def curve_speed(row: Row) -> float:
    """Images per second."""
    return row.images_per_second or 0.0


def write_numbers(axes: Axes, series: Sequence[Series]) -> None:
    """The number of the best point of each curve where there is room, and the marks of noise."""
    top = axes.get_ylim()[1]
    taken: set[tuple[int, int]] = set()  # batch sizes, and heights in steps
    rows = sorted((row for one in series for row in one.measured), key=curve_speed)
    highest = {row.batch_size: row for row in rows}
    for one in sorted(series, key=lambda one: -max(map(curve_speed, one.measured), default=0.0)):
        best = max(one.measured, key=curve_speed, default=None)
        for row in one.measured:
            over = row is highest[row.batch_size]  # where no other curve is
            step = round(curve_speed(row) / top / CLEAR) + (1 if over else -1)
            places = {(row.batch_size, near) for near in (step - 1, step, step + 1)}
            if (row is best or row.status == "noisy") and step > 0 and not places & taken:
                taken.add((row.batch_size, step))
                write_number(axes, row, one.colour, is_best=row is best, over=over)


def write_number(axes: Axes, row: Row, colour: str, *, is_best: bool, over: bool) -> None:
    """The number of a point, or only the mark of a noisy one, legible where a curve crosses it."""
    axes.annotate(
        rate_text(row) if is_best else "~",
        (row.batch_size, curve_speed(row)),
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
    axes.xaxis.set_major_locator(FixedLocator(list(sizes_apart(sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("batch size")
    axes.grid(color=PALE, linewidth=0.8)


def sizes_apart(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the sizes whose numbers do not touch."""
    least = log2(sizes[-1] / sizes[0]) / TICKS
    last = 0.0
    for size in sizes:
        if not last or log2(size / last) >= least:
            last = size
            yield size
