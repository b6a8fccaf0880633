"""How a CSV is spelt, for spreadsheets of other locales."""

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

NO_SEPARATOR = re.compile(r'[\w"\r\n]')
"""What the names of columns are made of, and what quotes them or ends their line."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV is spelt. Decimals keep their point, and lines end in a line feed."""

    separator: str = ","
    bom: bool = False  # it begins with the mark by which Excel knows UTF-8

    @property
    def mark(self) -> str:
        """What stands before the header."""
        return "\ufeff" if self.bom else ""

    def record(self) -> dict[str, Any]:
        """The settings as they are written into files."""
        return {f"csv_{name}": value for name, value in asdict(self).items()}


COMMA = Dialect()
"""What programs read."""


class Table:
    """Makes the lines of a table in a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        """Begin a table."""
        # a terminator with a carriage return makes the module quote cells that hold one
        self.table = csv.writer(Echo(), delimiter=dialect.separator, lineterminator="\r\n")

    def line(self, values: Iterable[object]) -> str:
        """One line."""
        line: str = self.table.writerow(values)
        return line.removesuffix("\r\n") + "\n"


class Echo:
    """A file that gives back what is written to it, as ``writerow`` does in turn."""

    def write(self, line: str) -> str:
        """Give it back."""
        return line


def dialect_of(header: bytes, required: Iterable[str]) -> Dialect:
    """Find the dialect of a table by its header.

    Args:
        header: the first line.
        required: names of columns that it has, whatever their order.
    """
    text = header.removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape").rstrip("\r\n")
    needed, bom = set(required), header.startswith(BOM_UTF8)
    for separator in dict.fromkeys(NO_SEPARATOR.sub("", text)):
        with suppress(csv.Error):
            if needed <= set(*csv.reader([text], delimiter=separator)):
                return Dialect(separator, bom)
    return Dialect(bom=bom)
