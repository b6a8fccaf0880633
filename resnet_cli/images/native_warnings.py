"""Turn what native libraries print on stderr into warnings of the image being decoded.

libjpeg writes to the process's stderr that data are corrupt, and names no file. During a run those
lines go to a file in memory; an image that was being decoded when one came is decoded again, alone,
and the lines printed then are its own. All other lines are passed on. If this process crashes, a
small second process prints what was held back.
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
"""Wait for the end of the process that holds the other end of stdin, then print the file."""


class SharedLock:
    """A lock that many threads share, or one holds alone."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.sharing = 0
        self.waiting = 0  # to be alone, or alone now
        self.taken = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it shared; threads that wait to be alone go first."""
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
        """Hold it alone."""
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
    """Holds back what native code prints on stderr."""

    def __init__(self, real: int) -> None:
        """Start listening.

        Args:
            real: file descriptor that receives the lines of no image.
        """
        self.real = real
        self.lock = SharedLock()
        self.known: set[bytes] = set()  # lines that belong to images
        self.file = os.memfd_create("stderr")
        again = os.open(f"/proc/self/fd/{self.file}", os.O_WRONLY | os.O_APPEND)
        os.dup2(again, STDERR)
        os.close(again)

    @property
    def size(self) -> int:
        """Bytes printed so far."""
        return os.fstat(self.file).st_size

    def during(self, work: Callable[[], Result]) -> tuple[Result, str]:
        """Call ``work``, twice if anything was printed, and return what it alone printed."""
        with self.lock.shared():
            before = self.size
            outcome = attempt_work(work)
            if self.size == before:
                return outcome.result(), ""
        with self.lock.alone():
            before = self.size
            outcome = attempt_work(work)
            lines = os.pread(self.file, self.size - before, before).splitlines()
            self.known.update(lines)
            if self.lock.waiting == 1:  # no other image is being decoded
                self.pass_on()
        return outcome.result(), in_short(lines)

    def pass_on(self) -> None:
        """Print the lines of no image, and clear the file."""
        lines = os.pread(self.file, self.size, 0).splitlines(keepends=True)
        foreign = b"".join(line for line in lines if line.rstrip(b"\n") not in self.known)
        os.ftruncate(self.file, 0)
        self.known.clear()
        with suppress(OSError):  # stderr was closed
            os.write(self.real, foreign)

    def close(self) -> None:
        """Pass on the remaining lines and restore stderr."""
        os.dup2(self.real, STDERR)
        self.pass_on()
        os.close(self.file)


def attempt_work(work: Callable[[], Result]) -> Future[Result]:
    """Call ``work``, and keep what it returns or raises."""
    outcome: Future[Result] = Future()
    try:
        outcome.set_result(work())
    except Exception as error:
        outcome.set_exception(error)
    return outcome


def in_short(lines: list[bytes]) -> str:
    """Join the first lines that a library printed; there may be hundreds."""
    texts = [line.decode(errors="replace").strip().removeprefix(NAMELESS) for line in lines]
    return "; ".join(texts[:MOST_LINES]) + ("; …" if len(texts) > MOST_LINES else "")


listener: Listener | None = None
"""The one of this process, during ``listen_to_libraries``."""


def output_during(work: Callable[[], Result]) -> tuple[Result, str]:
    """Call ``work``; return its result and, while listening, what native libraries printed."""
    return (work(), "") if listener is None else listener.during(work)


@contextmanager
def listen_to_libraries() -> Iterator[None]:
    """Listen to native libraries where the system allows it (Linux, a shell)."""
    with ExitStack() as stack:
        if hasattr(os, "memfd_create") and listener is None:
            with suppress(OSError):
                stack.enter_context(install_listener())
        yield


@contextmanager
def install_listener() -> Iterator[None]:
    """Install the listener of this process.

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
    """Start a listener of its own in a process forked from one that listens."""
    global listener
    if listener is not None:
        listener = Listener(listener.real)


def pass_on() -> None:
    """Print what was held back; nothing may be decoding meanwhile."""
    if listener is not None and listener.size:
        listener.pass_on()


@contextmanager
def guard_output(heard: Listener) -> Iterator[None]:
    """Have another process print what was held back if this one crashes."""
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
        guard.kill()  # all was passed on here
        guard.wait()
        os.close(ends)


@contextmanager
def pythons_stderr(real: int) -> Iterator[None]:
    """Write what Python itself prints on stderr to the real one at once."""
    usual = sys.stderr
    try:
        is_ours = usual.fileno() == STDERR
    except (OSError, ValueError):  # replaced, as in tests
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
