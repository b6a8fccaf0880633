"""Labelled images, or saved results, and a checkpoint -> metrics, drawings and reports.

    from resnet_cli import Classifier, evaluate_classifier

    result = evaluate_classifier(Classifier.load("model.pth"), "val/")
    print(result.accuracy, result.loss)

``evaluate_classifier`` scores one checkpoint, ``compare.compare_classifiers`` several on the same
images, ``saved.evaluate_predictions`` rows that ``predict`` has saved; ``audit`` and ``order`` look
for wrong preprocessing and a wrong order of the class names.
"""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_cli.classifier import Classifier, PredictOptions
from resnet_cli.evaluate.audit import Finding
from resnet_cli.evaluate.dataset import Dataset, open_dataset, true_class
from resnet_cli.evaluate.metrics import ClassRow
from resnet_cli.evaluate.outputs import (
    METRICS,
    RowFiles,
    check_files,
    evaluation_csv,
    evaluation_json,
    open_rows,
    save_drawing,
    with_shares,
    write_new_text,
)
from resnet_cli.evaluate.scorecard import TOP, Evaluation, Scorecard
from resnet_cli.files import check_suffix
from resnet_cli.records import Prediction, Progress
from resnet_cli.results.options import COMMA, Dialect, WriterOptions, names_for
from resnet_cli.run.calibrate import calibrate_for_run
from resnet_cli.run.manifest import Record, pin_inputs
from resnet_cli.run.tally import Tally, note_interruption
from resnet_cli.sources import FindOptions

log = logging.getLogger("resnet_cli")

MULTI_LABEL = (
    "multi-label: an image counts as right where the likeliest label is its class; no loss and no "
    "calibration, as its other labels are unknown"
)

MOST_REPORTED = 10  # unreadable images logged one by one; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(PredictOptions):
    """Options of an evaluation: which images, and how they are classified.

    An image whose top probability is below ``threshold`` is not kept. The evaluation itself sets
    ``thumbnails`` and ``distribution``.

    Raises:
        OptionError: a value that is not possible.
    """

    topk: int = 5  # classes shown for an image in reports
    labels: str | Path | None = None  # table of labels; None takes the names of the folders
    find: FindOptions = field(default_factory=FindOptions)  # what to take of an INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """The metrics of one checkpoint on labelled images, and where they come from."""

    evaluation: Evaluation
    caption: str  # of drawings: checkpoint, architecture and folder
    run: Mapping[str, Any] | None  # manifest of the run; None of saved rows without one
    tally: Tally | None = None  # counts and times; None of saved rows
    seconds: float = 0.0  # duration of the run; 0 of saved rows
    audit: tuple[Finding, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy, 0 to 1; None without images."""
        return self.evaluation.accuracy

    @property
    def loss(self) -> float | None:
        """Mean negative log likelihood, in nats; None where the rows do not hold every class."""
        return self.evaluation.loss

    @property
    def per_class(self) -> tuple[ClassRow, ...]:
        """Precision, recall, F1 and support of each class, in the order of the outputs."""
        return self.evaluation.classes

    def record(self) -> dict[str, Any]:
        """Return every metric, the audit and the manifest of the run as plain data."""
        audit = [asdict(finding) for finding in self.audit]
        return {**self.evaluation.record(), "audit": audit or None, "run": self.run}

    def save(self, path: str | Path, *, overwrite: bool = False, dialect: Dialect = COMMA) -> None:
        """Write every metric as .json, or the metrics of each class as .csv.

        Raises:
            OutputError: another suffix, an existing file, or one that cannot be written.
        """
        path = Path(path)
        check_suffix(path, METRICS)
        is_json = path.suffix.lower() == ".json"
        text = (
            evaluation_json(self.record()) if is_json else evaluation_csv(self.evaluation, dialect)
        )
        write_new_text(path, text, overwrite=overwrite)

    def save_confusion(
        self, path: str | Path, *, overwrite: bool = False, dialect: Dialect = COMMA
    ) -> None:
        """Draw the confusion matrix as .png, .pdf or .svg, or write it whole as .csv.

        Without any scored image no file is written.

        Raises:
            OutputError: another suffix, an existing file, or one that cannot be written.
        """
        self.save_drawing("confusion", path, overwrite=overwrite, dialect=dialect)

    def save_calibration(
        self, path: str | Path, *, overwrite: bool = False, dialect: Dialect = COMMA
    ) -> None:
        """Draw the reliability diagram as .png, .pdf or .svg, or write its bins as .csv.

        Without any scored image no file is written.

        Raises:
            OutputError: another suffix, an existing file, or one that cannot be written.
        """
        self.save_drawing("calibration", path, overwrite=overwrite, dialect=dialect)

    def save_drawing(
        self, name: str, path: str | Path, *, overwrite: bool, dialect: Dialect
    ) -> None:
        """Write one drawing, or its numbers."""
        if self.evaluation.images:
            save_drawing(
                name,
                Path(path),
                self.evaluation,
                caption=self.caption,
                overwrite=overwrite,
                dialect=dialect,
            )


def evaluate_classifier(
    classifier: Classifier,
    data: Dataset | str | Path,
    options: EvaluateOptions | None = None,
    *,
    files: RowFiles | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Classify labelled images and compute every metric.

    Memory is bounded: predictions are folded into counts as they come.

    Args:
        classifier: ready to run.
        data: an INPUT with a folder for each class, or the images themselves.
        options: of the evaluation; None takes the defaults.
        files: that get a row or a thumbnail of each image during the run.
        progress: called with the images done so far and their number.

    Raises:
        InputError: no images, or labels that match no class.
        ImageError: an unreadable image, with ``on_error="fail"``.
        OutputError: a file that cannot be written.
    """
    options, files = options or EvaluateOptions(), files or RowFiles()
    check_files(files)
    dataset = open_labelled(data, classifier, options)
    if classifier.checkpoint.is_multi_label:
        log.info(MULTI_LABEL)
    classifier, _ = calibrate_for_run(classifier, dataset.inputs)
    return score_images(classifier, dataset, options, files, progress)


def open_labelled(
    data: Dataset | str | Path, classifier: Classifier, options: EvaluateOptions
) -> Dataset:
    """Return a dataset as given, or find the labelled images of a folder and log its notes.

    Raises:
        InputError: no images, or labels that match no class.
    """
    return open_dataset(
        data,
        classifier.class_names,
        labels=options.labels,
        find=options.find,
    )


def score_images(
    classifier: Classifier,
    dataset: Dataset,
    options: EvaluateOptions,
    files: RowFiles,
    progress: Progress | None,
) -> EvaluationResult:
    """Run the network over all images and fold its predictions into metrics."""
    record = start_record(classifier, options)
    scorecard = start_scorecard(classifier, dataset, options)
    layout = lay_out(classifier, dataset, options, files, with_shares(record, scorecard))
    predictions = predict_labelled(classifier, dataset, options, files, record)
    tally, total = record.tally, len(dataset.items)
    kept = f": {files.mistakes[0]} has the mistakes among them" if files.mistakes else ""
    with (
        note_interruption(tally, total, rest=kept),
        open_rows(files, classifier.class_names, layout) as rows,
        closing(predictions),
    ):
        for prediction in predictions:
            truth = true_class(prediction.item)
            tally.add(prediction)
            report_unreadable(prediction, tally)
            scorecard.add(prediction, truth)
            rows.add(prediction, truth)
            if progress is not None:
                progress(tally.images, total)
        record.finish()
    return finish_result(scorecard.evaluation(), layout.caption, record)


def predict_labelled(
    classifier: Classifier,
    dataset: Dataset,
    options: EvaluateOptions,
    files: RowFiles,
    record: Record,
) -> Generator[Prediction]:
    """Classify the images of a dataset with the probabilities of every class."""
    predict = replace(
        options,
        topk=max(options.topk, TOP),
        thumbnails=files.want_thumbnails,
        distribution=True,
    )
    return classifier.classify(pin_inputs(dataset.inputs, record.inputs), predict)


def start_record(classifier: Classifier, options: EvaluateOptions) -> Record:
    """Return the manifest of a run that begins now."""
    tally = Tally.of(classifier, options.threads)
    return Record(classifier, tally, options.topk, options.threshold)


def start_scorecard(
    classifier: Classifier, dataset: Dataset, options: EvaluateOptions
) -> Scorecard:
    """Return an empty scorecard for the predictions of a classifier."""
    return Scorecard(
        classifier.class_names,
        threshold=options.threshold,
        present=dataset.present,
        multi_label=classifier.checkpoint.is_multi_label,
    )


def lay_out(
    classifier: Classifier,
    dataset: Dataset,
    options: EvaluateOptions,
    files: RowFiles,
    record: Callable[[], Mapping[str, Any]],
) -> WriterOptions:
    """Return the layout of reports and grids, with the truth and a short name of each image."""
    names, checkpoint = classifier.class_names, classifier.checkpoint
    # not the truth of an item itself: of several checkpoints each numbers the classes by its list
    labels = {item.identity: names[true_class(item)] for item in dataset.items}
    return replace(
        files.layout(min(options.topk, len(names))),
        caption=f"{checkpoint.path.name}  ·  {checkpoint.model}  ·  {dataset.folder}",
        truth=lambda item: labels.get(item.identity),
        name=names_for(dataset.items),
        record=record,
        parts=any(item.part for item in dataset.items),
        boxes=any(item.detection for item in dataset.items),
    )


def report_unreadable(prediction: Prediction, tally: Tally) -> None:
    """Log an image that could not be read, unless many were logged before."""
    if prediction.error is not None and tally.errors <= MOST_REPORTED:
        log.warning("could not read %s: %s", prediction.item.words, prediction.error)


def finish_result(evaluation: Evaluation, caption: str, record: Record) -> EvaluationResult:
    """Return the result of a finished run; ``images`` in its manifest are the scored ones."""
    run = record()
    return EvaluationResult(
        evaluation=evaluation,
        caption=caption,
        run={**run, "counts": {**run["counts"], "images": evaluation.images}},
        tally=record.tally,
        seconds=record.seconds,
    )
