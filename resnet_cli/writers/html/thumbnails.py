"""Thumbnail -> a few kilobytes of JPEG, in base64."""

from base64 import b64encode
from io import BytesIO

from PIL.Image import Image

LARGEST = 12_000  # bytes of a picture
QUALITIES = (80, 70, 55, 40)  # of JPEG: WebP saves a third of the bytes and takes six times as long


def encoded(thumbnail: Image | None) -> bytes:
    """Encode a picture at the best quality that fits; of no picture, nothing."""
    return b"" if thumbnail is None else b64encode(small_jpeg(thumbnail))


def small_jpeg(image: Image) -> bytes:
    """Lower the quality, then halve the sides, until the file is small enough."""
    for quality in QUALITIES:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= LARGEST:
            return file.getvalue()
    return small_jpeg(image.reduce(2))
