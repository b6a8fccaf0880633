"""CSV for people and pipelines; no cell starts a formula when a spreadsheet opens it."""

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, TextIO, TypeVar

from resnet_cli.records import Prediction
from resnet_cli.results.columns import (
    Cell,
    DamageError,
    Identities,
    Identity,
    Row,
    column_kind,
    flat_cells,
    is_error,
    nest_row,
    nested_row,
    row_identity,
)
from resnet_cli.results.options import Dialect, Write, WriterOptions

T = TypeVar("T")

REQUIRED = {"path", "status", "label", "index", "prob"}
"""Columns that results have, whichever program saved them last."""

LONGEST_HEADER = 1 << 16  # bytes

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which a spreadsheet takes a cell for a formula."""

NO_SEPARATOR = re.compile(r'[\w"\r\n]')
"""Characters of column names, quotes and line ends: no separator is one of them."""


def csv_lines(options: WriterOptions) -> tuple[bytes, Callable[[Prediction], bytes]]:
    """Return the header, and what makes a line; names that are not UTF-8 keep their bytes."""
    lines = CsvLines(options)
    return (
        lines.header().encode(),
        lambda prediction: lines.row(prediction).encode("utf-8", "surrogateescape"),
    )


def csv_rows(file: TextIO, options: WriterOptions) -> Write:
    """Write the header to an open file, and return what writes a row."""
    lines = CsvLines(options)

    def pass_on(line: str) -> None:
        file.write(line)
        file.flush()

    pass_on(lines.header())
    return lambda prediction: pass_on(lines.row(prediction))


class CsvLines:
    """Makes the lines of a file of results."""

    def __init__(self, options: WriterOptions) -> None:
        """Take columns and dialect from the options of the writer."""
        self.layout, self.dialect = options.layout, options.dialect
        self.table = Table(options.dialect)

    def header(self) -> str:
        """Return the line with the names of the columns."""
        return self.dialect.mark + self.table.line(self.layout.columns)

    def row(self, prediction: Prediction) -> str:
        """Return the line of a prediction."""
        path, *others = flat_cells(nested_row(prediction, self.layout), self.layout)
        return self.table.line([disarm_cell(path, "./"), *map(disarm_cell, others)])


class Table:
    """Makes the lines of any table in a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        """Set up the writer of the csv module."""
        # a terminator with a carriage return makes the module quote cells that hold one
        self.table = csv.writer(Echo(), delimiter=dialect.separator, lineterminator="\r\n")

    def line(self, values: Iterable[object]) -> str:
        """Return one line."""
        line: str = self.table.writerow(values)
        return line.removesuffix("\r\n") + "\n"


class Echo:
    """A file that returns what is written to it, as ``writerow`` does in turn."""

    def write(self, line: str) -> str:
        """Return the line."""
        return line


def csv_text(rows: Iterable[Iterable[object]], dialect: Dialect) -> str:
    """Return a whole table as text; its cells have to be disarmed already."""
    return dialect.mark + "".join(map(Table(dialect).line, rows))


def disarm_row(row: Row) -> Row:
    """Disarm what a spreadsheet would run: ``./`` before a path, ``'`` before other text."""
    return {
        name: disarm_cell(value, "./" if name == "path" else "'") for name, value in row.items()
    }


def disarm_cell(value: object, shield: str = "'") -> object:
    """Put a shield before a cell that a spreadsheet would run."""
    return shield + value if isinstance(value, str) and is_formula(value) else value


def rearm_text(text: str) -> str:
    """Return text as it was before ``disarm_cell``."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text


def is_formula(text: str) -> bool:
    """Return True if a spreadsheet takes a cell for a formula; a plain number is not one."""
    return text.startswith(FORMULA) and not reads_as_number(text)


def reads_as_number(text: str) -> bool:
    """Return True if text reads as a number, such as the label -1."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def read_csv(file: BinaryIO, convert: Callable[[Row], T]) -> Iterator[T]:
    """Yield what ``convert`` makes of each row of a CSV.

    Raises:
        DamageError: at the first row that is not whole.
    """
    rows = whole_csv_rows(
        file, lambda row: convert(nest_row({name: read_cell(name, row[name]) for name in row}))
    )
    return (found for found, _ in rows)


def read_cell(name: str, cell: str) -> Cell:
    """Convert a cell to the type of its column; an empty one is None."""
    if not cell:
        return None
    if name == "path":
        return cell  # ``./`` belongs to it
    kind = column_kind(name)
    return rearm_text(cell) if kind is str else kind(cell)


def csv_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a CSV.

    Raises:
        DamageError: at the first row that is not whole.
    """
    for (identity, failed), end in whole_csv_rows(file, csv_identity):
        yield identity, failed, end


def csv_identity(row: dict[str, str]) -> tuple[Identity, bool]:
    """Return the identity of a row, and whether it is an error."""
    return row_identity(row), is_error(row["status"], classes=bool(row["prob"]))


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
                names = require_columns(cells)
                continue
            found = read(dict(zip(names, cells, strict=True)))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DamageError(number, error) from error
        yield found, end


def csv_dialect(file: BinaryIO) -> Dialect:
    """Find the dialect of a CSV of results by its header, and rewind the file."""
    header = file.readline(LONGEST_HEADER)
    file.seek(0)
    text = header.removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape").rstrip("\r\n")
    bom = header.startswith(BOM_UTF8)
    for separator in dict.fromkeys(NO_SEPARATOR.sub("", text)):
        with suppress(csv.Error):
            if set(*csv.reader([text], delimiter=separator)) >= REQUIRED:
                return Dialect(separator=separator, bom=bom)
    return Dialect(bom=bom)


def require_columns(names: list[str]) -> list[str]:
    """Return the names of the columns, if all required ones are among them."""
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
