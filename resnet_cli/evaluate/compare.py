"""Compare classifiers on the same images, each decoded once for all of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from resnet_cli.classifier import Classifier
from resnet_cli.errors import ImageError, OptionError, OutputNameError
from resnet_cli.evaluate import EvaluateOptions, lay_out, start_record, start_scorecard
from resnet_cli.evaluate.dataset import Dataset, find_labelled
from resnet_cli.evaluate.metrics import Share, mcnemar_test, wilson_share
from resnet_cli.evaluate.outputs import (
    RowFiles,
    check_files,
    evaluation_json,
    with_shares,
    write_new_text,
)
from resnet_cli.evaluate.scorecard import TOP, Evaluation, Scorecard
from resnet_cli.evaluate.shared_decoding import predict_all
from resnet_cli.files import check_new, check_suffix
from resnet_cli.records import Prediction, Progress
from resnet_cli.results import open_writer
from resnet_cli.results.formats import numbered_page
from resnet_cli.results.options import Write
from resnet_cli.run.calibrate import calibrate_for_run
from resnet_cli.run.manifest import Record
from resnet_cli.sources.truth import Lookup, UnmatchedError

log = logging.getLogger("resnet_cli")

SURE = 0.05  # p above which a difference may be chance


@dataclass(frozen=True, slots=True)
class Pair:
    """Two checkpoints, by their positions in the list."""

    first: int
    second: int
    agree: Share  # images with the same predicted class name, right or wrong
    only_first: int  # images that only the first gets right
    only_second: int
    p: float  # probability of such a difference by chance: McNemar's exact test


@dataclass(frozen=True, slots=True)
class Comparison:
    """The metrics of several checkpoints on the same images."""

    checkpoints: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    pairs: tuple[Pair, ...]

    def record(self) -> dict[str, Any]:
        """Return every metric as plain data."""
        return {
            "checkpoints": [
                {"checkpoint": path, **evaluation.record()}
                for path, evaluation in zip(self.checkpoints, self.evaluations, strict=True)
            ],
            "pairs": [asdict(pair) for pair in self.pairs],
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write every metric as .json.

        Raises:
            OutputError: another suffix, an existing file, or one that cannot be written.
        """
        check_suffix(Path(path), (".json",))
        write_new_text(Path(path), evaluation_json(self.record()), overwrite=overwrite)


class Ledger:
    """A fold over the predictions of all checkpoints for an image."""

    def __init__(self, checkpoints: Sequence[str], scorecards: Sequence[Scorecard]) -> None:
        """Start with no image; each checkpoint has a path and an empty scorecard."""
        self.checkpoints, self.scorecards = tuple(checkpoints), scorecards
        self.common = common_numbers([scorecard.names for scorecard in scorecards])
        pairs = list(combinations(range(len(scorecards)), 2))
        self.agree = dict.fromkeys(pairs, 0)
        self.only_first, self.only_second = dict.fromkeys(pairs, 0), dict.fromkeys(pairs, 0)

    def add(self, predictions: Sequence[Prediction], truths: Sequence[int]) -> None:
        """Count one image.

        Args:
            predictions: of each checkpoint.
            truths: index of the true class among those of each checkpoint.
        """
        for scorecard, prediction, truth in zip(self.scorecards, predictions, truths, strict=True):
            scorecard.add(prediction, truth)
        answers = [prediction.index for prediction in predictions]
        said = [
            None if index is None else numbers[index]
            for numbers, index in zip(self.common, answers, strict=True)
        ]
        right = [index == truth for index, truth in zip(answers, truths, strict=True)]
        for first, second in self.agree:
            if said[first] is None or said[second] is None:
                continue
            self.agree[first, second] += said[first] == said[second]
            self.only_first[first, second] += right[first] and not right[second]
            self.only_second[first, second] += right[second] and not right[first]

    def comparison(self) -> Comparison:
        """Compute every metric."""
        images = self.scorecards[0].images
        pairs = (
            Pair(
                *pair,
                wilson_share(self.agree[pair], images),
                self.only_first[pair],
                self.only_second[pair],
                mcnemar_test(self.only_second[pair], self.only_first[pair]),
            )
            for pair in self.agree
        )
        evaluations = tuple(scorecard.evaluation() for scorecard in self.scorecards)
        return Comparison(self.checkpoints, evaluations, tuple(pairs))


def compare_classifiers(
    classifiers: Sequence[Classifier],
    data: str | Path | Sequence[Dataset],
    options: EvaluateOptions | None = None,
    *,
    files: RowFiles | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluate several classifiers on the same images, and compare each pair of them.

    Args:
        classifiers: two or more, ready to run.
        data: a folder with a folder for each class, or a dataset of the same images for each.
        options: of the evaluation; None takes the defaults.
        files: ``report`` names the reports: ``look.html`` gives ``look-1.html``, ``look-2.html``.
        progress: called with the images done so far and their number.

    Raises:
        InputError: no images, or labels that match no class of one of the checkpoints.
        ImageError: an unreadable image, with ``on_error="fail"``.
        OptionError: fewer than two classifiers.
        OutputError: a file that cannot be written.
    """
    if len(classifiers) < 2:
        raise OptionError(f"a comparison needs at least 2 classifiers, got {len(classifiers)}")
    options, files = options or EvaluateOptions(), files or RowFiles()
    check_report_files(files, len(classifiers))
    datasets = (
        open_datasets(classifiers, data, options) if isinstance(data, str | Path) else list(data)
    )
    ready = [
        calibrate_for_run(classifier, dataset.inputs)[0]
        for classifier, dataset in zip(classifiers, datasets, strict=True)
    ]
    return compare_predictions(ready, datasets, options, files, progress)


def check_report_files(files: RowFiles, count: int) -> None:
    """Refuse, before any image is read, reports that could not be written.

    Raises:
        OutputError: an existing file, a missing folder, or outputs of a single checkpoint.
    """
    if files.mistakes or files.grids or files.show:
        raise OutputNameError(
            "cannot write mistakes and grids of several checkpoints: only reports"
        )
    check_files(files)
    if files.report is not None:
        for number in range(1, count + 1):
            check_new(numbered_page(files.report, number), overwrite=files.output.overwrite)


def open_datasets(
    classifiers: Sequence[Classifier], folder: str | Path, options: EvaluateOptions
) -> list[Dataset]:
    """Find the labelled images of a folder for each classifier, and log the notes once.

    Raises:
        InputError: no images, or labels that match no class; names the checkpoint.
    """
    datasets = [find_for(classifier, folder, options) for classifier in classifiers]
    for note in dict.fromkeys(chain.from_iterable(dataset.notes for dataset in datasets)):
        log.info(note)
    return datasets


def find_for(classifier: Classifier, folder: str | Path, options: EvaluateOptions) -> Dataset:
    """Find the labelled images of a folder for one of several classifiers.

    Raises:
        UnmatchedError: names the checkpoint that lacks a class.
    """
    try:
        return find_labelled(
            folder,
            classifier.class_names,
            labels=options.labels,
            find=options.find,
        )
    except UnmatchedError as error:
        raise UnmatchedError(f"{classifier.checkpoint.path}: {error}") from error


def compare_predictions(
    classifiers: Sequence[Classifier],
    datasets: Sequence[Dataset],
    options: EvaluateOptions,
    files: RowFiles,
    progress: Progress | None,
) -> Comparison:
    """Run all networks over all images and fold their predictions into metrics.

    Raises:
        ImageError: an unreadable image, with ``on_error="fail"``.
    """
    total = len(datasets[0].items)
    runs = zip(classifiers, datasets, strict=True)
    ledger = Ledger(
        [str(classifier.checkpoint.path) for classifier in classifiers],
        [start_scorecard(classifier, dataset, options) for classifier, dataset in runs],
    )
    rows = predict_all(
        classifiers,
        datasets[0].inputs,
        batch_size=options.batch_size,
        workers=options.workers,
        topk=max(options.topk, TOP),
        thumbnails=files.want_thumbnails,
    )
    truths = zip(*(dataset.truths for dataset in datasets), strict=True)
    with ExitStack() as stack:
        reports = list(open_reports(classifiers, datasets, options, files, ledger, stack))
        stack.enter_context(closing(rows))
        for done, (predictions, indices) in enumerate(zip(rows, truths, strict=True), start=1):
            ledger.add(predictions, indices)
            for report, prediction in zip(reports, predictions, strict=bool(reports)):
                report.add(replace(prediction, thumbnail=predictions[0].thumbnail))
            if progress is not None:
                progress(done, total)
            if predictions[0].error is not None and options.on_error == "fail":
                words = predictions[0].item.words
                raise ImageError(f"stopped at {words}: {predictions[0].error}")
        for report in reports:
            report.record.finish()
    return ledger.comparison()


@dataclass(frozen=True, slots=True)
class Report:
    """The open report of one of several checkpoints."""

    record: Record
    write: Write

    def add(self, prediction: Prediction) -> None:
        """Add an image."""
        self.record.tally.add(prediction)
        self.write(prediction)


def open_reports(
    classifiers: Sequence[Classifier],
    datasets: Sequence[Dataset],
    options: EvaluateOptions,
    files: RowFiles,
    ledger: Ledger,
    stack: ExitStack,
) -> Iterator[Report]:
    """Open a report for each checkpoint, if one is wanted, for as long as ``stack`` is open."""
    if files.report is None:
        return
    runs = zip(classifiers, datasets, ledger.scorecards, strict=True)
    for number, (classifier, dataset, scorecard) in enumerate(runs, start=1):
        record = start_record(classifier, options)
        layout = lay_out(classifier, dataset, options, files, with_shares(record, scorecard))
        path = numbered_page(files.report, number)
        yield Report(record, stack.enter_context(open_writer(path, layout)))


def common_numbers(lists: Sequence[Sequence[str]]) -> list[list[int]]:
    """Number the classes of several lists, with the same number for the same name.

    Two classes of one name in the same list get different numbers.
    """
    numbers: list[list[int]] = []
    known: list[str] = []
    for names in lists:
        lookup = Lookup(known)
        mine: list[int] = []
        for name in names:
            found = [number for number in lookup.indices(name) if number not in mine]
            if not found:
                known = [*known, name]
            mine.append(found[0] if found else len(known) - 1)
        numbers.append(mine)
    return numbers
