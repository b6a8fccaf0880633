"""What native libraries print on stderr while an image is decoded -> a warning of that image.

libjpeg writes to the process's stderr that data are corrupt, and names no file. For the time of a
run those lines go to a file in memory; an image that was decoded while one came is decoded again,
alone, and what is printed then is its own. All other lines are passed on. A small process passes on
what is left should this one crash.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from io import BufferedWriter, TextIOWrapper
from threading import Condition
from typing import TypeVar

from resnet_cli.system import ForgivingFile

Result = TypeVar("Result")

STDERR = 2

MOST_LINES = 2  # of a warning

NAMELESS = "tempfile.tif: "  # what Pillow calls every TIFF

PASS_ON = 'trap "" INT HUP TERM; read _; exec cat "$0"'
"""Wait for the end of a process whose stdin this is, then print what it has left."""


class Turns:
    """Lets many share what one at a time may want for itself."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.sharing = 0
        self.waiting = 0  # to be alone, or being so
        self.taken = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Share; whoever waits to be alone goes first."""
        with self.changed:
            self.changed.wait_for(lambda: not self.waiting)
            self.sharing += 1
        try:
            yield
        finally:
            with self.changed:
                self.sharing -= 1
                self.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one."""
        with self.changed:
            self.waiting += 1
            self.changed.wait_for(lambda: not (self.sharing or self.taken))
            self.taken = True
        try:
            yield
        finally:
            with self.changed:
                self.waiting -= 1
                self.taken = False
                self.changed.notify_all()


class Listener:
    """Holds back what is printed on stderr past Python."""

    def __init__(self, real: int) -> None:
        """Begin to listen.

        Args:
            real: where lines of no image are passed on to.
        """
        self.real = real
        self.turns = Turns()
        self.known: set[bytes] = set()  # lines that belong to images
        self.file = os.memfd_create("stderr")
        again = os.open(f"/proc/self/fd/{self.file}", os.O_WRONLY | os.O_APPEND)
        os.dup2(again, STDERR)
        os.close(again)

    @property
    def size(self) -> int:
        """Bytes that were printed."""
        return os.fstat(self.file).st_size

    def during(self, work: Callable[[], Result]) -> tuple[Result, str]:
        """Do some work, and return what was printed by it alone; it is done again to tell."""
        with self.turns.shared():
            before = self.size
            outcome = attempt_work(work)
            if self.size == before:
                return outcome.result(), ""
        with self.turns.alone():
            before = self.size
            outcome = attempt_work(work)
            lines = os.pread(self.file, self.size - before, before).splitlines()
            self.known.update(lines)
            if self.turns.waiting == 1:  # what is left is of no image
                self.pass_on()
        return outcome.result(), in_short(lines)

    def pass_on(self) -> None:
        """Print the lines of no image, and forget all."""
        lines = os.pread(self.file, self.size, 0).splitlines(keepends=True)
        foreign = b"".join(line for line in lines if line.rstrip(b"\n") not in self.known)
        os.ftruncate(self.file, 0)
        self.known.clear()
        with suppress(OSError):  # nobody reads it
            os.write(self.real, foreign)

    def close(self) -> None:
        """Pass on what is left and put stderr back."""
        os.dup2(self.real, STDERR)
        self.pass_on()
        os.close(self.file)


def attempt_work(work: Callable[[], Result]) -> Future[Result]:
    """Do some work, and keep what it returns or raises."""
    outcome: Future[Result] = Future()
    try:
        outcome.set_result(work())
    except Exception as error:
        outcome.set_exception(error)
    return outcome


def in_short(lines: list[bytes]) -> str:
    """Join the first lines of what a library printed, of which there may be hundreds."""
    texts = [line.decode(errors="replace").strip().removeprefix(NAMELESS) for line in lines]
    return "; ".join(texts[:MOST_LINES]) + ("; …" if len(texts) > MOST_LINES else "")


listener: Listener | None = None
"""Of this process, while ``listening``: its stderr is one."""


def output_during(work: Callable[[], Result]) -> tuple[Result, str]:
    """Do some work; return what native libraries printed, if somebody listens."""
    return (work(), "") if listener is None else listener.during(work)


@contextmanager
def listen_to_libraries() -> Iterator[None]:
    """Listen to native libraries, where the system has what it takes (Linux, a shell)."""
    with ExitStack() as stack:
        if hasattr(os, "memfd_create") and listener is None:
            with suppress(OSError):
                stack.enter_context(install_listener())
        yield


@contextmanager
def install_listener() -> Iterator[None]:
    """Be the one listener of this process.

    Raises:
        OSError: the system allows no more files or processes.
    """
    global listener
    real = os.dup(STDERR)
    try:
        with closing(Listener(real)) as heard, guard_output(heard), pythons_stderr(real):
            listener = heard
            yield
    finally:
        listener = None
        os.close(real)


def listen_alone() -> None:
    """Listen in a process that was copied from one that does, whose threads it has not."""
    global listener
    if listener is not None:
        listener = Listener(listener.real)


def pass_on() -> None:
    """Print what was held back while nothing is being decoded."""
    if listener is not None and listener.size:
        listener.pass_on()


@contextmanager
def guard_output(heard: Listener) -> Iterator[None]:
    """Have another process print what was held back when this one crashes."""
    waits, ends = os.pipe()
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", PASS_ON, f"/proc/self/fd/{heard.file}"],
            stdin=waits, stdout=heard.real, pass_fds=[heard.file],
        )  # fmt: skip
    finally:
        os.close(waits)
    try:
        yield
    finally:
        guard.kill()  # nothing is left for it that is not passed on here
        guard.wait()
        os.close(ends)


@contextmanager
def pythons_stderr(real: int) -> Iterator[None]:
    """Let what Python itself prints on stderr be seen at once."""
    usual = sys.stderr
    try:
        is_ours = usual.fileno() == STDERR
    except (OSError, ValueError):  # something in place of it, as in tests
        is_ours = False
    if not is_ours:
        yield
        return
    usual.flush()
    file = BufferedWriter(ForgivingFile(real, "w", closefd=False))
    with TextIOWrapper(
        file, encoding=usual.encoding, errors=usual.errors, line_buffering=True
    ) as sys.stderr:
        try:
            yield
        finally:
            sys.stderr.flush()
            sys.stderr = usual
