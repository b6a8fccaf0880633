"""Rows of ``predict`` on standard output: lines for people, csv or jsonl for programs."""

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper

from resnet_cli.cli.process import echo
from resnet_cli.cli.terminal import let_go, result_line
from resnet_cli.files import naming_output
from resnet_cli.records import Prediction
from resnet_cli.results.formats import PRINTED
from resnet_cli.results.options import Write, WriterOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardOutput:
    """What goes to stdout, and how."""

    format: str  # lines, or a key of ``PRINTED``
    options: WriterOptions
    quiet: bool = False  # nothing does
    ends_run: bool = True  # the run ends when its reader closes it, as there are no files

    @property
    def error_words(self) -> str:
        """Say which rows are those of unreadable images."""
        if self.quiet:
            return "listed in no file: add -o FILE.csv"
        what = "lines with ERROR" if self.format == "lines" else "rows with status error"
        return f"see the {what} on stdout"

    def writer(self, earlier: int, total: int | None) -> Write:
        """Return what writes a row, for as long as stdout is read.

        Args:
            earlier: items whose rows earlier runs have written.
            total: of all items, as far as it is known.
        """
        if self.quiet:
            return lambda _: None
        writes: list[Write] = []  # one, as soon as it has written its header

        def write_or_say(prediction: Prediction) -> None:
            with self.letting_go():
                writes[0](prediction)

        with self.letting_go():
            writes.append(self.open(earlier, total))
        if not writes:
            writes.append(self.open(earlier, total))  # to nowhere
        return write_or_say

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Continue for the files, if there are any, when the reader closes stdout."""
        try:
            with naming_output("standard output"):
                yield
        except BrokenPipeError:
            if self.ends_run:
                raise
            let_go()

    def open(self, earlier: int, total: int | None) -> Write:
        """Begin the output in its format."""
        if self.format == "lines":
            return write_result_lines(earlier, total, self.options.topk)
        printed = PRINTED[self.format]
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
    """Return what writes a numbered line for each image."""
    number = earlier

    def write(prediction: Prediction) -> None:
        nonlocal number
        number += 1
        echo(result_line(prediction.best(topk), number, total))

    return write
