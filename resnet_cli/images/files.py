"""The file of an image: opened without the dangers of other files, and why it has no pixels."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from PIL import Image, UnidentifiedImageError

from resnet_cli.errors import ImageError, describe

LARGEST_FILE = 1 << 30  # bytes; no picture is larger, and it is read whole


REASONS: Mapping[type[Exception], str] = MappingProxyType(
    {
        FileNotFoundError: "there is no such file",
        PermissionError: "permission denied",
        MemoryError: "there is not enough memory for it",
    }
)
"""What stands in a row, by the kind of error."""

DECODER_ERROR = re.compile(r"decoder error -?\d+")  # by which Pillow means damaged data


class Room(Protocol):
    """What decoding asks before it takes memory, and tells of what it finds."""

    def enter(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be opened; some formats are read whole for it."""

    def claim(self, size: int) -> None:
        """Wait until there are ``size`` bytes for a picture, its file among them."""

    def warn(self, message: str) -> None:
        """Hear that an image was read, but not all of it, or not as it should be."""


class Endless:
    """Memory that never runs out."""

    def enter(self, size: int) -> None:
        """At once."""

    def claim(self, size: int) -> None:
        """At once."""

    def warn(self, message: str) -> None:
        """Drop it."""


ENDLESS = Endless()


@contextmanager
def open_source(source: Path | bytes) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file, or bytes in memory, and return its size.

    Raises:
        ImageError: it cannot be an image; a pipe or a device would block the run for ever.
    """
    if isinstance(source, bytes):
        check_size(len(source))
        yield BytesIO(source), len(source)
        return
    status = source.stat()
    if stat.S_ISDIR(status.st_mode):
        readable = os.access(source, os.R_OK | os.X_OK)
        raise ImageError(
            "is a folder, not an image" if readable else "is a folder that may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is a pipe or a device, not an image")
    check_size(status.st_size)
    with source.open("rb") as file:
        yield file, status.st_size


def check_size(size: int) -> None:
    """Refuse a file that is empty or too large.

    Raises:
        ImageError: it is.
    """
    if size > LARGEST_FILE:
        raise ImageError(f"has {size:,} bytes, too many for an image")
    if not size:
        raise ImageError("the file is empty")


def describe_over_limit(pixels: int, limit: int) -> str:
    """Say that a picture is larger than is allowed, and what sets the limit."""
    return f"has {pixels:,} pixels, over the limit of {limit:,} (--max-pixels)"


def describe_failure(error: Exception) -> str:
    """Say in a few words why a file has no pixels."""
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return words
    match error:
        case OSError() if error.strerror:
            return error.strerror
        case OSError() if DECODER_ERROR.match(str(error)):
            return f"its data are damaged ({error})"
        case OSError():
            return describe(error).partition(": ")[2] or "cannot be decoded"
        case _:
            return f"cannot be decoded: {describe(error)}"


BRANDS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
})  # fmt: skip
"""What stands in the first box of a HEIF file; the pictures of phones are ``heic``."""


def open_image(file: BinaryIO) -> Image.Image:
    """Read the header of a picture.

    Raises:
        ImageError: HEIC, and the library for it is not installed.
        Exception: whatever Pillow raises.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in BRANDS:
            raise
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "is a HEIC image, which an extra reads: pip install 'resnet-cli[heif]'"
        ) from None
    file.seek(0)
    return HeifImageFile(file)
