"""Where the figures of ``evaluate`` go: stdout, tables, pictures, a report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli.cli.stdio import echo
from resnet_cli.evaluate import Evaluation
from resnet_cli.evaluate.formats import TABLES, evaluation_csv, evaluation_json
from resnet_cli.files import check_new_files, naming_output, write_text_file
from resnet_cli.results import check_outputs
from resnet_cli.results.formats import GRIDS
from resnet_cli.results.options import Dialect

FIGURES, PICTURES = (".json", ".csv"), (".png", ".pdf", ".svg", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the figures go beside stdout."""

    outputs: tuple[Path, ...]
    confusion: tuple[Path, ...]
    calibration: tuple[Path, ...]
    mistakes: tuple[Path, ...]
    report: Path | None
    grids: tuple[Path, ...]
    show: bool  # windows with the pages of the grid
    overwrite: bool
    dialect: Dialect  # of each .csv

    def check(self) -> None:
        """Refuse, before any work is done, what could not be written at the end of it."""
        wanted = [
            *((path, FIGURES) for path in self.outputs),
            *((path, PICTURES) for path in self.confusion + self.calibration),
            *((path, (".csv",)) for path in self.mistakes),
            *((path, (".html",)) for path in (self.report,) if path is not None),
            *((path, GRIDS) for path in self.grids),
        ]
        check_new_files(wanted, overwrite=self.overwrite)
        check_outputs((), grids=self.grids, overwrite=self.overwrite)
        if self.show:
            from resnet_cli.results.grid import check_display

            check_display()

    @property
    def any(self) -> bool:
        """Return True if there is an output beside stdout."""
        tables = self.outputs + self.confusion + self.calibration + self.mistakes
        return bool(tables) or self.want_thumbnails

    @property
    def illustrated(self) -> list[Path]:
        """Files with a thumbnail of each image."""
        return [*([] if self.report is None else [self.report]), *self.grids]

    @property
    def want_thumbnails(self) -> bool:
        """Whether anything draws pictures."""
        return self.show or bool(self.illustrated)

    def write(self, evaluation: Evaluation, record: Mapping[str, Any], caption: str) -> None:
        """Write figures, tables and pictures."""
        for path in self.outputs:
            is_json = path.suffix.lower() == ".json"
            write_text_file(
                path,
                evaluation_json(record) if is_json else evaluation_csv(evaluation, self.dialect),
            )
        if not evaluation.images:
            return
        drawn = {"confusion": self.confusion, "calibration": self.calibration}
        for name, paths in drawn.items():
            for path in paths:
                self.draw(name, path, evaluation, caption)

    def draw(self, name: str, path: Path, evaluation: Evaluation, caption: str) -> None:
        """Write one plot, or its numbers."""
        if path.suffix.lower() == ".csv":
            write_text_file(path, TABLES[name](evaluation, self.dialect))
            return
        from resnet_cli.evaluate.plots import PLOTS, save_figure

        with naming_output(path):
            save_figure(PLOTS[name](evaluation, caption), path)


def print_lines(lines: Iterable[str]) -> None:
    """Print results."""
    with naming_output("standard output"):
        for line in lines:
            echo(line)
