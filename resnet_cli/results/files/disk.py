"""Files that outlive a run which is cut off, and a machine that loses its power."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from resnet_cli.errors import OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is seen whole or not at all; a link keeps leading to it."""
    target = path.resolve()
    new = target.with_name(f"{target.name}.new")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            sync_file(file)
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def reserve_place(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Keep the place of a file that comes at the end, while ``FILE.part`` says that it will.

    Raises:
        OutputError: another run does so, or the file has come meanwhile.
    """
    mark = path.with_name(f"{path.name}.part")
    try:
        with mark.open("ab") as file:
            lock_file(file, path)
            if overwrite:
                path.resolve().unlink(missing_ok=True)  # nobody takes it for the one that comes
            elif path.exists():
                raise existing_error(path)
            yield
    finally:
        mark.unlink(missing_ok=True)


def lock_file(file: IO[bytes], path: Path) -> None:
    """Keep other runs from ``path`` as long as a file is open; the system knows when a run dies.

    Raises:
        OutputError: another run is writing it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"cannot write {path}: another run is writing it: wait until it is done, or stop it"
        ) from None
    except OSError:  # some network drives know no locks
        return


def sync_file(file: IO[bytes] | int) -> None:
    """Wait until the disk has what was written."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of a file system without a disk
            raise


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder; Windows has no way to ask for it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


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


def existing_error(path: Path) -> OutputError:
    """The error of a file that is there already."""
    return OutputError(f"cannot write {path}: it already exists: {way_past(path)}")


@contextmanager
def naming_output(place: Path | str, *, full: str = MAKE_ROOM) -> Iterator[None]:
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
