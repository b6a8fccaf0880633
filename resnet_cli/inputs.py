"""INPUT... as typed -> the paths of the images, in natural order."""

import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from resnet_cli.errors import InputError

# fmt: off
SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".cur", ".dds", ".dib", ".gif", ".heic", ".heif", ".ico",
    ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx",
    ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga", ".tif", ".tiff",
    ".webp",
})
# fmt: on
"""Suffixes that make a file in a folder a picture; a file named outright is always tried."""

DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images of a run."""

    paths: Iterable[str]
    total: int | None  # unknown while a list or stdin is still being read
    passed_over: int  # files in folders whose suffix is no image suffix

    def peek(self, count: int) -> tuple[list[str], "Inputs"]:
        """The first ``count`` paths, and all of them again."""
        remaining = iter(self.paths)
        first = list(islice(remaining, count))
        return first, Inputs(chain(first, remaining), self.total, self.passed_over)


def find_inputs(inputs: Sequence[str]) -> Inputs:
    """Find the images that ``inputs`` name, in the order of ``inputs``.

    An input is a folder (searched recursively; links to files are followed, links to folders are
    not), a file, a glob pattern, ``@list.txt`` (one path a line) or ``-`` (paths on stdin).
    Folders and globs are listed at once; lists and stdin are read as the run goes.

    Raises:
        InputError: an input that is not there, or no image at all.
        OSError: a folder or list that cannot be read.
    """
    listings: list[list[str]] = []
    streams: list[Iterable[str]] = []
    passed_over = 0
    for given in inputs:
        if given == "-" or given.startswith("@"):
            streams.append(lines(given))
            continue
        images, others = list_images(given)
        passed_over += others
        listings.append(images)
        streams.append(images)
    total = None if len(streams) > len(listings) else sum(map(len, listings))
    if total == 0:
        note = f" ({passed_over:,} files with other suffixes)" if passed_over else ""
        raise InputError(f"no images found: {', '.join(inputs)}{note}: name a picture or a folder")
    return Inputs(some(chain.from_iterable(streams), inputs), total, passed_over)


def some(paths: Iterable[str], inputs: Sequence[str]) -> Iterator[str]:
    """Yield ``paths``, of which there must be one at least."""
    path = None
    for path in paths:
        yield path
    if path is None:
        raise InputError(f"no images found: {', '.join(inputs)} is empty: give a path a line")


def expand(given: str) -> list[str]:
    """Turn one argument into the files and folders it names.

    Raises:
        InputError: it names nothing.
    """
    if os.path.lexists(given):
        return [given]
    matches = sorted(glob.glob(given, recursive=True), key=natural)
    if not matches:
        raise InputError(f"cannot find {given}: name a file, a folder, a glob, @list.txt or -")
    return matches


def list_images(given: str) -> tuple[list[str], int]:
    """List the images that one argument names, and count the files passed over.

    Raises:
        InputError: it names nothing.
    """
    images: dict[str, None] = {}  # a pattern may match a folder and what is in it
    passed_over: dict[str, None] = {}
    for place in expand(given):
        if not os.path.isdir(place):
            images[place] = None
            continue
        for file in walk(place):
            is_image = os.path.splitext(file)[1].lower() in SUFFIXES
            (images if is_image or os.path.isdir(file) else passed_over)[file] = None
    return list(images), len(passed_over)


def walk(folder: str) -> Iterator[str]:
    """Yield the files below ``folder``, every level in natural order; no pipes, no devices."""
    levels = [children(folder)]  # a stack, as folders may be nested deeper than calls can be
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif entry.is_dir(follow_symlinks=False):
            try:
                levels.append(children(entry.path))
            except PermissionError:
                yield entry.path  # its pictures are unknown, which a row has to say
        elif entry.is_file() or (entry.is_symlink() and not entry.is_dir()):
            yield entry.path  # a link that leads nowhere is still owed a row


def children(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, in natural order."""
    with os.scandir(folder) as entries:
        return iter(sorted(entries, key=lambda entry: natural(entry.name)))


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts img2 before img10."""
    parts: list[str | int] = list(DIGITS.split(name))  # text and digits in turn
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def lines(given: str) -> Iterator[str]:
    """Read paths from ``@list.txt`` or, for ``-``, from stdin.

    A list is opened here and now, so that a missing one is said before the network is loaded.
    """
    if given == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):  # a name need not be valid UTF-8
            sys.stdin.reconfigure(errors="surrogateescape")
        return stripped(sys.stdin)
    listing = Path(given[1:])
    if not listing.exists():
        raise InputError(f"cannot read the list {given}: there is no file {listing}")
    return stripped(listing.open(encoding="utf-8-sig", errors="surrogateescape"))


def stripped(file: TextIO) -> Iterator[str]:
    """Yield the lines that are not blank, without their ends, and close the file."""
    with file:
        for line in file:
            path = line.rstrip("\r\n")
            if path:
                yield path
