"""A zip archive of torch.save: its parts are read in place, or unpacked within limits."""

import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO, Protocol
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from resnet_cli.errors import CheckpointError

LARGEST_TEXT = 1 << 22  # bytes of a compressed description; torch compresses code only
MOST_UNPACKED = 8  # times the size of the file; weights hardly compress
BLOCK = 1 << 20  # bytes unpacked at a time
LOCAL_HEADER = 30  # bytes before the name of an entry


class Parts(Protocol):
    """Named parts of a checkpoint, in an archive or in the folder it was unpacked into."""

    def __contains__(self, name: str) -> bool: ...

    def values(self, name: str) -> memoryview:
        """Return the bytes of numbers."""

    def text(self, name: str) -> bytes:
        """Return the bytes of a description."""


def map_file(path: Path) -> memoryview:
    """Map a file into memory: read when it is accessed, never written back."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


class Unpacked:
    """A folder into which an archive of torch.save was unpacked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: str) -> bool:
        path = (self.folder / name).resolve()  # a link may lead out of the folder
        return path.is_relative_to(self.folder.resolve()) and path.is_file()

    def values(self, name: str) -> memoryview:
        """Return the bytes of a part, in place.

        Raises:
            CheckpointError: the part is missing.
        """
        if name not in self:
            raise CheckpointError(f"its part {name} is missing: unpack it again")
        path = self.folder / name
        return map_file(path) if path.stat().st_size else memoryview(b"")

    def text(self, name: str) -> bytes:
        """Return the bytes of a description.

        Raises:
            CheckpointError: the part is missing.
        """
        return bytes(self.values(name))


class Archive:
    """A zip archive whose entries are read in place, as torch.save stores them."""

    def __init__(self, file: IO[bytes], data: memoryview) -> None:
        """Read the directory of the archive.

        Raises:
            BadZipFile: it has none, as where the file is cut off.
        """
        self.file, self.data = file, data
        with ZipFile(file) as archive:
            self.entries = {entry.filename: entry for entry in archive.infolist()}
        roots = {name.partition("/")[0] for name in self.entries}
        self.root = roots.pop() + "/" if len(roots) == 1 else ""
        self.room = MOST_UNPACKED * len(data)  # bytes that may still be unpacked

    def __contains__(self, name: str) -> bool:
        return self.root + name in self.entries

    @property
    def names(self) -> list[str]:
        """Names of all entries."""
        return list(self.entries)

    def values(self, name: str) -> memoryview:
        """Return the bytes of an entry: in place, or unpacked where it is compressed.

        Raises:
            CheckpointError: missing, cut off, or far larger unpacked than the file.
        """
        entry = self.entry(name)
        if entry.compress_type != ZIP_STORED:
            return self.unpacked(name, entry)
        header = self.data[entry.header_offset : entry.header_offset + LOCAL_HEADER]
        if len(header) < LOCAL_HEADER or bytes(header[:4]) != b"PK\x03\x04":
            raise CheckpointError(f"its part {name} is not where it should be: it is damaged")
        lengths = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
        start = entry.header_offset + LOCAL_HEADER + sum(lengths)
        part = self.data[start : start + entry.file_size]
        if len(part) < entry.file_size:
            raise CheckpointError(f"its part {name} reaches past the end: it is damaged")
        return part

    def unpacked(self, name: str, entry: ZipInfo) -> memoryview:
        """Unpack a compressed entry into memory.

        Raises:
            CheckpointError: damaged, or compressed further than weights can be.
        """
        self.room -= entry.file_size
        if self.room < 0:
            raise CheckpointError(
                f"its parts unpack to over {MOST_UNPACKED} times its own size: unpack it yourself "
                "and save it with torch.save"
            )
        data = np.empty(entry.file_size, np.uint8).data
        with self.opened(name, entry) as part:
            at = 0
            while block := part.read(BLOCK):
                data[at : at + len(block)] = block  # an entry ends where the directory says
                at += len(block)
            if at < len(data):
                raise EOFError
        return data

    @contextmanager
    def opened(self, name: str, entry: ZipInfo) -> Iterator[IO[bytes]]:
        """Open a compressed entry for reading.

        Raises:
            CheckpointError: damaged, or compressed in a way that Python cannot unpack.
        """
        try:
            with ZipFile(self.file) as archive, archive.open(entry) as part:
                yield part
        except (BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError, EOFError,
                zlib.error, LZMAError) as error:  # fmt: skip
            raise CheckpointError(f"its part {name} is damaged") from error

    def text(self, name: str) -> bytes:
        """Return the bytes of a description, unpacked.

        Raises:
            CheckpointError: missing, damaged, or larger than any description.
        """
        entry = self.entry(name)
        if entry.compress_type == ZIP_STORED:
            return bytes(self.values(name))
        with self.opened(name, entry) as part:
            data = part.read(LARGEST_TEXT + 1)
        if len(data) > LARGEST_TEXT:
            raise CheckpointError(f"its part {name} unpacks to more than {LARGEST_TEXT >> 20} MiB")
        return data

    def entry(self, name: str) -> ZipInfo:
        """Return the directory entry of a part.

        Raises:
            CheckpointError: the part is missing.
        """
        if name not in self:
            raise CheckpointError(f"its part {name} is missing: it is damaged")
        return self.entries[self.root + name]
