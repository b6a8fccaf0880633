"""What happens to standard streams that nobody reads, or that are not there."""

import os
import sys


def discard(stream: int) -> None:
    """Let what is written to an open stream go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)


def open_streams() -> None:
    """Let streams that were closed before the start (``>&-``) lead nowhere.

    Otherwise the next files to be opened get their numbers, and what a library prints ends in them.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
