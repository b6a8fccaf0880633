"""The members of a .zip, by its directory or, if that is lost, by their own headers."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from stat import S_IFMT, S_ISLNK, S_ISREG
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipExtFile, ZipFile, ZipInfo

from resnet_cli.errors import ImageError
from resnet_cli.images.files import HEAD, LARGEST_FILE
from resnet_cli.records import Stored
from resnet_cli.sources.fetch import (
    WHOLE_ONLY,
    Connection,
    Fetchable,
    RemoteObject,
    TooLargeError,
)
from resnet_cli.sources.inputs import is_remote, open_container, read_range
from resnet_cli.sources.members import (
    CUT_OFF,
    DAMAGE,
    DAMAGED,
    DEVICE,
    LINK,
    Archive,
    Member,
    explain_failure,
    explain_other,
)
from resnet_cli.text import amount

ENCRYPTED = "is encrypted in the archive"
METHOD = "is compressed by {}: pack the archive again with deflate"
METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}  # with which zips are written
NO_DIRECTORY = "its directory is missing or damaged, as if it were cut off: {} found without it"

NOT_LISTED = (*DAMAGE, NotImplementedError, OverflowError, RuntimeError)
"""What zipfile raises on a directory that is damaged, missing or of another kind."""

LOCAL = struct.Struct("<4s5H3L2H")
"""In front of each member: signature, version, flags, method, time, date, checksum, bytes packed
and unpacked, and the lengths of name and extra fields."""

END = struct.Struct("<4s4H2LH")
"""At the end of the directory: signature, three numbers, the number of members, and others."""

SIGNATURE = b"PK\3\4"
END_SIGNATURE = b"PK\5\6"
MANY_MEMBERS = 0xFFFF  # or more: their number is in another record
SIGNATURES = (SIGNATURE, b"PK\1\2", b"PK\5\6", b"PK\6\6")  # also of directories and their ends
ENCRYPTION, LATER_SIZES, UTF8 = 1, 8, 1 << 11  # flags
ZIP64 = 0xFFFFFFFF  # the size is in an extra field
ZIP64_FIELD = 1

SLACK = 64  # bytes by which the extra fields of a header may be longer than in the directory

UNPACKED_AT_ONCE = 4096  # bytes of what unpacks without a bound on its size
UNIX = 3  # the system whose modes of files are kept


ReadRange = Callable[[int, int], bytes]
"""First byte and number of bytes -> the bytes."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """Where the bytes of a member lie; it is read by a file of its own, in whatever process."""

    place: str  # of the archive
    offset: int  # of its header
    ahead: int  # bytes of the name and the extra fields in its header, about
    method: int
    packed: int  # bytes
    size: int  # bytes, unpacked
    checksum: int

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: they are damaged, or packed by an unknown method.
        """
        return self.load(partial(read_range, self.place))

    def load(self, read: ReadRange) -> bytes:
        """Return its bytes, read in whatever way.

        Raises:
            ImageError: they are damaged, or packed by an unknown method.
        """
        try:
            return self.unpack(self.read_packed(read))
        except (ImageError, TooLargeError):
            raise
        except NotImplementedError as error:
            name = METHODS.get(self.method, f"method {self.method}")
            raise ImageError(METHOD.format(name)) from error
        except Exception as error:
            raise ImageError(explain_failure(error, self.place)) from error

    def read_packed(self, read: ReadRange) -> bytes:
        """Read the bytes behind its header, whose length only the header itself states.

        Raises:
            ImageError: the archive ends within them, or has no such member.
        """
        data = read(self.offset, self.span)
        if len(data) < LOCAL.size:
            raise ImageError(CUT_OFF)
        signature, *_, name_size, extra_size = LOCAL.unpack_from(data)
        if signature != SIGNATURE:
            raise ImageError(DAMAGED)
        begun = LOCAL.size + name_size + extra_size
        packed = data[begun : begun + self.packed]
        if len(packed) < self.packed:
            packed = read(self.offset + begun, self.packed)
        if len(packed) < self.packed:
            raise ImageError(CUT_OFF)
        return packed

    def unpack(self, packed: bytes) -> bytes:
        """Unpack its bytes.

        Raises:
            ImageError: they are not as many as the archive states.
        """
        with ZipExtFile(BytesIO(packed), "r", self.info) as member:
            if self.method in (ZIP_STORED, ZIP_DEFLATED):
                data = member.read(self.size + 1)
            else:
                data = b"".join(iter(partial(member.read, UNPACKED_AT_ONCE), b""))
        if len(data) != self.size:
            raise ImageError(DAMAGED)
        return data

    @property
    def span(self) -> int:
        """Return the bytes that hold its header and its data."""
        return LOCAL.size + self.ahead + self.packed

    @property
    def info(self) -> ZipInfo:
        """Return what zipfile needs to know of it."""
        info = ZipInfo()
        info.compress_type, info.compress_size = self.method, self.packed
        info.file_size, info.CRC = self.size, self.checksum
        return info


@dataclass(frozen=True, slots=True)
class RemoteMember(Fetchable):
    """A member of an archive on a server, which may be fetched ahead."""

    member: ZipMember
    size: int | None  # bytes to fetch
    timeout: float  # seconds

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: they do not come, or are damaged.
        """
        return self.fetch(Connection())

    def fetch(self, connection: Connection, limit: int = LARGEST_FILE) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: they do not come, or are damaged.
            TooLargeError: there are more than ``limit``.
        """

        def read(start: int, size: int) -> bytes:
            wanted = RemoteObject(self.member.place, size, self.timeout, start)
            return wanted.fetch(connection, limit)

        return self.member.load(read)


def stored_where(archive: Archive, member: ZipMember) -> Stored:
    """Return a member as its archive is read: here, or from a server."""
    if not is_remote(archive.place):
        return member
    return RemoteMember(member, member.span, archive.timeout)


def list_zip(archive: Archive) -> list[Member | str]:
    """List the members of an archive; a text says what is wrong with the archive itself."""
    try:
        with open_container(archive.place) as file:
            if not file.seekable():
                return [WHOLE_ONLY]
            try:
                infos = read_directory(file)
            except NOT_LISTED:
                return recovered(archive, file)
    except Exception as error:  # noqa: BLE001 - whatever it is, the archive cannot be read
        return [explain_failure(error, archive.place)]
    return with_labels_first([listed(archive, info) for info in infos if not info.is_dir()])


def read_directory(file: BinaryIO) -> list[ZipInfo]:
    """Read the directory of an archive.

    Raises:
        BadZipFile: it is damaged, or has not as many members as it says at its end.
        Exception: whatever else zipfile raises.
    """
    with ZipFile(file) as directory:
        infos, comment = directory.infolist(), directory.comment
    file.seek(-END.size - len(comment), os.SEEK_END)
    signature, *_, count, _, _, _ = END.unpack(file.read(END.size))
    if signature == END_SIGNATURE and count not in (len(infos), MANY_MEMBERS):
        raise BadZipFile
    return infos


def listed(archive: Archive, info: ZipInfo) -> Member:
    """Return a member as the directory has it."""
    member = ZipMember(
        archive.place,
        info.header_offset,
        len(info.orig_filename.encode(errors="surrogatepass")) + len(info.extra) + SLACK,
        info.compress_type,
        info.compress_size,
        info.file_size,
        info.CRC,
    )
    content: Stored | str = stored_where(archive, member)
    mode = info.external_attr >> 16 if info.create_system == UNIX else 0
    if info.flag_bits & ENCRYPTION:
        content = ENCRYPTED
    elif S_IFMT(mode) and not S_ISREG(mode):
        content = LINK if S_ISLNK(mode) else DEVICE
    return Member(
        name=info.filename,
        size=info.file_size,
        packed=info.compress_size,
        content=content,
        version=f"crc32:{info.CRC:08x}",
    )


def with_labels_first(members: Sequence[Member]) -> list[Member | str]:
    """Put labels before the first image of their sample, which may be far from them."""
    labels: dict[str, list[Member]] = {}
    for member in members:
        if member.is_label:
            labels.setdefault(member.sample, []).append(member)
    if not labels:
        return [*members]
    ordered: list[Member | str] = []
    for member in members:
        if member.is_image:
            ordered += labels.pop(member.sample, ())
        if not member.is_label:
            ordered.append(member)
    for left in labels.values():
        ordered += left
    return ordered


def recovered(archive: Archive, file: BinaryIO) -> list[Member | str]:
    """List the members whose headers follow each other from the start, and say what is wrong.

    Raises:
        ImageError: its server sends no parts of files, so that what was read is not what is there.
    """
    if is_remote(archive.place):
        RemoteObject(archive.place, 1, archive.timeout, start=0).read()
    file.seek(0)
    head = file.read(HEAD)
    if not head.startswith(SIGNATURES):
        return [explain_other("zip", head)]
    members = list(walk_headers(archive, file))
    return [*members, NO_DIRECTORY.format(amount(len(members), "file"))]


def walk_headers(archive: Archive, file: BinaryIO) -> Iterator[Member]:
    """Yield the members of an archive as their own headers describe them.

    Those that are written before their sizes are known cannot be told from what follows them.
    """
    end = file.seek(0, os.SEEK_END)
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(SIGNATURE):
            return
        _, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = LOCAL.unpack(
            header
        )
        name = file.read(name_size).decode("utf-8" if flags & UTF8 else "cp437", "replace")
        extra = file.read(extra_size)
        if ZIP64 in (packed, size):
            size, packed = zip64_sizes(extra) or (size, packed)
        if flags & LATER_SIZES and not packed:
            return
        ahead = name_size + extra_size
        member = ZipMember(archive.place, offset, ahead, method, packed, size, checksum)
        content: Stored | str = stored_where(archive, member)
        offset += member.span
        if flags & ENCRYPTION:
            content = ENCRYPTED
        elif offset > end:
            content = CUT_OFF
        if not name.endswith("/"):
            yield Member(
                name=name,
                size=size,
                packed=packed,
                content=content,
                version=f"crc32:{checksum:08x}",
            )


def zip64_sizes(extra: bytes) -> tuple[int, int] | None:
    """Return the bytes unpacked and packed that an extra field holds."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == ZIP64_FIELD and length >= 16 and len(extra) >= 20:
            return struct.unpack_from("<2Q", extra, 4)
        extra = extra[4 + length :]
    return None
