"""What a command prints while it runs: notes, the progress bar, and rows on stdout."""

import codecs
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from resnet_cli.cli.process import discard, echo
from resnet_cli.files import naming_output
from resnet_cli.images.native_warnings import listen_to_libraries
from resnet_cli.records import UNCERTAIN, Prediction, Progress
from resnet_cli.results.formats import PRINTED, Stdout
from resnet_cli.results.options import Dialect, Write, WriterOptions
from resnet_cli.text import escape_unprintable

if TYPE_CHECKING:
    Bar = tqdm[NoReturn]

LABELS = {logging.INFO: "Note", logging.WARNING: "Warning"}

QUIET_SECONDS = 1.0  # work that is over sooner shows no bar


class NoteHandler(logging.Handler):
    """Shows what the library logs as notes on stderr, above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one note."""
        print_note(record.getMessage(), LABELS.get(record.levelno, "Note"))


@contextmanager
def showing_notes() -> Iterator[None]:
    """Show the library's notes on stderr."""
    log = logging.getLogger("resnet_cli")
    handler = NoteHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def showing_notes_of_images() -> Iterator[None]:
    """Show notes; what native libraries print of an image becomes a warning in its row."""
    with showing_notes(), listen_to_libraries():
        yield


def print_note(message: str, label: str = "Note") -> None:
    """Print a note on stderr, above the bar if there is one."""
    print_on_stderr(escape_unprintable(f"{label}: {message}"))


def print_on_stderr(line: str) -> None:
    """Print a line on stderr, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)


def say_left_out(titles: Sequence[str], width: int) -> None:
    """Say which columns a table lacks, and how to see them."""
    if titles:
        print_note(
            f"the terminal, {width} wide, has no room for {', '.join(titles)}: widen it, or "
            "write everything with -o FILE.csv"
        )


def let_go() -> None:
    """Continue without stdout, which its reader has closed, for the output files."""
    discard(sys.stdout.fileno())
    try:
        print_note("stdout was closed; still writing the output files")
    except BrokenPipeError:
        discard(sys.stderr.fileno())


def bar_wanted(mode: str) -> bool:
    """Return True if ``--progress`` asks for a bar: ``auto`` does on a terminal."""
    return mode == "on" or (mode == "auto" and sys.stderr.isatty())


def progress_bar(
    total: int | None, mode: str, unit: str = "img", initial: int = 0, what: str | None = None
) -> "Bar":
    """Open a progress bar on stderr; ``auto`` draws it only on a terminal, after a second."""
    delay = QUIET_SECONDS if mode == "auto" else 0
    disable = not bar_wanted(mode)
    return tqdm(
        None,
        desc=what,
        total=total,
        initial=initial,
        unit=unit,
        disable=disable,
        delay=delay,
        dynamic_ncols=True,
    )


@contextmanager
def draw_progress(total: int | None, mode: str, what: str | None = None) -> Iterator[Progress]:
    """Draw a bar of images for the progress callback of a library call, which is yielded."""
    with progress_bar(total, mode, what=what) as bar:

        def update(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def above_the_bar() -> AbstractContextManager[None]:
    """Let results scroll above the bar where both are on one terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        return tqdm.external_write_mode(file=sys.stdout)
    return nullcontext()


def result_line(prediction: Prediction, number: int, total: int | None) -> str:
    """One image as a line: ``3/153  bees/1085.jpg  bees 0.987  12.4 ms``.

    An uncertain one says what would be its label: ``uncertain (bees 0.487)``.
    """
    start = f"{number}/{'?' if total is None else total}  {prediction.item.words}"
    if prediction.error is not None:
        return escape_unprintable(f"{start}  ERROR {prediction.error}")
    first, *others = [f"{score.label} {score.prob:.3f}" for score in prediction.scores]
    best = f"{UNCERTAIN} ({first})" if prediction.uncertain else first
    warning = [] if prediction.warning is None else [prediction.remark or ""]
    time = f"{prediction.total_ms:.1f} ms"
    return escape_unprintable("  ".join([start, best, *others, time, *warning]))


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardOutput:
    """The rows that go to stdout, and their format."""

    format: str  # lines, or a key of ``PRINTED``
    options: WriterOptions
    quiet: bool = False  # nothing does
    ends_run: bool = True  # the run ends when its reader closes it, as there are no files

    @property
    def error_words(self) -> str:
        """Return where the rows of unreadable images are."""
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
            reconfigure_stdout(sys.stdout, printed, self.options.dialect)
        return printed.write(sys.stdout, self.options)


def reconfigure_stdout(stream: TextIOWrapper, printed: Stdout, dialect: Dialect) -> None:
    """Let a stream encode what a format prints."""
    whole = printed.any_encoding or is_utf8_stream(stream)
    stream.reconfigure(errors=printed.errors if whole else "backslashreplace")
    if dialect.bom and printed.byte_order_mark:
        stream.reconfigure(encoding="utf-8")  # which is what the mark says


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
