"""Prediction <-> one row, flat for tables or nested for JSON: the columns of every format."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resnet_cli.records import WARNING, Prediction, Score

Row = dict[str, Any]

Records = Iterator[tuple[Prediction, int]]
"""Rows read back, each with the place in bytes where it ends; 0 where a file has no such place."""

TIMES = ("decode_ms", "preprocess_ms", "forward_ms")


class DamageError(ValueError):
    """A row that is none: torn off, or of another program."""

    def __init__(self, row: int, reason: object) -> None:
        """Say which row it is, the first being 1, and what is wrong with it."""
        super().__init__(f"row {row} is no whole row of results ({reason})")
        self.row = row


def columns(topk: int) -> dict[str, type]:
    """Columns of a table and the type of each, in order."""
    scores: dict[str, type] = {}
    for rank in range(1, topk + 1):
        scores |= {f"label{suffix(rank)}": str, f"index{suffix(rank)}": int}
        scores |= {f"prob{suffix(rank)}": float}
    times = dict.fromkeys(TIMES, float)
    return {"path": str, "status": str, **scores, **times, "batch_size": int, "error": str}


def suffix(rank: int) -> str:
    """What tells the columns of the second class from those of the first."""
    return "" if rank == 1 else f"_{rank}"


def cells(prediction: Prediction, topk: int) -> list[Any]:
    """The values of ``columns(topk)``, in order; None where there is none."""
    row: list[Any] = [str(prediction.path), prediction.status]
    for score in prediction.scores:
        row += (score.label, score.index, score.prob)
    row += (None, None, None) * (topk - len(prediction.scores))
    row += times(prediction)
    row += (prediction.batch_size, prediction.remark)
    return row


def flat(prediction: Prediction, topk: int) -> Row:
    """One value for each of ``columns(topk)``, by name."""
    return dict(zip(columns(topk), cells(prediction, topk), strict=True))


def nested(prediction: Prediction) -> Row:
    """The row as an object with a list of predictions, keys in the order of the table."""
    return {
        "path": str(prediction.path),
        "status": prediction.status,
        "predictions": [
            {"label": score.label, "index": score.index, "prob": score.prob}
            for score in prediction.scores
        ],
        **dict(zip(TIMES, times(prediction), strict=True)),
        "batch_size": prediction.batch_size,
        "error": prediction.remark,
    }


def times(prediction: Prediction) -> tuple[float | None, ...]:
    """The values of ``TIMES``."""
    return (
        rounded(prediction.decode_ms),
        rounded(prediction.preprocess_ms),
        rounded(prediction.forward_ms),
    )


def rounded(milliseconds: float | None) -> float | None:
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
        warning=warning_in(error) if row["status"] == "ok" else None,
    )


def warning_in(remark: str | None) -> str | None:
    """Return the warning of a row that is ok."""
    return remark.removeprefix(WARNING) if remark and remark.startswith(WARNING) else None


def number(row: Row, name: str) -> float | None:
    """A number of a row, if it has one."""
    value = row.get(name)
    return None if value is None else float(value)
