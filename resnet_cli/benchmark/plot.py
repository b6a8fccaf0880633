"""A benchmark as a picture: throughput and latency over the batch size."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_cli.benchmark import Benchmark
from resnet_cli.benchmark.panels import (
    GREY,
    INK,
    SMALL,
    latency_curves,
    latency_ranges,
    series_of,
    throughput_bars,
    throughput_curves,
)
from resnet_cli.files import whole_file
from resnet_cli.text import amount

WIDTH, HEIGHT, HEIGHT_OF_A_BAR = 10.0, 3.0, 0.45  # inches; heights of the panels alone
DPI = 160

ABOVE, ABOVE_BARS, BELOW = 1.25, 0.95, 0.6  # inches around the panels
TITLE, FACTS, LEGEND = 0.27, 0.5, 0.68  # inches from the upper edge
LEFT, LEFT_OF_BARS, RIGHT = 0.075, 0.13, 0.985  # shares of the width; names stand beside bars

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


def plot_benchmark(benchmark: Benchmark, path: Path) -> None:
    """Draw a benchmark into a file."""
    series = list(series_of(benchmark.rows))
    is_bars = len({row.batch_size for row in benchmark.rows}) == 1
    above = ABOVE_BARS if is_bars else ABOVE
    height = above + BELOW + (HEIGHT_OF_A_BAR * (len(series) + 0.3) if is_bars else HEIGHT)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(
            LEFT_OF_BARS if is_bars else LEFT,
            BELOW / height,
            RIGHT,
            1 - above / height,
            wspace=0.2,
        )
        draw_heading(figure, benchmark)
        title_panels(left, right, benchmark, is_bars=is_bars)
        if not any(one.measured for one in series):
            draw_nothing(left, right)
        elif is_bars:
            throughput_bars(left, series)
            latency_ranges(right, series)
        else:
            throughput_curves(left, series)
            latency_curves(right, series)
            draw_legend(figure, left)
        with whole_file(path) as file:
            figure.savefig(file, format="png")


def draw_legend(figure: Figure, axes: Axes) -> None:
    """One line that names the curves of both panels."""
    handles = axes.get_legend_handles_labels()[0]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(LEFT - 0.01, 1 - LEGEND / figure.get_figheight()),
        ncols=len(handles),
        frameon=False,
        fontsize=SMALL + 0.5,
        columnspacing=1.6,
        handlelength=2.6,
        borderpad=0,
    )


def draw_heading(figure: Figure, benchmark: Benchmark) -> None:
    """What ran where, and how."""
    height = figure.get_figheight()
    title = f"{benchmark.rows[0].model} on {benchmark.environment['device']}"
    figure.text(0.02, 1 - TITLE / height, title, fontsize=14, fontweight="bold")
    figure.text(
        0.02,
        1 - FACTS / height,
        "  ·  ".join(plot_facts(benchmark)),
        fontsize=SMALL + 0.5,
        color=GREY,
    )


def plot_facts(benchmark: Benchmark) -> list[str]:
    """What a reader needs to know to believe the figures."""
    settings, environment = benchmark.settings, benchmark.environment
    side = settings["img_size"]
    found = [f"{side}×{side} pixels", amount(settings["workers"], "worker")]
    if settings["compiled"]:
        found.append("compiled")
    found += [f"torch {environment['torch']}", environment["date"].partition("T")[0]]
    marks = {"noisy": "~ too noisy to be trusted", "out of memory": "× out of memory"}
    return found + [text for status, text in marks.items() if status in count_statuses(benchmark)]


def count_statuses(benchmark: Benchmark) -> set[str]:
    """How the rows ended."""
    return {row.status for row in benchmark.rows}


def title_panels(left: Axes, right: Axes, benchmark: Benchmark, *, is_bars: bool) -> None:
    """Say what each panel shows, with its unit."""
    percentiles = sorted(benchmark.settings["percentiles"])
    low, high = (f"p{percent:g}" for percent in (percentiles[0], percentiles[-1]))
    shown = low if low == high else f"{low}, and a band up to {high}"
    batch = f"a batch of {benchmark.rows[0].batch_size:,}" if is_bars else "a batch"
    left.set_title("Throughput, images/s", loc="left", fontsize=10.5, pad=8)
    right.set_title(
        f"Latency of {batch}, ms{'' if is_bars else f': {shown}'}", loc="left", fontsize=10.5, pad=8
    )


def draw_nothing(*panels: Axes) -> None:
    """Say that there is nothing to see."""
    for axes in panels:
        axes.set_axis_off()
        axes.text(0, 0.9, "out of memory", color=GREY, transform=axes.transAxes)
