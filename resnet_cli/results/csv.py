"""CSV for people and pipelines; no cell starts a formula when a spreadsheet opens it."""

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TextIO, TypeVar

from resnet_cli.records import Prediction
from resnet_cli.results.columns import (
    DamageError,
    Identities,
    Records,
    Row,
    from_flat,
    is_error,
    row_cells,
)
from resnet_cli.results.dialect import Dialect, Table, dialect_of
from resnet_cli.results.options import Write, WriterOptions

T = TypeVar("T")

REQUIRED = {"path", "status", "label", "index", "prob"}
"""Columns that results have, whoever saved them last."""

LONGEST_HEADER = 1 << 16  # bytes

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take a cell for a formula."""


def csv_lines(options: WriterOptions) -> tuple[bytes, Callable[[Prediction], bytes]]:
    """The header of a file and what makes its lines; names that are no UTF-8 keep their bytes."""
    lines = CsvLines(options)
    return (
        lines.header().encode(),
        lambda prediction: lines.row(prediction).encode("utf-8", "surrogateescape"),
    )


def csv_rows(file: TextIO, options: WriterOptions) -> Write:
    """Write the header to an open file and return what writes a row."""
    lines = CsvLines(options)

    def pass_on(line: str) -> None:
        file.write(line)
        file.flush()

    pass_on(lines.header())
    return lambda prediction: pass_on(lines.row(prediction))


class CsvLines:
    """Makes lines of results."""

    def __init__(self, options: WriterOptions) -> None:
        """Say which columns there are, and how they are spelt."""
        self.layout, self.dialect = options.layout, options.dialect
        self.table = Table(options.dialect)

    def header(self) -> str:
        """The names of the columns."""
        return self.dialect.mark + self.table.line(self.layout.columns)

    def row(self, prediction: Prediction) -> str:
        """One prediction."""
        path, *others = row_cells(prediction, self.layout)
        return self.table.line([disarm_cell(path, "./"), *map(disarm_cell, others)])


def csv_text(rows: Iterable[Iterable[object]], dialect: Dialect) -> str:
    """A whole table as text; its cells are to be harmless already."""
    return dialect.mark + "".join(map(Table(dialect).line, rows))


def disarm_row(row: Row) -> Row:
    """Disarm what a spreadsheet would run: ``./`` before a path, ``'`` before other text."""
    return {
        name: disarm_cell(value, "./" if name == "path" else "'") for name, value in row.items()
    }


def disarm_cell(value: object, shield: str = "'") -> object:
    """One cell, behind a shield where a spreadsheet would run it."""
    return shield + value if isinstance(value, str) and is_formula(value) else value


def rearm_text(text: str) -> str:
    """What text was before it was made harmless."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would take a cell for a formula; a plain number is none."""
    return text.startswith(FORMULA) and not reads_as_number(text)


def reads_as_number(text: str) -> bool:
    """Whether text reads as a number, such as the label -1."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def csv_records(file: BinaryIO) -> Records:
    """Yield the rows of a CSV, each with the place in bytes where it ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    return whole_csv_rows(
        file, lambda row: from_flat({k: v or None for k, v in row.items()}, rearm_text)
    )


def csv_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a CSV.

    Raises:
        DamageError: at the first row that is not whole.
    """
    for (path, failed), end in whole_csv_rows(file, csv_identity):
        yield path, failed, end


def csv_identity(row: dict[str, str]) -> tuple[str, bool]:
    """Return the path of a row, and whether it is an error."""
    return row["path"], is_error(row["status"], classes=bool(row["prob"]))


def whole_csv_rows(file: BinaryIO, read: Callable[[dict[str, str]], T]) -> Iterator[tuple[T, int]]:
    """Yield what is read of each row of a CSV, and the place in bytes where the row ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    names: list[str] = []
    separator = csv_dialect(file).separator
    for number, (text, end) in enumerate(quoted_lines(file)):
        try:
            [cells] = csv.reader([text], delimiter=separator, strict=True)
            if not names:
                names = complete_columns(cells)
                continue
            found = read(dict(zip(names, cells, strict=True)))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DamageError(number, error) from error
        yield found, end


def csv_dialect(file: BinaryIO) -> Dialect:
    """Find how a CSV of results is spelt, and return to its beginning."""
    header = file.readline(LONGEST_HEADER)
    file.seek(0)
    return dialect_of(header, REQUIRED)


def complete_columns(names: list[str]) -> list[str]:
    """The names of the columns, if none is missing that a result has to have."""
    if missing := REQUIRED - set(names):
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    return names


def quoted_lines(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield lines and where they end; line ends inside quotes belong to a name.

    Raises:
        DamageError: the last line has no end.
    """
    if file.read(len(BOM_UTF8)) != BOM_UTF8:  # which some editors put before a text
        file.seek(0)
    end, number, quotes = file.tell(), 0, 0
    pending: list[bytes] = []
    for line in file:
        pending.append(line)
        quotes += line.count(b'"')
        if quotes % 2 or not line.endswith(b"\n"):
            continue
        text = b"".join(pending)
        end += len(text)
        # the module wants to see line ends only where it may split a record
        yield text.decode("utf-8", "surrogateescape").rstrip("\r\n"), end
        number += 1
        pending.clear()
    if pending:
        raise DamageError(number, "it has no end")
