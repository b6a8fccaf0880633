"""Standard streams that are closed, full, or of an encoding that lacks most characters."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path

import click

from resnet_cli.system import ForgivingFile


def discard(stream: int) -> None:
    """Let what is written to an open stream go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)


def open_streams() -> None:
    """Make the standard streams ready for whatever is written to them.

    Streams that were closed before the start (``>&-``) lead nowhere. Otherwise the next files to be
    opened get their numbers, and what a library prints ends in them.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    forgive_stderr()


def forgive_stderr() -> None:
    """Let a run go on when stderr, which holds no results, cannot be written: a full disk, say."""
    stream = sys.stderr
    if stream is not sys.__stderr__ or not isinstance(stream, TextIOWrapper):
        return  # another program's
    if type(getattr(stream.buffer, "raw", stream.buffer)) is FileIO:  # and no Windows console
        sys.stderr = TextIOWrapper(
            BufferedWriter(ForgivingFile(stream.fileno(), "w", closefd=False)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


@contextmanager
def muted(*, stdout: bool) -> Iterator[None]:
    """Drop what is printed on stdout meanwhile, if that is wanted."""
    with ExitStack() as stack:
        if stdout:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
        yield


def echo(text: str, *, nl: bool = True) -> None:
    """Print results on stdout, in its own encoding: click would write UTF-8 where it is ASCII."""
    click.echo(text, file=sys.stdout, nl=nl)
