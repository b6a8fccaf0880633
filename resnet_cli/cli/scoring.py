"""One run of ``evaluate``: figures to stdout and files, progress and notes to stderr."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import get_terminal_size
from time import perf_counter
from typing import Any

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.record import Record
from resnet_cli.cli.run import describe, report
from resnet_cli.cli.terminal import note, progress_bar
from resnet_cli.devices import available_cores
from resnet_cli.errors import OutputError
from resnet_cli.evaluate import Evaluation, Scorecard
from resnet_cli.evaluate.audit import Finding, audit, sample, trials
from resnet_cli.evaluate.dataset import Dataset, by_folder, by_table
from resnet_cli.evaluate.findings import audit_lines, audit_verdict
from resnet_cli.evaluate.formats import TABLES, as_csv, as_json
from resnet_cli.evaluate.mistakes import mistakes_writer
from resnet_cli.evaluate.text import text
from resnet_cli.inputs import Inputs
from resnet_cli.records import Prediction
from resnet_cli.tally import Tally
from resnet_cli.writers import Options, check_new, open_writer, saying

FIGURES, PICTURES = (".json", ".csv"), (".png", ".pdf", ".svg", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the figures go beside stdout."""

    outputs: tuple[Path, ...]
    confusion: tuple[Path, ...]
    calibration: tuple[Path, ...]
    mistakes: Path | None
    report: Path | None
    overwrite: bool

    def check(self) -> None:
        """Refuse, before any work is done, what could not be written at the end of it."""
        wanted = [
            *((path, FIGURES) for path in self.outputs),
            *((path, PICTURES) for path in self.confusion + self.calibration),
            (self.mistakes, (".csv",)),
            (self.report, (".html",)),
        ]
        taken: set[Path] = set()
        for path, suffixes in wanted:
            if path is None:
                continue
            if path.suffix.lower() not in suffixes:
                raise OutputError(
                    f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}"
                )
            if path.resolve() in taken:
                raise OutputError(f"cannot write {path} twice: name each output once")
            taken.add(path.resolve())
            check_new(path, overwrite=self.overwrite)

    def write(self, evaluation: Evaluation, record: Mapping[str, Any], caption: str) -> None:
        """Write figures, tables and pictures."""
        for path in self.outputs:
            is_json = path.suffix.lower() == ".json"
            write(path, as_json(record) if is_json else as_csv(evaluation))
        if not evaluation.images:
            return
        drawn = {"confusion": self.confusion, "calibration": self.calibration}
        for name, paths in drawn.items():
            for path in paths:
                draw(name, path, evaluation, caption)


def draw(name: str, path: Path, evaluation: Evaluation, caption: str) -> None:
    """Write one picture, or its numbers."""
    if path.suffix.lower() == ".csv":
        write(path, TABLES[name](evaluation))
        return
    from resnet_cli.evaluate.plots import PLOTS, save

    with saying(path):
        save(PLOTS[name](evaluation, caption), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options say."""

    folder: str | None
    labels: Path | None
    stdout_format: str  # text or json
    topk: int
    threshold: float
    batch_size: int | None
    workers: int | None
    progress: str
    report_limit: int
    audit_images: int  # 0 for no audit


def write(path: Path, words: str) -> None:
    """Write a text, whole."""
    with saying(path):
        path.write_text(words, encoding="utf-8", errors="backslashreplace")


def show(lines: Iterable[str]) -> None:
    """Print results."""
    with saying("standard output"):
        for line in lines:
            click.echo(line)


def labelled(settings: Settings, names: Sequence[str]) -> Dataset:
    """The pictures and their true classes."""
    folder = settings.folder or "."
    if settings.labels is not None:
        return by_table(settings.labels, folder, names)
    return by_folder(folder, names)


def score(classifiers: Sequence[Classifier], files: Files, settings: Settings) -> int:
    """Evaluate one checkpoint.

    Returns:
        How many images could not be read.
    """
    (classifier,) = classifiers
    describe(classifier)
    dataset = labelled(settings, classifier.class_names)
    for sentence in dataset.notes:
        note(sentence)
    findings = audited(classifier, dataset, settings) if settings.audit_images else []
    if findings and settings.stdout_format == "text":
        show([*audit_lines(findings), ""])
    evaluation, record = scored(classifier, dataset, files, settings)
    figures = {
        **evaluation.record(),
        "audit": [asdict(finding) for finding in findings] or None,
        "run": record(),
    }
    publish(evaluation, figures, files, settings, caption(classifier, settings))
    if findings and any(finding.better for finding in findings):
        note(audit_verdict(findings), "Warning")
    return evaluation.errors


def caption(classifier: Classifier, settings: Settings) -> str:
    """What made a picture."""
    return "  ·  ".join(
        [classifier.checkpoint.path.name, classifier.checkpoint.model, str(settings.folder)]
    )


def publish(
    evaluation: Evaluation,
    figures: Mapping[str, Any],
    files: Files,
    settings: Settings,
    caption: str,
) -> None:
    """Print the figures and write the files."""
    if settings.stdout_format == "json":
        show([as_json(figures).rstrip("\n")])
    else:
        show(text(evaluation, get_terminal_size().columns))
    files.write(evaluation, figures, caption)


def scored(
    classifier: Classifier, dataset: Dataset, files: Files, settings: Settings
) -> tuple[Evaluation, Record]:
    """Run the network over all pictures."""
    names = classifier.class_names
    threads = settings.workers or available_cores()
    tally = Tally(threads, on_cpu=classifier.backend.device.type == "cpu")
    record = Record(classifier, tally, settings.topk, settings.threshold)
    scorecard = Scorecard(names, threshold=settings.threshold)
    total = len(dataset.paths)
    predictions = classifier.predict(
        Inputs(dataset.paths, total, 0),
        topk=min(max(settings.topk, 5), len(names)),
        threshold=settings.threshold,
        batch_size=settings.batch_size,
        workers=threads,
        thumbnails=files.report is not None,
        distribution=True,
    )
    begun = perf_counter()
    with ExitStack() as stack:
        writes = list(writers(dataset, files, settings, record, stack))
        bar = stack.enter_context(progress_bar(total, settings.progress))
        stack.enter_context(closing(predictions))
        for prediction, truth in zip(predictions, dataset.truths, strict=True):
            tally.add(prediction)
            scorecard.add(prediction, truth)
            for write_row in writes:
                write_row(prediction, truth)
            bar.update()
        record.status = "done"
    report(classifier, tally, perf_counter() - begun)
    return scorecard.evaluation(), record


def writers(
    dataset: Dataset, files: Files, settings: Settings, record: Record, stack: ExitStack
) -> Iterator[Callable[[Prediction, int], None]]:
    """Open what is written as the run goes."""
    names = record.classifier.class_names
    if files.mistakes is not None:
        with saying(files.mistakes):
            write_mistake = stack.enter_context(
                mistakes_writer(files.mistakes, names, overwrite=files.overwrite)
            )
        yield write_mistake
    if files.report is not None:
        truths = {
            Path(path): names[truth]
            for path, truth in zip(dataset.paths, dataset.truths, strict=True)
        }
        options = Options(
            min(settings.topk, len(names)),
            overwrite=files.overwrite,
            truth=truths.get,
            record=record,
            report_limit=settings.report_limit,
        )
        write_row = stack.enter_context(open_writer(files.report, options))
        yield lambda prediction, _: write_row(prediction)


def audited(classifier: Classifier, dataset: Dataset, settings: Settings) -> list[Finding]:
    """Try other preprocessings on a sample."""
    places = sample(dataset.truths, settings.audit_images)
    total = len(places) * (1 + len(trials(classifier)))
    with progress_bar(total, settings.progress) as bar:
        findings = audit(
            classifier,
            [dataset.paths[place] for place in places],
            [dataset.truths[place] for place in places],
            progress=bar.update,
            batch_size=settings.batch_size,
            workers=settings.workers,
        )
        return list(findings)
