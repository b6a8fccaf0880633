"""Throughput and latency of a single batch size, as bars and ranges."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from resnet_cli.benchmark.series import GREY, INK, PALE, SMALL, Series, rate_text

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
