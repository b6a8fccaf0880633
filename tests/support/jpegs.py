"""JPEGs of every kind that decoders treat differently, small."""

from base64 import b64decode
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 0x0112

ARITHMETIC = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywt"
    "QFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT0//yQARCAAYACgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AJ/V"
    "uULFgjtQdOD9hLoqdwRK2FFMS1jUWXkqBwoLNfvRHH/XWvcHEMiQzDUcy36BEb51BSGUCtK7g6nb3DFfminvqU+uo79v"
    "qK/scfpqS14Yn9B2wB+WRnDwEt4At9q2mwbgpNFa+p62V4QgVv5r63B60sihLltG3cm3jV4pbhkVIJIYZUX/AMe/OTpI"
    "mVmR1E3cvGpF6HUb6eb7bdv2nqnJZ9McplUrMP/Z"
)
"""40x24 pixels, arithmetic coding, which no library at hand writes."""


def soft(width: int = 61, height: int = 47) -> Image.Image:
    """A picture of soft colours whose corners all differ."""
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def sampled(factor: int) -> bytes:
    """A JPEG whose colours are sampled as OpenCV's constant says."""
    pixels = np.asarray(soft())[:, :, ::-1]
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])
    assert done
    return data.tobytes()


def patched(jpeg: bytes, marker: int, offset: int, value: int) -> bytes:
    """Another byte in the first segment of a marker, counted from its length."""
    place = jpeg.index(bytes((0xFF, marker))) + 2 + offset
    return jpeg[:place] + bytes((value,)) + jpeg[place + 1 :]


def oriented(orientation: int, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(image or soft(), exif=exif)


FRAME, APP14 = 0xC0, 0xEE  # the size of a sample, and Adobe's transform, stand in them


def kinds() -> dict[str, bytes]:
    """A file of every kind that can be read."""
    cmyk = saved(soft().convert("CMYK"))
    return {
        "baseline": saved(soft()),
        "oriented": oriented(6),
        "progressive": saved(soft(), progressive=True),
        "progressive-444": saved(soft(), progressive=True, subsampling="4:4:4", quality=95),
        "422": saved(soft(), subsampling="4:2:2"),
        "440": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
        "411": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        "restarts": saved(soft(), restart_marker_blocks=1),
        "grey": saved(soft().convert("L"), restart_marker_rows=1),
        "grey-progressive": saved(soft().convert("L"), progressive=True),
        "adobe-rgb": saved(soft(), keep_rgb=True),
        "adobe-cmyk": cmyk,
        "adobe-cmyk-progressive": saved(soft().convert("CMYK"), progressive=True),
        "adobe-ycck": patched(cmyk, APP14, 13, 2),
        "adobe-unknown": patched(cmyk, APP14, 13, 9),
        "arithmetic": ARITHMETIC,
        "one-pixel": saved(soft(1, 1)),
    }


def twelve_bits() -> bytes:
    """A JPEG that says of itself that its samples have 12 bits."""
    return patched(saved(soft()), FRAME, 2, 12)
