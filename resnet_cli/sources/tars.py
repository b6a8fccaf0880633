"""The members of a .tar, read once from front to back, compressed or not.

Python's ``tarfile`` ends quietly where an archive is damaged, keeps every member, and may read
without end where the archive says so. So its headers are read here one after the other, each by
``TarInfo``. A tar on this machine that is not compressed is not a stream: only its headers are
read, and each worker reads the members that it decodes.
"""

import bz2
import gzip
import lzma
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from tarfile import (
    BLKTYPE,
    BLOCKSIZE,
    CHRTYPE,
    DIRTYPE,
    ENCODING,
    FIFOTYPE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    LNKTYPE,
    SYMTYPE,
    HeaderError,
    TarInfo,
)
from types import MappingProxyType
from typing import BinaryIO, Protocol, cast

from resnet_cli.errors import ImageError, InputError
from resnet_cli.records import Stored
from resnet_cli.sources.inputs import is_remote, open_container, read_range
from resnet_cli.sources.members import (
    BOMB,
    CUT_OFF,
    DEVICE,
    LINK,
    RATIO,
    Archive,
    Member,
    Passing,
    explain_failure,
    explain_other,
)


class Readable(Protocol):
    """What is read from front to back."""

    def read(self, size: int, /) -> bytes:
        """Read on."""


NO_END = "ends without the mark of an end: it may be cut off"
ENDS_EARLY = "is cut off before its end"
WRONG_SUM = "is damaged: its checksum is another, so that images in it may be damaged too"
AFTER_END = "has more after the mark of its end at byte {:,}, which was not read"
WRONG = "is damaged at byte {:,}: what follows it was not read"
FAILED = "cannot be read on from byte {:,}: {}"
SPARSE = "is stored as a sparse file, which is not read"

PAX = (b"x", b"X")
HEADERS = (*PAX, b"g", GNUTYPE_LONGNAME, GNUTYPE_LONGLINK)  # which precede that of a member
LONGEST_HEADER = 1 << 20  # bytes of names and other facts in front of a member

WITHOUT_DATA = (LNKTYPE, SYMTYPE, CHRTYPE, BLKTYPE, DIRTYPE, FIFOTYPE)

TROUBLES: Mapping[bytes, str] = MappingProxyType(
    {
        **dict.fromkeys((LNKTYPE, SYMTYPE), LINK),
        **dict.fromkeys((CHRTYPE, BLKTYPE, FIFOTYPE), DEVICE),
        GNUTYPE_SPARSE: SPARSE,
    }
)
"""Type of a member: why it has no bytes that could be read."""

MORE_AFTER_HEADER, MORE_AFTER_MAP = 482, 504  # places of a byte that is 1 if a block follows

RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")  # of a header of PAX

AT_ONCE = 1 << 20  # bytes that are read at once
SUSPECT = 1 << 30  # bytes; what unpacks to less is no bomb

OPENERS: Mapping[bytes, Callable[[BinaryIO], Readable]] = MappingProxyType(
    {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
)
"""First bytes of a compressed file: what unpacks it."""

NOT_GZIP = "Not a gzipped file"

LONGEST_MARK = max(map(len, OPENERS))


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes of a file; they are read by a file of their own, in whatever process."""

    place: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return them.

        Raises:
            ImageError: they cannot be read, or are no longer there.
        """
        try:
            data = read_range(self.place, self.offset, self.size)
        except Exception as error:
            raise ImageError(explain_failure(error, self.place)) from error
        if len(data) < self.size:
            raise ImageError(CUT_OFF)
        return data


class TarDamageError(Exception):
    """An archive that cannot be read on."""


class Packed:
    """A file whose first bytes were looked at, and that counts what is read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.count = 0
        self.start = file.read(LONGEST_MARK)
        self.pending = self.start

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self.pending if size < 0 else self.pending[:size]
        self.pending = self.pending[len(data) :]
        data = data or self.file.read(size)
        self.count += len(data)
        return data


class TarReader:
    """An archive that is read from front to back, and unpacked on the way.

    Attributes:
        position: bytes so far, unpacked.
        compressed: whether it has to be unpacked.
        end: bytes of the file, if members can be read later, each on its own.
    """

    def __init__(self, file: BinaryIO, place: str) -> None:
        self.place = place
        self.position = 0
        self.packed = Packed(file)
        opener = next(
            (OPENERS[mark] for mark in OPENERS if self.packed.start.startswith(mark)), None
        )
        self.compressed = opener is not None
        self.end = None if self.compressed or is_remote(place) else file.seek(0, os.SEEK_END)
        self.failure: Exception | None = None
        self.file: Readable = file if self.end is not None else self.packed
        if self.end is not None:
            file.seek(0)
        if opener is not None:
            self.file = opener(cast(BinaryIO, self.packed))

    def take(self, size: int) -> bytes:
        """Read on; what is returned is shorter only at the end.

        Raises:
            Exception: whatever stops it, also each time after that.
        """
        if self.failure is not None:
            raise self.failure
        pieces = []
        try:
            while size and (piece := self.file.read(min(size, AT_ONCE))):
                pieces.append(piece)
                size -= len(piece)
                self.position += len(piece)
                self.refuse_bomb()
        except Exception as error:
            self.failure = error
            raise
        return b"".join(pieces)

    def refuse_bomb(self) -> None:
        """Stop before endless data, which would take hours even to skip.

        Raises:
            TarDamageError: it is far larger than its file.
        """
        if self.compressed and self.position > max(SUSPECT, RATIO * self.packed.count):
            raise TarDamageError(BOMB.format(f"over {RATIO}"))

    def skip_to(self, position: int) -> None:
        """Skip what lies before a position.

        Raises:
            TarDamageError: the archive ends before.
        """
        if self.end is not None and position <= self.end:
            cast(BinaryIO, self.file).seek(position)
            self.position = position
        while self.position < position:
            if self.end is not None or not self.take(min(AT_ONCE, position - self.position)):
                raise TarDamageError(ENDS_EARLY)

    def content(self, size: int) -> Stored | str:
        """Return where the bytes of the member lie that begins here."""
        if self.end is None:
            return Passing(self.take, size, self.place)
        if self.position + size > self.end:
            return CUT_OFF
        return Slice(self.place, self.position, size)


def is_compressed(place: str) -> bool:
    """Return True if a file has to be unpacked from front to back; False also if it is gone."""
    try:
        with open_container(place) as file:
            return file.read(LONGEST_MARK).startswith(tuple(OPENERS))
    except (InputError, OSError):
        return False


def read_members(archive: Archive) -> Generator[Member | str]:
    """Yield the members of an archive as they pass; a text says why it was not read on."""
    try:
        file = open_container(archive.place)
    except Exception as error:  # noqa: BLE001 - whatever it is, the archive cannot be read
        yield explain_failure(error, archive.place)
        return
    with closing(file):
        try:
            reader = TarReader(file, archive.place)
        except Exception as error:  # noqa: BLE001 - likewise
            yield explain_failure(error, archive.place)
            return
        try:
            yield from walk_members(reader)
        except TarDamageError as error:
            yield str(error)
        except EOFError:
            yield ENDS_EARLY
        except Exception as error:  # noqa: BLE001 - likewise
            yield FAILED.format(reader.position, explain_failure(error, archive.place))


def walk_members(reader: TarReader) -> Iterator[Member]:
    """Yield the members of an archive, each before what follows it is read.

    Raises:
        TarDamageError: the archive is damaged, or not ended.
    """
    facts = Facts()
    while block := reader.take(BLOCKSIZE):
        if not any(block):
            check_tar_end(reader)
            return
        start = reader.position - len(block)
        info = read_header(block, start)
        size = info.size if facts.size is None else facts.size
        if info.type in HEADERS:
            facts.add(info.type, reader.take(checked_size(info.size, LONGEST_HEADER, start)))
            reader.skip_to(start + BLOCKSIZE + in_blocks(info.size))
            continue
        if info.type == GNUTYPE_SPARSE:
            skip_map(reader, block)
        begun = reader.position
        size = 0 if info.type in WITHOUT_DATA else checked_size(size, None, start)
        if info.type != DIRTYPE:
            yield Member(
                name=facts.name or info.name,
                size=size,
                content=facts.trouble or TROUBLES.get(info.type) or reader.content(size),
                version=str(info.mtime),
            )
        reader.skip_to(begun + in_blocks(size))
        facts = Facts()
    raise TarDamageError(NO_END if reader.position else explain_other("tar", b""))


def check_tar_end(reader: TarReader) -> None:
    """Check what follows the mark of an end: zeros and, if it is compressed, a checksum.

    Raises:
        TarDamageError: there is more in the archive, or the checksum is another.
    """
    place = reader.position
    try:
        if reader.take(AT_ONCE).strip(b"\0"):
            raise TarDamageError(AFTER_END.format(place))
        while reader.compressed and reader.take(AT_ONCE):
            pass
    except gzip.BadGzipFile as error:
        if not str(error).startswith(NOT_GZIP):  # which is behind the archive
            raise TarDamageError(WRONG_SUM) from error


def read_header(block: bytes, start: int) -> TarInfo:
    """Read the header of a member.

    Raises:
        TarDamageError: it is none.
    """
    try:
        return TarInfo.frombuf(block, ENCODING, "surrogateescape")
    except (HeaderError, ValueError) as error:
        if not start:
            raise TarDamageError(explain_other("tar", block)) from error
        wrong = WRONG.format(start) if len(block) == BLOCKSIZE else ENDS_EARLY
        raise TarDamageError(wrong) from error


def checked_size(size: int, most: int | None, start: int) -> int:
    """Return a size that a header states.

    Raises:
        TarDamageError: it cannot be.
    """
    if size < 0 or (most is not None and size > most):
        raise TarDamageError(WRONG.format(start))
    return size


def in_blocks(size: int) -> int:
    """Return the bytes that a member takes in an archive."""
    return -(-size // BLOCKSIZE) * BLOCKSIZE


def skip_map(reader: TarReader, block: bytes) -> None:
    """Skip what an old header of a sparse file has in further blocks."""
    more = block[MORE_AFTER_HEADER]
    while more:
        block = reader.take(BLOCKSIZE)
        if len(block) < BLOCKSIZE:
            raise TarDamageError(ENDS_EARLY)
        more = block[MORE_AFTER_MAP]


@dataclass(slots=True)
class Facts:
    """What headers in front of a member state about it."""

    name: str = ""
    size: int | None = None
    trouble: str | None = None

    def add(self, kind: bytes, data: bytes) -> None:
        """Take the facts of one more header."""
        if kind == GNUTYPE_LONGNAME:
            self.name = as_name(data.partition(b"\0")[0])
        elif kind in PAX:
            for key, value in pax_records(data):
                self.add_record(key, value)

    def add_record(self, key: bytes, value: bytes) -> None:
        """Take one fact; the others do not concern the bytes of an image."""
        if key.startswith(b"GNU.sparse."):
            self.trouble = SPARSE
        if key in (b"path", b"GNU.sparse.name"):
            self.name = as_name(value)
        elif key == b"size":
            self.size = int(value)


def pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a header of PAX."""
    place = 0
    while found := RECORD.match(data, place):
        end = place + int(found[1])
        if end <= found.end():
            return
        yield found[2], data[found.end() : end - 1]
        place = end


def as_name(data: bytes) -> str:
    """Decode a name as ``tarfile`` does, without the slash at its end."""
    return data.decode(ENCODING, "surrogateescape").rstrip("/")
