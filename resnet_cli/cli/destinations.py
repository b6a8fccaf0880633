"""Where the results of one run go: files, pictures, a window, stdout."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from resnet_cli.cli.stdio import echo
from resnet_cli.cli.terminal import let_go, result_line
from resnet_cli.records import Prediction
from resnet_cli.results import (
    ILLUSTRATED,
    RESUMABLE,
    Write,
    WriterOptions,
    naming_output,
    open_writer,
)
from resnet_cli.results.columns import SavedRows
from resnet_cli.results.csv import csv_rows
from resnet_cli.results.files.outputs import Output
from resnet_cli.results.json import jsonl_rows
from resnet_cli.results.short_names import names_for
from resnet_cli.sources import Inputs

TABLES = {"csv": (csv_rows, "surrogateescape"), "jsonl": (jsonl_rows, "jsonescape")}
"""Formats of stdout that files have too: what writes a row, and how broken names are encoded."""


def escaped_for_json(error: UnicodeError) -> tuple[str, int]:
    """Escape what an encoding lacks as JSON does, whose escapes are not those of Python."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("jsonescape", escaped_for_json)

REPORT_CLASSES = 5  # of an image


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where the results of a run go."""

    files: tuple[Path, ...]  # of -o, each with its record beside it
    grids: tuple[Path, ...]
    show: bool
    stdout_format: str
    options: WriterOptions
    resume: bool = False  # go on after what the files hold
    quiet: bool = False  # nothing goes to stdout

    @property
    def want_thumbnails(self) -> bool:
        """Whether anything draws pictures."""
        return self.show or any(path.suffix.lower() in ILLUSTRATED for path in self.paths)

    def telling(self, record: Callable[[], Mapping[str, Any]], inputs: Inputs) -> "Destinations":
        """The same, where writers learn what made the results, and of which images."""
        paths = None if inputs.total is None else [item.path for item in inputs.known]
        return replace(self, options=replace(self.options, record=record, name=names_for(paths)))

    @property
    def topk(self) -> int:
        """Classes of an image that any of them wants."""
        return max([self.options.topk, *(self.options_for(path).topk for path in self.files)])

    @property
    def resumed(self) -> dict[Path, WriterOptions]:
        """The files that this run resumes, and how it would write each."""
        return {path: self.options_for(path) for path in self.files if self.resume}

    def options_for(self, path: Path) -> WriterOptions:
        """A report shows the next best classes, however few the tables hold."""
        if path.suffix.lower() != ".html":
            return self.options
        return replace(self.options, topk=max(self.options.topk, REPORT_CLASSES))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.files, *self.grids)

    @property
    def errors_listed(self) -> str:
        """Say where the images that could not be read are listed."""
        tables = [path for path in self.files if path.suffix.lower() in RESUMABLE]
        pages = [path for path in self.files if path.suffix.lower() == ".html"]
        if tables:
            return f"see the rows with status error in {tables[0]}"
        if pages:
            return f"see {pages[0]}"
        if self.quiet:
            return "listed in no file: add -o FILE.csv"
        what = "lines with ERROR" if self.stdout_format == "lines" else "rows with status error"
        return f"see the {what} on stdout"

    @contextmanager
    def open(self, saved: Sequence[SavedRows]) -> Iterator[tuple[list[Output], list[Write]]]:
        """Open the result files, to go on after ``saved`` if there is any, and what draws."""
        earlier = saved if self.resume else [None] * len(self.files)
        with ExitStack() as stack:
            outputs = [
                self.opened(path, one, stack) for path, one in zip(self.files, earlier, strict=True)
            ]
            drawings: list[Write] = [
                stack.enter_context(open_writer(path, self.options)) for path in self.grids
            ]
            if self.show:
                from resnet_cli.results.grid import window_writer

                drawings.append(stack.enter_context(window_writer(self.options)))
            yield outputs, drawings

    def opened(self, path: Path, saved: SavedRows | None, stack: ExitStack) -> Output:
        """Open one result file."""
        options = self.options_for(path).after(saved)
        write = stack.enter_context(open_writer(path, options))
        return Output(path, saved or SavedRows(), write, options)

    def to_stdout(self, earlier: int, total: int | None) -> Write:
        """What writes a result to stdout, as long as somebody reads it.

        Args:
            earlier: images that results were written for before.
            total: of all images, as far as it is known.
        """
        if self.quiet:
            return lambda _: None
        writes: list[Write] = []  # one, as soon as it has written its header

        def write_or_say(prediction: Prediction) -> None:
            with self.letting_go():
                writes[0](prediction.best(self.options.topk))

        with self.letting_go():
            writes.append(self.stdout(earlier, total))
        if not writes:
            writes.append(self.stdout(earlier, total))  # to nowhere
        return write_or_say

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Go on for the files, if there are any, when nobody reads stdout any more."""
        try:
            with naming_output("standard output"):
                yield
        except BrokenPipeError:
            if not self.paths:  # nothing is left to do
                raise
            let_go()

    def stdout(self, earlier: int, total: int | None) -> Write:
        """What writes a result to stdout in its format."""
        if self.stdout_format == "lines":
            return write_result_lines(earlier, total)
        rows, errors = TABLES[self.stdout_format]
        if isinstance(sys.stdout, TextIOWrapper):
            whole = errors == "jsonescape" or is_utf8_stream(sys.stdout)
            sys.stdout.reconfigure(errors=errors if whole else "backslashreplace")
            if self.options.dialect.bom and self.stdout_format == "csv":
                sys.stdout.reconfigure(encoding="utf-8")  # which is what the mark says
        return rows(sys.stdout, self.options)


def is_utf8_stream(stream: TextIOWrapper) -> bool:
    """Return True if a stream can encode every character, and any byte of a broken name."""
    return codecs.lookup(stream.encoding).name == "utf-8"


def write_result_lines(earlier: int, total: int | None) -> Write:
    """A line for each image."""
    number = earlier

    def write(prediction: Prediction) -> None:
        nonlocal number
        number += 1
        echo(result_line(prediction, number, total))

    return write
