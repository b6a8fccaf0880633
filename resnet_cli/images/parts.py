"""A part of an image: which page, and which rectangle of it, in the syntax of media fragments.

Neighbouring parts of one image are decoded, or fetched, once by each thread.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import local
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images.files import Endless, Room, bytes_to_decode, header_of, open_source
from resnet_cli.images.guards import without_texts
from resnet_cli.images.pages import PAGED, no_page_error, page_of_tiff
from resnet_cli.images.tiff import raw_photograph, read_tiff
from resnet_cli.images.tiff_pages import is_tiff
from resnet_cli.records import Content, Part, Stored
from resnet_cli.system import available_cores, free_memory

if TYPE_CHECKING:
    from resnet_cli.images import Decoded, Decoder

NUMBER = re.compile(r"[0-9]{1,9}")

MOST_KEPT = 256 << 20  # bytes of an image that a thread keeps for the next part
SHARE_KEPT = 8  # the threads together keep at most an eighth of the free memory

MOST_STEPS = 1 << 37  # pixels of the frames before the one that is wanted


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A rectangle in pixels of the upright image."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What a part selects."""

    page: int | None = None  # from 1
    box: PixelBox | None = None


def parse_page(text: str) -> int:
    """Read the number of a page.

    Raises:
        ValueError: it is none.
    """
    if not NUMBER.fullmatch(text) or not int(text):
        raise ValueError("a number from 1")
    return int(text)


def parse_box(text: str) -> PixelBox:
    """Read a rectangle.

    Raises:
        ValueError: it is none.
    """
    numbers = text.split(",")
    if len(numbers) != 4 or not all(map(NUMBER.fullmatch, numbers)):
        raise ValueError("left, top, width and height in whole pixels")
    return PixelBox(*map(int, numbers))


DIMENSIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {"page": ("page", parse_page), "xywh": ("box", parse_box)}
)
"""Names in a part: the field of a selection, and what reads its value."""


def parse_part(part: str) -> Selection:
    """Read what a part selects, such as ``page=3&xywh=10,20,300,200``.

    Raises:
        ImageError: it is in no known form.
    """
    fields: dict[str, Any] = {}
    for one in part.split("&"):
        name, _, value = one.partition("=")
        field, parse = DIMENSIONS.get(name, ("", None))
        if parse is None or field in fields:
            raise ImageError(f"cannot be read in parts ({part}): {' and '.join(DIMENSIONS)} once")
        try:
            fields[field] = parse(value)
        except ValueError as error:
            raise ImageError(f"cannot be read in parts ({part}): {name} is {error}") from None
    return Selection(**fields)


def crop(pixels: "Decoded", box: PixelBox) -> "Decoded":
    """Crop a rectangle, as far as it lies within an image.

    Returns:
        What a lossless file of these pixels would be decoded to.

    Raises:
        ImageError: nothing of it does.
    """
    height, width = sides(pixels)
    right, bottom = min(box.left + box.width, width), min(box.top + box.height, height)
    if not (box.width and box.height):
        raise ImageError(f"the box of {box.width}x{box.height} pixels is empty")
    if right <= box.left or bottom <= box.top:
        raise ImageError(f"the box lies outside the image of {width}x{height} pixels")
    if isinstance(pixels, Image.Image):
        return pixels.crop((box.left, box.top, right, bottom))
    cut = np.ascontiguousarray(pixels[box.top : bottom, box.left : right])
    return Image.fromarray(cut) if cut.shape[2] == 3 else cut


def sides(pixels: "Decoded") -> tuple[int, int]:
    """Return height and width."""
    if isinstance(pixels, Image.Image):
        return pixels.height, pixels.width
    return pixels.shape[0], pixels.shape[1]


@cache
def most_kept() -> int:
    """Return the bytes that a thread may keep; a larger image is decoded again for each part."""
    free = free_memory()
    share = MOST_KEPT if free is None else free // (SHARE_KEPT * available_cores())
    return min(MOST_KEPT, share)


class Last(local):
    """What this thread made last: an image, the bytes of a file, an open animation."""

    def __init__(self) -> None:
        """Begin with nothing, in each thread."""
        self.kept: dict[str, tuple[object, object]] = {}

    def find(self, kind: str, key: object) -> object:
        """Return what was made last of a kind, if it is what the key stands for; else forget it."""
        before, made = self.kept.get(kind, (None, None))
        if made is not None and is_same(before, key):
            return made
        self.forget(kind)
        return None

    def keep(self, kind: str, key: object, made: object, size: int) -> None:
        """Keep what was made, unless it takes too many bytes."""
        if size <= most_kept():
            self.kept[kind] = (key, made)

    def forget(self, kind: str) -> None:
        """Drop what was made last of a kind."""
        self.kept.pop(kind, None)


LAST = Last()


def is_same(one: object, other: object) -> bool:
    """Return True for equal keys; images in memory are the same only if they are one object."""
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return (
        not isinstance(one, Image.Image | np.ndarray) and type(one) is type(other) and one == other
    )


def key_of(whole: Path | Content) -> object:
    """Return what tells an image from others, and a file from what it was before."""
    if not isinstance(whole, Path):
        return whole
    state = whole.stat()
    return whole, state.st_mtime_ns, state.st_size


class Hearing(Endless):
    """Passes on what decoding asks for, and remembers the warnings."""

    def __init__(self, room: Room) -> None:
        """Begin without warnings."""
        self.room = room
        self.heard: list[str] = []

    def enter(self, size: int) -> None:
        """Pass it on."""
        self.room.enter(size)

    def claim(self, size: int) -> None:
        """Pass it on."""
        self.room.claim(size)

    def fetch(self, stored: Stored) -> bytes:
        """Pass it on."""
        return self.room.fetch(stored)

    def warn(self, message: str) -> None:
        """Remember it, and pass it on."""
        self.heard.append(message)
        self.room.warn(message)


@dataclass(frozen=True, slots=True)
class Whole:
    """An image that was decoded for its parts, or why it could not be."""

    pixels: "Decoded | None"
    warnings: tuple[str, ...] = ()
    error: str = ""

    @property
    def size(self) -> int:
        """The bytes of its pixels."""
        if isinstance(self.pixels, np.ndarray):
            return self.pixels.nbytes
        return 0 if self.pixels is None else 4 * self.pixels.width * self.pixels.height


def decode_part(decoder: "Decoder", part: Part, room: Room) -> "Decoded":
    """Decode a page, or a rectangle of an upright image.

    Args:
        decoder: how the image is decoded.
        part: of an image.
        room: as ``Decoder`` takes it.

    Raises:
        ImageError: there is no such part.
    """
    selection = parse_part(part.part)
    if selection.box is None:
        return decode_page(decoder, part.whole, selection.page or 1, room)
    whole = decode_once(replace(decoder, upright=True), part.whole, selection.page, room)
    if whole.pixels is None:
        raise ImageError(whole.error)
    return crop(whole.pixels, selection.box)


def decode_once(decoder: "Decoder", whole: Path | Content, page: int | None, room: Room) -> Whole:
    """Decode an image, or a page of it, unless this thread decoded it last."""
    key = (decoder, key_of(whole), page)
    found = LAST.find("image", key)
    if isinstance(found, Whole):
        room.claim(found.size)  # a crop of it may be as large
        for message in found.warnings:
            room.warn(message)
        return found
    hearing = Hearing(room)
    try:
        pixels = decoder(whole if page is None else Part(whole, f"page={page}"), hearing)
        made = Whole(pixels, tuple(hearing.heard))
    except ImageError as error:
        made = Whole(None, error=str(error))
    LAST.keep("image", key, made, made.size)
    return made


def decode_page(decoder: "Decoder", whole: Path | Content, number: int, room: Room) -> "Decoded":
    """Decode one page, counted from 1: the first as that of any file.

    Raises:
        ImageError: there is no such page.
    """
    if isinstance(whole, Image.Image | np.ndarray | str):
        if number > 1:
            raise no_page_error(number)
        return decoder.from_memory(whole, room)
    key = key_of(whole)
    animation = LAST.find("animation", key) if number > 1 else None
    if isinstance(animation, Image.Image) and animation.tell() < number:  # not all go backwards
        room.claim(bytes_to_decode(animation))
        return decode_frame(decoder, animation, number, room)
    source = whole if isinstance(whole, Path | bytes) else fetch_once(whole, room)
    with open_source(source) as (file, size):
        room.enter(size)
        if number == 1:
            return decoder.read(file, size, room)
        if is_tiff(file):
            page = alone(file, number)
            return decoder.read(BytesIO(page), len(page), room)
        animation = open_animation(decoder, file, number)
    need = bytes_to_decode(animation)
    room.claim(size + need)
    LAST.keep("animation", key, animation, size + need)
    return decode_frame(decoder, animation, number, room)


def fetch_once(stored: Stored, room: Room) -> bytes:
    """Read the bytes of a file, unless this thread read it last."""
    found = LAST.find("bytes", stored)
    if isinstance(found, bytes):
        return found
    data = room.fetch(stored)
    LAST.keep("bytes", stored, data, len(data))
    return data


def alone(file: BinaryIO, number: int) -> bytes:
    """Return one page of a TIFF as a TIFF of its own.

    Raises:
        ImageError: there is no such page, or the file holds the data of a sensor.
    """
    first = read_tiff(file)
    if first is not None and (why := raw_photograph(first)):
        raise ImageError(why)
    return page_of_tiff(file, number)


def open_animation(decoder: "Decoder", file: BinaryIO, number: int) -> Image.Image:
    """Open an image of several frames, of which ``number`` is wanted.

    Raises:
        ImageError: it has one frame, or too many pixels.
    """
    plain, _ = without_texts(file)
    plain.seek(0)
    image = header_of(BytesIO(plain.read()))
    if image.format not in PAGED:
        raise no_page_error(number)
    decoder.check(image)
    return image


def decode_frame(decoder: "Decoder", animation: Image.Image, number: int, room: Room) -> "Decoded":
    """Decode a frame of an animation, counted from 1, with all that is under it.

    Raises:
        ImageError: there is no such frame.
    """
    try:
        seek_frame(animation, number - 1)
        animation.load()
        return decoder.finished(animation.copy(), room)
    except EOFError:
        raise no_page_error(number) from None
    except Exception:
        LAST.forget("animation")  # it may be anywhere between two frames
        raise


def seek_frame(animation: Image.Image, place: int) -> None:
    """Go to a frame, counted from 0, one after the other.

    Raises:
        ImageError: there are too many before it, or one is larger than the first.
        EOFError: there is no such frame.
    """
    size, steps = animation.size, range(animation.tell() + 1, place + 1)
    if len(steps) * size[0] * size[1] > MOST_STEPS:
        raise ImageError(f"has {len(steps):,} frames before its page {place + 1:,}, too many")
    for step in steps:
        animation.seek(step)
        if animation.size != size:
            raise ImageError(f"its page {step + 1:,} is larger than its first")
