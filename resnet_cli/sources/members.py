"""What archives of every kind have in common: how members are named, chosen and labelled."""

import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from gzip import BadGzipFile
from lzma import LZMAError
from zipfile import BadZipFile

from resnet_cli.errors import ImageError, InputError
from resnet_cli.images.files import LARGEST_FILE, UNKNOWN, describe_failure, identify_file
from resnet_cli.records import Content, Item, Stored
from resnet_cli.remote import TIMEOUT, explain_error, redact_url
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.inputs import is_remote
from resnet_cli.sources.local import SUFFIXES

LINK = "is a link, which is not followed"
DEVICE = "is a device or a pipe, not an image"
OUTSIDE = "its name leads out of the archive, and is not followed"
REPEATED = "another member has its name: only the first of them is read"
CUT_OFF = "the archive is cut off within it"
DAMAGED = "its data in the archive are damaged"
BOMB = "unpacks to {} times its size, as no image does"

RATIO = 200  # times that pixels shrink at most, if they are many
MANY = 64 << 20  # bytes; what is smaller may shrink as it likes

LABELS = ("cls", "json")  # extensions of the files beside an image that state its class
KEYS = ("label", "cls", "class")  # of the class in such a .json
LONGEST_LABEL = 1 << 20  # bytes
INDEX_DIGITS = 10  # of a longer number no class is the index

MOST_IMAGES = 64  # of a sample; names with dots are no reason to hold more in memory

DAMAGE = (
    BadGzipFile,
    BadZipFile,
    EOFError,
    LZMAError,
    IndexError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the libraries of archives and their decompressors raise on damaged data."""

ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive."""

    name: str  # as the archive has it
    size: int  # bytes, unpacked
    packed: int | None = None  # bytes in the archive; None where they are not known
    content: Stored | str  # or why it cannot be read
    version: str = ""  # a checksum or a time

    @property
    def is_image(self) -> bool:
        """Return whether its suffix is one of an image."""
        return os.path.splitext(self.name)[1].lower() in SUFFIXES

    @property
    def sample(self) -> str:
        """Return what WebDataset's names share in a sample: all up to the first dot."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + (last.partition(".")[0] or last)

    @property
    def is_label(self) -> bool:
        """Return whether it may state the class of the images of its sample."""
        return self.name[len(self.sample) + 1 :].lower() in LABELS and self.size <= LONGEST_LABEL

    @property
    def trouble(self) -> str | None:
        """Return why its bytes are not read, whatever they are."""
        if isinstance(self.content, str):
            return self.content
        if ABSOLUTE.match(self.name) or ".." in re.split(r"[/\\]", self.name):
            return OUTSIDE
        largest = max(self.size, self.packed or 0)
        if largest > LARGEST_FILE:
            return f"has {largest:,} bytes, too many for an image"
        if self.packed is not None and self.size > max(MANY, RATIO * self.packed):
            return BOMB.format(f"{self.size // max(1, self.packed):,}")
        return None

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: they cannot be read, or are not read for a reason of their own.
        """
        content = self.trouble or self.content
        if isinstance(content, str):
            raise ImageError(content)
        return content.read()


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive, and how rows name it."""

    place: str  # a path or a URL, which opens
    protocol: str  # of fsspec
    timeout: float = TIMEOUT  # seconds for a member from a server

    @property
    def name(self) -> str:
        """Return its path, without the secrets of a URL."""
        if not is_remote(self.place):
            return self.place
        return redact_url(self.place)

    def failure(self, reason: str) -> Item:
        """Return the item whose row says that not all of it can be read."""
        return Item(self.name, content=reason)

    def items(self, members: Iterable[Member | str], sieve: Sieve) -> Iterator[Item]:
        """Yield the images among members, with the labels of their samples.

        Args:
            members: in their order; a text is trouble of the archive itself.
            sieve: says what is skipped, and counts it.
        """
        name = self.name
        sample = ShardSample("")
        seen: set[int] = set()  # hashes of names
        for member in members:
            if isinstance(member, str):
                yield from sample.items()
                sample = ShardSample("")
                yield self.failure(member)
                continue
            if sieve.drops_member(name, member.name):
                continue
            if sample.key != member.sample or len(sample.images) == MOST_IMAGES:
                yield from sample.items()
                sample = ShardSample(member.sample)
            if member.is_image:
                repeated = hash(member.name) in seen
                seen.add(hash(member.name))
                reason = REPEATED if repeated else member.trouble
                path = f"{self.protocol}://{member.name}::{name}"
                sample.images.append(item_of_member(member, path, reason))
            elif not (member.is_label and sample.read_label(member)):
                sieve.passed_over += 1
        yield from sample.items()


def explain_failure(error: Exception, place: str) -> str:
    """Say why an archive, or a member of it, cannot be read."""
    match error:
        case InputError() | ImageError():
            return str(error)
        case _ if isinstance(error, DAMAGE):
            return DAMAGED
        case _ if not is_remote(place):
            return describe_failure(error)
    return explain_error(error)


def explain_other(kind: str, head: bytes) -> str:
    """Say that a file is no archive of its kind and, from its first bytes, what it is instead."""
    if not head:
        return "the file is empty"
    nature = identify_file(head)
    return f"is not a {kind} archive" + ("" if nature == UNKNOWN else f": it {nature}")


def item_of_member(member: Member, path: str, reason: str | None) -> Item:
    """Return the item of an image in an archive, with its bytes if they would pass by."""
    content: Content = member.content if reason is None else reason
    if isinstance(content, Passing):
        try:
            content = content.read()
        except ImageError as error:
            content = str(error)
    return Item(path, content=content, size=member.size, version=member.version)


@dataclass(frozen=True, slots=True)
class Passing:
    """The bytes of a member of a stream: they can be read only while it passes."""

    take: Callable[[int], bytes]  # reads on in the stream
    size: int
    place: str  # of the archive

    def read(self) -> bytes:
        """Read them.

        Raises:
            ImageError: the stream ends within them, or is damaged.
        """
        try:
            data = self.take(self.size)
        except EOFError:
            data = b""
        except Exception as error:
            raise ImageError(explain_failure(error, self.place)) from error
        if len(data) < self.size:
            raise ImageError(CUT_OFF)
        return data


@dataclass(slots=True)
class ShardSample:
    """Neighbouring members whose names differ after the first dot, as WebDataset writes them."""

    key: str
    images: list[Item] = field(default_factory=list)
    label: str | int | None = None

    def items(self) -> Iterator[Item]:
        """Yield its images, with their class where it is known."""
        for item in self.images:
            yield item if self.label is None else replace(item, label=self.label)

    def read_label(self, member: Member) -> bool:
        """Take the class that a member states, and return whether it does; a .cls goes first."""
        try:
            data = member.read()
        except ImageError:
            return False
        is_json = member.name.lower().endswith(".json")
        label = json_label(data) if is_json else text_label(data)
        if self.label is None or not is_json:
            self.label = label
        return label is not None


def text_label(data: bytes) -> str | int | None:
    """Read a class, which is a name or an index, in the text of a .cls."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return None
    is_index = text.isascii() and text.isdigit() and len(text) < INDEX_DIGITS
    return int(text) if is_index else text or None


def json_label(data: bytes) -> str | int | None:
    """Read a class, which is a name or an index, in a .json."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    values = [record.get(key) for key in KEYS] if isinstance(record, dict) else []
    return next((value for value in values if type(value) in (int, str) and value != ""), None)
