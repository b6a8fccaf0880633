"""Where the figures of ``evaluate`` go: stdout, tables, pictures, a report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli.cli.process import echo
from resnet_cli.errors import OutputNameError
from resnet_cli.evaluate import Evaluation
from resnet_cli.evaluate.formats import TABLES, evaluation_csv, evaluation_json
from resnet_cli.results import GRIDS, check_new, check_outputs, naming_output
from resnet_cli.results.dialect import Dialect

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
            (self.report, (".html",)),
            *((path, GRIDS) for path in self.grids),
        ]
        taken: set[Path] = set()
        for path, suffixes in wanted:
            if path is None:
                continue
            if path.suffix.lower() not in suffixes:
                raise OutputNameError(
                    f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}"
                )
            if path.resolve() in taken:
                raise OutputNameError(f"cannot write {path} twice: name each output once")
            taken.add(path.resolve())
            check_new(path, overwrite=self.overwrite)
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
            write_text(
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
            write_text(path, TABLES[name](evaluation, self.dialect))
            return
        from resnet_cli.evaluate.plots import PLOTS, save_figure

        with naming_output(path):
            save_figure(PLOTS[name](evaluation, caption), path)


def write_text(path: Path, words: str) -> None:
    """Write a text, whole."""
    with naming_output(path):
        path.write_text(words, encoding="utf-8", errors="backslashreplace")


def print_lines(lines: Iterable[str]) -> None:
    """Print results."""
    with naming_output("standard output"):
        for line in lines:
            echo(line)
