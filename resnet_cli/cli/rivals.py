"""``resnet-cli evaluate -c A -c B``: several checkpoints on the same images."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.figures import Files, print_lines, write_text
from resnet_cli.cli.run import describe_classifier, verify_first
from resnet_cli.cli.scoring import (
    EvaluationSettings,
    find_labelled,
    lay_out,
    make_caption,
    truth_of,
    with_shares,
)
from resnet_cli.cli.terminal import print_note, progress_bar
from resnet_cli.errors import ImageError
from resnet_cli.evaluate import TOP, Scorecard
from resnet_cli.evaluate.compare import Comparison, Ledger, predict_all
from resnet_cli.evaluate.dataset import Dataset, UnmatchedError
from resnet_cli.evaluate.formats import evaluation_json
from resnet_cli.evaluate.text import comparison_lines
from resnet_cli.records import Prediction
from resnet_cli.results import Write, check_new, open_writer
from resnet_cli.results.grid import numbered_page
from resnet_cli.results.short_names import names_for
from resnet_cli.run.manifest import Record
from resnet_cli.run.tally import Tally
from resnet_cli.system import available_cores


def compare_checkpoints(
    classifiers: Sequence[Classifier], files: Files, settings: EvaluationSettings
) -> int:
    """Evaluate several checkpoints on the same images.

    Returns:
        How many images could not be read.
    """
    refuse_single_options(files, settings)
    if files.report is not None:
        for number in range(1, len(classifiers) + 1):
            check_new(numbered_page(files.report, number), overwrite=files.overwrite)
    for classifier in classifiers:
        describe_classifier(classifier)
    datasets = [labelled_for(classifier, settings) for classifier in classifiers]
    for sentence in dict.fromkeys(chain.from_iterable(each.notes for each in datasets)):
        print_note(sentence)
    for classifier in classifiers if settings.verify else ():
        verify_first(classifier, datasets[0].inputs, settings.verify)
    comparison = run_comparison(classifiers, datasets, files, settings)
    figures = comparison.record()
    for path in files.outputs:
        write_text(path, evaluation_json(figures))
    if settings.stdout_format == "json":
        print_lines([evaluation_json(figures).rstrip("\n")])
    else:
        print_lines(comparison_lines(comparison))
    return comparison.evaluations[0].errors


def labelled_for(classifier: Classifier, settings: EvaluationSettings) -> Dataset:
    """Find the images and their true classes among those of one of the checkpoints.

    Raises:
        UnmatchedError: names the checkpoint that lacks a class.
    """
    try:
        return find_labelled(settings, classifier.class_names)
    except UnmatchedError as error:
        raise UnmatchedError(f"{classifier.checkpoint.path}: {error}") from error


def refuse_single_options(files: Files, settings: EvaluationSettings) -> None:
    """Refuse what only one checkpoint has.

    Raises:
        UsageError: names it.
    """
    for_one = {"confusion": files.confusion, "calibration": files.calibration,
               "mistakes": files.mistakes, "grid": files.grids, "show": files.show}  # fmt: skip
    given = [f"--{name}" for name, value in for_one.items() if value]
    given += ["--audit"] if settings.audit_images else []
    given += [f"-o {path}" for path in files.outputs if path.suffix.lower() != ".json"]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: for one checkpoint at a time; several are compared on stdout and "
            "in -o FILE.json, and have a report each by --report"
        )


def run_comparison(
    classifiers: Sequence[Classifier],
    datasets: Sequence[Dataset],
    files: Files,
    settings: EvaluationSettings,
) -> Comparison:
    """Run all networks over all images.

    Raises:
        ImageError: one cannot be read, and the run is to stop there.
    """
    for classifier in classifiers:
        classifier.checkpoint.release()
    ledger = Ledger(
        classifiers,
        threshold=settings.threshold,
        present=[dataset.present for dataset in datasets],
    )
    rows = predict_all(
        classifiers,
        datasets[0].inputs,
        batch_size=settings.batch_size,
        workers=settings.workers,
        topk=max(settings.topk, TOP),
        thumbnails=files.report is not None,
    )
    truths = zip(*(dataset.truths for dataset in datasets), strict=True)
    with ExitStack() as stack:
        reports = [
            Report.open(numbered_page(files.report, number), *each, files, settings, stack)
            for number, each in enumerate(
                zip(classifiers, datasets, ledger.scorecards, strict=True), start=1
            )
            if files.report is not None
        ]
        bar = stack.enter_context(progress_bar(len(datasets[0].paths), settings.progress))
        stack.enter_context(closing(rows))
        for predictions, indices in zip(rows, truths, strict=True):
            ledger.add(predictions, indices)
            for report, prediction in zip(reports, predictions, strict=bool(reports)):
                report.add(replace(prediction, thumbnail=predictions[0].thumbnail))
            bar.update()
            if predictions[0].error is not None and settings.on_error == "fail":
                raise ImageError(f"stopped at {predictions[0].path}: {predictions[0].error}")
        for report in reports:
            report.record.finish()
    return ledger.comparison()


@dataclass(frozen=True, slots=True)
class Report:
    """The report of one of several checkpoints."""

    record: Record
    write: Write

    @classmethod
    def open(
        cls,
        path: Path,
        classifier: Classifier,
        dataset: Dataset,
        scorecard: Scorecard,
        files: Files,
        settings: EvaluationSettings,
        stack: ExitStack,
    ) -> Self:
        """Begin a report."""
        names = classifier.class_names
        on_cpu = classifier.runtime.on_workers_cores
        tally = Tally(settings.workers or available_cores(), on_cpu=on_cpu)
        record = Record(classifier, tally, settings.topk, settings.threshold)
        options = replace(
            lay_out(names, files, settings, make_caption(classifier, settings)),
            truth=truth_of(dataset, names),
            name=names_for(dataset.paths),
            record=with_shares(record, scorecard),
        )
        return cls(record, stack.enter_context(open_writer(path, options)))

    def add(self, prediction: Prediction) -> None:
        """Add an image."""
        self.record.tally.add(prediction)
        self.write(prediction)
