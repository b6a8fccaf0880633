"""Which way up an image is, and turning it."""

from PIL import Image

ORIENTATION = 0x0112  # EXIF tag

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


def orientation(image: Image.Image) -> int:
    """How the pixels are stored, 1 to 8; 1 is upright, and what a damaged EXIF says."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # noqa: BLE001 - whatever the parser raises, the pixels are there
        return 1
    return value if value in TURNS else 1


def turn(image: Image.Image, method: Image.Transpose | None) -> Image.Image:
    """Turn a loaded picture; None leaves it as it is."""
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = image.info
    return turned
