"""The items of a run, listed at once or as it goes, and what a search for them takes."""

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from math import inf, isfinite
from pathlib import Path
from typing import BinaryIO, Self, cast

from resnet_cli.errors import InputError, OptionError
from resnet_cli.records import Item, Pause, is_url
from resnet_cli.remote import TIMEOUT
from resnet_cli.sources.folders import Sieve
from resnet_cli.text import amount

CONNECTIONS = 32
MOST_CONNECTIONS = 100  # that aiohttp opens at a time


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items of a run."""

    items: Iterable[Item | Pause]  # only a stream pauses
    total: int | None  # unknown while stdin or a pipe is still being read
    sieve: Sieve = field(default_factory=Sieve)  # counts what was skipped
    listed: bool = False  # by a list, which may be another one in the next run
    parts: bool = False  # items may be parts of images
    connections: int = CONNECTIONS  # by which remote ones are fetched
    boxes: bool = False  # items are boxes of a detector
    remarks: Sequence[str] = ()  # on the parts that were taken; of a stream, once it has ended

    @classmethod
    def of(cls, items: Sequence[Item]) -> Self:
        """Take items that are known."""
        return cls(items, len(items))

    @property
    def passed_over(self) -> int:
        """Return how many files in folders have no image suffix."""
        return self.sieve.passed_over

    @property
    def irregular(self) -> Mapping[str, int]:
        """Return how many entries are neither file nor folder, by kind."""
        return self.sieve.irregular

    @property
    def notes(self) -> list[str]:
        """Say what was skipped; of a stream, so far."""
        skipped = [*skipped_words(self.sieve), *excluded_words(self.sieve)]
        return [*skipped, *holding_words(self.sieve), *self.remarks]

    @property
    def known(self) -> Sequence[Item]:
        """Return the items that are known before the run; none of a stream."""
        return () if self.total is None else list(without_pauses(self.items))

    @property
    def folder_names(self) -> frozenset[str]:
        """Return the names of the folders of the items that are known before the run."""
        return frozenset(folder_name(item) for item in self.known)

    def peek(self, count: int) -> tuple[list[Item], "Inputs"]:
        """Return the first ``count`` items, and all of them again."""
        remaining = iter(self.items)
        first = list(islice(without_pauses(remaining), count))
        return first, replace(self, items=chain(first, remaining))

    def without(self, outputs: Sequence[str]) -> "Inputs":
        """Return a copy that is checked to hold no output file.

        Args:
            outputs: files that will be written, alone or as numbered pages.

        Raises:
            InputError: it holds one, now or when a stream comes to it.
        """
        names = {os.path.basename(real): real for real in map(os.path.realpath, outputs)}

        def check(item: Item | Pause) -> Item | Pause:
            if isinstance(item, Item) and not is_url(item.path):
                name = os.path.basename(item.path)
                output = names.get(name) or names.get(PAGE.sub(r"\1", name))
                if output is not None and same_folder(item.path, output):
                    raise InputError(
                        f"cannot write {output}: {item.path} is one of the images to classify: "
                        "give the output another name or folder"
                    )
            return item

        checked = map(check, self.items)
        return replace(self, items=checked if self.total is None else list(checked))


def folder_name(item: Item) -> str:
    """Return the name of the folder that an item is in, also inside an archive or a bucket."""
    if is_url(item.path):
        inside = item.path.partition("::")[0].partition("://")[2]
        return posixpath.basename(posixpath.dirname(inside))
    return Path(item.path).absolute().parent.name


def without_pauses(items: Iterable[Item | Pause]) -> Iterator[Item]:
    """Yield the items of a stream as they come."""
    return (item for item in items if isinstance(item, Item))


PAGE = re.compile(r"-\d+(\.png)$", re.IGNORECASE)
"""The number of a page before the suffix: a grid may have several pages."""


def same_folder(path: str, other: str) -> bool:
    """Return True if two files are in the same folder, links resolved."""
    return os.path.realpath(os.path.dirname(path)) == os.path.realpath(os.path.dirname(other))


def skipped_words(sieve: Sieve) -> Iterator[str]:
    """Say what a search skipped by its own rules."""
    if sieve.passed_over:
        yield f"skipped {amount(sieve.passed_over, 'file')} without an image extension"
    if sieve.skipped:
        files = amount(sieve.skipped, "hidden or system file")
        yield f"skipped {files} (--hidden to include them)"
    for kind, count in sieve.irregular.items():
        yield f"skipped {kind}: {count:,}"


SHOWN = 6  # patterns in a message


def holding_words(sieve: Sieve) -> Iterator[str]:
    """Say which of the skipped files hold images, and how to name them."""
    if sieve.holding:
        yield f"some of them hold images: to read them, name them: {list_patterns(sieve)}"


def list_patterns(sieve: Sieve) -> str:
    """Return patterns for the files in folders that hold images."""
    return " ".join(map(repr, sorted(sieve.holding)[:SHOWN]))


def excluded_words(sieve: Sieve) -> Iterator[str]:
    """Say what the patterns of the user excluded."""
    if +sieve.excluded:
        yield f"excluded {counted_kinds(+sieve.excluded)} (--exclude)"
    for pattern in sieve.unused:
        yield f"--exclude {pattern!r} matched no file or folder below an INPUT"


def counted_kinds(kinds: Mapping[str, int]) -> str:
    """Say how many files and folders there are."""
    return " and ".join(amount(count, kind) for kind, count in kinds.items())


PAGES = ("first", "all")

WIDEST_MARGIN = 10  # times the box, on each side


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOptions:
    """What a search for images takes, and how those by URL are fetched.

    Raises:
        OptionError: a value that is not possible.
    """

    hidden: bool = False  # hidden and system files as well
    exclude: Sequence[str] = ()  # patterns of files and folders to leave out
    fetch: int = CONNECTIONS  # most connections at a time, to stores and servers
    fetch_timeout: float = TIMEOUT  # seconds for a remote image, all attempts together
    image_column: str | None = None  # of tables; None takes the only one that holds images
    pages: str = "first"  # of each image, or ``all``
    boxes: Sequence[str] = ()  # files of a detector, whose boxes are the items
    min_box_confidence: float = 0.2  # boxes under it are left out
    box_margin: float = 0.0  # added on each side of a box, as a share of it
    every: float = 1.0  # seconds of a video for each frame of it that is taken

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionError: names the value that is not possible.
        """
        if self.pages not in PAGES:
            raise OptionError(f"cannot use pages={self.pages!r}: {' or '.join(PAGES)}")
        if self.boxes and self.pages != "first":
            raise OptionError(
                "cannot combine --boxes and --pages all: boxes are of the first page of an image"
            )
        if not 0 <= self.min_box_confidence <= 1:
            raise OptionError(f"cannot use min_box_confidence={self.min_box_confidence}: 0 to 1")
        if not 0 <= self.box_margin <= WIDEST_MARGIN:
            raise OptionError(f"cannot use box_margin={self.box_margin}: 0 to {WIDEST_MARGIN}")
        if not 1 <= self.fetch <= MOST_CONNECTIONS:
            raise OptionError(f"cannot use fetch={self.fetch}: 1 to {MOST_CONNECTIONS}")
        if not (isfinite(self.fetch_timeout) and self.fetch_timeout > 0):
            raise OptionError(
                f"cannot use fetch_timeout={self.fetch_timeout}: a number of seconds above 0"
            )
        if not 0 < self.every < inf:
            raise OptionError(f"cannot take a frame every {self.every:g} s: more than 0 seconds")

    def sieve(self) -> Sieve:
        """Return what decides by them, and counts what is skipped."""
        return Sieve(self.hidden, self.exclude)


@dataclass(slots=True)
class Carried:
    """The bytes that items carry in memory, since all of them were done."""

    size: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """What a search takes, and what it has skipped so far."""

    options: FindOptions
    sieve: Sieve = field(init=False)
    carried: Carried = field(init=False, default_factory=Carried)  # by streams, one after another

    def __post_init__(self) -> None:
        """Begin with nothing skipped."""
        object.__setattr__(self, "sieve", self.options.sieve())


@dataclass(frozen=True, slots=True)
class Listing:
    """What one INPUT holds."""

    items: Iterable[Item | Pause]
    total: int | None = None  # unknown if it is listed as the run goes
    parts: bool = False  # items may be parts of images

    @classmethod
    def of(cls, items: Sequence[Item], *, parts: bool = False) -> Self:
        """Take items that are known."""
        return cls(items, len(items), parts)


ListItems = Callable[[str, Search], Listing]
"""Lists what an INPUT of one of the ``SOURCES`` holds; raises InputError if it cannot be read."""


def is_remote(path: str) -> bool:
    """Return True for a URL, unless a file has that name."""
    return is_url(path) and not os.path.lexists(path)


def open_container(path: str) -> BinaryIO:
    """Open a file that holds images, on this machine or at a URL, to be read from any place.

    Raises:
        InputError: it is no regular file, or the store refuses it.
        OSError: it cannot be opened.
    """
    if is_remote(path):
        from resnet_cli.remote import open_binary
        from resnet_cli.sources.fetch import PatientFile

        return cast(BinaryIO, PatientFile(open_binary(path)))
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would block the run
        raise InputError(f"cannot read {path}: it is no regular file")
    return open(path, "rb")


def read_range(path: str, start: int, size: int) -> bytes:
    """Read some bytes of a file on this machine or at a URL; fewer where it ends.

    Nothing is kept open, so that threads and processes may read the same file.

    Raises:
        InputError: it is no regular file, or the store refuses it.
        OSError: it cannot be read.
    """
    if is_remote(path):
        from resnet_cli.remote import open_file_system

        data: bytes = open_file_system(path).cat_file(path, start=start, end=start + size)
        return data if len(data) <= size else data[start : start + size]  # it sent the whole file
    with open_container(path) as file:
        file.seek(start)
        return file.read(size)
