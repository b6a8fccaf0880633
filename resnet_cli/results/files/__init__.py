"""Rows in, files out that survive a run that is cut off: whole rows, on the disk within a second.

A format that cannot grow row by row has a journal of JSON lines beside its file. As long as
``results.parquet.part.jsonl`` exists it holds all rows, and the file itself, if any, is older: a
run that resumes reads one of them, never both.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, BinaryIO

from resnet_cli.errors import OutputError
from resnet_cli.files import existing_error, lock_file, sync_file, sync_folder, whole_file
from resnet_cli.records import Prediction
from resnet_cli.results.formats import format_of, journal_path
from resnet_cli.results.json import json_line, prediction_line
from resnet_cli.results.options import Write, WriterOptions

if TYPE_CHECKING:
    from resnet_cli.results.files.resume import SavedRows

SECONDS, ROWS = 1.0, 1000
"""How long, and how many, rows may wait for the disk at most."""

Line = Callable[[Prediction], bytes]
Finish = Callable[[BinaryIO, BinaryIO, WriterOptions], None]


class GrowingFile:
    """Rows reach the system at once, which outlives the program, and the disk soon after."""

    def __init__(self, file: FileIO) -> None:
        """Start a thread that syncs ``file``, which is open for appending."""
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.waiting = 0  # rows that the disk may not have
        self.failure: OSError | None = None  # of the thread, raised at the next row
        self.syncing = Lock()
        self.closed = Event()
        # the last row must not wait for the next one, which may come in an hour
        self.thread = Thread(target=self.keep_syncing, daemon=True)
        self.thread.start()

    def append(self, row: bytes) -> None:
        """Write one row, or none of it.

        Raises:
            OSError: it could not be written, or an earlier one did not reach the disk.
        """
        if self.failure is not None:
            raise self.failure
        try:
            written = self.file.write(row)
            while written < len(row):  # the disk is about to be full, and the next says so
                written += self.file.write(row[written:])
        except OSError:
            with suppress(OSError):
                self.file.truncate(self.size)
            raise
        self.size += len(row)
        self.waiting += 1
        if self.waiting >= ROWS:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk has all rows.

        Raises:
            OSError: it lacks some, or the file was removed.
        """
        with self.syncing:
            if self.waiting:
                self.waiting = 0  # first: a row that comes meanwhile waits for the next time
                sync_file(self.file)
            if os.fstat(self.file.fileno()).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "it was removed while the run went on")

    def keep_syncing(self) -> None:
        """Sync every second until the file is closed or fails."""
        while self.failure is None and not self.closed.wait(SECONDS):
            try:
                self.sync()
            except OSError as error:
                self.failure = error

    def close(self) -> None:
        """Sync the last rows and close the file.

        Raises:
            OSError: some rows did not reach the disk.
        """
        self.closed.set()
        self.thread.join()
        with self.file:
            if self.failure is not None:
                raise self.failure
            self.sync()


@contextmanager
def growing_file(path: Path, options: WriterOptions) -> Iterator[GrowingFile]:
    """Open a file for appending: a new one, one that is replaced, or one that is resumed.

    Raises:
        OutputError: it already exists, another run is writing it, or has written it meanwhile.
        OSError: it cannot be written.
    """
    if options.saved is None and not options.overwrite:
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise existing_error(path, format_of(path).remedy) from None
    with FileIO(path, "a") as file:
        lock_file(file, path)
        size = os.fstat(file.fileno()).st_size
        if options.saved is not None and options.saved.size != size:
            raise OutputError(f"cannot resume {path}: another run has written it meanwhile")
        end = 0 if options.saved is None else options.saved.end
        if end < size:
            file.truncate(end)
        with closing(GrowingFile(file)) as growing:
            sync_folder(path.parent)
            yield growing


@contextmanager
def append_lines(path: Path, options: WriterOptions, header: bytes, line: Line) -> Iterator[Write]:
    """Append a line for each prediction.

    Args:
        path: the file.
        options: how results are laid out.
        header: of the file, also of one without rows; may be empty.
        line: makes a line of a prediction.
    """
    with growing_file(path, options) as file:

        def begin() -> None:
            if file.size < len(header):
                file.append(header)

        def write(prediction: Prediction) -> None:
            begin()
            file.append(line(prediction))

        try:
            yield write
        finally:
            begin()


@contextmanager
def journal_rows(path: Path, options: WriterOptions, finish: Finish) -> Iterator[Write]:
    """Collect rows in a journal, from which ``finish`` makes the file when the run ends or stops.

    A finished file stays as it is until there is a row to add.

    Args:
        path: the file.
        options: how results are laid out.
        finish: writes the rows of an open journal to an open file.
    """
    with ExitStack() as stack:
        begun: list[Write] = []

        def write(prediction: Prediction) -> None:
            if not begun:
                begun.append(stack.enter_context(collect_rows(path, options, finish)))
            begun[0](prediction)

        if options.saved is None or journal_path(path).exists() or not path.exists():
            begun.append(stack.enter_context(collect_rows(path, options, finish)))
        yield write


@contextmanager
def collect_rows(path: Path, options: WriterOptions, finish: Finish) -> Iterator[Write]:
    """Open the journal now, and make the file from it at the end.

    Raises:
        OutputError: the file exists by now.
    """
    if options.saved is None and not options.overwrite and path.exists():
        raise existing_error(path, format_of(path).remedy)
    journal = journal_path(path)
    if options.saved is not None and not journal.exists():
        size = begin_journal(journal, path, options.saved)
        options = replace(options, saved=options.saved.moved(size))
    with growing_file(journal, options) as file:
        if options.overwrite:
            path.resolve().unlink(missing_ok=True)
        layout = options.layout
        try:
            yield lambda prediction: file.append(prediction_line(prediction, layout))
        finally:
            file.sync()
            with journal.open("rb") as rows, whole_file(path) as finished:
                finish(rows, finished, options)
    journal.unlink()
    sync_folder(path.parent)


def begin_journal(journal: Path, path: Path, saved: "SavedRows") -> int:
    """Copy the rows of a finished file, if it exists, into a new journal, and return its size.

    Raises:
        OutputError: the file has changed since ``saved`` was read from it.
    """
    with whole_file(journal) as new:
        if path.exists():
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != saved.size:
                    raise OutputError(f"cannot resume {path}: another run has written it meanwhile")
                read = format_of(path).read
                for line in read(file, json_line) if read else ():
                    new.write(line)
        return new.tell()
