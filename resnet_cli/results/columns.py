"""Prediction <-> one row, flat for tables or nested for JSON: the columns of every format."""

import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from resnet_cli.records import UNCERTAIN, WARNING, Item, Prediction, Score
from resnet_cli.results.dialect import Dialect

Row = dict[str, Any]

Records = Iterator[tuple[Prediction, int]]
"""Rows read back, each with the place in bytes where it ends; 0 where a file has no such place."""

Identities = Iterator[tuple[str, bool, int]]
"""Of each row its path, whether it is an error, and the place where it ends."""

TIMES = ("decode_ms", "preprocess_ms", "forward_ms")


class DamageError(ValueError):
    """A row that is none: torn off, or of another program."""

    def __init__(self, row: int, reason: object) -> None:
        """Say which row it is, the first being 1, and what is wrong with it."""
        super().__init__(f"row {row} is not a whole row of results ({reason})")
        self.row = row


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Which columns a row has.

    Where a run decides and its file has no column for that, the decision stands in place of the
    label: such files were made by earlier versions, and are resumed as they are.
    """

    topk: int  # classes of an image
    decides: bool = False  # whether there is a column for the decision

    @property
    def columns(self) -> dict[str, type]:
        """Columns of a table and the type of each, in order."""
        first, *others = [ranked_columns(rank) for rank in range(1, self.topk + 1)]
        scores = first | ({"decision": str} if self.decides else {})
        for columns in others:
            scores |= columns
        times = dict.fromkeys(TIMES, float)
        return {"path": str, "status": str, **scores, **times, "batch_size": int, "error": str}

    def label(self, prediction: Prediction) -> str | None:
        """Return what the column ``label`` holds."""
        return prediction.label if self.decides else prediction.decision or prediction.label


def ranked_columns(rank: int) -> dict[str, type]:
    """The columns of the best class, of the second …, and the type of each."""
    end = rank_suffix(rank)
    return {f"label{end}": str, f"index{end}": int, f"prob{end}": float}


def rank_suffix(rank: int) -> str:
    """What tells the columns of the second class from those of the first."""
    return "" if rank == 1 else f"_{rank}"


def row_cells(prediction: Prediction, layout: RowLayout) -> list[Any]:
    """The values of ``layout.columns``, in order; None where there is none."""
    row: list[Any] = [str(prediction.path), prediction.status]
    row += (layout.label(prediction), prediction.index, prediction.prob)
    row += (prediction.decision,) * layout.decides
    for score in prediction.scores[1:]:
        row += (score.label, score.index, score.prob)
    row += (None, None, None) * (layout.topk - max(1, len(prediction.scores)))
    row += row_times(prediction)
    row += (prediction.batch_size, prediction.remark)
    return row


def flat_row(prediction: Prediction, layout: RowLayout) -> Row:
    """One value for each of ``layout.columns``, by name."""
    return dict(zip(layout.columns, row_cells(prediction, layout), strict=True))


def nested_row(prediction: Prediction, layout: RowLayout) -> Row:
    """The row as an object with a list of predictions, keys in the order of the table."""
    scores = [
        {"label": score.label, "index": score.index, "prob": score.prob}
        for score in prediction.scores
    ]
    if scores:
        scores[0]["label"] = layout.label(prediction) or ""
    return {
        "path": str(prediction.path),
        "status": prediction.status,
        "predictions": scores,
        **({"decision": prediction.decision} if layout.decides else {}),
        **dict(zip(TIMES, row_times(prediction), strict=True)),
        "batch_size": prediction.batch_size,
        "error": prediction.remark,
    }


def row_times(prediction: Prediction) -> tuple[float | None, ...]:
    """The values of ``TIMES``."""
    return (
        round_milliseconds(prediction.decode_ms),
        round_milliseconds(prediction.preprocess_ms),
        round_milliseconds(prediction.forward_ms),
    )


def round_milliseconds(milliseconds: float | None) -> float | None:
    """To the microsecond, which is more than the clock tells."""
    return None if milliseconds is None else round(milliseconds, 3)


def as_utf8(text: str) -> str:
    r"""Bytes of a name that are no UTF-8 are spelt out as ``\xe9``, for what holds nothing else."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def from_flat(row: Row, text: Callable[[str], str] = str) -> Prediction:
    """A row of a table as a prediction.

    Args:
        row: text or numbers by column; None for an empty cell.
        text: turns a cell of text into what it was before it was written.
    """
    scores: list[Score] = []
    while row.get(f"prob{rank_suffix(len(scores) + 1)}") is not None:
        end = rank_suffix(len(scores) + 1)
        label = text(row[f"label{end}"] or "")
        scores.append(Score(label, int(row[f"index{end}"]), float(row[f"prob{end}"])))
    return join_row(row, scores, text)


def from_nested(row: Any) -> Prediction:
    """An object of JSON as a prediction."""
    scores = [
        Score(str(score["label"]), int(score["index"]), float(score["prob"]))
        for score in row["predictions"]
    ]
    return join_row(row, scores)


def join_row(row: Row, scores: list[Score], text: Callable[[str], str] = str) -> Prediction:
    """Join the parts of a prediction, which have to agree with its status.

    Args:
        row: by column.
        scores: its classes.
        text: turns text into what it was before it was written.

    Raises:
        ValueError: they do not.
    """
    failed = is_error(row["status"], classes=len(scores))
    return Prediction(
        item=Item(tidy_path(row["path"])),
        scores=tuple(scores),
        decode_ms=read_number(row, "decode_ms"),
        preprocess_ms=read_number(row, "preprocess_ms"),
        forward_ms=read_number(row, "forward_ms"),
        batch_size=None if row.get("batch_size") is None else int(row["batch_size"]),
        error=text(row.get("error") or "") if failed else None,
        warning=None if failed else warning_in(row.get("error"), text),
        decision=read_decision(row, scores, text),
    )


def warning_in(remark: str | None, text: Callable[[str], str]) -> str | None:
    """Return the warning of a row that is ok."""
    said = text(remark or "")
    return said.removeprefix(WARNING) if said.startswith(WARNING) else None


def is_error(status: object, *, classes: int) -> bool:
    """Return True if a row is of an item that could not be read.

    Raises:
        ValueError: its status is none, or does not agree with how many classes it has.
    """
    if status not in ("ok", "error") or bool(classes) != (status == "ok"):
        raise ValueError(f"status {status!r} with {classes} classes")
    return status == "error"


def read_decision(row: Row, scores: list[Score], text: Callable[[str], str]) -> str | None:
    """Read the decision of a row, which earlier versions wrote in place of the label."""
    if not scores:
        return None
    if "decision" in row:
        return text(row["decision"] or "")
    return UNCERTAIN if scores[0].label == UNCERTAIN else None


def read_number(row: Row, name: str) -> float | None:
    """A number of a row, if it has one."""
    value = row.get(name)
    return None if value is None else float(value)


UNTIDY = re.compile(r"//|(?:^|/)\.(?:/|\Z)|(?<=[^/])/\Z|^\Z")
"""What ``Path`` would leave out of a path, or put into it."""


def tidy_path(path: str) -> str:
    """Spell a path as ``str(Path(path))`` does, which takes its time and mostly changes nothing."""
    return str(Path(path)) if os.sep != "/" or UNTIDY.search(path) else path


@dataclass(slots=True)
class SavedRows:
    """The rows that a file holds; sixteen bytes a row in memory."""

    spelt_out: bool = False  # paths as Parquet spells them
    size: int = 0  # bytes of the file
    end: int = 0  # bytes of its whole rows
    damage: str = ""  # what is wrong with the bytes between the two
    errors: int = 0  # rows of images that could not be read
    dialect: Dialect | None = None  # of a .csv, as its header says
    decides: bool = True  # it has a column for the decision, where the run decides
    keys: "array[int]" = field(default_factory=lambda: array("q"))  # of paths, then sorted
    taken: "array[int]" = field(default_factory=lambda: array("q"))  # of those keys, at their first

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.keys)

    def add(self, path: str) -> None:
        """Note one row."""
        self.keys.append(self.key(path))

    def sorted(self) -> Self:
        """The same, ready to be asked."""
        values = np.frombuffer(self.keys, dtype=np.int64).copy() if self.keys else np.empty(0)
        values.sort()
        self.keys = array("q", values.tobytes()) if len(values) else array("q")
        self.taken = array("q", bytes(8 * len(self.keys)))
        return self

    def moved(self, size: int) -> "SavedRows":
        """The same rows in another file of so many bytes."""
        return replace(self, size=size, end=size)

    def key(self, path: str) -> int:
        """A number for a path: two of a million have the same with a chance of 1 to 10^7."""
        path = tidy_path(path)
        return hash(as_utf8(path) if self.spelt_out else path)

    def take(self, path: str) -> bool:
        """Whether there is a row for this path; a path that is listed twice has two."""
        key = self.key(path)
        first = bisect_left(self.keys, key)
        if first == len(self.keys) or self.keys[first] != key:
            return False
        mine = first + self.taken[first]
        if mine == len(self.keys) or self.keys[mine] != key:
            return False
        self.taken[first] += 1
        return True

    @property
    def untaken(self) -> int:
        """Rows whose pictures were not asked for."""
        return len(self.keys) - sum(self.taken)
