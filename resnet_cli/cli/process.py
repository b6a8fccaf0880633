"""The process that the commands run in: its environment, standard streams and signals."""

import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from getpass import getuser
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import NoReturn

import click

from resnet_cli.errors import SettingError
from resnet_cli.system import ForgivingFile, run_is_ending

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable: the folder where torch keeps what it compiles."""

EXISTING = str(Path(__file__).parent)
"""A folder that exists; nothing is written to it."""


@contextmanager
def usable_environment() -> Iterator[None]:
    """Set what torch and matplotlib would otherwise look up or create, and fail.

    Importing torchvision creates the folder of compiled code, which only ``--compile`` fills.
    """
    name_the_user()
    given = os.environ.get(COMPILED)
    if given is None or not is_writable(Path(given)):
        os.environ[COMPILED] = EXISTING
    try:
        yield
    finally:
        os.environ.pop(COMPILED, None)
        if given is not None:
            os.environ[COMPILED] = given


def name_the_user() -> None:
    """Give a user that the system does not know a name and a home."""
    try:
        getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"uid_{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep


def keep_compiled(_: click.Context, __: click.Parameter, compiling: bool) -> bool:  # noqa: FBT001 - click passes it by position
    """Set the folder of ``--compile`` to one beside torch's weights, if it can be written.

    torch's own place for it is a temporary folder, gone after a restart. It is settled when torch
    is imported, which is after this.

    Raises:
        SettingError: there is no folder to compile in.
    """
    if compiling and os.environ.get(COMPILED, EXISTING) == EXISTING:
        beside = weights_folder() / "inductor"
        if is_writable(beside):
            os.environ[COMPILED] = str(beside)
        elif has_temporary_folder():
            os.environ.pop(COMPILED, None)  # torch's own place
        else:
            raise SettingError(f"--compile needs a folder to write in: set {COMPILED} to one")
    return compiling


def weights_folder() -> Path:
    """Return the folder where torch keeps what it downloads."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch")


def is_writable(folder: Path) -> bool:
    """Return True if files can be created in a folder, which is created if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def has_temporary_folder() -> bool:
    """Return True if the system has a place for temporary files."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def lend_temporary_folder(folder: Path) -> None:
    """Let libraries use the folder of an output where the system has no temporary folder."""
    if not has_temporary_folder():
        tempfile.tempdir = str(folder)


def discard(stream: int) -> None:
    """Redirect an open stream to the null device."""
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
    """Ignore failed writes to stderr, such as on a full disk: it holds no results."""
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
    """Drop what is printed on stdout inside the block, if ``stdout`` is true."""
    with ExitStack() as stack:
        if stdout:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
        yield


def echo(text: str, *, nl: bool = True) -> None:
    """Print results on stdout, in its own encoding: click would write UTF-8 where it is ASCII."""
    click.echo(text, file=sys.stdout, nl=nl)


Handler = Callable[[int, object], None] | signal.Handlers

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Patience:
    """Holds a signal back until a row is complete."""

    held = False  # whether something goes on that is not to be broken
    came: int | None = None  # the signal that is to end the run

    def heed(self, number: int, _: object) -> None:
        """End the run, now or at the end of the held block; a second signal does not wait."""
        waits = self.held and self.came is None
        self.came = number
        if not waits:
            end_run(number)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Let signals wait for the end of this block, which should be short.

        There a signal also ends the run that has come before and was lost: what a handler raises
        while Python clears something away goes no further.
        """
        self.held = True
        try:
            yield
        finally:
            self.held = False
            if self.came is not None:
                end_run(self.came)


patience = Patience()
unbroken = patience.unbroken


def catch_signals() -> None:
    """Make signals unwind the run, so that files are closed properly."""
    if threading.current_thread() is not threading.main_thread():
        return
    run_is_ending.clear()
    patience.came = None
    sys.unraisablehook = ignore_lost_signal
    set_handlers(patience.heed)


def ignore_lost_signal(what: "sys.UnraisableHookArgs") -> None:
    """Ignore a signal that Python could not raise; anything else is a bug, and is printed."""
    if not (run_is_ending.is_set() and isinstance(what.exc_value, KeyboardInterrupt | SystemExit)):
        sys.__unraisablehook__(what)


def leave_process(status: object) -> None:
    """End the process, or let Python do it where no signal has come.

    After a signal all that was written is closed, but a worker may be in the middle of something,
    for which Python would wait, or abort. Any further signal kills.

    Args:
        status: for the shell, where it is a number.
    """
    set_handlers(signal.SIG_DFL)
    if run_is_ending.is_set() and isinstance(status, int):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)


def set_handlers(handler: Handler) -> None:
    """Set the handler of the signals that end a run, except for those that are ignored."""
    for name in ENDING:
        number = getattr(signal, name, None)
        # nohup, for one, has a closed terminal ignored
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def end_run(number: int) -> NoReturn:
    """End the run with the status of a signal."""
    run_is_ending.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number != signal.SIGTERM:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # none of the system's
                if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                    discard(stream.fileno())  # a terminal that is gone fails all that is written
    sys.exit(128 + number)
