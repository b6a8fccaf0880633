"""How many pages a file has, and how large it is, by its headers alone.

Pages are those of TIFF, GIF, WebP and APNG.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import islice
from typing import BinaryIO, TypeVar

from resnet_cli.errors import ImageError
from resnet_cli.images.colors import read_orientation
from resnet_cli.images.files import header_of
from resnet_cli.images.guards import MOST_CHUNKS, SIGNATURE, png_chunks
from resnet_cli.images.tiff import read_tiff
from resnet_cli.images.tiff_pages import Directories, copy_page, is_tiff

T = TypeVar("T")

MOST_PAGES = 100_000  # of a file

PAGED = frozenset({"TIFF", "GIF", "WEBP", "PNG"})
"""Pillow's formats whose pages are images of their own."""

SUFFIXES = frozenset({".tif", ".tiff", ".gif", ".webp", ".png", ".apng"})
"""Suffixes of their files."""


def find_pages(file: BinaryIO) -> Sequence[int]:
    """Return the numbers of the pages of a file, from 1; of a file of any other format (1,).

    Smaller copies and masks in a TIFF are no pages, but they are counted.

    Raises:
        ImageError: it has too many.
    """
    file.seek(0)
    start = file.read(12)
    count = next((count for begins, count in COUNTERS if begins(start)), None)
    return list(count(file)) or (1,) if count else (1,)


def numbered(found: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Yield what is found with its number, from 1.

    Raises:
        ImageError: there are more than ``MOST_PAGES``.
    """
    for number, one in enumerate(found, start=1):
        if number > MOST_PAGES:
            raise ImageError(f"has over {MOST_PAGES:,} pages, too many for an image")
        yield number, one


def tiff_pages(file: BinaryIO) -> Iterator[int]:
    """Yield the numbers of the directories that are no copies of another page."""
    directories = Directories(file)
    for number, place in numbered(directories.places()):
        if number == 1 or not directories.is_copy(place):
            yield number


def gif_pages(file: BinaryIO) -> Iterator[int]:
    """Yield a number for each image in a GIF."""
    return (number for number, _ in numbered(gif_images(file)))


def gif_images(file: BinaryIO) -> Iterator[int]:
    """Yield where each image in a GIF begins."""
    file.seek(10)
    skip_table(file, file.read(3))
    while (kind := file.read(1)) not in (b"", b";"):
        if kind == b"!":
            file.seek(1, 1)
            skip_blocks(file)
        elif kind == b",":
            yield file.tell()
            skip_table(file, file.read(9)[8:])
            file.seek(1, 1)
            skip_blocks(file)


def skip_table(file: BinaryIO, flags: bytes) -> None:
    """Skip the colours that follow, if the first byte says that there are some."""
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)


def skip_blocks(file: BinaryIO) -> None:
    """Skip blocks of up to 255 bytes, the last of which is empty."""
    while size := file.read(1)[:1]:
        if not size[0]:
            return
        file.seek(size[0], 1)


def webp_pages(file: BinaryIO) -> Iterator[int]:
    """Yield a number for each frame of a WebP."""
    return (number for number, _ in numbered(webp_frames(file)))


def webp_frames(file: BinaryIO) -> Iterator[int]:
    """Yield where each frame of a WebP begins."""
    place = 12
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        if head[:4] == b"ANMF":
            yield place
        size = int.from_bytes(head[4:], "little")
        place += 8 + size + size % 2


def png_pages(file: BinaryIO) -> Iterator[int]:
    """Yield a number for each frame of an APNG."""
    return (number for number, _ in numbered(png_frames(file)))


def png_frames(file: BinaryIO) -> Iterator[int]:
    """Yield where each frame of an APNG begins, as far as the file has as many as it states.

    An image for other programs, which stands before the first frame, is the first page.
    """
    stated, found = 0, False
    for kind, place, _ in islice(png_chunks(file), MOST_CHUNKS):
        if kind == b"acTL":
            file.seek(place + 8)
            stated = int.from_bytes(file.read(4), "big")
        elif kind == b"IDAT" and not stated:
            return
        elif kind == b"IDAT" and not found:
            found = True
            yield place
        elif kind == b"fcTL" and stated:
            found, stated = True, stated - 1
            yield place


COUNTERS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO], Iterator[int]]], ...] = (
    (lambda start: is_tiff(BytesIO(start)), tiff_pages),
    (lambda start: start[:6] in (b"GIF87a", b"GIF89a"), gif_pages),
    (lambda start: start[:4] == b"RIFF" and start[8:] == b"WEBP", webp_pages),
    (lambda start: start.startswith(SIGNATURE), png_pages),
)
"""What the first 12 bytes of a file are: what yields its pages."""


def page_of_tiff(file: BinaryIO, number: int) -> bytes:
    """Return one page of a TIFF, counted from 1, as a TIFF of its own.

    Raises:
        ImageError: there is no such page, or it is damaged.
    """
    for at, place in numbered(Directories(file).places()):
        if at == number:
            return copy_page(file, place)
    raise no_page_error(number)


def no_page_error(number: int) -> ImageError:
    """Build the error for a page that an image does not have."""
    return ImageError(f"has no page {number:,}")


def upright_size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height of an image as it is seen, in pixels.

    Raises:
        ImageError: it is not an image.
        Exception: any that Pillow raises.
    """
    tags = read_tiff(file)
    if tags is not None:
        size, orientation = (tags.width, tags.height), tags.orientation
    else:
        file.seek(0)
        with header_of(file) as header:
            size, orientation = header.size, read_orientation(header)
    return size[::-1] if orientation in LYING else size


LYING = range(5, 9)  # orientations of images that are stored on their side
