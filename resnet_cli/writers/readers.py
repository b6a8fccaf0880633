"""Result files read back as the predictions that were written into them."""

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from resnet_cli.errors import InputError
from resnet_cli.records import Prediction, Score
from resnet_cli.writers.csv import armed
from resnet_cli.writers.rows import Row, suffix

Records = Iterator[tuple[Prediction, int]]


class DamageError(ValueError):
    """A row that is none: torn off, or of another program."""

    def __init__(self, row: int, reason: object) -> None:
        """Say which row it is, the first being 1, and what is wrong with it."""
        super().__init__(f"row {row} is no whole row of results ({reason})")
        self.row = row


def read_rows(path: Path) -> Iterator[Prediction]:
    """Read a file of results as a stream, in its order.

    What a file does not hold is left out: ``warm_up``, thumbnails.

    Raises:
        InputError: no such format, or a row that is none.
        OSError: a file that cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"cannot read results from {path}: the suffix must be one of {', '.join(READERS)}"
        )
    with path.open("rb") as file:
        try:
            for prediction, _ in reader(file):
                yield prediction
        except (ValueError, KeyError, TypeError) as error:  # of pyarrow too: ArrowInvalid
            raise InputError(
                f"cannot read results from {path}: {error}: a file that predict wrote, with its "
                "header; predict --resume mends one that was cut off"
            ) from error


def csv_records(file: BinaryIO) -> Records:
    """Yield the rows of a CSV, each with the place in bytes where it ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    names: list[str] = []
    for number, (text, end) in enumerate(quoted_lines(file)):
        try:
            [cells] = csv.reader([text], strict=True)
            if not names:
                names = complete(cells)
                continue
            row: Row = dict(zip(names, cells, strict=True))
            prediction = from_flat({name: value or None for name, value in row.items()}, armed)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DamageError(number, error) from error
        yield prediction, end


def complete(names: list[str]) -> list[str]:
    """The names of the columns, if none is missing that a result has to have."""
    if missing := {"path", "status", "label", "index", "prob"} - set(names):
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    return names


def quoted_lines(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield lines and where they end; line ends inside quotes belong to a name.

    Raises:
        DamageError: the last line has no end.
    """
    if file.read(len(BOM_UTF8)) != BOM_UTF8:  # which some editors put before a text
        file.seek(0)
    end, number, pending = file.tell(), 0, b""
    for line in file:
        pending += line
        if pending.count(b'"') % 2 or not line.endswith(b"\n"):
            continue
        end += len(pending)
        # the module wants to see line ends only where it may split a record
        yield pending.decode("utf-8", "surrogateescape").rstrip("\r\n"), end
        number, pending = number + 1, b""
    if pending:
        raise DamageError(number, "it has no end")


def jsonl_records(file: BinaryIO) -> Records:
    """Yield the rows of a file of JSON lines, each with the place in bytes where it ends.

    Raises:
        DamageError: at the first row that is not whole.
    """
    end = 0
    for number, line in enumerate(file, start=1):
        end += len(line)
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it has no end")
            prediction = from_nested(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(number, error) from error
        yield prediction, end


def json_records(file: BinaryIO) -> Records:
    """Yield the rows of one list."""
    for row in json.load(file):
        yield from_nested(row), 0


def parquet_records(file: BinaryIO) -> Records:
    """Yield the rows of a Parquet file, a group in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                yield from_flat(row), 0


READERS: dict[str, Callable[[BinaryIO], Records]] = {
    ".csv": csv_records,
    ".jsonl": jsonl_records,
    ".json": json_records,
    ".parquet": parquet_records,
}


def from_flat(row: Row, text: Callable[[str], str] = str) -> Prediction:
    """A row of a table as a prediction.

    Args:
        row: text or numbers by column; None for an empty cell.
        text: turns a cell of text into what it was before it was written.
    """
    scores: list[Score] = []
    while row.get(f"prob{suffix(len(scores) + 1)}") is not None:
        end = suffix(len(scores) + 1)
        label = text(row[f"label{end}"] or "")
        scores.append(Score(label, int(row[f"index{end}"]), float(row[f"prob{end}"])))
    error = row.get("error")
    return whole(row, scores, error if error is None else text(error))


def from_nested(row: Any) -> Prediction:
    """An object of JSON as a prediction."""
    scores = [
        Score(str(score["label"]), int(score["index"]), float(score["prob"]))
        for score in row["predictions"]
    ]
    return whole(row, scores, row.get("error"))


def whole(row: Row, scores: list[Score], error: str | None) -> Prediction:
    """Join the parts of a prediction, which have to agree with its status.

    Raises:
        ValueError: they do not.
    """
    if row["status"] not in ("ok", "error") or bool(scores) != (row["status"] == "ok"):
        raise ValueError(f"status {row['status']!r} with {len(scores)} classes")
    return Prediction(
        path=Path(row["path"]),
        scores=tuple(scores),
        decode_ms=number(row, "decode_ms"),
        preprocess_ms=number(row, "preprocess_ms"),
        forward_ms=number(row, "forward_ms"),
        batch_size=None if row.get("batch_size") is None else int(row["batch_size"]),
        error=None if row["status"] == "ok" else error or "",
    )


def number(row: Row, name: str) -> float | None:
    """A number of a row, if it has one."""
    value = row.get(name)
    return None if value is None else float(value)
