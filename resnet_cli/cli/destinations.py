"""Where the results of one run go: files, pictures, a window, stdout."""

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from resnet_cli.cli.stdio import echo
from resnet_cli.cli.terminal import let_go, result_line
from resnet_cli.files import naming_output
from resnet_cli.records import Prediction
from resnet_cli.results import open_writer
from resnet_cli.results.files.manifest import Output
from resnet_cli.results.files.resume import SavedRows
from resnet_cli.results.formats import PRINTED, format_of
from resnet_cli.results.options import Write, WriterOptions
from resnet_cli.results.short_names import names_for


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
        return self.show or any(format_of(path).thumbnails for path in self.paths)

    def telling(
        self, record: Callable[[], Mapping[str, Any]], paths: Iterable[str]
    ) -> "Destinations":
        """The same, where writers learn what made the results, and of which images."""
        return replace(self, options=replace(self.options, record=record, name=names_for(paths)))

    @property
    def topk(self) -> int:
        """Classes of an image that any of them wants."""
        options = [self.options, *map(self.options_for, self.files)]
        return max(each.layout.classes for each in options)

    @property
    def resumed(self) -> dict[Path, WriterOptions]:
        """The files that this run resumes, and how it would write each."""
        return {path: self.options_for(path) for path in self.files if self.resume}

    def options_for(self, path: Path) -> WriterOptions:
        """A report shows the next best classes, however few the tables hold."""
        topk = max(self.options.topk, format_of(path).least_topk)
        return replace(self.options, topk=topk)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.files, *self.grids)

    @property
    def errors_listed(self) -> str:
        """Say where the images that could not be read are listed."""
        formats = {path: format_of(path) for path in self.files}
        tables = [path for path, each in formats.items() if not each.thumbnails]
        pages = [path for path, each in formats.items() if each.thumbnails and not each.grid]
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
                writes[0](prediction)

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
            return write_result_lines(earlier, total, self.options.topk)
        printed = PRINTED[self.stdout_format]
        if isinstance(sys.stdout, TextIOWrapper):
            whole = printed.any_encoding or is_utf8_stream(sys.stdout)
            sys.stdout.reconfigure(errors=printed.errors if whole else "backslashreplace")
            if self.options.dialect.bom and printed.byte_order_mark:
                sys.stdout.reconfigure(encoding="utf-8")  # which is what the mark says
        return printed.write(sys.stdout, self.options)


def is_utf8_stream(stream: TextIOWrapper) -> bool:
    """Return True if a stream can encode every character, and any byte of a broken name."""
    return codecs.lookup(stream.encoding).name == "utf-8"


def write_result_lines(earlier: int, total: int | None, topk: int) -> Write:
    """A line for each image."""
    number = earlier

    def write(prediction: Prediction) -> None:
        nonlocal number
        number += 1
        echo(result_line(prediction.best(topk), number, total))

    return write
