"""Lines for a terminal: columns that stand under each other, names that leave room."""

from collections.abc import Iterable, Iterator, Sequence
from unicodedata import east_asian_width

from resnet_cli.text import printable

NAME, OF_TWO = 34, 26  # letters of a class name, alone in a line and beside another


def table(rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Align columns: those of ``left`` to the left, the others to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            padded(cell, width, to_left=place in left)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def padded(cell: str, width: int, *, to_left: bool) -> str:
    """A cell as wide as its column on a terminal."""
    space = " " * (width - columns(cell))
    return cell + space if to_left else space + cell


def columns(words: str) -> int:
    """Columns of a terminal that text takes; a Chinese letter takes two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in words)


def short(name: str, most: int = NAME) -> str:
    """A class name that leaves room beside it."""
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def whole(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f} %"


def figure(value: float | None) -> str:
    """A figure of 0 to 1, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def probability(p: float) -> str:
    """A p-value in few characters."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
