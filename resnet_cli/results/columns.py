"""The columns of every format: a prediction becomes a row, and a row a prediction again.

``COLUMNS`` is the table. A row is a JSON object, its keys in the order of the table; ``flat_cells``
and ``nest_row`` convert it to the cells of a flat table and back.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from typing import Any

from resnet_cli.records import UNCERTAIN, WARNING, Detection, Item, Prediction, Score, tidy_path

Cell = str | int | float | None
Kind = type[str] | type[int] | type[float]
Row = dict[str, Any]
Fields = dict[str, Any]
"""Values for fields of ``Prediction``, by name."""

Identity = tuple[str, str]
"""What a row is about: the path of its image, and the part of it."""

Identities = Iterator[tuple[Identity, bool, int]]
"""Of each row: its identity, whether it is an error, and where it ends in bytes, or 0."""


CLASS_KINDS: Mapping[str, Kind] = {"label": str, "index": int, "prob": float}
"""Columns of each class, and keys of its object in JSON."""


class DamageError(ValueError):
    """A row that is cut off, or was written by another program."""

    def __init__(self, row: int, reason: object) -> None:
        """Build the message.

        Args:
            row: its number, from 1; 0 is the header of a table.
            reason: what is wrong with it.
        """
        super().__init__(f"row {row} is not a whole row of results ({reason})")
        self.row = row


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLayout:
    """Which of the columns a file has.

    If a run decides and its file has no column for the decision, the decision replaces the label:
    earlier versions wrote such files, which are resumed as they are.
    """

    topk: int  # classes of an image
    decides: bool = False  # there is a column for the decision
    parts: bool = False  # there is a column for the part of an image
    boxes: bool = False  # there are columns for what a detector said of a box

    @property
    def columns(self) -> Mapping[str, Kind]:
        """Name and type of each column of a flat table, in order."""
        return flat_columns(self)

    @property
    def classes(self) -> int:
        """The number of classes of an image that the columns are computed from."""
        return max(self.topk, *(column.classes for column in present_columns(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a flat table, and a key of a JSON object."""

    name: str
    kind: Kind
    cell: Callable[[Prediction], Cell]
    restore: Callable[[Row], Fields] | None = None
    """Reads fields of the prediction from its row; None for a column that follows from others."""
    present: Callable[[RowLayout], bool] = field(default=lambda _: True)
    classes: int = 1  # best classes that ``cell`` reads


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassColumns:
    """The columns of ``CLASS_KINDS`` for the classes from one rank to another."""

    first: int  # rank, from 1
    last: int | None = None  # rank; None for the last that is kept
    classes: int = 1

    def present(self, layout: RowLayout) -> bool:
        """Return True if a layout has columns for any of the ranks."""
        return bool(self.ranks(layout))

    def ranks(self, layout: RowLayout) -> range:
        """Return the ranks that a layout has columns for."""
        return range(self.first, (self.last or layout.topk) + 1)

    def cells(self, scores: list[Row], layout: RowLayout) -> list[Cell]:
        """Return the cells of a row, with None for each class that is missing."""
        ranks = self.ranks(layout)
        kept = scores[ranks.start - 1 : ranks.stop - 1]
        missing = [None] * (len(CLASS_KINDS) * (len(ranks) - len(kept)))
        return [score[name] for score in kept for name in CLASS_KINDS] + missing


def stored(name: str, kind: Kind, *, digits: int | None = None) -> Column:
    """Build the column of a number that is a field of ``Prediction`` of the same name.

    Args:
        name: of both.
        kind: of the number.
        digits: after the point, to which it is rounded.
    """

    def cell(prediction: Prediction) -> Cell:
        value: Cell = getattr(prediction, name)
        return value if value is None or digits is None else round(float(value), digits)

    def restore(row: Row) -> Fields:
        return {name: None if row.get(name) is None else kind(row[name])}

    return Column(name=name, kind=kind, cell=cell, restore=restore)


def restore_error(row: Row) -> Fields:
    """Read the error, or the warning of a row that is ``ok``."""
    remark = str(row.get("error") or "")
    if row["status"] == "error":
        return {"error": remark}
    return {"warning": remark.removeprefix(WARNING) if remark.startswith(WARNING) else None}


def restore_decision(row: Row) -> Fields:
    """Read the decision, which earlier versions wrote in place of the label."""
    if not row["predictions"]:
        return {}
    if "decision" in row:
        return {"decision": row["decision"] or ""}
    return {"decision": UNCERTAIN if row["predictions"][0]["label"] == UNCERTAIN else None}


def restore_item(row: Row) -> Fields:
    """Read the item of a row."""
    label, conf = (row.get(name) for name in DETECTION)
    stated = label is not None or conf is not None
    detection = Detection(str(label or ""), as_float(conf)) if stated else None
    return {"item": Item(tidy_path(row["path"]), row.get("part") or "", detection=detection)}


def as_float(cell: Cell) -> float | None:
    """Return the number of a cell, which may be empty."""
    return None if cell is None or cell == "" else float(cell)


def of_detection(name: str, kind: Kind, cell: Callable[[Detection], Cell]) -> Column:
    """Build the column of what a detector said of a box; empty where it said nothing."""

    def read(prediction: Prediction) -> Cell:
        detection = prediction.item.detection
        return None if detection is None else cell(detection)

    return Column(name=name, kind=kind, cell=read, present=lambda layout: layout.boxes)


DETECTION = ("detection_class", "detection_conf")

COLUMNS: tuple[Column | ClassColumns, ...] = (
    Column(
        name="path",
        kind=str,
        cell=lambda prediction: tidy_path(prediction.item.path),
        restore=restore_item,
    ),
    Column(
        name="part",
        kind=str,
        cell=lambda prediction: prediction.part,
        present=lambda layout: layout.parts,
    ),
    of_detection("detection_class", str, lambda detection: detection.label),
    of_detection("detection_conf", float, lambda detection: detection.conf),
    Column(name="status", kind=str, cell=lambda prediction: prediction.status),
    ClassColumns(first=1, last=1),
    Column(
        name="decision",
        kind=str,
        cell=lambda prediction: prediction.decision,
        restore=restore_decision,
        present=lambda layout: layout.decides,
    ),
    ClassColumns(first=2),
    stored("decode_ms", float, digits=3),  # a microsecond, finer than the clock
    stored("preprocess_ms", float, digits=3),
    stored("forward_ms", float, digits=3),
    stored("batch_size", int),
    Column(
        name="error",
        kind=str,
        cell=lambda prediction: prediction.remark,
        restore=restore_error,
    ),
)
"""All columns in order. A JSON object has the classes of all ranks as ``predictions``."""


@cache
def present_columns(layout: RowLayout) -> tuple[Column | ClassColumns, ...]:
    """Return the columns of the table that a layout has."""
    return tuple(column for column in COLUMNS if column.present(layout))


@cache
def flat_columns(layout: RowLayout) -> Mapping[str, Kind]:
    """Return name and type of each column of a flat table, in order."""
    columns: dict[str, Kind] = {}
    for column in present_columns(layout):
        if isinstance(column, Column):
            columns[column.name] = column.kind
            continue
        for rank in column.ranks(layout):
            columns |= zip(class_names(rank), CLASS_KINDS.values(), strict=True)
    return columns


@cache
def column_kind(name: str) -> Kind:
    """Return the type of a column of a flat table, text if it is unknown."""
    known = {column.name: column.kind for column in COLUMNS if isinstance(column, Column)}
    first, _, rank = name.rpartition("_")
    return known.get(name) or CLASS_KINDS.get(first if rank.isdecimal() else name, str)


@cache
def class_names(rank: int) -> tuple[str, ...]:
    """Return the columns of a class by its rank: ``label``, or ``label_2`` for the second class."""
    return tuple(name if rank == 1 else f"{name}_{rank}" for name in CLASS_KINDS)


def nested_row(prediction: Prediction, layout: RowLayout) -> Row:
    """Convert a prediction to a row."""
    shown = prediction if layout.decides else label_decision(prediction)
    return {name: read(shown) for name, read in row_keys(layout)}


@cache
def row_keys(layout: RowLayout) -> tuple[tuple[str, Callable[[Prediction], Any]], ...]:
    """Return the keys of a row in order, each with what reads its value from a prediction."""

    def read_scores(prediction: Prediction) -> list[Row]:
        return [
            {"label": score.label, "index": score.index, "prob": score.prob}
            for score in prediction.scores[: layout.topk]
        ]

    return tuple(
        (column.name, column.cell) if isinstance(column, Column) else ("predictions", read_scores)
        for column in present_columns(layout)
        if isinstance(column, Column) or column.first == 1
    )


def label_decision(prediction: Prediction) -> Prediction:
    """Replace the label of the best class by the decision, if there is one."""
    if prediction.decision is None or not prediction.scores:
        return prediction
    best, *others = prediction.scores
    return replace(prediction, scores=(replace(best, label=prediction.decision), *others))


def flat_cells(row: Row, layout: RowLayout) -> list[Cell]:
    """Return the cells of a row, in the order of ``layout.columns``."""
    cells: list[Cell] = []
    for column in present_columns(layout):
        if isinstance(column, Column):
            cells.append(row.get(column.name))
        else:
            cells += column.cells(row["predictions"], layout)
    return cells


def nest_row(cells: Mapping[str, Any]) -> Row:
    """Convert the cells of a flat table, by name, to a row."""
    row: Row = {}
    for column in COLUMNS:
        if isinstance(column, ClassColumns):
            row["predictions"] = nest_scores(cells)
        elif column.name in cells:
            row[column.name] = cells[column.name]
    return row


def nest_scores(cells: Mapping[str, Any]) -> list[Row]:
    """Collect the classes in the cells of a flat table, best first."""
    scores: list[Row] = []
    for rank in count(1):
        label, index, prob = class_names(rank)
        if cells.get(prob) is None:
            break
        scores.append({"label": cells[label] or "", "index": cells[index], "prob": cells[prob]})
    return scores


def restore_prediction(row: Row) -> Prediction:
    """Convert a row back to the prediction that it was made from.

    Raises:
        ValueError: a cell, or the status, is not one of results.
        KeyError: a column is missing.
    """
    scores = tuple(
        Score(str(score["label"]), int(score["index"]), float(score["prob"]))
        for score in row["predictions"]
    )
    is_error(row["status"], classes=len(scores))
    fields: Fields = {}
    for column in COLUMNS:
        if isinstance(column, Column) and column.restore is not None:
            fields |= column.restore(row)
    return Prediction(scores=scores, **fields)


def is_error(status: object, *, classes: int) -> bool:
    """Return True if a row is of an item that could not be read.

    Args:
        status: of the row.
        classes: how many classes the row has.

    Raises:
        ValueError: the status is unknown, or contradicts the number of classes.
    """
    if status not in ("ok", "error") or bool(classes) != (status == "ok"):
        raise ValueError(f"status {status!r} with {classes} classes")
    return status == "error"


def row_identity(row: Mapping[str, Any]) -> Identity:
    """Return the identity of a row, flat or nested."""
    return row["path"], row.get("part") or ""


def as_utf8(text: str) -> str:
    r"""Escape the bytes of a name that are not UTF-8, as ``\xe9``, for formats without them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
