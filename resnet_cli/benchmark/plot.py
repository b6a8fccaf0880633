"""A benchmark as a plot: throughput and latency over the batch size."""

from collections.abc import Iterator, Sequence
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from resnet_cli.benchmark.report import DOUBTFUL
from resnet_cli.benchmark.series import Series, longest_name, series_of
from resnet_cli.files import whole_file
from resnet_cli.text import amount

if TYPE_CHECKING:
    from resnet_cli.benchmark import BenchmarkResult
    from resnet_cli.benchmark.rows import BenchmarkRow

INK, GREY, PALE = "#1f2933", "#67727e", "#e3e7eb"

SMALL = 8.5  # points

WIDTH, HEIGHT, HEIGHT_OF_A_BAR = 10.0, 3.0, 0.45  # inches; heights of the panels alone
DPI = 160

ABOVE, ABOVE_BARS, BELOW = 1.25, 0.95, 0.6  # inches around the panels
TITLE, FACTS, LEGEND = 0.27, 0.5, 0.68  # inches from the upper edge
LEFT, RIGHT = 0.075, 0.985  # shares of the width
LETTER = 0.0078  # share of the width; names stand beside bars
LEGEND_LETTERS, LEGEND_LINE = 100, 0.2  # of a line of the legend, and inches of its height
MARKER_LETTERS = 6  # that a marker with its space is as wide as

STYLE: Any = {
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


def rate_text(row: "BenchmarkRow") -> str:
    """Return the images per second in few characters, marked where they are too noisy."""
    rate = row.speed
    return (f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}") + (
        "~" if row.status in DOUBTFUL else ""
    )


THICKNESS = 0.5  # of a bar, where the next one is 1 away
ROOM = 1.18  # times the longest bar, for the number after it


def throughput_bars(axes: Axes, series: Sequence[Series]) -> None:
    """Draw a bar for each series, followed by its number."""
    for place, one in enumerate(series):
        [row] = one.rows
        rate = row.speed
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
    space_rows(axes, series)
    axes.set_yticks(range(len(series)), [one.name for one in series], color=INK)
    axes.set_xlim(0, ROOM * max(one.top_speed for one in series))


def latency_ranges(axes: Axes, series: Sequence[Series]) -> None:
    """Draw a dot for each percentile, with its number above, in the rows of the bars."""
    for place, one in enumerate(series):
        for row in one.measured:
            values = list(row.latency_ms.values())
            axes.plot(values, [place] * len(values), **(one.style | {"linestyle": "-"}))
    space_rows(axes, series)
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


def space_rows(axes: Axes, series: Sequence[Series]) -> None:
    """Give each series a row, from the top down."""
    axes.set_ylim(len(series) - 0.4, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALE, linewidth=0.8)


TICKS = 12  # on the axis of batch sizes, at most
FINE = 1000  # times the lowest latency, below which its axis has more than powers of ten
HEADROOM = 1.12  # over the highest curve, for its number
HALO = 3.0  # points of white around a number
CLEAR = 0.07  # of the height, between two numbers over one batch size
LOWEST, STEP = 0.035, 0.055  # of the height: where marks for "out of memory" stand


def throughput_curves(axes: Axes, series: Sequence[Series]) -> None:
    """Draw images per second over the batch size; the best point of each curve has a number."""
    for one in series:
        rates = [row.speed for row in one.measured]
        sizes = [row.batch_size for row in one.measured]
        axes.plot(sizes, rates, label=one.name, **one.style)
    axes.set_ylim(0, HEADROOM * max(one.top_speed for one in series))
    write_numbers(axes, series)
    mark_out_of_memory(axes, series)
    scale_batch_sizes(axes, series)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def write_numbers(axes: Axes, series: Sequence[Series]) -> None:
    """Write the number of each curve's best point where there is room, and the marks of noise."""
    top = axes.get_ylim()[1]
    taken: set[tuple[int, int]] = set()  # batch sizes, and heights in steps
    rows = sorted((row for one in series for row in one.measured), key=lambda row: row.speed)
    highest = {row.batch_size: row for row in rows}
    for one in sorted(series, key=lambda one: -one.top_speed):
        best = max(one.measured, key=lambda row: row.speed, default=None)
        for row in one.measured:
            over = row is highest[row.batch_size]  # where there is no other curve
            step = round(row.speed / top / CLEAR) + (1 if over else -1)
            places = {(row.batch_size, near) for near in (step - 1, step, step + 1)}
            if (row is best or row.status in DOUBTFUL) and step > 0 and not places & taken:
                taken.add((row.batch_size, step))
                write_number(axes, row, one.colour, is_best=row is best, over=over)


def write_number(
    axes: Axes, row: "BenchmarkRow", colour: str, *, is_best: bool, over: bool
) -> None:
    """Write a number, or only the mark of a noisy point, with a halo that keeps it legible."""
    axes.annotate(
        rate_text(row) if is_best else "~",
        (row.batch_size, row.speed),
        textcoords="offset points",
        xytext=(0, 7 if over else -8),
        ha="center",
        va="bottom" if over else "top",
        color=colour,
        path_effects=[withStroke(linewidth=HALO, foreground="white")],
        fontsize=SMALL,
        fontweight="bold" if is_best else "normal",
    )


def mark_out_of_memory(axes: Axes, series: Sequence[Series]) -> None:
    """Draw a cross at each batch size that did not fit into memory."""
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
    """Draw the latency of a batch: the lowest percentile as a curve, a band up to the highest."""
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
    scale_batch_sizes(axes, series)


def scale_batch_sizes(axes: Axes, series: Sequence[Series]) -> None:
    """Scale the axis of batch sizes by powers of two, with ticks at the measured sizes."""
    sizes = sorted({row.batch_size for one in series for row in one.rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.35, sizes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(list(spaced_ticks(sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("batch size")
    axes.grid(color=PALE, linewidth=0.8)


def spaced_ticks(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the sizes whose numbers do not overlap."""
    least = log2(sizes[-1] / sizes[0]) / TICKS
    last = 0.0
    for size in sizes:
        if not last or log2(size / last) >= least:
            last = size
            yield size


def plot_benchmark(result: "BenchmarkResult", path: Path) -> None:
    """Draw a benchmark as a PNG."""
    series = list(series_of(result.rows))
    is_bars = len({row.batch_size for row in result.rows}) == 1
    above = ABOVE_BARS if is_bars else ABOVE + LEGEND_LINE * (legend_lines(series) - 1)
    height = above + BELOW + (HEIGHT_OF_A_BAR * (len(series) + 0.3) if is_bars else HEIGHT)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(
            0.02 + LETTER * longest_name(series) if is_bars else LEFT,
            BELOW / height,
            RIGHT,
            1 - above / height,
            wspace=0.2,
        )
        draw_heading(figure, result)
        title_panels(left, right, result, is_bars=is_bars)
        if not any(one.measured for one in series):
            draw_nothing(left, right)
        elif is_bars:
            throughput_bars(left, series)
            latency_ranges(right, series)
        else:
            throughput_curves(left, series)
            latency_curves(right, series)
            draw_legend(figure, left, series)
        with whole_file(path) as file:
            figure.savefig(file, format="png")


def legend_columns(series: Sequence[Series]) -> int:
    """Return how many names fit into a line."""
    return max(1, LEGEND_LETTERS // (longest_name(series) + MARKER_LETTERS))


def legend_lines(series: Sequence[Series]) -> int:
    """Return how many lines the names need."""
    return ceil(len(series) / legend_columns(series))


def draw_legend(figure: Figure, axes: Axes, series: Sequence[Series]) -> None:
    """Draw the names of the curves of both panels, in as few lines as they need."""
    handles = axes.get_legend_handles_labels()[0]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(LEFT - 0.01, 1 - LEGEND / figure.get_figheight()),
        ncols=min(len(handles), legend_columns(series)),
        frameon=False,
        fontsize=SMALL + 0.5,
        columnspacing=1.6,
        handlelength=2.6,
        borderpad=0,
    )


def draw_heading(figure: Figure, result: "BenchmarkResult") -> None:
    """Write what ran where, and how."""
    height = figure.get_figheight()
    title = f"{result.rows[0].model} on {result.environment['device']}"
    figure.text(0.02, 1 - TITLE / height, title, fontsize=14, fontweight="bold")
    figure.text(
        0.02,
        1 - FACTS / height,
        "  ·  ".join(plot_facts(result)),
        fontsize=SMALL + 0.5,
        color=GREY,
    )


def plot_facts(result: "BenchmarkResult") -> list[str]:
    """Return the settings and versions that a reader needs to judge the figures."""
    settings, environment = result.settings, result.environment
    side = settings["img_size"]
    found = [f"{side}×{side} pixels", amount(settings["workers"], "worker")]
    if settings["compiled"]:
        found.append("compiled")
    libraries = [name for name in settings["runtimes"] if name in environment]
    found += [
        *(f"{name} {environment[name]}" for name in libraries),
        environment["date"].partition("T")[0],
    ]
    marks = {
        "noisy": "~ too noisy to be trusted",
        "disturbed": "~ disturbed by other work",
        "out of memory": "× out of memory",
    }
    return found + [text for status, text in marks.items() if status in list_statuses(result)]


def list_statuses(result: "BenchmarkResult") -> set[str]:
    """Return every status among the rows."""
    return {row.status for row in result.rows}


def title_panels(left: Axes, right: Axes, result: "BenchmarkResult", *, is_bars: bool) -> None:
    """Write what each panel shows, with its unit."""
    percentiles = sorted(result.settings["percentiles"])
    low, high = (f"p{percent:g}" for percent in (percentiles[0], percentiles[-1]))
    shown = low if low == high else f"{low}, and a band up to {high}"
    batch = f"a batch of {result.rows[0].batch_size:,}" if is_bars else "a batch"
    left.set_title("Throughput, images/s", loc="left", fontsize=10.5, pad=8)
    right.set_title(
        f"Latency of {batch}, ms{'' if is_bars else f': {shown}'}", loc="left", fontsize=10.5, pad=8
    )


def draw_nothing(*panels: Axes) -> None:
    """Say that nothing could be measured."""
    for axes in panels:
        axes.set_axis_off()
        axes.text(0, 0.9, "out of memory", color=GREY, transform=axes.transAxes)
