"""An evaluation as the files that programs read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from resnet_cli.evaluate import Evaluation
from resnet_cli.writers.csv import csv_text, disarmed, harmless
from resnet_cli.writers.dialect import COMMA, Dialect


def as_json(record: Mapping[str, Any]) -> str:
    """Every figure."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def as_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """A line a class."""
    return lines([asdict(row) for row in evaluation.classes], dialect)


def matrix_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """A line for each true class, a column for each predicted one."""
    names = [disarmed(row.label) for row in evaluation.classes]
    counts = zip(names, evaluation.matrix.tolist(), strict=True)
    return csv_text([["truth", *names], *([name, *row] for name, row in counts)], dialect)


def bins_csv(evaluation: Evaluation, dialect: Dialect) -> str:
    """A line for each interval of confidence."""
    return lines([asdict(row) for row in evaluation.bins], dialect)


def lines(rows: Sequence[dict[str, Any]], dialect: Dialect) -> str:
    """A table as CSV, in which no cell starts a formula."""
    cells: Iterable[Iterable[object]] = (harmless(row).values() for row in rows)
    return csv_text([rows[0], *cells], dialect)


TABLES: dict[str, Callable[[Evaluation, Dialect], str]] = {
    "confusion": matrix_csv,
    "calibration": bins_csv,
}
"""What a picture's option writes where its file is a .csv."""
