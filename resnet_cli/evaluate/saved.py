"""Evaluate results that ``predict`` has saved, without running a network."""

import json
import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_cli.checkpoint.metadata.classes import read_given
from resnet_cli.errors import ImageError, InputError, OptionError
from resnet_cli.evaluate import MULTI_LABEL, EvaluateOptions, EvaluationResult
from resnet_cli.evaluate.dataset import class_index_of, label_by_folder
from resnet_cli.evaluate.outputs import RowFiles, check_files, open_rows, with_shares
from resnet_cli.evaluate.scorecard import TOP, Evaluation, Scorecard
from resnet_cli.images import Decoder, thumbnail
from resnet_cli.pipeline import map_ordered
from resnet_cli.pipeline.batches import THUMBNAIL_SIDE
from resnet_cli.pipeline.memory_budget import MemoryBudget, Reservation
from resnet_cli.records import Distribution, Item, Prediction, Progress, is_url
from resnet_cli.results import read_results
from resnet_cli.results.formats import manifest_path
from resnet_cli.results.options import WriterOptions
from resnet_cli.sources import reopen
from resnet_cli.sources.inputs import folder_name
from resnet_cli.sources.places import find_labelled_image, is_missing, parts_below, place_of
from resnet_cli.sources.truth import match_labels, read_labels
from resnet_cli.text import amount, first_few

Truth = Callable[[Item], int | None]
"""Returns the index of the true class of an image, or None if it is unknown."""

log = logging.getLogger("resnet_cli")


@dataclass(frozen=True, slots=True)
class SavedResults:
    """A file of results with its class names and manifest."""

    path: Path
    names: tuple[str, ...]  # of the classes, one per output
    base: Path  # folder that relative paths of its rows start from
    record: Mapping[str, Any] | None  # manifest of the run that wrote it

    @property
    def is_multi_label(self) -> bool:
        """True if the probabilities of a row do not sum to 1."""
        return bool((self.record or {}).get("multi_label"))

    def rows(self) -> Generator[Prediction]:
        """Yield the rows; those that hold every class get a distribution.

        Raises:
            InputError: an invalid row, or an index beyond the class names.
        """
        size = len(self.names)
        for row in read_results(self.path):
            beyond = [score.index for score in row.scores if not 0 <= score.index < size]
            if beyond:
                raise InputError(
                    f"cannot score {self.path}: {row.item.words} has index {beyond[0]}: the class "
                    f"names are {size}, for 0 to {size - 1}"
                )
            yield (
                replace(row, distribution=whole_distribution(row, size))
                if len(row.scores) == size
                else row
            )

    def place(self, path: str) -> str:
        """Return the place of an image, its folder without links; a link to a file stays."""
        if is_url(path):
            return place_of(path, str(self.base))
        seen = self.base / path
        return str(seen.parent.resolve() / seen.name)

    def identity(self, item: Item) -> tuple[str, str]:
        """Return what tells an image from others, wherever its path starts from."""
        return self.place(item.path), item.part

    def from_here(self, item: Item) -> Item:
        """Return an item with the path by which it opens from the current folder."""
        if self.base.resolve() == Path.cwd() or (
            not is_url(item.path) and Path(item.path).is_absolute()
        ):
            return item
        place = self.place(item.path)
        return replace(item, path=place if is_url(place) else os.path.relpath(place))

    def present(self, truth: "Truth") -> set[int]:
        """Return the indices of the classes that have images."""
        return {index for row in read_results(self.path) if (index := truth(row.item)) is not None}


def whole_distribution(row: Prediction, size: int) -> Distribution:
    """Return the probabilities [size] of a row that holds every class."""
    distribution = np.zeros(size, np.float32)
    for score in row.scores:
        distribution[score.index] = score.prob
    return distribution


def evaluate_predictions(
    results: str | Path,
    folder: str | Path | None = None,
    options: EvaluateOptions | None = None,
    *,
    classes: Sequence[str] | str | Path | None = None,
    files: RowFiles | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Compute the metrics of rows that ``predict`` has saved; no network runs.

    Metrics that the rows do not hold are None: the loss of rows without every class, say.

    Args:
        results: .csv, .jsonl, .json or .parquet file of ``predict``.
        folder: holds a folder for each class; None takes the folder of each image as its class.
        options: ``labels``, ``threshold``, ``topk`` and ``workers`` apply; None takes the defaults.
        classes: class names, or a file of them; None takes those of the manifest beside the file.
        files: that get a row or a thumbnail of each image; thumbnails read the images again.
        progress: called with the rows done so far.

    Raises:
        InputError: rows or class names that cannot be read, or labels that match no class.
        OptionError: an option that needs the images themselves.
        OutputError: a file that cannot be written.
    """
    options, files = options or EvaluateOptions(), files or RowFiles()
    if options.find.exclude or options.find.hidden:
        raise OptionError("saved rows are scored as they are: leave exclude and hidden out")
    check_files(files)
    saved = open_saved(Path(results), None if classes is None else read_given(classes)[0])
    log.info("%s classes: %s", f"{len(saved.names):,}", first_few(saved.names))
    truth = find_truth(saved, folder, options)
    evaluation = score_rows(saved, truth, options, files, progress)
    log_missing_metrics(saved, evaluation)
    return EvaluationResult(evaluation=evaluation, caption=saved.path.name, run=saved.record)


def find_truth(saved: SavedResults, given: str | Path | None, options: EvaluateOptions) -> Truth:
    """Return the function that looks up true classes, and log the notes.

    Raises:
        InputError: labels that match no class.
    """
    if options.labels is not None:
        truth, notes = truth_by_table(saved, Path(options.labels), given)
    elif given is None or is_folder(str(given)):
        truth, notes = truth_by_folder(saved, given)
    else:
        truth, notes = truth_by_source(saved, str(given), options)
    for note in notes:
        log.info(note)
    return truth


def is_folder(given: str) -> bool:
    """Return True for a folder or a prefix of URLs, which need not exist any more."""
    return is_missing(given) or Path(given).is_dir() or (is_url(given) and given.endswith("/"))


def log_missing_metrics(saved: SavedResults, evaluation: Evaluation) -> None:
    """Log why some metrics are missing."""
    if saved.is_multi_label:
        log.info(MULTI_LABEL)
    elif evaluation.images and evaluation.loss is None:
        top5 = ", top-5" if evaluation.top5 is None and len(saved.names) > TOP else ""
        log.info("the rows do not hold every class (-k): no loss, no temperature%s", top5)


def score_rows(
    saved: SavedResults,
    truth: Truth,
    options: EvaluateOptions,
    files: RowFiles,
    progress: Progress | None,
) -> Evaluation:
    """Fold the rows whose class is known into metrics, and log how many are left out."""
    scorecard = Scorecard(
        saved.names,
        threshold=options.threshold,
        present=saved.present(truth),
        multi_label=saved.is_multi_label,
    )
    layout = lay_out_saved(saved, truth, options, files, scorecard)
    source = rows_of(saved, options, files)
    unknown = unseen = 0
    with open_rows(files, saved.names, layout) as rows, closing(source):
        for done, row in enumerate(source, start=1):
            index = truth(row.item)
            if progress is not None:
                progress(done, None)
            if index is None:
                unknown += 1
                continue
            unseen += row.thumbnail is None and row.error is None
            scorecard.add(row, index)
            shown = replace(row, item=saved.from_here(row.item)) if rows.drawings else None
            rows.add(row, index, shown)
    if unseen and files.want_thumbnails:
        log.warning("%s not shown: missing by now, or unreadable", amount(unseen, "image"))
    if unknown:
        log.info("%s rows without a class are left out", f"{unknown:,}")
    return scorecard.evaluation()


def rows_of(
    saved: SavedResults, options: EvaluateOptions, files: RowFiles
) -> Generator[Prediction]:
    """Return the saved rows, with thumbnails if an output shows them."""
    if not files.want_thumbnails:
        return saved.rows()
    return illustrate_rows(saved.rows(), saved.from_here, options)


def lay_out_saved(
    saved: SavedResults,
    truth: Truth,
    options: EvaluateOptions,
    files: RowFiles,
    scorecard: Scorecard,
) -> WriterOptions:
    """Return the layout of reports and grids of saved rows, with the truth of each image."""

    def label(item: Item) -> str | None:
        index = truth(from_root(item))
        return None if index is None else saved.names[index]

    record = {**(saved.record or {}), "classes": list(saved.names)}
    return replace(
        files.layout(min(options.topk, len(saved.names))),
        caption=saved.path.name,
        truth=label,
        record=with_shares(lambda: record, scorecard),
        parts=bool(files.mistakes) and any(row.part for row in read_results(saved.path)),
    )


def open_saved(path: Path, names: Sequence[str] | None) -> SavedResults:
    """Open a file of results with the manifest beside it.

    Args:
        path: of the file.
        names: of the classes; None takes those of the manifest.

    Raises:
        InputError: no class names, or a manifest that is not valid JSON.
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
            f"cannot name the classes of {path}: {beside} is missing or has no classes: "
            "give --classes"
        )
    base = known.get("folder") or Path.cwd()
    return SavedResults(path, tuple(names or known["classes"]), Path(base), known or None)


def truth_by_table(
    saved: SavedResults, table: Path, folder: str | Path | None
) -> tuple[Truth, list[str]]:
    """Look up true classes in a table of labels.

    Returns:
        The function that does so, and notes on matches that are not exact.

    Raises:
        InputError: the table cannot be read, or a label matches no class.
    """
    rows = read_labels(table)
    labels = [row.label for row in rows if row.label is not None]
    index, notes = match_labels(str(table), labels, saved.names)
    known = {
        saved.identity(
            from_root(Item(find_labelled_image(row.path, str(folder or ".")), row.part))
        ): class_index_of(row, index, len(saved.names), table)
        for row in rows
    }

    def truth(item: Item) -> int | None:
        place, part = saved.identity(item)
        return known.get((place, part), known.get((place, "")))

    return truth, notes


def truth_by_source(
    saved: SavedResults, given: str, options: EvaluateOptions
) -> tuple[Truth, list[str]]:
    """Take true classes from an INPUT that holds images and states their classes.

    Returns:
        The function that looks them up, and notes on matches that are not exact.

    Raises:
        InputError: no images, or labels that match no class.
    """
    dataset = label_by_folder(given, saved.names, options.find, saved=True)
    known = {saved.identity(from_root(item)): item.truth for item in dataset.items}
    return lambda item: known.get(saved.identity(item)), list(dataset.notes)


def from_root(item: Item) -> Item:
    """Return an item with the place of its image as its path."""
    return replace(item, path=place_of(item.path))


def truth_by_folder(saved: SavedResults, folder: str | Path | None) -> tuple[Truth, list[str]]:
    """Take true classes from folders: the first below ``folder``, or the one of the image.

    Returns:
        The function that does so, and notes on matches that are not exact.

    Raises:
        InputError: no image is below ``folder``, or a folder matches no class.
    """
    top = None if folder is None else str(folder)
    if top is not None and not is_url(top):
        top = str(Path(top).resolve())

    def name(item: Item) -> str | None:
        seen = replace(item, path=saved.place(item.path))
        if top is None:
            return folder_name(seen)
        parts = parts_below(seen, top)
        return parts[0] if len(parts) > 1 else None

    folders = dict.fromkeys(name(row.item) for row in read_results(saved.path))
    labels = [label for label in folders if label is not None]
    if not labels:
        raise InputError(f"cannot score {saved.path}: none of its images is in a folder in {top}")
    index, notes = match_labels(f"the folders in {saved.path}", labels, saved.names)

    def truth(item: Item) -> int | None:
        label = name(item)
        return None if label is None else index[label]

    return truth, notes


def illustrate_rows(
    rows: Iterable[Prediction], here: Callable[[Item], Item], options: EvaluateOptions
) -> Generator[Prediction]:
    """Yield rows with thumbnails, or without one where the image can no longer be read.

    Args:
        rows: of readable and unreadable images.
        here: returns an item as it opens from the current folder.
        options: workers, and where images are in tables.
    """
    decode, budget = Decoder(), MemoryBudget()

    def shown(row: Prediction) -> Prediction:
        if row.error is not None:
            return row
        with closing(Reservation(budget)) as reserved:
            try:
                image = decode(reopen(here(row.item), options.find).source, reserved)
                return replace(row, thumbnail=thumbnail(image, THUMBNAIL_SIDE))
            except (ImageError, InputError):
                return row

    return map_ordered(rows, shown, workers=options.threads)
