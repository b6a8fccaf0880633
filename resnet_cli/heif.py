"""Open a picture by Pillow, HEIC by the library that an extra of this program installs."""

from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from resnet_cli.errors import ImageError

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
