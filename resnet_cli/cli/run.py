"""One run of ``predict``: results to stdout and files, a report of it to stderr."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from platform import python_version
from time import perf_counter
from typing import Any

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.terminal import above_the_bar, note, progress_bar, result_line
from resnet_cli.devices import available_cores, device_name
from resnet_cli.errors import UserError
from resnet_cli.inputs import Inputs
from resnet_cli.records import Prediction
from resnet_cli.tally import Tally
from resnet_cli.text import first_few
from resnet_cli.writers import ILLUSTRATED, Options, Write, open_writer, saying
from resnet_cli.writers.csv import csv_rows
from resnet_cli.writers.json import jsonl_rows
from resnet_cli.writers.manifest import write_manifest

TABLES = {"csv": (csv_rows, "surrogateescape"), "jsonl": (jsonl_rows, "backslashreplace")}
"""Formats of stdout that files have too: what writes a row, and how broken names are encoded."""

REPORT_CLASSES = 5  # of an image


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where the results of a run go."""

    files: tuple[Path, ...]  # of -o, each with its record beside it
    grids: tuple[Path, ...]
    show: bool
    stdout_format: str
    options: Options

    @property
    def want_thumbnails(self) -> bool:
        """Whether anything draws pictures."""
        return self.show or any(path.suffix.lower() in ILLUSTRATED for path in self.paths)

    def telling(self, record: Callable[[], Mapping[str, Any]]) -> "Destinations":
        """The same, where writers learn what made the results."""
        return replace(self, options=replace(self.options, record=record))

    @property
    def topk(self) -> int:
        """Classes of an image that any of them wants."""
        return max([self.options.topk, *(self.options_for(path).topk for path in self.files)])

    def options_for(self, path: Path) -> Options:
        """A report shows the next best classes, however few the tables hold."""
        if path.suffix.lower() != ".html":
            return self.options
        return replace(self.options, topk=max(self.options.topk, REPORT_CLASSES))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.files, *self.grids)

    @contextmanager
    def open(self, total: int | None) -> Iterator[Sequence[Write]]:
        """Open all of them."""
        with ExitStack() as stack:
            writes: list[Write] = [
                stack.enter_context(open_writer(path, self.options_for(path)))
                for path in self.paths
            ]
            if self.show:
                from resnet_cli.writers.window import window_writer

                writes.append(stack.enter_context(window_writer(self.options)))
            to_stdout = self.stdout(total)

            def write_or_say(prediction: Prediction) -> None:
                with saying("standard output"):
                    to_stdout(prediction.best(self.options.topk))

            yield [*writes, write_or_say]

    def stdout(self, total: int | None) -> Write:
        """What writes a result to stdout."""
        if self.stdout_format == "lines":
            return lines(total)
        rows, errors = TABLES[self.stdout_format]
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors=errors)
        return rows(sys.stdout, self.options)


def lines(total: int | None) -> Write:
    """A line for each image."""
    number = 0

    def write(prediction: Prediction) -> None:
        nonlocal number
        number += 1
        click.echo(result_line(prediction, number, total))

    return write


def run(
    classifier: Classifier,
    found: Inputs,
    destinations: Destinations,
    *,
    workers: int | None,
    progress: str,
    **settings: Any,
) -> Tally:
    """Classify the images that were found, and report on it.

    Args:
        classifier: loaded and ready.
        found: the images.
        destinations: where the results go.
        workers: threads; None takes all cores.
        progress: ``auto``, ``on`` or ``off``.
        settings: further arguments of ``Classifier.predict``.

    Returns:
        Counts and times.
    """
    threads = workers or available_cores()
    tally = Tally(threads, on_cpu=classifier.backend.device.type == "cpu")
    predictions = classifier.predict(
        found,
        topk=destinations.topk,
        workers=threads,
        thumbnails=destinations.want_thumbnails,
        **settings,
    )
    begun = perf_counter()
    record = Record(classifier, tally)
    with (
        recorded(destinations.files, record),
        destinations.telling(record).open(found.total) as writes,
        progress_bar(found.total, progress) as bar,
        closing(predictions),
    ):
        for prediction in predictions:
            tally.add(prediction)
            with above_the_bar():
                for write in writes:
                    write(prediction)
            bar.update()
        record.status = "done"
    report(classifier, tally, perf_counter() - begun)
    return tally


@dataclass
class Record:
    """What made the results, as far as it is known: what FILE.run.json and reports say."""

    classifier: Classifier
    tally: Tally
    status: str = "running"  # then done, or stopped
    begun: float = field(default_factory=perf_counter)
    started: str = field(default_factory=lambda: now())

    def __call__(self) -> dict[str, Any]:
        """The record as it is at this moment."""
        return {
            "status": self.status,
            "command": shlex.join(["resnet-cli", *sys.argv[1:]]),
            "folder": str(Path.cwd()),
            "started": self.started,
            "finished": None if self.status == "running" else now(),
            **self.settled,
            **self.tally.record(perf_counter() - self.begun),
        }

    @cached_property
    def settled(self) -> dict[str, Any]:
        """What does not change while the run goes on."""
        return {
            **self.classifier.record(),
            "versions": {
                "python": python_version(),
                **{
                    name: version(name) for name in ("resnet-cli", "torch", "torchvision", "pillow")
                },
            },
        }


@contextmanager
def recorded(files: Sequence[Path], record: Record) -> Iterator[None]:
    """Keep FILE.run.json beside each result file: begun before the first row, completed after."""

    def write() -> None:
        known = record() if files else {}
        for file in files:
            write_manifest(file, known)

    write()
    try:
        yield
    except BaseException:
        record.status = "stopped"
        raise
    finally:
        write()


def now() -> str:
    """The time of day, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe(classifier: Classifier) -> None:
    """Say which checkpoint, class names and preprocessing were taken, and why."""
    checkpoint = classifier.checkpoint
    facts = ", ".join([checkpoint.model, *checkpoint.whereabouts])
    note(f"checkpoint {checkpoint.path} ({classifier.reason}): {facts}")
    for sentence in checkpoint.notes:
        note(sentence)
    names = classifier.class_names
    note(f"{len(names):,} classes: {first_few(names)} ({checkpoint.classes.source})")
    preprocess = classifier.preprocess
    note(f"preprocessing: {preprocess.words} ({classifier.preprocess_source})")


def report(classifier: Classifier, tally: Tally, seconds: float) -> None:
    """Say how long it took and what limited it."""
    device = device_name(classifier.backend.device)
    click.echo(
        f"{device}, {classifier.precision}, {tally.workers} workers: {tally.images:,} images, "
        f"{tally.errors:,} errors in {seconds:.2f} s: {tally.images / seconds:.1f} images/s",
        err=True,
    )
    means = ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in tally.means().items())
    click.echo(f"per image: {means}: {tally.limit()}", err=True)


def verified(classifier: Classifier, found: Inputs, count: int) -> Inputs:
    """Compare the first images against plain fp32 on the CPU.

    Raises:
        UserError: a label differs.
    """
    first, everything = found.peek(count)
    result = classifier.verify(first)
    note(
        f"verified {result.images} images against plain fp32 on the CPU: largest difference of "
        f"probability {result.largest_difference:.1e}, {len(result.flips)} top-1 flips"
    )
    if result.flips:
        raise UserError(
            f"another label than plain fp32 on the CPU: {', '.join(map(str, result.flips))}: "
            "try --exact, or --precision fp32"
        )
    return everything
