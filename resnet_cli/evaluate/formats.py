"""An evaluation as the files that programs read."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from resnet_cli.evaluate import Evaluation
from resnet_cli.writers.csv import disarmed, harmless


def as_json(record: Mapping[str, Any]) -> str:
    """Every figure."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """A line a class."""
    return lines(list(asdict(evaluation.classes[0])), map(asdict, evaluation.classes))


def matrix_csv(evaluation: Evaluation) -> str:
    """A line for each true class, a column for each predicted one."""
    names = [row.label for row in evaluation.classes]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    safe = [disarmed(name) for name in names]
    writer.writerow(["truth", *safe])
    writer.writerows(
        [name, *row] for name, row in zip(safe, evaluation.matrix.tolist(), strict=True)
    )
    return out.getvalue()


def bins_csv(evaluation: Evaluation) -> str:
    """A line for each interval of confidence."""
    return lines(list(asdict(evaluation.bins[0])), map(asdict, evaluation.bins))


def lines(header: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """A table as CSV, in which no cell starts a formula."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(harmless, rows))
    return out.getvalue()


TABLES: dict[str, Callable[[Evaluation], str]] = {
    "confusion": matrix_csv,
    "calibration": bins_csv,
}
"""What a picture's option writes where its file is a .csv."""
