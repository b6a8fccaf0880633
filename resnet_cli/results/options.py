"""What a writer is told, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_cli.records import Prediction
from resnet_cli.results.columns import RowLayout, SavedRows
from resnet_cli.results.dialect import COMMA, Dialect
from resnet_cli.results.short_names import end_of_path

Write = Callable[[Prediction], None]


def unknown_truth(_: Path) -> str | None:
    """The true label of no picture."""
    return None


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How results are laid out."""

    topk: int  # classes of an image
    grid_rows: int = 4  # of a page
    grid_columns: int = 4
    caption: str = ""  # under each page
    overwrite: bool = False  # files may be there already
    saved: SavedRows | None = None  # rows that are there already, to go on after
    truth: Callable[[Path], str | None] = unknown_truth  # the true label of a picture
    name: Callable[[Path, int], str] = end_of_path  # of an image, in at most so many characters
    record: Callable[[], Mapping[str, Any]] = dict  # of the run so far, as in FILE.run.json
    report_limit: int = 10_000  # pictures in a report
    decides: bool = False  # there is a column for the decision
    dialect: Dialect = COMMA  # of a .csv

    @property
    def layout(self) -> RowLayout:
        """The columns of a row."""
        return RowLayout(self.topk, self.decides)

    def after(self, saved: SavedRows | None) -> "WriterOptions":
        """The same for a file that is resumed, if any, which keeps its columns."""
        return replace(self, saved=saved, decides=self.decides and (saved is None or saved.decides))
