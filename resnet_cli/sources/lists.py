"""Lists of paths, in a file or on stdin -> the paths as they come, in the spelling that exists."""

import logging
import os
import re
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from select import select
from typing import BinaryIO, TextIO

from resnet_cli.errors import InputError
from resnet_cli.records import PAUSE, Pause

log = logging.getLogger("resnet_cli")

IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")
"""First bytes of image files, with which no list begins."""

LINE_ENDS = (b"\n", b"\0")

PATIENCE = 0.1  # seconds

LINES = 65536  # bytes of a list that are read at once


def is_stream(given: str) -> bool:
    """Return True if an input is stdin, or a list that is still being written."""
    return given == "-" or (given.startswith("@") and not Path(given[1:]).is_file())


def read_lines(given: str) -> Iterator[str | Pause]:
    """Read paths from ``@list.txt`` or, for ``-``, from stdin.

    A list is opened at the call, so that a missing one is reported before the network is loaded.

    Raises:
        InputError: there is no such list, or an image has the same name.
    """
    if given == "-":
        return existing_spellings(standard_input(), "stdin")
    if os.path.lexists(given):  # a glob of the shell may have put it here
        raise InputError(
            f"cannot tell what {given} means, as there is a file of that name: ./{given} is the "
            f"file, @./{given[1:]} a list of paths"
        )
    listing = Path(given[1:])
    if not listing.exists():
        raise InputError(f"cannot read the list {given}: there is no file {listing}")
    return existing_spellings(arriving_lines(listing.open("rb")), given)


def elsewhere_lines(data: bytes) -> Iterator[str | Pause]:
    """Yield the lines of a list that was downloaded."""
    return arriving_lines(BytesIO(data))


def existing_spellings(paths: Iterable[str | Pause], source: str) -> Iterator[str | Pause]:
    """Yield paths in the spelling that exists; at the end, warn of absolute paths of Windows."""
    foreign: list[str] = []
    for path in paths:
        if isinstance(path, Pause):
            yield path
            continue
        if is_windows(path):
            foreign.append(path)
        yield as_found(path)
    if foreign:
        log.warning(NOT_HERE, source, len(foreign), foreign[0])


def standard_input() -> Iterator[str | Pause]:
    """Read paths from stdin.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        raise InputError("cannot read paths from stdin: it is closed: send it a path a line")
    return (
        arriving_lines(sys.stdin.buffer) if hasattr(sys.stdin, "buffer") else strip_lines(sys.stdin)
    )


def strip_lines(file: TextIO) -> Iterator[str | Pause]:
    """Yield the lines of a text stream without their ends, and skip blank ones."""
    for line in file:
        path = line.rstrip("\r\n")
        if path:
            yield path


def arriving_lines(file: BinaryIO) -> Iterator[str | Pause]:
    """Yield the lines of a file as they come, with a PAUSE whenever none does, and close it.

    Raises:
        InputError: it is not a list.
    """
    lines_of = LineCutter()
    with file:
        decoded: Callable[[bytes], bytes] | None = None  # known by the first bytes
        while True:
            if not is_ready(file):
                yield PAUSE
                continue
            data = file.read1(LINES) if isinstance(file, BufferedReader) else file.read(LINES)
            if decoded is None:
                refuse_no_list(data)
                decoded = utf8_of(data)
            utf8 = decoded(data)
            for line in [*lines_of.with_more(utf8), *([] if data else lines_of.rest())]:
                if line:
                    yield line.decode("utf-8", "surrogateescape")
            if not data:
                return


class LineCutter:
    """Cuts the bytes of a list into lines.

    All lines end as the first one does: with a line feed, a carriage return before it or not, or
    with a zero byte, as of ``find -print0``.
    """

    def __init__(self) -> None:
        self.pending = bytearray()
        self.end = b""

    def with_more(self, data: bytes) -> list[bytes]:
        """Return the lines that more bytes complete."""
        if not self.end:
            found = [at for at in map(data.find, LINE_ENDS) if at >= 0]
            self.end = data[min(found) :][:1] if found else b""
        if not self.end or self.end not in data:
            self.pending += data
            return []
        *whole, rest = bytes(self.pending + data).split(self.end)
        self.pending = bytearray(rest)
        return [self.without_return(line) for line in whole]

    def rest(self) -> list[bytes]:
        """Return the last line, which has no end."""
        return [self.without_return(bytes(self.pending))]

    def without_return(self, line: bytes) -> bytes:
        """Drop a carriage return at the end of a line, unless it may be part of a name."""
        return line if self.end == b"\0" else line.rstrip(b"\r")


def refuse_no_list(data: bytes) -> None:
    """Refuse a list that begins like an image.

    Raises:
        InputError: it does.
    """
    if data.startswith(IMAGE_STARTS):
        raise InputError("cannot read a list of paths: it is itself an image")


def utf8_of(start: bytes) -> Callable[[bytes], bytes]:
    """Return a function that turns the bytes of a list into UTF-8, piece by piece.

    A name may begin with the bytes of the mark of UTF-16, so a zero byte has to follow the mark.

    Args:
        start: the first bytes of the list.
    """
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and b"\0" in start[:4]:
        utf16 = getincrementaldecoder("utf-16")("replace")
        return lambda data: utf16.decode(data, final=not data).encode()
    first = iter([start.removeprefix(BOM_UTF8)])
    return lambda data: next(first, data)


def is_ready(file: BinaryIO) -> bool:
    """Return True if more of a file, or its end, can be read within ``PATIENCE``.

    What the system cannot wait for, such as a file on Windows, is always ready.
    """
    try:
        return bool(select([file], [], [], PATIENCE)[0])
    except (OSError, ValueError):
        return True


QUOTES = ("'", '"')

UNUSUAL = re.compile(r"""^[\s"']|[\s"']$|\\|[\ud800-\udfff]""")
"""Matches a path that may have to be spelt in another way."""

WINDOWS = re.compile(r"\s*[\"']?([A-Za-z]:[\\/]|\\\\[^\\])")
"""Matches the start of an absolute path of Windows."""

NOT_HERE = "%s: absolute paths of Windows lead nowhere here: %d, such as %s"


def as_found(path: str, folder: str = "") -> str:
    """Return a path in the spelling that exists: as given, or else the first that is a file.

    File names may begin with quotes, end with blanks and hold backslashes. So a path that exists
    as given is never changed, and neither is one that exists in no spelling.

    Args:
        path: as it was read.
        folder: where a relative path starts.
    """
    if not UNUSUAL.search(path) or os.path.lexists(os.path.join(folder, path)):
        return path
    others = (each for each in other_spellings(path) if os.path.isfile(os.path.join(folder, each)))
    return next(others, path)


def other_spellings(path: str) -> Iterator[str]:
    """Yield other spellings of a path, those with the fewest changes first."""
    for text in dict.fromkeys((path, as_western(path))):
        trimmed = text.strip()
        for plain in (text, trimmed, without_quotes(trimmed)):
            yield from (plain, plain.replace("\\", "/")) if plain else ()


def without_quotes(text: str) -> str:
    """Drop the quotes around a text."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES
    return text[1:-1].strip() if is_quoted else text


def as_western(text: str) -> str:
    """Decode the bytes of a text that is not UTF-8 as Windows-1252."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def is_windows(path: str) -> bool:
    """Return True if a path is an absolute one of Windows, which does not exist elsewhere."""
    return os.name != "nt" and WINDOWS.match(path) is not None
