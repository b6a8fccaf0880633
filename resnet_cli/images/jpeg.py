"""JPEGs by a library that gives the pixels that Pillow gives, only sooner.

Which library it is makes no difference to the pixels, so no other module asks. None is imported
before the first JPEG is decoded.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from resnet_cli.records import Pixels

if TYPE_CHECKING:
    from torch import Tensor

Decode = Callable[["Tensor"], "Tensor"]
"""Encoded bytes -> RGB uint8 [3, H, W], turned as the first EXIF says; RuntimeError if broken."""


def find_torchcodec() -> Decode:
    """Return TorchCodec's decoder; an extra."""
    from torchcodec.decoders import decode_jpeg

    return partial(decode_jpeg, mode="RGB")


def find_torchvision() -> Decode:
    """Return torchvision's decoder, which is deprecated since 0.29 and will go.

    The PNG decoder beside it is not used: it crashes the process on files with a few wrong bits.
    """
    from torchvision import io

    return partial(io.decode_jpeg, mode=io.ImageReadMode.RGB, apply_exif_orientation=True)


LIBRARIES = {"torchcodec": find_torchcodec, "torchvision": find_torchvision}
"""Names: how to get at their decoders, the one to prefer first."""


def working_decoders() -> Iterator[tuple[str, Decode]]:
    """Yield the name and the decoder of each library that works, the one to prefer first.

    A library can be installed and fail all the same: built for another torch, or without libjpeg.
    """
    sample = BytesIO()
    Image.new("RGB", (8, 8)).save(sample, "JPEG")
    for name, find in LIBRARIES.items():
        with suppress(Exception):
            decoder = find()
            decode_by(decoder, bytearray(sample.getvalue()))
            yield name, decoder


@cache
def find_decoder() -> Decode | None:
    """Return the decoder to use; None leaves all JPEGs to Pillow."""
    return next((decoder for _, decoder in working_decoders()), None)


def decode_by(decoder: Decode, encoded: bytearray) -> Pixels:
    """Decode a JPEG to uint8 [H, W, 3]."""
    import torch

    # not the bytes themselves: TorchCodec would change the filters of warnings, for all threads
    image = decoder(torch.frombuffer(encoded, dtype=torch.uint8))
    pixels: Pixels = image.permute(1, 2, 0).numpy()
    return pixels


def decode_jpeg(encoded: bytearray) -> Pixels | None:
    """Decode a JPEG to uint8 [H, W, 3]; None where that fails, or nothing is there to do it."""
    decoder = find_decoder()
    try:
        return decode_by(decoder, encoded) if decoder else None
    except (RuntimeError, DeprecationWarning):  # the second where warnings are errors
        return None


START = b"\xff\xd8"

EXIF = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0%c\0\0\0\0\0\0"
"""A segment that holds an orientation alone."""


def read_jpeg(file: BinaryIO, size: int, orientation: int) -> bytearray:
    """Read a JPEG of ``size`` bytes, which decoders will turn as ``orientation`` says.

    They obey the first EXIF that they find, and read it in their own ways: an EXIF of ours stands
    before that of the file.
    """
    encoded = bytearray(START + EXIF % orientation)
    file.seek(len(START))
    encoded += file.read(size)  # less than its size if it was truncated meanwhile
    return encoded
