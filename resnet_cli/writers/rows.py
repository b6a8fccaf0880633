"""Prediction -> one row, flat for tables or nested for JSON: the columns of every format."""

from typing import Any

from resnet_cli.records import Prediction

Row = dict[str, Any]

TIMES = ("decode_ms", "preprocess_ms", "forward_ms")


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


def flat(prediction: Prediction, topk: int) -> Row:
    """One value for each of ``columns(topk)``; None where there is none."""
    row: Row = dict.fromkeys(columns(topk))
    row |= outline(prediction)
    for rank, score in enumerate(prediction.scores, start=1):
        row[f"label{suffix(rank)}"] = score.label
        row[f"index{suffix(rank)}"] = score.index
        row[f"prob{suffix(rank)}"] = score.prob
    return row


def nested(prediction: Prediction) -> Row:
    """The row as an object with a list of predictions, keys in the order of the table."""
    start, end = split(outline(prediction))
    scores = [
        {"label": score.label, "index": score.index, "prob": score.prob}
        for score in prediction.scores
    ]
    return {**start, "predictions": scores, **end}


def outline(prediction: Prediction) -> Row:
    """Everything but the classes."""
    times = {name: rounded(getattr(prediction, name)) for name in TIMES}
    return {
        "path": str(prediction.path),
        "status": prediction.status,
        **times,
        "batch_size": prediction.batch_size,
        "error": prediction.error,
    }


def split(row: Row) -> tuple[Row, Row]:
    """What stands before the classes, and what after."""
    items = list(row.items())
    return dict(items[:2]), dict(items[2:])


def rounded(milliseconds: float | None) -> float | None:
    """To the microsecond, which is more than the clock tells."""
    return None if milliseconds is None else round(milliseconds, 3)


def as_utf8(text: str) -> str:
    r"""Bytes of a name that are no UTF-8 are spelt out as ``\xe9``, for what holds nothing else."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
