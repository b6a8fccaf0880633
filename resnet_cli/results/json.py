"""JSON: one object per line (.jsonl), or one list of them (.json)."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TextIO, TypeVar

from resnet_cli.records import Prediction
from resnet_cli.results.columns import (
    DamageError,
    Identities,
    Identity,
    Row,
    RowLayout,
    is_error,
    nested_row,
    row_identity,
)
from resnet_cli.results.options import Write, WriterOptions

T = TypeVar("T")


def jsonl_rows(file: TextIO, options: WriterOptions) -> Write:
    """Return what writes an object per line to an open file."""
    layout = options.layout

    def write(prediction: Prediction) -> None:
        file.write(encode_row(nested_row(prediction, layout)) + "\n")
        file.flush()

    return write


def write_list(rows: BinaryIO, file: BinaryIO, _: WriterOptions) -> None:
    """Write the lines of a journal as one list."""
    separator = b"[\n"
    for line in rows:
        file.write(separator + line.rstrip(b"\n"))
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def jsonl_lines(options: WriterOptions) -> tuple[bytes, Callable[[Prediction], bytes]]:
    """Return the header, which is empty, and what makes a line of a prediction."""
    return b"", partial(prediction_line, layout=options.layout)


def prediction_line(prediction: Prediction, layout: RowLayout) -> bytes:
    """Return the line of a prediction."""
    return json_line(nested_row(prediction, layout))


def json_line(row: Row) -> bytes:
    r"""Return the line of a row.

    A byte of a name that is not UTF-8 is written as \udcxx, as JSON writes such a character: a
    reader gets the path that opens.
    """
    return (encode_row(row) + "\n").encode("utf-8", "backslashreplace")


def encode_row(row: Row) -> str:
    """Return a row as JSON."""
    return json.dumps(row, ensure_ascii=False)


def read_jsonl(file: BinaryIO, convert: Callable[[Row], T]) -> Iterator[T]:
    """Yield what ``convert`` makes of each row of a file of JSON lines.

    Raises:
        DamageError: at the first row that is not whole.
    """
    return (found for found, _ in whole_json_rows(file, convert))


def jsonl_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a file of JSON lines.

    Raises:
        DamageError: at the first row that is not whole.
    """
    for (identity, failed), end in whole_json_rows(file, json_identity):
        yield identity, failed, end


def json_identity(row: Row) -> tuple[Identity, bool]:
    """Return the identity of a row, and whether it is an error."""
    return row_identity(row), is_error(row["status"], classes=len(row["predictions"]))


def whole_json_rows(file: BinaryIO, read: Callable[[Row], T]) -> Iterator[tuple[T, int]]:
    """Yield what is read of each line, and the place in bytes where the line ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    end = 0
    for number, line in enumerate(file, start=1):
        end += len(line)
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it has no end")
            found = read(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(number, error) from error
        yield found, end


def read_json(file: BinaryIO, convert: Callable[[Row], T]) -> Iterator[T]:
    """Yield what ``convert`` makes of each row of one list."""
    return map(convert, json.load(file))


def json_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in one list."""
    for row in json.load(file):
        yield *json_identity(row), 0
