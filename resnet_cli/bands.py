"""Bands of an image: the channels that it has, those that are wanted, and what they become."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from resnet_cli.colours import DEEP, Levels, eight_bits, levels
from resnet_cli.tiff import Tiff, Values

MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # colours: mode of Pillow's

FULL = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB",
        "LAB": "RGB", "PA": "RGBA"}  # fmt: skip
"""Modes whose bands are not colours of 8 bits: mode to convert to."""


def channels(image: Image.Image) -> Levels:
    """Return the bands of a loaded image as they are stored, uint8 [H, W, bands]."""
    if image.mode in DEEP:
        image = eight_bits(image)
    elif image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in FULL:
        image = image.convert(FULL[image.mode])
    values = np.asarray(image)
    return values[..., None] if values.ndim == 2 else values


def taken(values: Levels, bands: Iterable[int]) -> list[Image.Image]:
    """Return bands, counted from 1, of an image [H, W, bands] as greys."""
    return [Image.fromarray(np.ascontiguousarray(values[:, :, band - 1])) for band in bands]


def joined(bands: Sequence[Image.Image]) -> Tensor | Image.Image:
    """Join bands: one or three to an image, others to a tensor uint8 [bands, H, W]."""
    if len(bands) in (1, 3):
        return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
    return torch.cat([pil_to_tensor(band) for band in bands])


def unused(count: int, bands: Iterable[int]) -> str:
    """Say which bands of an image were used, and that there are others."""
    return f"has {count} bands, of which {', '.join(map(str, bands))} were used (--bands)"


def tiff_levels(values: Values, tags: Tiff) -> Levels:
    """Scale the values of a TIFF to 8 bits, black being zero."""
    scaled = levels(values)
    return 255 - scaled if tags.white_is_zero else scaled


def tiff_image(values: Values, tags: Tiff) -> Image.Image:
    """Make an image of the colours of a TIFF [H, W, bands], the last band being its alpha."""
    colours = tags.colours
    parts = [tiff_levels(values[:, :, :colours], tags)]
    if tags.alpha:
        parts.append(levels(values[:, :, colours:]))
    whole: npt.NDArray[np.uint8] = np.concatenate(parts, axis=2)
    mode = MODES[colours] + tags.alpha
    image = Image.frombytes(mode, (tags.width, tags.height), whole.tobytes())
    if mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    if tags.profile is not None:
        image.info["icc_profile"] = tags.profile
    return image
