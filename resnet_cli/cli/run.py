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
from resnet_cli.cli.terminal import above_the_bar, let_go, note, progress_bar, result_line
from resnet_cli.devices import available_cores, device_name
from resnet_cli.errors import UserError
from resnet_cli.inputs import Inputs, find_inputs
from resnet_cli.records import Prediction
from resnet_cli.tally import Tally
from resnet_cli.text import first_few
from resnet_cli.verification import verify
from resnet_cli.writers import ILLUSTRATED, Options, Write, open_writer, saying
from resnet_cli.writers.csv import csv_rows
from resnet_cli.writers.json import jsonl_rows
from resnet_cli.writers.outputs import Output, recorded, resumed
from resnet_cli.writers.resume import Plan, Saved

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
    resume: bool = False  # go on after what the files hold

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
    def open(self, saved: Sequence[Saved]) -> Iterator[tuple[list[Output], list[Write]]]:
        """Open the result files, to go on after ``saved`` if there is any, and what draws."""
        earlier = saved if self.resume else [None] * len(self.files)
        with ExitStack() as stack:
            outputs = [
                Output(
                    path,
                    one or Saved(),
                    stack.enter_context(
                        open_writer(path, replace(self.options_for(path), saved=one))
                    ),
                )
                for path, one in zip(self.files, earlier, strict=True)
            ]
            drawings: list[Write] = [
                stack.enter_context(open_writer(path, self.options)) for path in self.grids
            ]
            if self.show:
                from resnet_cli.writers.window import window_writer

                drawings.append(stack.enter_context(window_writer(self.options)))
            yield outputs, drawings

    def to_stdout(self, earlier: int, total: int | None) -> Write:
        """What writes a result to stdout, as long as somebody reads it.

        Args:
            earlier: images that results were written for before.
            total: of all images, as far as it is known.
        """
        write = self.stdout(earlier, total)

        def write_or_say(prediction: Prediction) -> None:
            try:
                with saying("standard output"):
                    write(prediction.best(self.options.topk))
            except BrokenPipeError:
                if not self.paths:  # nothing is left to do
                    raise
                let_go()

        return write_or_say

    def stdout(self, earlier: int, total: int | None) -> Write:
        """What writes a result to stdout in its format."""
        if self.stdout_format == "lines":
            return lines(earlier, total)
        rows, errors = TABLES[self.stdout_format]
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors=errors)
        return rows(sys.stdout, self.options)


def find(inputs: Sequence[str], files: Sequence[Path]) -> Inputs:
    """Find the images of a run that writes ``files``, and say what was passed over.

    Raises:
        InputError: nothing was found, or one of the files.
    """
    found = find_inputs(inputs)
    if found.passed_over:
        note(f"{found.passed_over:,} files passed over: their suffix is no image suffix")
    for kind, count in found.odd.items():
        note(f"{count:,} {kind} passed over")
    return found.without([str(file) for file in files]) if files else found


def lines(earlier: int, total: int | None) -> Write:
    """A line for each image."""
    number = earlier

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
) -> int:
    """Classify the images that were found, and report on it.

    Args:
        classifier: loaded and ready.
        found: the images.
        destinations: where the results go.
        workers: threads; None takes all cores.
        progress: ``auto``, ``on`` or ``off``.
        settings: further arguments of ``Classifier.predict``.

    Returns:
        How many rows, also of earlier runs, are of pictures that could not be read.
    """
    threads = workers or available_cores()
    tally = Tally(threads, on_cpu=classifier.backend.device.type == "cpu")
    record = Record(classifier, tally, destinations.options.topk, settings["threshold"])
    files = destinations.files if destinations.resume else ()
    plan = Plan([resumed(path, record.decisive) for path in files])
    left = plan.remaining(found)
    if destinations.resume:
        explain(destinations.files, plan, left)
    predictions = classifier.predict(
        left,
        topk=destinations.topk,
        workers=threads,
        thumbnails=destinations.want_thumbnails,
        **settings,
    )
    earlier = 0 if found.total is None or left.total is None else found.total - left.total
    begun = perf_counter()
    with (
        recorded(record, record.stop) as begin,
        destinations.telling(record).open(plan.saved) as (outputs, drawings),
        progress_bar(found.total, progress, initial=earlier) as bar,
        closing(predictions),
    ):
        begin(outputs)
        writes = [*drawings, destinations.to_stdout(earlier, found.total)]
        for prediction in predictions:
            tally.add(prediction)
            with above_the_bar():
                for output, wanted in zip(outputs, plan.next(len(outputs)), strict=True):
                    if wanted:
                        output.add(prediction)
                for write in writes:
                    write(prediction)
            bar.update()
        record.status = "done"
    if found.total is None:
        say_vanished(plan)
    report(classifier, tally, perf_counter() - begun)
    return max(tally.errors, *(output.all_errors for output in outputs), 0)


def explain(files: Sequence[Path], plan: Plan, left: Inputs) -> None:
    """Say what each file holds, and how much is left.

    Raises:
        UserError: a file has nothing to do with the inputs.
    """
    for file, saved in zip(files, plan.saved, strict=True):
        if saved.rows and left.total is not None and saved.untaken == saved.rows:
            raise UserError(
                f"cannot resume {file}: none of its {saved.rows:,} rows is of these inputs: run it "
                "in the same folder with the same INPUT, or start anew with --overwrite"
            )
        note(f"{file} holds {saved.rows:,} rows")
        if saved.damage:
            note(f"the end of {file} was torn off and is made anew: {saved.damage}")
    if left.total is not None:
        note(f"{left.total:,} pictures are left")
        say_vanished(plan)


def say_vanished(plan: Plan) -> None:
    """Say how many rows are of pictures that are gone."""
    if plan.vanished:
        note(f"{plan.vanished:,} rows stay whose pictures are not among the inputs any more")


@dataclass
class Record:
    """What made the results, as far as it is known: what FILE.run.json and reports say."""

    classifier: Classifier
    tally: Tally
    topk: int  # classes of an image
    threshold: float  # 0 to 1
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

    def stop(self) -> None:
        """Say that the run ends early."""
        self.status = "stopped"

    @cached_property
    def decisive(self) -> dict[str, Any]:
        """What decides the rows."""
        return {**self.classifier.record(), "topk": self.topk, "threshold": self.threshold}

    @cached_property
    def settled(self) -> dict[str, Any]:
        """What does not change while the run goes on."""
        return {
            **self.decisive,
            "versions": {
                "python": python_version(),
                **{
                    name: version(name) for name in ("resnet-cli", "torch", "torchvision", "pillow")
                },
            },
        }


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
    result = verify(classifier, first)
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
