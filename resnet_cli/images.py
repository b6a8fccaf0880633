"""One image file -> upright pixels, or ImageError."""

import os
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision import io

from resnet_cli.errors import ImageError, describe

type_of_pixels = Tensor | Image.Image

fast_jpeg = getattr(io, "decode_jpeg", None)
"""Gives the very pixels that Pillow gives, only sooner; Pillow has a try where it fails.

Deprecated since torchvision 0.29: once a release has it no more, Pillow does all the work. The PNG
decoder beside it is not used: it crashes the process on files with a few wrong bits.
"""

LARGEST_FILE = 1 << 30  # bytes; no picture is larger, and it is read whole

SIXTEEN_BITS = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's modes for greys of 16 bits, which ``Image.convert`` clips at 255."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """How files become pixels."""

    mode: str = "RGB"  # or "L", for a network with one input channel
    upright: bool = True  # turned as its EXIF orientation says
    exact: bool = False  # Pillow alone

    def __call__(self, path: Path) -> type_of_pixels:
        """Decode the first frame of a file.

        Returns:
            A uint8 tensor [3, H, W] from the fast decoder, or else an image of ``mode``.

        Raises:
            ImageError: the file cannot be read or decoded, for whatever reason.
        """
        try:
            return self.decode(read(path))
        except ImageError:
            raise
        # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error, MemoryError and
        # DecompressionBombError on broken files: whatever it is, this image has no pixels.
        except Exception as error:
            raise ImageError(reason(error)) from error

    def decode(self, data: bytes) -> type_of_pixels:
        """Decode the bytes of a file; Pillow reads its header first and refuses bombs."""
        with Image.open(BytesIO(data)) as image:
            # torchvision.io makes RGB, and knows no orientation that is in XMP alone
            if self.mode == "RGB" and not self.exact and "xmp" not in image.info:
                pixels = self.fast(data, image.format)
                if pixels is not None:
                    return pixels
            upright = ImageOps.exif_transpose(image) if self.upright else image
            return eight_bits(upright).convert(self.mode)

    def fast(self, data: bytes, image_format: str | None) -> Tensor | None:
        """Decode by torchvision.io, or return None where Pillow must have a try."""
        if fast_jpeg is None or image_format != "JPEG":
            return None
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            pixels: Tensor = fast_jpeg(
                encoded, mode=io.ImageReadMode.RGB, apply_exif_orientation=self.upright
            )
        except (RuntimeError, DeprecationWarning):  # the second where warnings are errors
            return None
        return pixels


def read(path: Path) -> bytes:
    """Read a regular file; a pipe or a device would block the run for ever."""
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
    data = path.read_bytes()
    if not data:
        raise ImageError("the file is empty")
    return data


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys to 8 bits, where ``convert`` alone would clip them to white."""
    if image.mode not in SIXTEEN_BITS:
        return image
    values = np.asarray(image)
    if image.mode == "I" and values.max() < 256:  # 32 bits a pixel, of which eight are used
        return image
    return Image.fromarray(np.clip(values // 256, 0, 255).astype(np.uint8))


def reason(error: Exception) -> str:
    """Say in a few words why a file has no pixels."""
    match error:
        case UnidentifiedImageError():
            return "is no picture, or of a format that cannot be read"
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "permission denied"
        case OSError() if error.strerror:
            return error.strerror
        case OSError() | Image.DecompressionBombError():
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
    return small.convert("RGB")
