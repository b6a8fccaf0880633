"""Signals that end a run: what was written is closed properly, and no row is broken."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from resnet_cli.cli.stdio import discard
from resnet_cli.system import run_is_ending

Handler = Callable[[int, object], None] | signal.Handlers

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Patience:
    """What a signal may have to wait for."""

    held = False  # whether something goes on that is not to be broken
    came: int | None = None  # the signal that is to end the run

    def heed(self, number: int, _: object) -> None:
        """End the run, now or when what goes on is done; a second signal does not wait."""
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
    """Let signals unwind the run, so that what was written is closed properly."""
    if threading.current_thread() is not threading.main_thread():
        return
    run_is_ending.clear()
    patience.came = None
    sys.unraisablehook = ignore_lost_signal
    set_handlers(patience.heed)


def ignore_lost_signal(what: "sys.UnraisableHookArgs") -> None:
    """Say nothing of a signal that is lost; anything else is a bug, and is printed."""
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
    """Set what is done about the signals that end a run, but for those that are ignored."""
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
