"""INPUT... as typed -> the items to classify, in natural order."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Self

from resnet_cli.errors import InputError
from resnet_cli.records import Item, Pause
from resnet_cli.sources.folders import Sieve, natural_key, path_parts, walk_folder
from resnet_cli.sources.lists import is_stream, read_lines
from resnet_cli.text import amount

# fmt: off
SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".cur", ".dds", ".dib", ".gif", ".heic", ".heif", ".hif",
    ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras",
    ".sgi", ".tga", ".tif", ".tiff", ".webp",
})
# fmt: on
"""Suffixes by which a file in a folder is an image; a file named outright is always tried."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items of a run."""

    items: Iterable[Item | Pause]  # only a stream pauses
    total: int | None  # unknown while stdin or a pipe is still being read
    passed_over: int = 0  # files in folders without an image suffix
    sieve: Sieve = field(default_factory=Sieve)  # counts what else was skipped
    listed: bool = False  # by a list, which may be another one in the next run
    parts: bool = False  # items may be parts of images

    @classmethod
    def of(cls, items: Sequence[Item]) -> Self:
        """Take items that are known."""
        return cls(items, len(items))

    @property
    def irregular(self) -> Mapping[str, int]:
        """Return how many entries are neither file nor folder, by kind."""
        return self.sieve.irregular

    @property
    def notes(self) -> list[str]:
        """Say what was skipped; of a stream, so far."""
        return [*skipped_words(self.passed_over, self.sieve), *excluded_words(self.sieve)]

    @property
    def known(self) -> Sequence[Item]:
        """Return the items that are known before the run; none of a stream."""
        return () if self.total is None else list(without_pauses(self.items))

    @property
    def folder_names(self) -> frozenset[str]:
        """Return the names of the folders of the items that are known before the run."""
        return frozenset(Path(item.path).absolute().parent.name for item in self.known)

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
            if isinstance(item, Item):
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


def without_pauses(items: Iterable[Item | Pause]) -> Iterator[Item]:
    """Yield the items of a stream as they come."""
    return (item for item in items if isinstance(item, Item))


PAGE = re.compile(r"-\d+(\.png)$", re.IGNORECASE)
"""The number of a page before the suffix: a grid may have several pages."""


def same_folder(path: str, other: str) -> bool:
    """Return True if two files are in the same folder, links resolved."""
    return os.path.realpath(os.path.dirname(path)) == os.path.realpath(os.path.dirname(other))


def skipped_words(passed_over: int, sieve: Sieve) -> Iterator[str]:
    """Say what a search skipped by its own rules."""
    if passed_over:
        yield f"skipped {amount(passed_over, 'file')} without an image extension"
    if sieve.skipped:
        files = amount(sieve.skipped, "hidden or system file")
        yield f"skipped {files} (--hidden to include them)"
    for kind, count in sieve.irregular.items():
        yield f"skipped {kind}: {count:,}"


def excluded_words(sieve: Sieve) -> Iterator[str]:
    """Say what the patterns of the user excluded."""
    if +sieve.excluded:
        yield f"excluded {counted_kinds(+sieve.excluded)} (--exclude)"
    for pattern in sieve.unused:
        yield f"--exclude {pattern!r} matched no file or folder below an INPUT"


def counted_kinds(kinds: Mapping[str, int]) -> str:
    """Say how many files and folders there are."""
    return " and ".join(amount(count, kind) for kind, count in kinds.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOptions:
    """What a search for images takes."""

    hidden: bool = False  # hidden and system files as well
    exclude: Sequence[str] = ()  # patterns of files and folders to leave out

    def sieve(self) -> Sieve:
        """Return what decides by them, and counts what is skipped."""
        return Sieve(self.hidden, self.exclude)


def find_inputs(inputs: Sequence[str], options: FindOptions | None = None) -> Inputs:
    """Find the images that ``inputs`` name, in the order of ``inputs``.

    An input is a folder (searched recursively; links to files are followed, links to folders are
    not), a file, a glob pattern, ``@list.txt`` (one path a line) or ``-`` (paths on stdin).
    All are listed at once, but for stdin and lists that are pipes, which are read as the run goes.

    Args:
        inputs: as typed.
        options: what to take in folders, globs and lists.

    Raises:
        InputError: an input is missing, or there is no image at all.
        OSError: a folder or list that cannot be read.
    """
    sieve = (options or FindOptions()).sieve()
    listings: list[list[Item]] = []
    streams: list[Iterable[Item | Pause]] = []
    passed_over = 0
    if inputs.count("-") > 1:
        raise InputError("cannot read stdin twice: name - once")
    for given in inputs:
        if is_stream(given):
            streams.append(left_by(sieve, read_lines(given)))
            continue
        if given.startswith("@"):
            images = list(without_pauses(left_by(sieve, read_lines(given))))
        else:
            paths, others = list_images(given, sieve)
            images = list(map(Item, paths))
            passed_over += others
        listings.append(images)
        streams.append(images)
    if len(streams) > len(listings):
        found = chain.from_iterable(streams)
        return Inputs(require_some(found, inputs, sieve), None, passed_over, sieve)
    total = sum(map(len, listings))
    if total == 0:
        raise no_images_error(inputs, passed_over, sieve)
    items = listings[0] if len(listings) == 1 else list(chain.from_iterable(listings))
    listed = any(given.startswith("@") for given in inputs)
    return Inputs(items, total, passed_over, sieve, listed)


def left_by(sieve: Sieve, lines: Iterator[str | Pause]) -> Iterator[Item | Pause]:
    """Yield the items of a list that no pattern excludes."""
    for line in lines:
        if isinstance(line, Pause):
            yield line
        elif not sieve.drops_line(line):
            yield Item(line)


def require_some(
    items: Iterable[Item | Pause], inputs: Sequence[str], sieve: Sieve
) -> Iterator[Item | Pause]:
    """Yield ``items``, and refuse to end without one.

    Raises:
        InputError: there was none.
    """
    empty = True
    for item in items:
        empty = empty and isinstance(item, Pause)
        yield item
    if empty:
        raise no_images_error(inputs, 0, sieve)


def no_images_error(inputs: Sequence[str], passed_over: int, sieve: Sieve) -> InputError:
    """Build the error for inputs without a single image."""
    left_out = [*skipped_words(passed_over, sieve), *excluded_words(sieve)]
    listed = any(given == "-" or given.startswith("@") for given in inputs)
    if listed and not left_out:
        return InputError(f"no images found: {', '.join(inputs)} is empty: give a path a line")
    reasons = f" ({'; '.join(left_out)})" if left_out else ""
    given = ", ".join(inputs) or "an empty list"
    return InputError(f"no images found: {given}{reasons}: name an image or a folder")


def expand_input(given: str, sieve: Sieve) -> tuple[list[str], str]:
    """Return the files and folders that one argument names, and where their search begins.

    Raises:
        InputError: it names nothing.
    """
    if os.path.lexists(given):
        return [given], given
    matches = glob.glob(given, recursive=True, include_hidden=sieve.hidden)
    if not matches:
        raise InputError(
            f"cannot find {given or 'an empty name'}: name a file, a folder, a glob, @list.txt or -"
        )
    start = fixed_part(given)
    taken = (match for match in matches if not sieve.drops_match(match, start))
    return sorted(taken, key=lambda name: (natural_key(name), name)), start


def fixed_part(pattern: str) -> str:
    """Return the folder before the first wildcard of a glob."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def list_images(given: str, sieve: Sieve) -> tuple[list[str], int]:
    """List the images that one argument names, and count the files of other suffixes.

    Raises:
        InputError: it names nothing.
    """
    images: list[str] = []
    passed_over: list[str] = []
    places, start = expand_input(given, sieve)
    for place in places:
        if not os.path.isdir(place):
            images.append(place)
            continue
        for file in walk_folder(place, sieve, path_parts(place[len(start) :])):
            is_image = os.path.splitext(file)[1].lower() in SUFFIXES
            (images if is_image or os.path.isdir(file) else passed_over).append(file)
    if len(places) > 1:  # a pattern may match a folder and what is in it
        images = list(dict.fromkeys(images))
    return images, len(set(passed_over) - set(images))
