"""One run of ``evaluate``: figures to stdout and files, progress and notes to stderr."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from time import perf_counter
from typing import Any

from resnet_cli.classifier import Classifier
from resnet_cli.cli.figures import Files, print_lines
from resnet_cli.cli.run import (
    describe_classifier,
    report_run,
    saying_how_far,
    verify_first,
)
from resnet_cli.cli.terminal import print_note, print_on_stderr, progress_bar
from resnet_cli.evaluate import Evaluation, Scorecard
from resnet_cli.evaluate.audit import Finding, audit_preprocessing, sample_places
from resnet_cli.evaluate.dataset import Dataset, by_folder, by_table
from resnet_cli.evaluate.formats import evaluation_json, mistakes_writer
from resnet_cli.evaluate.text import audit_lines, audit_verdict, evaluation_lines, shares_line
from resnet_cli.evaluate.trials import list_trials
from resnet_cli.records import Prediction
from resnet_cli.results import Write, WriterOptions, naming_output, open_writer
from resnet_cli.results.short_names import names_for
from resnet_cli.run import pin_inputs
from resnet_cli.run.manifest import Record
from resnet_cli.run.tally import Tally
from resnet_cli.sources.folders import Sieve
from resnet_cli.system import available_cores

ONE_OF_SEVERAL = (
    "multi-label: an image counts as right where the likeliest label is its class; no loss and no "
    "calibration, as its other labels are unknown"
)

MOST_TOLD = 10  # pictures that cannot be read, each in a line; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """What the options say."""

    folder: str | None
    labels: Path | None
    exclude: tuple[str, ...]
    hidden: bool
    stdout_format: str  # text or json
    topk: int
    threshold: float | None
    batch_size: int | None
    workers: int | None
    progress: str
    report_limit: int
    grid_size: tuple[int, int]  # rows and columns of a page
    on_error: str  # skip or fail
    verify: int  # images to compare against plain fp32 on the CPU first
    audit_images: int  # 0 for no audit


def find_labelled(settings: EvaluationSettings, names: Sequence[str]) -> Dataset:
    """The pictures and their true classes."""
    folder = settings.folder or "."
    sieve = Sieve(settings.hidden, settings.exclude)
    if settings.labels is not None:
        return by_table(settings.labels, folder, names, sieve)
    return by_folder(folder, names, sieve)


def score_checkpoint(
    classifiers: Sequence[Classifier], files: Files, settings: EvaluationSettings
) -> int:
    """Evaluate one checkpoint.

    Returns:
        How many images could not be read.
    """
    (classifier,) = classifiers
    describe_classifier(classifier)
    dataset = find_labelled(settings, classifier.class_names)
    for sentence in dataset.notes:
        print_note(sentence)
    if classifier.checkpoint.is_multi_label:
        print_note(ONE_OF_SEVERAL)
    if settings.verify:
        verify_first(classifier, dataset.inputs, settings.verify)
    begin = perf_counter()
    findings = run_audit(classifier, dataset, settings) if settings.audit_images else []
    audit_seconds = perf_counter() - begin
    if findings and settings.stdout_format == "text":
        print_lines([*audit_lines(findings), ""])
    evaluation, record = score_images(classifier, dataset, files, settings)
    if findings:
        say_times(audit_seconds, record.seconds)
    figures = {
        **evaluation.record(),
        "audit": [asdict(finding) for finding in findings] or None,
        "run": count_scored(record(), evaluation),
    }
    publish_figures(evaluation, figures, files, settings, make_caption(classifier, settings))
    if findings and any(finding.better for finding in findings):
        print_note(audit_verdict(findings), "Warning")
    return evaluation.errors


def count_scored(record: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The record of a run whose ``images`` are those that were scored, as in the figures."""
    return {**record, "counts": {**record["counts"], "images": evaluation.images}}


def say_times(audit_seconds: float, evaluation_seconds: float) -> None:
    """Say how long each part of a run with an audit took."""
    print_on_stderr(
        f"{audit_seconds + evaluation_seconds:.2f} s in all: audit {audit_seconds:.2f} s, "
        f"evaluation {evaluation_seconds:.2f} s"
    )


def make_caption(classifier: Classifier, settings: EvaluationSettings) -> str:
    """What made a picture."""
    return "  ·  ".join(
        [classifier.checkpoint.path.name, classifier.checkpoint.model, str(settings.folder)]
    )


def publish_figures(
    evaluation: Evaluation,
    figures: Mapping[str, Any],
    files: Files,
    settings: EvaluationSettings,
    caption: str,
) -> None:
    """Print the figures and write the files."""
    if settings.stdout_format == "json":
        print_lines([evaluation_json(figures).rstrip("\n")])
    else:
        print_lines(evaluation_lines(evaluation, get_terminal_size().columns))
    files.write(evaluation, figures, caption)


def score_images(
    classifier: Classifier, dataset: Dataset, files: Files, settings: EvaluationSettings
) -> tuple[Evaluation, Record]:
    """Run the network over all pictures."""
    classifier.checkpoint.release()
    names = classifier.class_names
    threads = settings.workers or available_cores()
    tally = Tally(threads, on_cpu=classifier.backend.device.type == "cpu")
    record = Record(classifier, tally, settings.topk, settings.threshold)
    scorecard = Scorecard(
        names,
        threshold=settings.threshold,
        present=dataset.present,
        multi_label=classifier.checkpoint.is_multi_label,
    )
    total = len(dataset.paths)
    predictions = classifier.predict(
        pin_inputs(dataset.inputs, record.inputs),
        topk=min(max(settings.topk, 5), len(names)),
        threshold=settings.threshold,
        batch_size=settings.batch_size,
        workers=threads,
        on_error=settings.on_error,
        thumbnails=files.want_thumbnails,
        distribution=True,
    )
    kept = f": {files.mistakes[0]} has the mistakes among them" if files.mistakes else ""
    with ExitStack() as stack:
        stack.enter_context(saying_how_far(tally, total, on=kept))
        options = replace(
            lay_out(names, files, settings, make_caption(classifier, settings)),
            truth=truth_of(dataset, names),
            name=names_for(dataset.paths),
            record=with_shares(record, scorecard),
        )
        writes = [*mistakes_of(names, files, stack), *drawings_of(files, options, stack)]
        bar = stack.enter_context(progress_bar(total, settings.progress))
        stack.enter_context(closing(predictions))
        for prediction, truth in zip(predictions, dataset.truths, strict=True):
            tally.add(prediction)
            if prediction.error is not None and tally.errors <= MOST_TOLD:
                print_note(f"could not read {prediction.path}: {prediction.error}", "Warning")
            scorecard.add(prediction, truth)
            for write_row in writes:
                write_row(prediction, truth)
            bar.update()
        record.finish()
    report_run(classifier, tally, record.seconds)
    return scorecard.evaluation(), record


def lay_out(
    names: Sequence[str], files: Files, settings: EvaluationSettings, caption: str
) -> WriterOptions:
    """How reports and grids are laid out."""
    return WriterOptions(
        min(settings.topk, len(names)),
        *settings.grid_size,
        caption,
        overwrite=files.overwrite,
        report_limit=settings.report_limit,
    )


def truth_of(dataset: Dataset, names: Sequence[str]) -> Callable[[Path], str | None]:
    """What tells the true label of an image of a dataset."""
    pairs = zip(dataset.paths, dataset.truths, strict=True)
    return {Path(path): names[truth] for path, truth in pairs}.get


def with_shares(
    record: Callable[[], Mapping[str, Any]], scorecard: Scorecard
) -> Callable[[], Mapping[str, Any]]:
    """What made the results, and how good they are so far."""
    return lambda: {**record(), "evaluation": shares_line(scorecard)}


def mistakes_of(
    names: Sequence[str], files: Files, stack: ExitStack
) -> Iterator[Callable[[Prediction, int], None]]:
    """Open the tables of mistakes for as long as the stack is."""
    for path in files.mistakes:
        with naming_output(path):
            write = stack.enter_context(
                mistakes_writer(path, names, overwrite=files.overwrite, dialect=files.dialect)
            )
        yield write


def drawings_of(
    files: Files, options: WriterOptions, stack: ExitStack
) -> Iterator[Callable[[Prediction, int], None]]:
    """Open what shows the images."""
    drawings = [open_writer(path, options) for path in files.illustrated]
    if files.show:
        from resnet_cli.results.grid import window_writer

        drawings.append(window_writer(options))
    for drawing in drawings:
        yield without_truth(stack.enter_context(drawing))


def without_truth(write: Write) -> Callable[[Prediction, int], None]:
    """A writer that knows the truth by itself."""
    return lambda prediction, _: write(prediction)


def run_audit(
    classifier: Classifier, dataset: Dataset, settings: EvaluationSettings
) -> list[Finding]:
    """Try other preprocessings on a sample."""
    places = sample_places(dataset.truths, settings.audit_images)
    total = len(places) * (1 + len(list_trials(classifier)))
    with progress_bar(total, settings.progress, what="audit") as bar:
        findings = audit_preprocessing(
            classifier,
            [dataset.paths[place] for place in places],
            [dataset.truths[place] for place in places],
            progress=bar.update,
            batch_size=settings.batch_size,
            workers=settings.workers,
        )
        return list(findings)
