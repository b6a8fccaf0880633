"""Convert what a file stores to 8-bit RGB or grey: deep values, profiles, transparency."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor

from resnet_cli.errors import OptionError
from resnet_cli.images.tiff import Tiff, Values
from resnet_cli.records import Pixels

SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's modes for greys of 16 bits, which ``Image.convert`` clips at 255."""

DEEP = SIXTEEN_BITS | {"I", "F"}

BITS = 258  # TIFF tag: of a value

SCALES = (  # the largest value, what the values are multiplied by, and what is added to round
    (1, 255.0, 0.5),
    (255, 1.0, 0.0),
    (65_535, 1 / 256, 0.0),
)
"""Scales that start at 0, narrowest first; values outside all are stretched from min to max."""


def convert_image(
    image: Image.Image, mode: str, *, srgb: bool = False, background: str | None = None
) -> Image.Image:
    """Convert a loaded image to 8 bits a channel.

    Args:
        image: of any of Pillow's modes.
        mode: ``RGB`` or ``L``.
        srgb: apply the colour profile of the image.
        background: colour under transparent pixels; None drops alpha, as ``Image.convert`` does.

    Raises:
        ValueError: a mode that Pillow does not convert.
    """
    if image.mode in DEEP:
        image = eight_bits(image)
    elif image.mode == "La":  # premultiplied: Pillow converts it to LA alone
        image = image.convert("LA")
    elif image.mode == "LAB":
        image = image.convert("RGB")
    if srgb and "icc_profile" in image.info:
        image = to_srgb(image, image.info["icc_profile"])
    if background is not None and image.has_transparency_data:
        image = lay_over_color(image, background)
    image.info.pop("transparency", None)  # Pillow would look for it in the new colours
    return image if image.mode == mode else image.convert(mode)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale greys of more than 8 bits to 8, where ``Image.convert`` would clip them to white.

    Of 16 bits the highest 8 are kept. Integers of 32 bits and floating-point numbers keep their
    brightness when they lie within 0 to 1 (floating point only), 0 to 255 or 0 to 65535; others are
    stretched from the least to the largest value of the image. Not-a-number is black.
    """
    values = np.asarray(image)
    scaled = Image.fromarray(scale_to_levels(values))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the value that is transparent
        scaled.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    scaled.info |= {key: image.info[key] for key in ("icc_profile",) if key in image.info}
    return scaled


def in_full(image: Image.Image) -> Image.Image:
    """Spread a loaded TIFF of 12 bits over the 16 that Pillow has for it."""
    if image.format != "TIFF" or image.mode != "I;16" or image.getexif().get(BITS) != 12:
        return image
    deep = Image.fromarray(np.asarray(image) << 4)
    deep.info = image.info
    return deep


def scale_to_levels(values: npt.NDArray[Any]) -> Pixels:
    """Scale values of any type to 0..255, all channels by one scale."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    return stretch_values(values)


def stretch_values(values: npt.NDArray[Any]) -> Pixels:
    """Scale other numbers to 0..255 by the narrowest of ``SCALES`` that contains them."""
    levels = values.astype(np.float64)  # and then in place: such images are large
    finite = np.isfinite(levels)
    low = float(levels.min(where=finite, initial=np.inf))
    high = float(levels.max(where=finite, initial=-np.inf))
    scales = SCALES if values.dtype.kind == "f" else SCALES[1:]
    known = next((scale for scale in scales if low >= 0 and high <= scale[0]), None)
    _, factor, rounding = known or (high, 255 / max(high - low, TINY), 0.5)
    levels -= 0.0 if known else low
    levels *= factor
    levels += rounding
    np.nan_to_num(levels, copy=False, nan=0, posinf=255, neginf=0)
    return levels.clip(0, 255, out=levels).astype(np.uint8)


TINY = 1e-300  # avoids a division by zero


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert colours from ``profile`` to sRGB; alpha stays.

    A broken profile, or one for other channels than the image has, is ignored.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        channels = CHANNELS.get(source.profile.xcolor_space.strip())
        if channels is None or not channels_fit(channels, image.mode):
            return image
        converted = ImageCms.profileToProfile(
            image if image.mode == channels else image.convert(channels),
            source,
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if converted is not None and image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted or image


CHANNELS = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # color space of a profile: Pillow's mode


def channels_fit(channels: str, mode: str) -> bool:
    """Return True if a profile for ``channels`` applies to an image of ``mode``."""
    if channels == "L":
        return Image.getmodebase(mode) == "L"
    return (channels == "CMYK") == (mode == "CMYK")


def lay_over_color(image: Image.Image, background: str) -> Image.Image:
    """Lay an image with transparent pixels over a colour."""
    ground = Image.new("RGBA", image.size, (*parse_color(background), 255))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def parse_color(name: str) -> tuple[int, int, int]:
    """Read red, green and blue, 0 to 255 each, from a name or ``#rrggbb``.

    Raises:
        OptionError: not a colour, or a transparent one.
    """
    try:
        red, green, blue, *alpha = ImageColor.getrgb(name)
    except ValueError:
        alpha = [0]
    if alpha:
        raise OptionError(f"cannot use background {name!r}: a name such as white, or #rrggbb")
    return red, green, blue


MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # number of colours: Pillow's mode

FULL = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB",
        "LAB": "RGB", "PA": "RGBA"}  # fmt: skip
"""Modes whose bands are not 8-bit colours: the mode to convert to."""


def stored_bands(image: Image.Image) -> Pixels:
    """Return the bands of a loaded image as they are stored, uint8 [H, W, bands]."""
    if image.mode in DEEP:
        image = eight_bits(image)
    elif image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in FULL:
        image = image.convert(FULL[image.mode])
    values = np.asarray(image)
    return values[..., None] if values.ndim == 2 else values


def take_bands(values: Pixels, bands: Iterable[int]) -> list[Image.Image]:
    """Return bands, counted from 1, of an image [H, W, bands] as greys."""
    return [Image.fromarray(np.ascontiguousarray(values[:, :, band - 1])) for band in bands]


def join_bands(bands: Sequence[Image.Image]) -> Pixels | Image.Image:
    """Join bands: one or three to an image, others to uint8 [H, W, bands], band after band."""
    if len(bands) in (1, 3):
        return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
    return np.stack([np.asarray(band) for band in bands]).transpose(1, 2, 0)


def describe_unused_bands(count: int, bands: Iterable[int]) -> str:
    """Say which bands of an image were used, and that there are others."""
    return f"has {count} bands, of which {', '.join(map(str, bands))} were used (--bands)"


def tiff_levels(values: Values, tags: Tiff) -> Pixels:
    """Scale the values of a TIFF to 8 bits, black being zero."""
    scaled = scale_to_levels(values)
    return 255 - scaled if tags.white_is_zero else scaled


def tiff_image(values: Values, tags: Tiff) -> Image.Image:
    """Make an image of the colours of a TIFF [H, W, bands], the last band being its alpha."""
    colours = tags.colours
    parts = [tiff_levels(values[:, :, :colours], tags)]
    if tags.alpha:
        parts.append(scale_to_levels(values[:, :, colours:]))
    whole: Pixels = np.concatenate(parts, axis=2)
    mode = MODES[colours] + tags.alpha
    image = Image.frombytes(mode, (tags.width, tags.height), whole.tobytes())
    if mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    if tags.profile is not None:
        image.info["icc_profile"] = tags.profile
    return image


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

BACK = TURNS | {6: TURNS[8], 8: TURNS[6]}  # undoes a turn


def read_orientation(image: Image.Image) -> int:
    """Read how the pixels are stored, 1 to 8; 1 is upright, also where EXIF is damaged."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return value if value in TURNS else 1


def turn_image(image: Image.Image, method: Image.Transpose | None) -> Image.Image:
    """Turn a loaded image; None leaves it as it is."""
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = image.info
    return turned
