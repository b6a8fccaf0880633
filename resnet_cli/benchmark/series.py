"""What belongs together in a picture: the rows of one mode and precision, and how they look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
