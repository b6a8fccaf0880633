"""The bytes of an image -> upright 8-bit pixels, or an ``ImageError`` that says why not."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image

from resnet_cli.errors import ImageError, SettingError
from resnet_cli.images import tiff_strips
from resnet_cli.images.colors import (
    BACK,
    TURNS,
    convert_image,
    describe_unused_bands,
    in_full,
    join_bands,
    parse_color,
    read_orientation,
    stored_bands,
    take_bands,
    tiff_image,
    tiff_levels,
    turn_image,
)
from resnet_cli.images.files import (
    ENDLESS,
    Room,
    bytes_to_decode,
    describe_failure,
    describe_over_limit,
    header_of,
    open_image,
    open_source,
)
from resnet_cli.images.guards import check_scans, without_texts
from resnet_cli.images.jpeg import decode_jpeg, find_decoder, read_jpeg
from resnet_cli.images.native_warnings import output_during
from resnet_cli.images.parts import decode_part
from resnet_cli.images.tiff import Tiff, raw_photograph, read_tiff
from resnet_cli.preprocess import IMAGE_CHANNELS
from resnet_cli.records import Part, Pixels, Source
from resnet_cli.text import amount

Result = TypeVar("Result")

Decoded = Pixels | Image.Image
"""Pixels [H, W, C] from the fast decoder and of other than one or three bands; else an image."""

MOST_PIXELS = 178_956_970  # of an image; Pillow, too, suspects a decompression bomb above it

JPEGS = frozenset({"JPEG", "MPO"})  # Pillow's formats that its JPEG decoder reads


@dataclass(frozen=True, slots=True)
class Decoder:
    """How files are decoded."""

    mode: str = "RGB"  # or "L", for a network with one input channel
    upright: bool = True  # turned as its EXIF orientation says
    exact: bool = False  # Pillow alone
    srgb: bool = False  # converted from its own colour profile
    background: str | None = None  # colour under transparent pixels; None drops alpha
    max_pixels: int = MOST_PIXELS  # of an image; a larger one is refused
    bands: tuple[int, ...] | None = None  # of each image, from 1; None takes its colours
    assumed: bool = False  # the bands are a default: an image that has more of them gets a warning

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            SettingError: names the value that is not possible.
        """
        if self.max_pixels < 1:
            raise SettingError(f"cannot use max_pixels={self.max_pixels}: 1 or more")
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise SettingError(f"cannot use bands {self.bands}: numbers from 1, such as 4,3,2")
        if self.background is not None:
            parse_color(self.background)

    def __call__(self, source: Source, room: Room = ENDLESS) -> Decoded:
        """Decode the first page of a file, or a part of one.

        Args:
            source: a file, an image in memory, or a page or a rectangle of one.
            room: asked before the file is opened, and again, once the header is read, for the most
                bytes that decoding and resizing will take; receives warnings.

        Returns:
            uint8 [H, W, 3] from the fast decoder, [H, W, bands] where the bands are neither one
            nor three, or else an image of ``mode``.

        Raises:
            ImageError: the file cannot be read or decoded, for whatever reason.
        """
        try:
            if isinstance(source, Part):
                return decode_part(self, source, room)
            if isinstance(source, Image.Image | np.ndarray | str):
                return self.from_memory(source, room)
            if not isinstance(source, Path | bytes):
                source = room.fetch(source)
            with open_source(source) as (file, size):
                room.enter(size)
                return self.read(file, size, room)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:  # Pillow's own check, at twice its limit
            found = re.search(r"\d+", str(error))
            raise ImageError(
                describe_over_limit(int(found[0]) if found else 0, self.max_pixels)
            ) from error
        # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error, MemoryError and
        # DecompressionBombError on broken files: whatever it is, this image has no pixels.
        except Exception as error:
            raise ImageError(describe_failure(error)) from error

    def read(self, stored: BinaryIO, size: int, room: Room) -> Decoded:
        """Decode an open file of ``size`` bytes by the library that reads it right."""
        tags = read_tiff(stored)
        if tags is not None:
            refuse_previews(tags, room)
            if not tags.is_for_pillow or (self.bands and tags.unreadable() is None):
                return self.read_values(stored, tags, size, room)
        file, profile_lost = without_texts(stored)
        if profile_lost and self.srgb:
            room.warn("its colour profile is too long and was left out")
        with header_of(file) as header:
            self.check(header)
            room.claim(size + bytes_to_decode(header))
            pixels = self.fast(file, header, size, room)
        if pixels is not None:
            return pixels
        file.seek(0)
        encoded = file.read()
        if header.format in JPEGS:
            check_scans(encoded)
        # libtiff would map the file itself, and crash if it is truncated meanwhile
        decode = partial(self.decode, BytesIO(encoded), room)
        return heard(room, decode) if header.format == "TIFF" else decode()

    def read_values(self, file: BinaryIO, tags: Tiff, size: int, room: Room) -> Decoded:
        """Read a TIFF that Pillow reads wrongly, or some of its bands.

        Raises:
            ImageError: it cannot be read here either.
        """
        if why := tags.unreadable():
            raise ImageError(why)
        self.check_pixels(tags.width * tags.height)
        chosen = self.chosen(tags.samples, room)
        bands = chosen or range(1, tags.colours + len(tags.alpha) + 1)
        room.claim(size + tiff_strips.bytes_to_read(tags, len(bands)))
        places = [band - 1 for band in bands]
        values = heard(room, partial(tiff_strips.read_values, file, tags, places))
        method = TURNS.get(tags.orientation) if self.upright else None
        if chosen:
            scaled = tiff_levels(values, tags)
            return join_bands(
                [turn_image(band, method) for band in take_bands(scaled, range(1, len(chosen) + 1))]
            )
        if tags.samples > len(bands):
            room.warn(describe_unused_bands(tags.samples, bands))
        return self.converted(turn_image(tiff_image(values, tags), method))

    def chosen(self, count: int, room: Room) -> tuple[int, ...] | None:
        """Return the bands to take of an image that has ``count``; None for its colours.

        Raises:
            ImageError: it has too few.
        """
        if self.bands and max(self.bands) > count:
            asked = f"the network takes {len(self.bands)}"
            if not self.assumed:
                asked = f"band {max(self.bands)} was asked for (--bands)"
            raise ImageError(f"has {amount(count, 'band')}, but {asked}")
        if self.bands and self.assumed and count > len(self.bands):
            room.warn(describe_unused_bands(count, self.bands))
        return self.bands

    def check(self, header: Image.Image) -> None:
        """Refuse an image before memory is taken for it."""
        if header.format == "EPS":
            raise ImageError("is PostScript, a program that would have to be run")
        self.check_pixels(header.width * header.height)

    def check_pixels(self, pixels: int) -> None:
        """Refuse an image of too many pixels."""
        if pixels > self.max_pixels:
            raise ImageError(describe_over_limit(pixels, self.max_pixels))

    def is_fast(self, header: Image.Image) -> bool:
        """Return True if a fast decoder gives the pixels: RGB, with no profile or XMP to obey."""
        special = "xmp" in header.info or (self.srgb and "icc_profile" in header.info)
        plain = self.mode == "RGB" and not (self.exact or self.bands or special)
        return header.format == "JPEG" and plain and find_decoder() is not None

    def fast(self, file: BinaryIO, header: Image.Image, size: int, room: Room) -> Pixels | None:
        """Decode by a fast decoder; None where Pillow has to try."""
        if not self.is_fast(header):
            return None
        encoded = read_jpeg(file, size, read_orientation(header) if self.upright else 1)
        check_scans(encoded)
        return heard(room, partial(decode_jpeg, encoded))

    def decode(self, file: BinaryIO, room: Room) -> Decoded:
        """Decode by Pillow."""
        with open_image(file) as image:
            by_pillow = read_orientation(image) if image.format == "TIFF" else 1
            image.load()  # which turns a TIFF upright
            return self.finished(in_full(image), room, by_pillow)

    def finished(self, image: Image.Image, room: Room, by_pillow: int = 1) -> Decoded:
        """Turn a loaded image upright, and take the channels of the network.

        Args:
            image: loaded.
            room: receives a warning of unused bands.
            by_pillow: the orientation that Pillow has turned it from.
        """
        method = TURNS.get(read_orientation(image)) if self.upright else BACK.get(by_pillow)
        if not self.bands:
            return self.converted(turn_image(image, method))
        values = stored_bands(image)
        bands = take_bands(values, self.chosen(values.shape[2], room) or ())
        return join_bands([turn_image(band, method) for band in bands])

    def from_memory(self, image: Image.Image | Pixels | str, room: Room) -> Decoded:
        """Take the pixels of an image that is decoded already.

        Raises:
            ImageError: it has none, for the reason given.
        """
        if isinstance(image, str):
            raise ImageError(image)
        if not isinstance(image, Image.Image):
            if self.bands:
                return join_bands(take_bands(image, self.chosen(image.shape[2], room) or ()))
            image = Image.fromarray(image)  # RGB, resized like a file without loss
        self.check(image)
        pixels = self.finished(image, room)
        if isinstance(pixels, Image.Image) and self.is_fast(image):
            return np.array(pixels)  # so that it is resized like its file
        return pixels

    def converted(self, image: Image.Image) -> Image.Image:
        """Convert a loaded, upright image to the colours of the network."""
        return convert_image(image, self.mode, srgb=self.srgb, background=self.background)


def heard(room: Room, work: Callable[[], Result]) -> Result:
    """Call ``work``, and turn what a native library prints meanwhile into a warning."""
    result, said = output_during(work)
    if said:
        room.warn(said)
    return result


def refuse_previews(tags: Tiff, room: Room) -> None:
    """Refuse a raw camera file, and warn of a TIFF whose first page is a preview.

    Raises:
        ImageError: it holds the data of a sensor.
    """
    if why := raw_photograph(tags):
        raise ImageError(why)
    if tags.is_preview:
        size = f"{tags.width}x{tags.height} pixels"
        room.warn(f"its first page, which was used, is only a preview of {size}")


def thumbnail(pixels: Decoded, side: int) -> Image.Image:
    """Shrink a decoded image so that neither side is longer than ``side`` pixels."""
    if isinstance(pixels, Image.Image):
        small = pixels.copy()
    else:  # of more bands the first three, or the first
        small = Image.fromarray(pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0])
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    plain = small.convert("RGB")
    plain.info = {}  # which may hold what cannot be handed to another process
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How files become pixels."""

    exact: bool = False  # by Pillow alone, pixel for pixel as torchvision's transforms
    upright: bool = True  # turned as their EXIF orientation says
    srgb: bool = False  # converted from their own colour profiles, which training leaves out
    background: str | None = None  # colour under transparent pixels; None drops alpha
    max_pixels: int | None = None  # of an image; a larger one is an error. None: Pillow's limit
    bands: Sequence[int] | None = None  # that feed the network, from 1; None: the colours

    def decoder(self, in_channels: int) -> Decoder:
        """Return the decoder for a network.

        Raises:
            SettingError: a value that is not possible, or not a band for each input channel.
        """
        return Decoder(
            mode="L" if in_channels == 1 else "RGB",
            upright=self.upright,
            exact=self.exact,
            srgb=self.srgb,
            background=self.background,
            max_pixels=MOST_PIXELS if self.max_pixels is None else self.max_pixels,
            bands=bands_for(in_channels, self.bands),
            assumed=self.bands is None,
        )


def bands_for(in_channels: int, bands: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the bands that feed a network; None for the usual colours of an image.

    Raises:
        SettingError: not as many as the network has input channels.
    """
    if bands is None:
        return None if in_channels in IMAGE_CHANNELS else tuple(range(1, in_channels + 1))
    if len(bands) != in_channels:
        raise SettingError(
            f"cannot feed {amount(in_channels, 'input channel')} with {amount(len(bands), 'band')} "
            f"({', '.join(map(str, bands))}): name as many bands as the network has input channels"
        )
    return tuple(bands)
