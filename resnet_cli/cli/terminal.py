"""What a person sees while a command runs: notes, the bar, the lines above it."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn, Self

from tqdm import tqdm

from resnet_cli.cli.process import discard
from resnet_cli.images.native_warnings import listen_to_libraries
from resnet_cli.records import UNCERTAIN, Prediction
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
    """Go on without stdout, whose reader has seen enough, for the files that are written."""
    discard(sys.stdout.fileno())
    try:
        print_note("stdout was closed; still writing the output files")
    except BrokenPipeError:
        discard(sys.stderr.fileno())


def bar_wanted(mode: str) -> bool:
    """Whether ``--progress`` asks for a bar: ``auto`` does on a terminal."""
    return mode == "on" or (mode == "auto" and sys.stderr.isatty())


def progress_bar(
    total: int | None, mode: str, unit: str = "img", initial: int = 0, what: str | None = None
) -> "Bar":
    """A bar of images, or of another unit, on stderr; ``auto`` draws it only on a terminal."""
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


class BarProgress:
    """A progress callback of library calls that draws a bar of images.

    Attributes:
        done: images so far, also where no bar is drawn.
    """

    def __init__(self, total: int | None, mode: str, what: str | None = None) -> None:
        """Open the bar; the arguments are those of ``progress_bar``."""
        self.bar = progress_bar(total, mode, what=what)
        self.done = 0

    def __call__(self, done: int, total: int | None) -> None:
        """Show how many images are done."""
        self.done, self.bar.total = done, total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def above_the_bar() -> AbstractContextManager[None]:
    """Let results scroll above the bar where both are on one terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        return tqdm.external_write_mode(file=sys.stdout)
    return nullcontext()


def result_line(prediction: Prediction, number: int, total: int | None) -> str:
    """One image as a line: ``3/153  bees/1085.jpg  bees 0.987  12.4 ms``.

    An uncertain one says what would be its label: ``uncertain (bees 0.487)``.
    """
    start = f"{number}/{'?' if total is None else total}  {prediction.path}"
    if prediction.error is not None:
        return escape_unprintable(f"{start}  ERROR {prediction.error}")
    first, *others = [f"{score.label} {score.prob:.3f}" for score in prediction.scores]
    best = f"{UNCERTAIN} ({first})" if prediction.uncertain else first
    warning = [] if prediction.warning is None else [prediction.remark or ""]
    time = f"{prediction.total_ms:.1f} ms"
    return escape_unprintable("  ".join([start, best, *others, time, *warning]))
