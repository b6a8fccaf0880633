"""What the disk can do while Python is busy."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread

CHUNK, CHUNKS = 1 << 20, 1 << 10
"""Bytes read at once, and how often: what is larger than this is no checkpoint, or can wait."""


def read_ahead(files: Iterable[Path]) -> Thread:
    """Bring files into the system's memory while PyTorch is imported, which takes longer.

    What is no file is passed over: whoever opens it has more to say.

    Returns:
        The thread that does it, and that nobody has to wait for.
    """
    thread = Thread(target=read, args=(tuple(files),), daemon=True)
    thread.start()
    return thread


def read(files: Iterable[Path]) -> None:
    """Read files to nowhere."""
    nowhere = bytearray(CHUNK)
    for file in files:
        with suppress(OSError, ValueError):
            if file.is_file():  # a pipe would be waited for
                with file.open("rb", buffering=0) as opened:
                    for _ in range(CHUNKS):
                        if not opened.readinto(nowhere):
                            break
