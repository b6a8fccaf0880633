"""The rows of a benchmark -> the curves of its plot: what they are named and how they look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_cli.benchmark.rows import BenchmarkRow

COLOURS = {"fp32": "#0072b2", "bf16": "#d55e00", "fp16": "#009e73", "int8": "#b0568c"}
"""After Okabe and Ito's palette, which is safe for every kind of colour vision."""

MARKERS = {"torch": "o", "openvino": "s", "onnxruntime": "^"}


@dataclass(frozen=True, slots=True)
class Series:
    """Rows of one mode, runtime and precision, by batch size."""

    mode: str
    runtime: str
    precision: str
    rows: Sequence[BenchmarkRow]
    named: bool = False  # whether its name says the runtime

    @property
    def name(self) -> str:
        """The entry in the legend."""
        return f"{self.runtime} " * self.named + f"{self.precision} {self.mode}"

    @property
    def colour(self) -> str:
        """The colour of the precision."""
        return COLOURS[self.precision]

    @property
    def is_alone(self) -> bool:
        """True if the network is measured without decoding."""
        return self.mode == "forward"

    @property
    def measured(self) -> list[BenchmarkRow]:
        """The rows with figures."""
        return [row for row in self.rows if row.images_per_second is not None]

    @property
    def top_speed(self) -> float:
        """Images per second of the fastest row, 0 without any."""
        return max((row.speed for row in self.measured), default=0.0)

    @property
    def failed(self) -> list[int]:
        """Batch sizes without figures."""
        return [row.batch_size for row in self.rows if row.images_per_second is None]

    @property
    def style(self) -> dict[str, Any]:
        """Line and marker.

        The colour shows the precision, the marker the runtime; it is filled for the network alone.
        """
        return {
            "color": self.colour,
            "linewidth": 1.8,
            "linestyle": "-" if self.is_alone else (0, (4, 2)),
            "marker": MARKERS[self.runtime],
            "markersize": 6,
            "markeredgewidth": 1.6,
            "markerfacecolor": self.colour if self.is_alone else "white",
        }


def series_of(rows: Sequence[BenchmarkRow]) -> Iterator[Series]:
    """Yield the rows of each mode, runtime and precision, by batch size."""
    named = {row.runtime for row in rows} != {"torch"}
    kinds: dict[tuple[str, str, str], dict[int, BenchmarkRow]] = {}
    for row in rows:
        kinds.setdefault((row.mode, row.runtime, row.precision), {})[row.batch_size] = row
    for kind, mine in kinds.items():
        yield Series(*kind, [mine[size] for size in sorted(mine)], named)


def longest_name(series: Sequence[Series]) -> int:
    """Return the letters of the longest name."""
    return max(len(one.name) for one in series)
