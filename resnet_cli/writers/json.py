"""JSON: an object a line (.jsonl), or one list of them (.json)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from resnet_cli.records import Prediction
from resnet_cli.writers.options import Options, Write
from resnet_cli.writers.rows import nested

# A name that is no UTF-8 reaches the file as \udcxx, which is how JSON writes such a character:
# what reads it back gets the path that opens.
ERRORS = "backslashreplace"


@contextmanager
def jsonl_writer(path: Path, options: Options) -> Iterator[Write]:
    """Append an object a line to a new file."""
    with path.open("w", encoding="utf-8", errors=ERRORS) as file:
        yield jsonl_rows(file, options)


def jsonl_rows(file: TextIO, _: Options) -> Write:
    """Return what writes an object a line to an open file."""

    def write(prediction: Prediction) -> None:
        file.write(encoded(prediction) + "\n")
        file.flush()

    return write


@contextmanager
def json_writer(path: Path, _: Options) -> Iterator[Write]:
    """Write one list to a new file; it is closed with its bracket even when a run is stopped."""
    with path.open("w", encoding="utf-8", errors=ERRORS) as file:
        separator = "[\n"

        def write(prediction: Prediction) -> None:
            nonlocal separator
            before, separator = separator, ",\n"
            file.write(before + encoded(prediction))

        try:
            yield write
        finally:
            file.write("[]\n" if separator == "[\n" else "\n]\n")


def encoded(prediction: Prediction) -> str:
    """One prediction as JSON."""
    return json.dumps(nested(prediction), ensure_ascii=False)
