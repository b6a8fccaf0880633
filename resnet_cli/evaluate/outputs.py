"""Files of an evaluation: rows written while images are scored, tables and drawings after it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resnet_cli.errors import OutputNameError
from resnet_cli.evaluate.scorecard import Evaluation, Scorecard, describe_mistake
from resnet_cli.files import (
    check_new,
    check_new_files,
    check_suffix,
    naming_output,
    write_text_file,
)
from resnet_cli.records import Prediction
from resnet_cli.results import check_outputs, open_writer
from resnet_cli.results.csv import Table, csv_text, disarm_cell, disarm_row
from resnet_cli.results.formats import GRIDS
from resnet_cli.results.options import COMMA, Dialect, Write, WriterOptions
from resnet_cli.run import OutputOptions

METRICS = (".json", ".csv")  # suffixes of files of metrics
DRAWINGS = (".png", ".pdf", ".svg", ".csv")  # of drawings, or of their numbers

MISTAKE_COLUMNS = ("path", "part", "truth", "truth_index", "label", "index", "prob", "truth_prob")

WriteLabelled = Callable[[Prediction, int], None]
"""Receives a prediction and the index of its true class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFiles:
    """Files that get a row or a thumbnail of each image while it is scored."""

    mistakes: Sequence[Path] = ()  # .csv, a row for each wrong image
    report: Path | None = None  # .html; of several checkpoints one each, numbered
    grids: Sequence[Path] = ()  # .png, .pdf or .svg
    show: bool = False  # open a window for each page of the grid
    output: OutputOptions = field(default_factory=OutputOptions)

    @property
    def illustrated(self) -> list[Path]:
        """List the files that show a thumbnail of each image."""
        return [*([] if self.report is None else [self.report]), *self.grids]

    @property
    def want_thumbnails(self) -> bool:
        """Return True if any output shows thumbnails."""
        return self.show or bool(self.illustrated)

    def layout(self, topk: int) -> WriterOptions:
        """Return the layout of reports and grids that show ``topk`` classes for an image."""
        rows, columns = self.output.grid_size
        return WriterOptions(
            topk=topk,
            grid_rows=rows,
            grid_columns=columns,
            overwrite=self.output.overwrite,
            report_limit=self.output.report_limit,
        )


def check_files(
    rows: RowFiles, *, metrics: Sequence[Path] = (), drawings: Sequence[Path] = ()
) -> None:
    """Refuse, before any image is read, files that could not be written afterwards.

    Raises:
        OutputError: an unknown suffix, a missing folder, an existing file, or one named twice.
    """
    if rows.output.resume:
        raise OutputNameError("an evaluation cannot be resumed: leave resume out")
    wanted = [
        *((path, METRICS) for path in metrics),
        *((path, DRAWINGS) for path in drawings),
        *((path, (".csv",)) for path in rows.mistakes),
        *((path, (".html",)) for path in [rows.report] if path is not None),
        *((path, GRIDS) for path in rows.grids),
    ]
    check_new_files(wanted, overwrite=rows.output.overwrite)
    check_outputs((), grids=rows.grids, overwrite=rows.output.overwrite)
    if rows.show:
        from resnet_cli.results.grid import check_display

        check_display()


@dataclass(frozen=True, slots=True)
class RowWriters:
    """The open writers of a run."""

    tables: Sequence[WriteLabelled]
    drawings: Sequence[Write]

    def add(self, prediction: Prediction, truth: int, shown: Prediction | None = None) -> None:
        """Write one image to every file.

        Args:
            prediction: of the image.
            truth: index of its true class.
            shown: in place of the prediction, in files that show the image.
        """
        for write in self.tables:
            write(prediction, truth)
        for draw in self.drawings:
            draw(shown or prediction)


@contextmanager
def open_rows(files: RowFiles, names: Sequence[str], layout: WriterOptions) -> Iterator[RowWriters]:
    """Open the files that are written while images are scored.

    Args:
        files: to open.
        names: class names, one per output.
        layout: of reports and grids.

    Raises:
        OutputError: a file cannot be written, now or at any row.
    """
    with ExitStack() as stack:
        tables = []
        for path in files.mistakes:
            with naming_output(path):
                columns = [name for name in MISTAKE_COLUMNS if name != "part" or layout.parts]
                tables.append(stack.enter_context(open_mistakes(path, names, files, columns)))
        drawings = [stack.enter_context(open_writer(path, layout)) for path in files.illustrated]
        if files.show:
            from resnet_cli.results.grid import window_writer

            drawings.append(stack.enter_context(window_writer(layout)))
        yield RowWriters(tables, drawings)


@contextmanager
def open_mistakes(
    path: Path, names: Sequence[str], files: RowFiles, columns: Sequence[str]
) -> Iterator[WriteLabelled]:
    """Open a .csv file with a row for each wrong image, in input order."""
    mode = "w" if files.output.overwrite else "x"
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = Table(files.output.csv_dialect)
        file.write(files.output.csv_dialect.mark + table.line(columns))

        def write(prediction: Prediction, truth: int) -> None:
            if prediction.error is not None or prediction.index == truth:
                return
            found = describe_mistake(prediction, truth, names)
            row = {**asdict(found), "truth_index": truth, "index": prediction.index}
            cells = {name: row[name] for name in columns}
            file.write(table.line(disarm_row(cells).values()))
            file.flush()

        yield write


def with_shares(
    record: Callable[[], Mapping[str, Any]], scorecard: Scorecard
) -> Callable[[], Mapping[str, Any]]:
    """Return the manifest of a run with a line on its accuracy so far, for reports."""
    return lambda: {**record(), "evaluation": scorecard.summary()}


def evaluation_json(record: Mapping[str, Any]) -> str:
    """Format a record as JSON."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def evaluation_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """Format the classes as CSV, one row each."""
    return csv_table([asdict(row) for row in evaluation.classes], dialect)


def matrix_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """Format the confusion matrix as CSV: a row per true class, a column per predicted one."""
    names = [disarm_cell(row.label) for row in evaluation.classes]
    counts = zip(names, evaluation.matrix.tolist(), strict=True)
    return csv_text([["truth", *names], *([name, *row] for name, row in counts)], dialect)


def bins_csv(evaluation: Evaluation, dialect: Dialect = COMMA) -> str:
    """Format the bins of the reliability diagram as CSV, one row each."""
    return csv_table([asdict(row) for row in evaluation.bins], dialect)


def csv_table(rows: Sequence[dict[str, Any]], dialect: Dialect) -> str:
    """Format a table as CSV in which no cell starts a formula."""
    cells: Iterable[Iterable[object]] = (disarm_row(row).values() for row in rows)
    return csv_text([rows[0], *cells], dialect)


DRAWING_TABLES: dict[str, Callable[[Evaluation, Dialect], str]] = {
    "confusion": matrix_csv,
    "calibration": bins_csv,
}
"""What a drawing holds where its file is a .csv."""


def save_drawing(
    name: str,
    path: Path,
    evaluation: Evaluation,
    *,
    caption: str,
    overwrite: bool,
    dialect: Dialect,
) -> None:
    """Draw an evaluation, or write the numbers of the drawing as .csv.

    Args:
        name: ``confusion`` or ``calibration``.
        path: of the file.
        evaluation: to draw.
        caption: below the title.
        overwrite: replace an existing file.
        dialect: of a .csv.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    check_suffix(path, DRAWINGS)
    if path.suffix.lower() == ".csv":
        write_new_text(path, DRAWING_TABLES[name](evaluation, dialect), overwrite=overwrite)
        return
    from resnet_cli.evaluate.plots import PLOTS, save_figure

    check_new(path, overwrite=overwrite)
    with naming_output(path):
        save_figure(PLOTS[name](evaluation, caption), path)


def write_new_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    check_new(path, overwrite=overwrite)
    write_text_file(path, text)
