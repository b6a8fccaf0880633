"""Rows in, a table for the terminal out: columns aligned in its cells, whatever the script."""

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from resnet_cli.text import escape_unprintable

GAP = "  "

ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})
"""Unicode categories of what takes no cell: combining marks and invisible controls."""

Row = TypeVar("Row")
Align = Literal["left", "right"]


def cell_width(text: str) -> int:
    """Return how many cells of a terminal a text takes; a Chinese letter takes two."""
    if text.isascii():
        return len(text)
    return sum(map(letter_width, text))


def letter_width(letter: str) -> int:
    """Return how many cells of a terminal one character takes."""
    if unicodedata.category(letter) in ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def pad_cell(text: str, width: int, align: Align) -> str:
    """Fill a text with spaces up to a number of terminal cells."""
    space = " " * (width - cell_width(text))
    return text + space if align == "left" else space + text


def align_rows(
    rows: Iterable[Sequence[str]], left: Sequence[int] = (0,), *, gap: str = GAP
) -> Iterator[str]:
    """Yield rows of plain texts, titles included, as lines whose columns are aligned.

    Args:
        rows: all of one length; control characters in them are spelled out.
        left: positions of the columns that are aligned to the left, the others to the right.
        gap: between two columns.
    """
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    sides: list[Align] = ["left" if place in left else "right" for place in range(len(widths))]
    for row in cells:
        yield gap.join(map(pad_cell, row, widths, sides)).rstrip()


def fact_lines(facts: Iterable[tuple[str, str]], width: int, indent: int) -> Iterator[str]:
    """Yield named facts as lines; long ones are wrapped below where they start.

    Args:
        facts: name, or nothing for one more line under the same name, and text.
        width: terminal cells of a line.
        indent: cells of the column of names.
    """
    for name, text in facts:
        yield from textwrap.wrap(
            escape_unprintable(text),
            width,
            initial_indent=pad_cell(name, indent, "left"),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )


@dataclass(frozen=True, kw_only=True)
class TableColumn(Generic[Row]):
    """One column of a table: its title, and how it shows a row."""

    title: str
    text: Callable[[Row], str]
    align: Align = "left"
    width: int = 0  # terminal cells at least, for rows that are printed as they come


@dataclass(frozen=True)
class TextTable(Generic[Row]):
    """The columns that a terminal has room for, as wide as their widest text."""

    columns: tuple[TableColumn[Row], ...]
    widths: tuple[int, ...]  # terminal cells
    left_out: tuple[str, ...] = ()  # titles of the columns without room
    gap: str = GAP

    @classmethod
    def fit(
        cls,
        columns: Sequence[TableColumn[Row]],
        rows: Sequence[Row] = (),
        *,
        width: int | None = None,
        dropped: Sequence[str] = (),
        gap: str = GAP,
    ) -> "TextTable[Row]":
        """Lay out a table, without columns that the terminal has no room for.

        Args:
            columns: all of them.
            rows: what will be shown; none where rows are printed as they come, in columns of at
                least their own ``width``.
            width: terminal cells of a line; None keeps every column.
            dropped: titles of the columns to leave out, the first of them first.
            gap: between two columns.
        """
        widths = {column.title: column_width(column, rows) for column in columns}
        for title in dropped:
            if width is None or sum(widths.values()) + len(gap) * (len(widths) - 1) <= width:
                break
            del widths[title]
        kept = tuple(column for column in columns if column.title in widths)
        left_out = tuple(column.title for column in columns if column.title not in widths)
        return cls(kept, tuple(widths.values()), left_out, gap)

    @property
    def header(self) -> str:
        """The line of titles."""
        return self.join([column.title for column in self.columns])

    @property
    def rule(self) -> str:
        """A line as wide as the table."""
        return "─" * (sum(self.widths) + len(self.gap) * (len(self.widths) - 1))

    def line(self, row: Row) -> str:
        """Return one row as a line."""
        return self.join([column.text(row) for column in self.columns])

    def join(self, cells: Sequence[str]) -> str:
        """Return texts as a line; those of the last columns may be missing."""
        padded = (
            pad_cell(cell, width, column.align)
            for cell, width, column in zip(cells, self.widths, self.columns, strict=False)
        )
        return self.gap.join(padded).rstrip()


def column_width(column: TableColumn[Row], rows: Sequence[Row]) -> int:
    """Return the terminal cells of the widest text in a column."""
    texts = (column.title, *(column.text(row) for row in rows))
    return max(column.width, *map(cell_width, texts))
