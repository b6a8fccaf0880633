"""One image file -> upright pixels, or ImageError."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision import io

from resnet_cli.colours import colour, convert
from resnet_cli.errors import ImageError, SettingError, describe
from resnet_cli.heif import open_image
from resnet_cli.scans import check_scans

type_of_pixels = Tensor | Image.Image

fast_jpeg = getattr(io, "decode_jpeg", None)
"""Gives the very pixels that Pillow gives, only sooner; Pillow has a try where it fails.

Deprecated since torchvision 0.29: once a release has it no more, Pillow does all the work. The PNG
decoder beside it is not used: it crashes the process on files with a few wrong bits.
"""

LARGEST_FILE = 1 << 30  # bytes; no picture is larger, and it is read whole

MOST_PIXELS = 178_956_970  # of a picture: where Pillow, too, takes it for a bomb

# measured at the worst moment, with alpha, a profile, a background and a turn
BYTES_PER_PIXEL = {"JPEG": 14, "JPEG2000": 34, "WEBP": 38}
OTHER_BYTES_PER_PIXEL = 28  # floating-point TIFF, AVIF and HEIC take the most

JPEGS = frozenset({"JPEG", "MPO"})  # Pillow's formats that its JPEG decoder reads

ORIENTATION = 0x0112  # EXIF tag

REASONS: Mapping[type[Exception], str] = MappingProxyType(
    {
        UnidentifiedImageError: "is no picture, or of a format that cannot be read",
        FileNotFoundError: "there is no such file",
        PermissionError: "permission denied",
        MemoryError: "there is not enough memory for it",
    }
)
"""What stands in a row, by the kind of error."""

DECODER_ERROR = re.compile(r"decoder error -?\d+")  # by which Pillow means damaged data

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

BACK = TURNS | {6: TURNS[8], 8: TURNS[6]}  # the other way


class Room(Protocol):
    """What decoding asks before it takes memory."""

    def enter(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be opened; some formats are read whole for it."""

    def claim(self, size: int) -> None:
        """Wait until there are ``size`` bytes for a picture, its file among them."""


class Endless:
    """Memory that never runs out."""

    def enter(self, size: int) -> None:
        """At once."""

    def claim(self, size: int) -> None:
        """At once."""


ENDLESS = Endless()


@dataclass(frozen=True, slots=True)
class Decoder:
    """How files become pixels."""

    mode: str = "RGB"  # or "L", for a network with one input channel
    upright: bool = True  # turned as its EXIF orientation says
    exact: bool = False  # Pillow alone
    srgb: bool = False  # converted from its own colour profile
    background: str | None = None  # colour under transparent pixels; None drops alpha
    max_pixels: int = MOST_PIXELS  # of a picture; a larger one is refused

    def __post_init__(self) -> None:
        """Refuse what cannot be, and let Pillow open what is allowed here."""
        if self.max_pixels < 1:
            raise SettingError(f"cannot use max_pixels={self.max_pixels}: 1 or more")
        if self.background is not None:
            colour(self.background)
        pillows = Image.MAX_IMAGE_PIXELS  # it is one for the process; twice as many are refused
        if pillows is not None and self.max_pixels > 2 * pillows:
            Image.MAX_IMAGE_PIXELS = self.max_pixels

    def __call__(self, path: Path, room: Room = ENDLESS) -> type_of_pixels:
        """Decode the first frame of a file.

        Args:
            path: of the file.
            room: is asked before the file is opened, and again, once the header is read, for the
                bytes that decoding and resizing will take at most.

        Returns:
            A uint8 tensor [3, H, W] from the fast decoder, or else an image of ``mode``.

        Raises:
            ImageError: the file cannot be read or decoded, for whatever reason.
        """
        try:
            with opened(path) as (file, size):
                room.enter(size)
                with open_image(file) as header:
                    self.check(header)
                    room.claim(size + need(header))
                    pixels = self.fast(file, header, size)
                if pixels is not None:
                    return pixels
                file.seek(0)
                encoded = file.read()
                if header.format in JPEGS:
                    check_scans(encoded)
                # libtiff would map the file itself, and crash if somebody cuts it off meanwhile
                return self.decode(BytesIO(encoded))
        except ImageError:
            raise
        except Image.DecompressionBombError as error:  # Pillow's own check, at twice its limit
            found = re.search(r"\d+", str(error))
            raise ImageError(over(int(found[0]) if found else 0, self.max_pixels)) from error
        # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error, MemoryError and
        # DecompressionBombError on broken files: whatever it is, this image has no pixels.
        except Exception as error:
            raise ImageError(reason(error)) from error

    def check(self, header: Image.Image) -> None:
        """Refuse a picture before memory is taken for it."""
        if header.format == "EPS":
            raise ImageError("is PostScript, a program that would have to be run")
        pixels = header.width * header.height
        if pixels > self.max_pixels:
            raise ImageError(over(pixels, self.max_pixels))

    def fast(self, file: BufferedReader, header: Image.Image, size: int) -> Tensor | None:
        """Decode by torchvision.io, or return None where Pillow must have a try."""
        odd = "xmp" in header.info or (self.srgb and "icc_profile" in header.info)
        # torchvision.io makes RGB, and knows neither profiles nor an orientation in XMP alone
        if fast_jpeg is None or header.format != "JPEG" or self.mode != "RGB" or self.exact or odd:
            return None
        turned = self.upright and orientation(header) != 1  # one reader of EXIF for both decoders
        encoded = bytearray(size)
        file.seek(0)
        length = file.readinto(encoded)  # less than its size if somebody cuts it off meanwhile
        check_scans(encoded)
        data = torch.frombuffer(encoded, dtype=torch.uint8)[:length]
        try:
            pixels: Tensor = fast_jpeg(
                data, mode=io.ImageReadMode.RGB, apply_exif_orientation=turned
            )
        except (RuntimeError, DeprecationWarning):  # the second where warnings are errors
            return None
        return pixels

    def decode(self, file: BinaryIO) -> Image.Image:
        """Decode by Pillow."""
        with open_image(file) as image:
            by_pillow = orientation(image) if image.format == "TIFF" else 1
            image.load()  # which turns a TIFF upright
            method = TURNS.get(orientation(image)) if self.upright else BACK.get(by_pillow)
            turned = turn(image, method)
            return convert(turned, self.mode, srgb=self.srgb, background=self.background)


def need(header: Image.Image) -> int:
    """Bytes of memory that decoding and resizing a picture takes at most, its file left out."""
    each = BYTES_PER_PIXEL.get(header.format or "", OTHER_BYTES_PER_PIXEL)
    return each * header.width * header.height


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file and tell its size; a pipe or a device would block the run for ever."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        readable = os.access(path, os.R_OK | os.X_OK)
        raise ImageError(
            "is a folder, not a picture" if readable else "is a folder that may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is a pipe or a device, not a picture")
    if status.st_size > LARGEST_FILE:
        raise ImageError(f"has {status.st_size:,} bytes, too many for a picture")
    if not status.st_size:
        raise ImageError("the file is empty")
    with path.open("rb") as file:
        yield file, status.st_size


def orientation(image: Image.Image) -> int:
    """How the pixels are stored, 1 to 8; 1 is upright, and what a damaged EXIF says."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # whatever the parser raises, the pixels are there
        return 1
    return value if value in TURNS else 1


def turn(image: Image.Image, method: Image.Transpose | None) -> Image.Image:
    """Turn a loaded picture; None leaves it as it is."""
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = image.info
    return turned


def over(pixels: int, limit: int) -> str:
    """Say that a picture is larger than is allowed, and what sets the limit."""
    return f"has {pixels:,} pixels, over the limit of {limit:,} (--max-pixels)"


def reason(error: Exception) -> str:
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


def thumbnail(pixels: type_of_pixels, side: int) -> Image.Image:
    """Shrink a decoded image so that neither side is longer than ``side`` pixels."""
    if isinstance(pixels, Tensor):
        small = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    else:
        small = pixels.copy()
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    plain = small.convert("RGB")
    plain.info = {}  # which may hold what cannot be handed to another process
    return plain
