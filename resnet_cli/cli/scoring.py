"""One run of ``evaluate``: call the library, print metrics, draw progress."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from time import perf_counter

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.loading import LoadAll
from resnet_cli.cli.options import refuse_checkpoints
from resnet_cli.cli.process import echo
from resnet_cli.cli.run import describe_classifier, report_run
from resnet_cli.cli.terminal import bar_wanted, draw_progress, print_note, print_on_stderr
from resnet_cli.evaluate import (
    EvaluateOptions,
    EvaluationResult,
    evaluate_classifier,
    open_labelled,
)
from resnet_cli.evaluate.audit import Finding, audit_preprocessing
from resnet_cli.evaluate.compare import check_report_files, compare_classifiers, open_datasets
from resnet_cli.evaluate.dataset import Dataset
from resnet_cli.evaluate.outputs import RowFiles, check_files, evaluation_json
from resnet_cli.evaluate.saved import evaluate_predictions
from resnet_cli.evaluate.text import (
    audit_lines,
    audit_verdict,
    comparison_lines,
    evaluation_lines,
)
from resnet_cli.files import naming_output
from resnet_cli.run.verify import verify_first


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    folder: str | None
    options: EvaluateOptions
    rows: RowFiles
    metrics: tuple[Path, ...]
    confusion: tuple[Path, ...]
    calibration: tuple[Path, ...]
    audit_images: int  # 0 for no audit
    verify: int  # images to compare against plain fp32 on the CPU first
    stdout_format: str  # text or json
    progress: str

    def check(self, *, quiet: bool) -> None:
        """Refuse outputs that could not be written, and a run without any output.

        Raises:
            UserError: names the file.
            UsageError: nothing would be written.
        """
        drawings = self.confusion + self.calibration
        if quiet and not (
            self.metrics or drawings or self.rows.mistakes or self.rows.want_thumbnails
        ):
            raise click.UsageError("--quiet leaves no output: name a file with -o")
        check_files(self.rows, metrics=self.metrics, drawings=drawings)


def evaluate_checkpoints(load: LoadAll, request: Request) -> int:
    """Evaluate one checkpoint, or compare several, and report.

    Returns:
        The number of images that could not be read.
    """
    if request.folder is None:
        raise click.UsageError("Missing argument 'INPUT': a folder of labelled images.")
    refuse_checkpoints([request.folder])
    classifiers = load(progress=bar_wanted(request.progress))
    if len(classifiers) > 1:
        refuse_for_several(request)
    for classifier in classifiers:
        describe_classifier(classifier)
    if len(classifiers) > 1:
        return report_comparison(classifiers, request.folder, request)
    return report_evaluation(classifiers[0], request.folder, request)


def report_evaluation(classifier: Classifier, folder: str, request: Request) -> int:
    """Evaluate one checkpoint, print its metrics and write the files.

    Returns:
        The number of images that could not be read.
    """
    dataset = open_labelled(folder, classifier, request.options)
    if request.verify:
        verify_first(classifier, dataset.inputs, request.verify)
    begin = perf_counter()
    findings = report_audit(classifier, dataset, request) if request.audit_images else []
    audit_seconds = perf_counter() - begin
    classifier.checkpoint.release()
    with draw_progress(len(dataset.items), request.progress) as progress:
        result = evaluate_classifier(
            classifier, dataset, request.options, files=request.rows, progress=progress
        )
    if result.tally is not None:
        report_run(classifier, result.tally, result.seconds)
    if findings:
        report_times(audit_seconds, result.seconds)
    publish(replace(result, audit=tuple(findings)), request)
    if any(finding.better for finding in findings):
        print_note(audit_verdict(findings), "Warning")
    return result.evaluation.errors


def report_audit(classifier: Classifier, dataset: Dataset, request: Request) -> list[Finding]:
    """Audit the preprocessing on a sample, and print the findings."""
    with draw_progress(None, request.progress, what="audit") as progress:
        findings = audit_preprocessing(
            classifier,
            dataset,
            images=request.audit_images,
            batch_size=request.options.batch_size,
            workers=request.options.workers,
            progress=progress,
        )
    if request.stdout_format == "text":
        print_lines([*audit_lines(findings), ""])
    return findings


def report_times(audit_seconds: float, evaluation_seconds: float) -> None:
    """Say how long the audit and the evaluation took."""
    print_on_stderr(
        f"{audit_seconds + evaluation_seconds:.2f} s in all: audit {audit_seconds:.2f} s, "
        f"evaluation {evaluation_seconds:.2f} s"
    )


def report_comparison(classifiers: Sequence[Classifier], folder: str, request: Request) -> int:
    """Compare several checkpoints, print their metrics and write the files.

    Returns:
        The number of images that could not be read.
    """
    check_report_files(request.rows, len(classifiers))
    datasets = open_datasets(classifiers, folder, request.options)
    for classifier in classifiers if request.verify else ():
        verify_first(classifier, datasets[0].inputs, request.verify)
    for classifier in classifiers:
        classifier.checkpoint.release()
    with draw_progress(len(datasets[0].items), request.progress) as progress:
        comparison = compare_classifiers(
            classifiers, datasets, request.options, files=request.rows, progress=progress
        )
    for path in request.metrics:
        comparison.save(path, overwrite=request.rows.output.overwrite)
    if request.stdout_format == "json":
        print_lines([evaluation_json(comparison.record()).rstrip("\n")])
    else:
        print_lines(comparison_lines(comparison))
    return comparison.evaluations[0].errors


def refuse_for_several(request: Request) -> None:
    """Refuse outputs that only one checkpoint has.

    Raises:
        UsageError: names them.
    """
    rows = request.rows
    single = {"confusion": request.confusion, "calibration": request.calibration,
              "mistakes": rows.mistakes, "grid": rows.grids, "show": rows.show,
              "audit": request.audit_images}  # fmt: skip
    given = [f"--{name}" for name, value in single.items() if value]
    given += [f"-o {path}" for path in request.metrics if path.suffix.lower() != ".json"]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: for one checkpoint at a time; several are compared on stdout and "
            "in -o FILE.json, and have a report each by --report"
        )


def evaluate_saved(predictions: Path, request: Request) -> int:
    """Evaluate saved rows, print their metrics and write the files.

    Returns:
        The number of images that could not be read.
    """
    classes = refuse_for_saved(request)
    with draw_progress(None, request.progress) as progress:
        result = evaluate_predictions(
            predictions, request.folder, request.options, classes=classes, files=request.rows,
            progress=progress,
        )  # fmt: skip
    publish(result, request)
    return result.evaluation.errors


def refuse_for_saved(request: Request) -> str | None:
    """Refuse options that need a network or the images themselves.

    Returns:
        The class names that were given, if any.

    Raises:
        UsageError: names the options.
    """
    context = click.get_current_context()
    if context.get_parameter_source("checkpoint") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--predictions runs no network: leave -c out")
    classes: tuple[str, ...] = context.params["classes"]
    if len(classes) > 1:
        raise click.UsageError("--classes once: the rows are those of one checkpoint")
    refused = {
        "--audit": request.audit_images, "--verify": request.verify,
        "--exclude": request.options.find.exclude, "--hidden": request.options.find.hidden,
    }  # fmt: skip
    if given := [option for option, value in refused.items() if value]:
        raise click.UsageError(
            f"--predictions scores the rows of a file: leave {', '.join(given)} out"
        )
    return classes[0] if classes else None


def publish(result: EvaluationResult, request: Request) -> None:
    """Print the metrics of one checkpoint and write its tables and drawings."""
    if request.stdout_format == "json":
        print_lines([evaluation_json(result.record()).rstrip("\n")])
    else:
        print_lines(evaluation_lines(result.evaluation, get_terminal_size().columns))
    overwrite, dialect = request.rows.output.overwrite, request.rows.output.csv_dialect
    for path in request.metrics:
        result.save(path, overwrite=overwrite, dialect=dialect)
    for path in request.confusion:
        result.save_confusion(path, overwrite=overwrite, dialect=dialect)
    for path in request.calibration:
        result.save_calibration(path, overwrite=overwrite, dialect=dialect)


def print_lines(lines: Iterable[str]) -> None:
    """Print results on stdout."""
    with naming_output("standard output"):
        for line in lines:
            echo(line)
