"""The pages of a TIFF: where each begins, and a copy of one page as a TIFF of its own.

A copy is read as the first page of any file is, without the rest of a file of a thousand pages.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from resnet_cli.errors import ImageError
from resnet_cli.images.tiff import (
    COMPRESSION,
    REDUCED,
    STARTS,
    STRIP_BYTES,
    STRIPS,
    SUB_IFDS,
    TILE_BYTES,
    TILES,
    is_bigtiff,
)

SIZES: Mapping[int, int] = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
    17: 8, 18: 8,
}  # fmt: skip
"""Bytes of a value by the number of its type."""

WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of offsets and counts: letter of ``struct``

DATA = {STRIPS: STRIP_BYTES, TILES: TILE_BYTES}  # places of data: tag of their bytes

ELSEWHERE = frozenset({REDUCED, SUB_IFDS, 34665, 34853, 40965})
"""Tags that lead to other directories, and the mark of a preview: a copy has none of them."""

OLD_JPEG = 6  # compression whose tables lie anywhere

COPIES = 1 | 4  # bits of REDUCED: a smaller copy of another page, and a mask of one


@dataclass(frozen=True, slots=True)
class TiffEntry:
    """A tag as it is stored."""

    tag: int
    kind: int  # number of its type
    count: int
    value: bytes  # its values, or the place where they lie
    data: bytes | None = None  # its values, where they were changed

    @property
    def bytes(self) -> int:
        """How many its values take."""
        return SIZES.get(self.kind, 0) * self.count


class Directories:
    """The directories of an open TIFF, each of which describes a page."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header of a file for which ``is_tiff`` is true."""
        self.file = file
        self.size = file.seek(0, 2)
        self.header = self.read(0, 16)
        self.is_big = is_bigtiff(self.header)
        self.order = "<" if self.header[:2] == b"II" else ">"
        self.word, self.counter = ("Q", "Q") if self.is_big else ("I", "H")
        self.entry = 20 if self.is_big else 12  # bytes

    def read(self, place: int, count: int) -> bytes:
        """Read up to ``count`` bytes at a place."""
        if place >= self.size:
            return b""
        self.file.seek(place)
        return self.file.read(min(count, self.size - place))

    def number(self, letter: str, place: int) -> int:
        """Read one number; 0 where the file ends before it."""
        data = self.read(place, struct.calcsize(letter))
        whole = len(data) == struct.calcsize(letter)
        return int(struct.unpack(self.order + letter, data)[0]) if whole else 0

    def places(self) -> Iterator[int]:
        """Yield where each directory begins; a chain that leads back to itself ends there."""
        place = self.number(self.word, 8 if self.is_big else 4)
        seen: set[int] = set()
        while place and place not in seen:
            seen.add(place)
            yield place
            after = self.start(place) + self.entry * self.number(self.counter, place)
            place = self.number(self.word, after)

    def start(self, place: int) -> int:
        """Return where the entries of a directory begin."""
        return place + struct.calcsize(self.counter)

    def is_copy(self, place: int) -> bool:
        """Return True for a smaller copy or a mask of another page; the mark stands first."""
        first = self.parse(self.read(self.start(place), self.entry))
        if first is None or first.tag != REDUCED or not self.number(self.counter, place):
            return False
        low = first.value[: SIZES.get(first.kind, 0)]
        return bool(int.from_bytes(low, "little" if self.order == "<" else "big") & COPIES)

    def parse(self, data: bytes) -> TiffEntry | None:
        """Make an entry of its bytes; None where the file ends in it."""
        if len(data) < self.entry:
            return None
        tag, kind, count = struct.unpack(f"{self.order}HH{self.word}", data[: -self.slot])
        return TiffEntry(tag, kind, count, data[-self.slot :])

    @property
    def slot(self) -> int:
        """The bytes that an entry has for its values or their place."""
        return 8 if self.is_big else 4

    def stored(self, entry: TiffEntry) -> bytes:
        """Return the values of an entry as they are stored.

        Raises:
            ImageError: the file ends before them.
        """
        if entry.bytes <= self.slot:
            return entry.value[: entry.bytes]
        place = struct.unpack(self.order + self.word, entry.value)[0]
        data = self.read(place, entry.bytes)
        if len(data) < entry.bytes:
            raise damaged_error()
        return data

    def values(self, entry: TiffEntry) -> tuple[int, ...]:
        """Return whole numbers.

        Raises:
            ImageError: they are of another type, or the file ends before them.
        """
        letter = WHOLE.get(entry.kind)
        if letter is None or not entry.count:
            raise damaged_error()
        return struct.unpack(f"{self.order}{entry.count}{letter}", self.stored(entry))

    def entries(self, place: int) -> list[TiffEntry]:
        """Return the entries of a directory.

        Raises:
            ImageError: the file ends before them.
        """
        count = self.number(self.counter, place)
        data = self.read(self.start(place), count * self.entry)
        if not count or len(data) < count * self.entry:
            raise damaged_error()
        cuts = range(0, len(data), self.entry)
        return [entry for cut in cuts if (entry := self.parse(data[cut : cut + self.entry]))]


def is_tiff(file: BinaryIO) -> bool:
    """Return True if a file begins as TIFFs do."""
    file.seek(0)
    return file.read(4) in STARTS


def damaged_error() -> ImageError:
    """Build the error of a page that cannot be read."""
    return ImageError("its page is damaged or cut off")


def copy_page(file: BinaryIO, place: int) -> bytes:
    """Copy one page of a TIFF to a TIFF of its own.

    Args:
        file: of the pages.
        place: where the directory of the page begins.

    Raises:
        ImageError: the page is damaged.
    """
    directories = Directories(file)
    entries = {entry.tag: entry for entry in directories.entries(place)}
    method = entries.get(COMPRESSION)
    if method and directories.values(method)[0] == OLD_JPEG:
        raise ImageError("its page has the old JPEG compression of TIFF: save it with another")
    return PageCopy(directories, entries).whole()


class PageCopy:
    """A TIFF of one page, as it grows."""

    def __init__(self, source: Directories, entries: Mapping[int, TiffEntry]) -> None:
        """Begin with the entries of the page."""
        self.source, self.entries = source, entries
        self.kept = [entry for entry in entries.values() if entry.tag not in ELSEWHERE]
        self.head = 2 * source.slot  # bytes of the header
        counter = struct.calcsize(source.counter)
        self.front = self.head + counter + source.entry * len(self.kept) + source.slot
        self.body = bytearray()

    def whole(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            ImageError: the page is damaged.
        """
        source, order = self.source, self.source.order
        start = source.header[: self.head - source.slot] + self.word(self.head)
        directory = struct.pack(order + source.counter, len(self.kept))
        for entry in self.kept:
            moved = self.move_data(entry) if entry.tag in DATA else entry
            head = struct.pack(f"{order}HH{source.word}", moved.tag, moved.kind, moved.count)
            directory += head + self.value(moved)
        return start + directory + bytes(source.slot) + bytes(self.body)

    def value(self, entry: TiffEntry) -> bytes:
        """Return what stands in an entry: its values, or the place where they now lie."""
        data = self.source.stored(entry) if entry.data is None else entry.data
        if len(data) <= self.source.slot:
            return data.ljust(self.source.slot, b"\0")
        return self.word(self.append(data))

    def move_data(self, entry: TiffEntry) -> TiffEntry:
        """Append strips or tiles to the file, and return the entry with their new places.

        Raises:
            ImageError: they are damaged.
        """
        sizes = self.entries.get(DATA[entry.tag])
        if sizes is None or sizes.count != entry.count:
            raise damaged_error()
        pairs = zip(self.source.values(entry), self.source.values(sizes), strict=True)
        places = [self.append(self.source.read(*pair)) for pair in pairs]
        data = b"".join(map(self.word, places))
        return replace(entry, kind=16 if self.source.is_big else 4, data=data)

    def append(self, data: bytes) -> int:
        """Append data to the file, and return its place.

        Raises:
            ImageError: there are more than in the whole file: some are used again and again.
        """
        place = self.front + len(self.body)
        self.body += data + bytes(len(data) % 2)
        if len(self.body) > 2 * self.source.size:
            raise damaged_error()
        return place

    def word(self, place: int) -> bytes:
        """Return a place as it is stored."""
        return struct.pack(self.source.order + self.source.word, place)
