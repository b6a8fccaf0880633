"""CSV for people and pipelines; no cell starts a formula when a spreadsheet opens it."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from resnet_cli.records import Prediction
from resnet_cli.writers.options import Options, Write
from resnet_cli.writers.rows import Row, columns, flat

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take a cell for a formula."""


@contextmanager
def csv_writer(path: Path, options: Options) -> Iterator[Write]:
    """Append rows to a new file; names that are no UTF-8 keep their bytes."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield csv_rows(file, options)


def csv_rows(file: TextIO, options: Options) -> Write:
    """Write the header to an open file and return what writes a row."""
    line = io.StringIO()
    # a terminator with a carriage return makes the module quote cells that hold one
    table = csv.DictWriter(line, list(columns(options.topk)), lineterminator="\r\n")

    def pass_on() -> None:
        file.write(line.getvalue().removesuffix("\r\n") + "\n")
        file.flush()
        line.seek(0)
        line.truncate()

    table.writeheader()
    pass_on()

    def write(prediction: Prediction) -> None:
        table.writerow(harmless(flat(prediction, options.topk)))
        pass_on()

    return write


def harmless(row: Row) -> Row:
    """Disarm what a spreadsheet would run: ``./`` before a path, ``'`` before other text."""
    return {
        name: ("./" if name == "path" else "'") + value if is_formula(value) else value
        for name, value in row.items()
    }


def armed(text: str) -> str:
    """What text was before it was made harmless."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text


def is_formula(value: object) -> bool:
    """Whether a spreadsheet would take a cell for a formula; a plain number is none."""
    return isinstance(value, str) and value.startswith(FORMULA) and not is_number(value)


def is_number(text: str) -> bool:
    """Whether text reads as a number, such as the label -1."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None
