"""JSON: an object a line (.jsonl), or one list of them (.json)."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TextIO, TypeVar

from resnet_cli.records import Prediction
from resnet_cli.results.columns import (
    DamageError,
    Identities,
    Records,
    Row,
    RowLayout,
    from_nested,
    is_error,
    nested_row,
)
from resnet_cli.results.options import Write, WriterOptions

T = TypeVar("T")


def jsonl_rows(file: TextIO, options: WriterOptions) -> Write:
    """Return what writes an object a line to an open file."""

    def write(prediction: Prediction) -> None:
        file.write(encode_row(prediction, options.layout) + "\n")
        file.flush()

    return write


def write_list(rows: BinaryIO, file: BinaryIO, _: WriterOptions) -> None:
    """Write lines of JSON as one list."""
    separator = b"[\n"
    for line in rows:
        file.write(separator + line.rstrip(b"\n"))
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def jsonl_lines(options: WriterOptions) -> tuple[bytes, Callable[[Prediction], bytes]]:
    """The header of a file, which is none, and what makes its lines."""
    return b"", partial(json_line, layout=options.layout)


def json_line(prediction: Prediction, layout: RowLayout) -> bytes:
    r"""One prediction as a line.

    A name that is no UTF-8 reaches the file as \udcxx, which is how JSON writes such a character:
    what reads it back gets the path that opens.
    """
    return (encode_row(prediction, layout) + "\n").encode("utf-8", "backslashreplace")


def encode_row(prediction: Prediction, layout: RowLayout) -> str:
    """One prediction as JSON."""
    return json.dumps(nested_row(prediction, layout), ensure_ascii=False)


def jsonl_records(file: BinaryIO) -> Records:
    """Yield the rows of a file of JSON lines, each with the place in bytes where it ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    return whole_json_rows(file, from_nested)


def jsonl_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a file of JSON lines.

    Raises:
        DamageError: at the first row that is not whole.
    """
    for (path, failed), end in whole_json_rows(file, json_identity):
        yield path, failed, end


def json_identity(row: Row) -> tuple[str, bool]:
    """Return the path of a row, and whether it is an error."""
    return row["path"], is_error(row["status"], classes=len(row["predictions"]))


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


def json_records(file: BinaryIO) -> Records:
    """Yield the rows of one list."""
    for row in json.load(file):
        yield from_nested(row), 0


def json_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in one list."""
    for row in json.load(file):
        yield *json_identity(row), 0
