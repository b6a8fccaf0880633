"""A file that grows by whole rows, which are on the disk within a second."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Event, Lock, Thread

from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.results.files.disk import existing_error, lock_file, sync_file, sync_folder
from resnet_cli.results.options import Write, WriterOptions

SECONDS, ROWS = 1.0, 1000
"""How long, and how many, rows may wait for the disk at most."""


class GrowingFile:
    """Rows reach the system at once, which outlives the program, and the disk soon after."""

    def __init__(self, file: FileIO) -> None:
        """Go on at the end of ``file``, which is open for appending."""
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.waiting = 0  # rows that the disk may not have
        self.failure: OSError | None = None  # of the thread, told at the next row
        self.syncing = Lock()
        self.closed = Event()
        # no row may come for an hour: somebody else has to see to the last one
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
            OSError: it has not, or the file was removed.
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
    """Open a file that grows: a new one, one that starts anew, or one that is gone on with.

    Raises:
        OutputError: it is there already, or another run is writing it, or has done so meanwhile.
        OSError: it cannot be written.
    """
    if options.saved is None and not options.overwrite:
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise existing_error(path) from None
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


Line = Callable[[Prediction], bytes]


@contextmanager
def append_lines(path: Path, options: WriterOptions, header: bytes, line: Line) -> Iterator[Write]:
    """Append a line for each prediction.

    Args:
        path: the file.
        options: how results are laid out.
        header: what the file begins with, if anything, even when it has no rows.
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
