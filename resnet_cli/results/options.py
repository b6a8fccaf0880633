"""What a writer is given, what it returns, and the verdict on a prediction whose truth is known."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.records import Item, Prediction
from resnet_cli.results.columns import RowLayout
from resnet_cli.results.short_names import end_of_path

if TYPE_CHECKING:
    from resnet_cli.results.files.resume import SavedRows

Write = Callable[[Prediction], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a CSV is written. The decimal point is a point, and lines end in a line feed."""

    separator: str = ","
    bom: bool = False  # begins with the byte order mark by which Excel recognises UTF-8

    @property
    def mark(self) -> str:
        """The text before the header."""
        return "\ufeff" if self.bom else ""

    def record(self) -> dict[str, Any]:
        """Return the settings as they stand in FILE.run.json."""
        return {f"csv_{name}": value for name, value in asdict(self).items()}


COMMA = Dialect()
"""What programs read."""


def unknown_truth(_: Item) -> str | None:
    """Return None: the true label of no image is known."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """How results are laid out."""

    topk: int  # classes of an image
    grid_rows: int = 4  # of a page
    grid_columns: int = 4
    caption: str = ""  # under each page
    overwrite: bool = False  # replace an existing file
    saved: "SavedRows | None" = None  # rows of the file that is resumed
    truth: Callable[[Item], str | None] = unknown_truth  # the true label of an image
    name: Callable[[Path, int], str] = end_of_path  # of an image, in at most N characters
    record: Callable[[], Mapping[str, Any]] = dict  # of the run so far, as in FILE.run.json
    report_limit: int = 10_000  # images in a report
    decides: bool = False  # there is a column for the decision
    dialect: Dialect = COMMA  # of a .csv

    @property
    def layout(self) -> RowLayout:
        """The columns of a row."""
        return RowLayout(topk=self.topk, decides=self.decides)

    def after(self, saved: "SavedRows | None") -> "WriterOptions":
        """Return a copy for a file that is resumed, if any, which keeps its columns."""
        return replace(self, saved=saved, decides=self.decides and (saved is None or saved.decides))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about one prediction."""

    best: str | None = None  # name of the best class
    uncertain: bool = False
    truth: str | None = None  # None if unknown
    right: bool | None = None  # None if the truth is unknown, or for an error


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares the best class of each prediction with the true one."""

    truth: Callable[[Item], str | None]
    names: dict[int, str] = field(default_factory=dict)
    """Class names by index; grows as predictions come, if they are not known from the start."""

    @classmethod
    def of(cls, options: WriterOptions) -> "Judge":
        """Build a judge that knows the truth and the class names of a writer's options."""
        return cls(options.truth, dict(enumerate(options.record().get("classes", ()))))

    def __call__(self, prediction: Prediction) -> Verdict:
        """Return the verdict on the next prediction."""
        for score in prediction.scores:
            self.names.setdefault(score.index, score.label)
        truth = self.truth(prediction.item)
        if prediction.index is None:
            return Verdict(truth=truth)
        best = self.names.get(prediction.index)
        return Verdict(
            best=best,
            uncertain=prediction.uncertain,
            truth=truth,
            right=None if truth is None or best is None else best == truth,
        )
