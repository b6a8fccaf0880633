"""The images in the column of a Parquet table, read by the workers.

Rows are decoded a window at a time, in the order of the file, whatever the size of its row groups.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any, BinaryIO, cast
from weakref import finalize

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_cli.errors import ImageError, InputError, describe
from resnet_cli.remote import explain_arrow as explain_remote
from resnet_cli.sources.inputs import is_remote, open_container
from resnet_cli.system import free_memory

BYTES, PATH = "bytes", "path"  # the fields of an image as Hugging Face's datasets writes it

BUFFER = 1 << 20  # bytes that are read from a file at once

WINDOW = 4 << 20  # bytes of the rows that are decoded at once, as far as the pages allow
LONGEST_WINDOW = 1024  # rows

KEPT_LEAST = 128 << 20  # bytes of windows that wait for slower workers
KEPT_SHARE = 1 / 16  # of the free memory, where that is more

OPEN_FILES = 4  # shards follow each other, and slow workers are one behind

FAILURES = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError)
"""What pyarrow raises for files that are damaged, or that it does not know."""


class RemoteError(Exception):
    """A server does not send a part of a file."""


class RemoteFile:
    """A file by URL, whose parts are asked for again where that may help."""

    def __init__(self, url: str) -> None:
        """Open it.

        Raises:
            InputError: the server refuses it.
        """
        self.file = open_container(url)
        self.seek, self.tell, self.close = self.file.seek, self.file.tell, self.file.close

    @property
    def closed(self) -> bool:
        """Return True after ``close``."""
        return self.file.closed

    def read(self, size: int = -1) -> bytes:
        """Read some bytes.

        Raises:
            RemoteError: they do not come.
        """
        from resnet_cli.sources.fetch import ask_again

        place = self.tell()

        def read_part() -> bytes:
            self.seek(place)
            return self.file.read(size)

        try:
            return ask_again(read_part)
        except Exception as error:  # noqa: BLE001 - whatever a file system raises
            raise RemoteError(explain_remote(error)) from None


def open_parts(path: str) -> BinaryIO:
    """Open a file on this machine or at a URL, to be read part by part.

    Raises:
        InputError, OSError: it cannot be opened.
    """
    return cast(BinaryIO, RemoteFile(path)) if is_remote(path) else open_container(path)


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The image in a row of a table."""

    path: str
    column: str
    row: int  # from 0, over the file
    version: str  # of the file: one that was replaced is opened again

    def read(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            ImageError: they cannot be read.
        """
        try:
            reader = open_reader(self.path, self.column, self.version, os.getpid())
            return reader.read(self.row)
        except (InputError, RemoteError, *FAILURES) as error:
            raise ImageError(f"cannot be read from the table: {explain_arrow(error)}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the image itself of a table by URL: a worker process need not know the network."""
        if not is_remote(self.path):
            return StoredRow, (self.path, self.column, self.row, self.version)
        try:
            return bytes, (self.read(),)
        except ImageError as error:
            return str, (str(error),)


@lru_cache(OPEN_FILES)
def open_reader(path: str, column: str, _version: str, _process: int) -> "RowReader":
    """Open a table once in each process: a fork would share the place in its file."""
    return RowReader(path, column)


class RowReader:
    """Reads images from a column, for several workers that ask for neighbouring rows.

    Rows are decoded in the order of the file. A window of them waits until each of its rows has
    been taken, or until there are too many; for an older row its row group is read again.
    """

    def __init__(self, path: str, column: str) -> None:
        """Open the file.

        Raises:
            OSError, pa.ArrowException: it cannot be read.
        """
        file = open_parts(path)
        finalize(self, file.close)
        self.table = open_table(file)
        schema = self.table.schema_arrow.field(column).type
        fields = [schema.field(place).name for place in range(schema.num_fields)]
        wanted = [name for name in (BYTES, PATH) if name in fields]
        self.columns = [f"{column}.{name}" for name in wanted] or [column]
        self.starts = group_starts(self.table.metadata)
        self.lock = Lock()
        self.windows: OrderedDict[int, Window] = OrderedDict()  # by their first rows
        self.kept = max(KEPT_LEAST, int(KEPT_SHARE * (free_memory() or 0)))
        self.failures: dict[int, Failure] = {}  # by row group
        self.group, self.next_row = -1, 0
        self.batches: Iterator[pa.RecordBatch] = iter(())

    def read(self, row: int) -> bytes:
        """Return the image of a row.

        Raises:
            ImageError: there is none, or its row group is damaged.
        """
        with self.lock:
            value = self.window_of(row).take(row)
        return bytes_of(value)

    def window_of(self, row: int) -> "Window":
        """Return the window with a row, decoding up to it.

        Raises:
            ImageError: its row group is damaged.
        """
        if not 0 <= row < self.starts[-1]:
            raise ImageError(f"the table has only {self.starts[-1]:,} rows by now")
        for start, window in self.windows.items():
            if start <= row < start + len(window.values):
                return window
        group = bisect_right(self.starts, row) - 1
        if group != self.group or row < self.next_row:
            self.start_group(group)
        while True:
            window = self.decode_next()
            if row < self.next_row:
                return window

    def start_group(self, group: int) -> None:
        """Begin with the first row of a row group."""
        metadata = self.table.metadata.row_group(group)
        # of all columns: pyarrow 26 aborts the process when it describes a damaged one
        each = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        self.group, self.next_row = group, self.starts[group]
        self.batches = self.table.iter_batches(
            min(LONGEST_WINDOW, max(1, WINDOW // each)),
            row_groups=[group],
            columns=self.columns,
            use_threads=False,
        )

    def decode_next(self) -> "Window":
        """Decode the next rows of a row group, and keep them.

        Raises:
            ImageError: they are damaged.
        """
        failure = self.failures.get(self.group)
        if failure and self.next_row >= failure.row:
            raise ImageError(failure.reason)
        try:
            values = next(self.batches).column(0)
        except RemoteError as error:
            self.group = -1  # for the next row it is tried again
            raise ImageError(str(error)) from error
        except (StopIteration, *FAILURES) as error:
            why = "it ends too soon" if isinstance(error, StopIteration) else explain_arrow(error)
            reason = f"row group {self.group} of the table is damaged: {why}"
            self.failures[self.group] = Failure(self.next_row, reason)
            raise ImageError(reason) from error
        window = self.windows[self.next_row] = Window(self.next_row, values)
        self.next_row += len(values)
        self.make_room()
        return window

    def make_room(self) -> None:
        """Forget the windows whose rows were all taken, and the oldest ones of too many."""
        for start in [start for start, window in self.windows.items() if not window.left]:
            del self.windows[start]
        size = sum(window.values.nbytes for window in self.windows.values())
        while len(self.windows) > 1 and size > self.kept:
            size -= self.windows.popitem(last=False)[1].values.nbytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row group cannot be read to its end."""

    row: int  # the first one that cannot be read
    reason: str


class Window:
    """Neighbouring rows of a table, decoded."""

    def __init__(self, start: int, values: pa.Array) -> None:
        """Begin with none of them taken; ``start`` is the first row."""
        self.start = start
        self.values = values
        self.left = set(range(start, start + len(values)))

    def take(self, row: int) -> Any:
        """Return the value of a row: bytes, bytes and a path, or None."""
        self.left.discard(row)
        return self.values[row - self.start].as_py()


def bytes_of(value: Any) -> bytes:
    """Return the bytes of an image, given as such or beside a path.

    Raises:
        ImageError: there are none.
    """
    path = None
    if isinstance(value, dict):
        value, path = value.get(BYTES), value.get(PATH)
    if value is not None:
        return bytes(value)
    if path is None:
        raise ImageError("its cell in the table is empty")
    raise ImageError(
        f"the table has no bytes of it, only the path {path!r}, which is not opened: embed the "
        "images, or name the files themselves"
    )


def open_table(file: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file, whose columns are then read piece by piece, with their checksums."""
    return pq.ParquetFile(
        file,
        buffer_size=BUFFER,
        pre_buffer=False,
        page_checksum_verification=True,
    )


def group_starts(metadata: pq.FileMetaData) -> list[int]:
    """Return the first row of each row group, and the number of rows after the last."""
    counts = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return list(accumulate(counts, initial=0))


def explain_arrow(error: Exception) -> str:
    """Say in one line what pyarrow found."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return describe(error).partition(": ")[2] or type(error).__name__
