"""An evaluation as the files that programs read."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from resnet_cli.evaluate import Evaluation, describe_mistake
from resnet_cli.records import Prediction
from resnet_cli.results.csv import Table, csv_text, disarm_cell, disarm_row
from resnet_cli.results.options import COMMA, Dialect
from resnet_cli.text import escape_unprintable


def evaluation_json(record: Mapping[str, Any]) -> str:
    """Every figure."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def evaluation_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """A line a class."""
    return csv_table([asdict(row) for row in evaluation.classes], dialect)


def matrix_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """A line for each true class, a column for each predicted one."""
    names = [disarm_cell(row.label) for row in evaluation.classes]
    counts = zip(names, evaluation.matrix.tolist(), strict=True)
    return csv_text([["truth", *names], *([name, *row] for name, row in counts)], dialect)


def bins_csv(evaluation: Evaluation, dialect: Dialect) -> str:
    """A line for each interval of confidence."""
    return csv_table([asdict(row) for row in evaluation.bins], dialect)


def csv_table(rows: Sequence[dict[str, Any]], dialect: Dialect) -> str:
    """A table as CSV, in which no cell starts a formula."""
    cells: Iterable[Iterable[object]] = (disarm_row(row).values() for row in rows)
    return csv_text([rows[0], *cells], dialect)


TABLES: dict[str, Callable[[Evaluation, Dialect], str]] = {
    "confusion": matrix_csv,
    "calibration": bins_csv,
}
"""What a picture's option writes where its file is a .csv."""


NAME, OF_TWO = 34, 26  # letters of a class name, alone in a line and beside another


def align_table(rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Align columns: those of ``left`` to the left, the others to the right."""
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(text_columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            pad_cell(cell, width, to_left=place in left)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def pad_cell(cell: str, width: int, *, to_left: bool) -> str:
    """A cell as wide as its column on a terminal."""
    space = " " * (width - text_columns(cell))
    return cell + space if to_left else space + cell


def text_columns(words: str) -> int:
    """Columns of a terminal that text takes; a Chinese letter takes two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in words)


def short_class_name(name: str, most: int = NAME) -> str:
    """A class name that leaves room beside it."""
    name = escape_unprintable(name)
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def percentage(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f} %"


def figure(value: float | None) -> str:
    """A figure of 0 to 1, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def probability(p: float) -> str:
    """A p-value in few characters."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


COLUMNS = ("path", "truth", "truth_index", "label", "index", "prob", "truth_prob")

Write = Callable[[Prediction, int], None]


@contextmanager
def mistakes_writer(
    path: Path, names: Sequence[str], *, overwrite: bool, dialect: Dialect
) -> Iterator[Write]:
    """Open a .csv file for the mistakes, in input order.

    Args:
        path: of the file.
        names: class names, one an output.
        overwrite: whether it may be there already.
        dialect: of the table.

    Yields:
        A function that takes a prediction and the index of the true class.
    """
    mode = "w" if overwrite else "x"
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = Table(dialect)
        file.write(dialect.mark + table.line(COLUMNS))

        def write(prediction: Prediction, truth: int) -> None:
            if prediction.error is not None or prediction.index == truth:
                return
            found = describe_mistake(prediction, truth, names)
            row = {
                "path": found.path,
                "truth": found.truth,
                "truth_index": truth,
                "label": found.label,
                "index": prediction.index,
                "prob": found.prob,
                "truth_prob": found.truth_prob,
            }
            file.write(table.line(disarm_row(row).values()))
            file.flush()

        yield write
