"""What would be right where a file of results cannot be written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_cli.errors import OutputError

RESUMABLE = (".csv", ".jsonl", ".json", ".parquet")
"""Suffixes whose rows reach the disk as they come, and which a later run can go on with."""

OVERWRITE = "use --overwrite to replace it"
"""What would be right where a file may not be gone on with."""

MAKE_ROOM = "make room, or write elsewhere"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ResumeError(OutputError):
    """An existing file that a run cannot continue."""

    def __init__(self, place: Path, reason: str) -> None:
        """Name the file, and say why and what would be right."""
        super().__init__(f"cannot resume {place}: {reason}")
        self.place, self.reason = place, reason


def is_resumable(path: Path) -> bool:
    """Whether a later run can go on with a file."""
    return path.suffix.lower() in RESUMABLE


def room_for(path: Path) -> str:
    """What would be right where the disk is full."""
    if is_resumable(path):
        return "its rows so far are whole: make room, then --resume"
    return MAKE_ROOM


def way_past(path: Path) -> str:
    """What would be right where a file is there already."""
    return (
        "use --resume to continue it, or --overwrite to replace it"
        if is_resumable(path)
        else OVERWRITE
    )


def existing(path: Path) -> OutputError:
    """The error of a file that is there already."""
    return OutputError(f"cannot write {path}: it already exists: {way_past(path)}")


@contextmanager
def saying(place: Path | str, *, full: str = MAKE_ROOM) -> Iterator[None]:
    """Name what could not be written in an error of the system.

    Args:
        place: what is written.
        full: what would be right where the disk is full.
    """
    try:
        yield
    except BrokenPipeError:  # not an error: who reads has seen enough
        raise
    except OSError as error:
        advice = f": {full}" if error.errno in FULL else ""
        raise OutputError(f"cannot write {place}: {error.strerror or error}{advice}") from error
