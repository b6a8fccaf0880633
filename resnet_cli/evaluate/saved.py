"""Results that ``predict`` has saved -> an evaluation, without the network."""

import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_cli.errors import ImageError, InputError
from resnet_cli.evaluate.dataset import class_index_of, find_labelled_image, match_labels
from resnet_cli.images.decode import Decoder, thumbnail
from resnet_cli.pipeline import map_ordered
from resnet_cli.pipeline.loader import THUMBNAIL_SIDE
from resnet_cli.pipeline.memory_budget import Budget, Turn
from resnet_cli.records import Item, Prediction
from resnet_cli.results.files.manifest import manifest_path
from resnet_cli.results.readers import read_results
from resnet_cli.sources.truth import read_labels

Truth = Callable[[Path], int | None]


@dataclass(frozen=True, slots=True)
class SavedResults:
    """A file of results, and what is known of it."""

    path: Path
    names: tuple[str, ...]  # of the classes, one an output
    base: Path  # the folder that the paths of its rows are seen from
    record: Mapping[str, Any] | None  # of the run that made it

    @property
    def is_multi_label(self) -> bool:
        """Whether the probabilities of a row are each their own."""
        return bool((self.record or {}).get("multi_label"))

    def rows(self) -> Generator[Prediction]:
        """Yield its rows; one that holds every class gets its distribution.

        Raises:
            InputError: a row that is none, or of an index beyond the classes.
        """
        size = len(self.names)
        for row in read_results(self.path):
            beyond = [score.index for score in row.scores if not 0 <= score.index < size]
            if beyond:
                raise InputError(
                    f"cannot score {self.path}: {row.path} has index {beyond[0]}: the class names "
                    f"are {size}, for 0 to {size - 1}"
                )
            yield (
                replace(row, distribution=whole_distribution(row, size))
                if len(row.scores) == size
                else row
            )

    def absolute(self, path: Path) -> Path:
        """Where the picture of a row is; a link to it is not followed."""
        seen = self.base / path
        return seen.parent.resolve() / seen.name

    def from_here(self, item: Item) -> Item:
        """Return the item of a row with the path by which it opens from the current folder."""
        path = Path(item.path)
        if path.is_absolute() or self.base.resolve() == Path.cwd():
            return item
        return replace(item, path=os.path.relpath(self.absolute(path)))

    def present(self, truth: "Truth") -> set[int]:
        """The classes that have images."""
        return {index for row in read_results(self.path) if (index := truth(row.path)) is not None}


def whole_distribution(row: Prediction, size: int) -> Any:
    """The probabilities [size] of a row that holds them all."""
    distribution = np.zeros(size, np.float32)
    for score in row.scores:
        distribution[score.index] = score.prob
    return distribution


def open_saved(path: Path, names: Sequence[str] | None) -> SavedResults:
    """Find out what is known of a file of results.

    Args:
        path: of the file.
        names: of the classes; None takes those in the record beside it.

    Raises:
        InputError: nothing says which classes there are.
    """
    beside = manifest_path(path)
    try:
        record = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except ValueError as error:
        raise InputError(
            f"cannot read {beside}: it is not valid JSON: remove it and give --classes"
        ) from error
    known = record if isinstance(record, dict) else {}
    if names is None and not known.get("classes"):
        raise InputError(
            f"cannot name the classes of {path}: there is no {beside} that tells them: give "
            "--classes"
        )
    base = known.get("folder") or Path.cwd()
    return SavedResults(path, tuple(names or known["classes"]), Path(base), known or None)


def truth_by_table(saved: SavedResults, table: Path, folder: str | None) -> tuple[Truth, list[str]]:
    """What tells the class of a picture by a table of labels."""
    rows = read_labels(table)
    labels = [row.label for row in rows if row.label is not None]
    index, notes = match_labels(str(table), labels, saved.names)
    by_path = {
        saved.absolute(
            Path(find_labelled_image(row.path, folder or ".")).absolute()
        ): class_index_of(row, index, len(saved.names), table)
        for row in rows
    }
    return lambda path: by_path.get(saved.absolute(path)), notes


def truth_by_folder(saved: SavedResults, folder: str | None) -> tuple[Truth, list[str]]:
    """What tells the class of a picture by its folder: the first below ``folder``, or its own."""
    top = None if folder is None else Path(folder).resolve()

    def name(path: Path) -> str | None:
        seen = saved.absolute(path)
        if top is None:
            return seen.parent.name
        parts = seen.relative_to(top).parts if seen.is_relative_to(top) else ()
        return parts[0] if len(parts) > 1 else None

    folders = dict.fromkeys(name(row.path) for row in read_results(saved.path))
    labels = [label for label in folders if label is not None]
    if not labels:
        raise InputError(f"cannot score {saved.path}: none of its images is in a folder in {top}")
    index, notes = match_labels(f"the folders in {saved.path}", labels, saved.names)

    def truth(path: Path) -> int | None:
        label = name(path)
        return None if label is None else index[label]

    return truth, notes


def illustrate_rows(
    rows: Iterable[Prediction], where: Callable[[Path], Path], *, workers: int
) -> Generator[Prediction]:
    """Yield rows with a thumbnail each, or without where the image cannot be read any more.

    Args:
        rows: of readable and unreadable images.
        where: tells where the image of a row is.
        workers: threads that decode.
    """
    decode, budget = Decoder(), Budget()

    def shown(row: Prediction) -> Prediction:
        if row.error is not None:
            return row
        with closing(Turn(budget)) as turn:
            try:
                return replace(
                    row, thumbnail=thumbnail(decode(where(row.path), turn), THUMBNAIL_SIDE)
                )
            except ImageError:
                return row

    return map_ordered(rows, shown, workers=workers)
