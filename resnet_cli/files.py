"""The file of an image, opened without the dangers of other files."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from resnet_cli.errors import ImageError

LARGEST_FILE = 1 << 30  # bytes; no picture is larger, and it is read whole


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
def opened(source: Path | bytes) -> Iterator[tuple[BinaryIO, int]]:
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
            "is a folder, not a picture" if readable else "is a folder that may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is a pipe or a device, not a picture")
    check_size(status.st_size)
    with source.open("rb") as file:
        yield file, status.st_size


def check_size(size: int) -> None:
    """Refuse a file that is empty or too large.

    Raises:
        ImageError: it is.
    """
    if size > LARGEST_FILE:
        raise ImageError(f"has {size:,} bytes, too many for a picture")
    if not size:
        raise ImageError("the file is empty")
