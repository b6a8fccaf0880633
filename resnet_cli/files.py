"""Output files: checked before the work, written whole or not at all, named in every error."""

import errno
import hashlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from resnet_cli.errors import OutputError, OutputNameError

OVERWRITE = "use --overwrite to replace it"
MAKE_ROOM = "make room, or write elsewhere"

BLOCK = 1 << 20  # bytes read at a time

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_new_files(wanted: Iterable[tuple[Path, Collection[str]]], *, overwrite: bool) -> None:
    """Check, before any work is done, that every file can be written at the end of it.

    Args:
        wanted: files, each with the suffixes that it may have.
        overwrite: existing files may be replaced.

    Raises:
        OutputError: an unknown suffix, a file named twice, or as for ``check_new``.
    """
    taken: set[Path] = set()
    for path, suffixes in wanted:
        check_suffix(path, suffixes)
        check_distinct(path, taken, {path.resolve()})
        check_new(path, overwrite=overwrite)


def check_suffix(path: Path, suffixes: Collection[str], *, otherwise: str = "") -> None:
    """Check that a file has one of the given suffixes, in any case.

    Args:
        path: of the file.
        suffixes: lower case, with their dots.
        otherwise: ends the message, where something else would be right as well.

    Raises:
        OutputNameError: lists the suffixes.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputNameError(
            f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}{otherwise}"
        )


def check_distinct(path: Path, taken: set[Path], places: set[Path]) -> None:
    """Check that no other output writes to the places of a file, and add them to ``taken``.

    Raises:
        OutputNameError: the file is named twice.
    """
    if places & taken:
        raise OutputNameError(f"cannot write {path} twice: name each output once")
    taken |= places


def check_new(path: Path, *, overwrite: bool, remedy: str = OVERWRITE) -> None:
    """Check that a file can be created, or replaced if ``overwrite`` is true.

    Args:
        path: of the file.
        overwrite: an existing file may be replaced.
        remedy: ends the message if the file exists.

    Raises:
        OutputError: the folder is missing or read-only, or something else stands there.
    """
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():  # it would be replaced by a file
        raise OutputError(f"cannot write {path}: it is a pipe or a device: name a file")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} may not be written")
    if path.exists() and not overwrite:
        raise existing_error(path, remedy)


def existing_error(path: Path, remedy: str) -> OutputError:
    """Build the error for a file that already exists."""
    return OutputError(f"cannot write {path}: it already exists: {remedy}")


@contextmanager
def naming_output(place: Path | str, *, full: str = MAKE_ROOM) -> Iterator[None]:
    """Turn an error of the system into one that names what could not be written.

    Args:
        place: what is written.
        full: ends the message if the disk is full.

    Raises:
        OutputError: in place of any ``OSError`` except ``BrokenPipeError``.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough, which is not an error
        raise
    except OSError as error:
        advice = f": {full}" if error.errno in FULL else ""
        raise OutputError(f"cannot write {place}: {error.strerror or error}{advice}") from error


def write_text_file(path: Path, text: str, *, full: str = MAKE_ROOM) -> None:
    """Write a UTF-8 text file whole or not at all.

    Args:
        path: of the file, which is replaced if it exists.
        text: its content; bytes of file names that are not UTF-8 are escaped.
        full: ends the message if the disk is full.

    Raises:
        OutputError: it cannot be written.
    """
    with naming_output(path, full=full), whole_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when all is written, or never."""
    with whole_path(path) as new, new.open("wb") as file:
        yield file


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Yield the path to write to, which is renamed to ``path`` when all is written.

    A symbolic link at ``path`` stays, and the file that it points to is replaced.
    """
    target = path.resolve()
    new = target.with_name(f"{target.name}.new")
    try:
        new.touch()
        mode = new.stat().st_mode
        yield new
        if new.stat().st_mode != mode:  # safetensors' files are readable by their owner only
            new.chmod(mode)
        with new.open("r+b") as file:
            sync_file(file)
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def reserve_place(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Keep other runs from ``path`` until it is written, by a lock on ``FILE.part``.

    Raises:
        OutputError: another run holds the lock, or the file exists by now.
    """
    mark = path.with_name(f"{path.name}.part")
    try:
        with mark.open("ab") as file:
            lock_file(file, path)
            if overwrite:
                path.resolve().unlink(missing_ok=True)  # so that it is not taken for the new one
            elif path.exists():
                raise existing_error(path, OVERWRITE)
            yield
    finally:
        mark.unlink(missing_ok=True)


def lock_file(file: IO[bytes], path: Path) -> None:
    """Lock an open file, until it is closed or the process ends.

    Args:
        file: to lock.
        path: of the output, for the message.

    Raises:
        OutputError: another run holds the lock.
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
    except OSError:  # some network drives have no locks
        return


def sync_file(file: IO[bytes] | int) -> None:
    """Wait until the disk has what was written to a file."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of a file system without a disk
            raise


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, which Windows cannot be asked for."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def sha256_of_files(*paths: Path) -> str:
    """Return the SHA-256 of the files' bytes, one file after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def measure_files(files: tuple[Path, ...]) -> dict[str, Any]:
    """Return the bytes and the hash of some files."""
    return {"bytes": sum(file.stat().st_size for file in files), "sha256": sha256_of_files(*files)}
