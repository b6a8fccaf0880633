"""Arguments of ``Classifier.predict`` -> inputs: paths, and images in memory."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_cli.errors import SettingError
from resnet_cli.images.files import describe_failure
from resnet_cli.records import Item, Pause, Pixels
from resnet_cli.sources import Inputs, find_inputs

InMemory = Image.Image | bytes | bytearray | memoryview | Pixels
"""An image in memory: Pillow's, the bytes of a file, or RGB values [H, W, C] or [H, W]."""

CONTENTS = (Image.Image, bytes, bytearray, memoryview, np.ndarray)

PATHS = (str, Path)

Source = str | Path | InMemory | Iterable[str | Path | InMemory] | Inputs

SEVERAL = 4  # dimensions of an array of images

PLAIN = (1, 3, 4)  # channels of an array: grey, RGB, RGB and alpha


def inputs_of_source(source: Source, bands: Sequence[int] | None) -> Inputs:
    """Turn what ``predict`` is given into inputs.

    Paths alone are listed at once. A list with images in memory is checked at once and taken as
    the run goes; so is any other iterable, whose length is unknown.

    Args:
        source: one or several.
        bands: that the network takes of each image; None for colours.

    Raises:
        InputError: nothing to classify.
        SettingError: an unexpected type or shape.
    """
    if isinstance(source, Inputs):
        return source
    if isinstance(source, np.ndarray) and source.ndim == SEVERAL:
        source = list(source)
    is_one = isinstance(source, PATHS + CONTENTS) or not isinstance(source, Iterable)
    several: Any = [source] if is_one else source
    if not isinstance(several, Sequence):
        return Inputs(name_images(iter(several), bands), None)
    paths = [str(one) for one in several if isinstance(one, PATHS)]
    if len(paths) == len(several):
        return find_inputs(paths)
    for one in several:
        check_image(one, bands)
    return Inputs(name_images(several, bands), None if paths else len(several))


def name_images(
    source: Iterable[str | Path | InMemory], bands: Sequence[int] | None
) -> Iterator[Item | Pause]:
    """Yield the items found under paths, and the images in memory, named by their places."""
    for place, one in enumerate(source):
        check_image(one, bands)
        if isinstance(one, str | Path):
            yield from find_inputs([str(one)]).items
        else:
            yield in_memory(f"image-{place}", one)


def check_image(one: object, bands: Sequence[int] | None) -> None:
    """Check the type and shape of an image.

    Raises:
        SettingError: says what is accepted.
    """
    if not isinstance(one, PATHS + CONTENTS):
        raise SettingError(
            f"cannot classify {type(one).__name__}: give a path, a Pillow image, the bytes of an "
            "image file, or a uint8 array [H, W, C]"
        )
    if isinstance(one, np.ndarray):
        shape = one.shape[2:] if one.ndim == 3 else (1,) * (one.ndim == 2)
        fits = shape and (shape[0] >= max(bands) if bands else shape[0] in PLAIN)
        if one.dtype != np.uint8 or not fits or not one.size:
            wanted = f"at least {max(bands)}" if bands else "1, 3 (RGB) or 4"
            raise SettingError(
                f"cannot classify an array of {one.dtype} {list(one.shape)}: give uint8 [H, W, C] "
                f"with {wanted} channels, or [H, W]"
            )


def in_memory(name: str, content: InMemory) -> Item:
    """Make an item of an image, copied or loaded now: its owner may change or close it."""
    if isinstance(content, np.ndarray):
        return Item(name, content=from_array(content.copy()))
    if not isinstance(content, Image.Image):
        return Item(name, content=bytes(content))
    try:
        content.load()
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises, it cannot be read
        return Item(name, content=describe_failure(error))
    return Item(name, content=content)


def from_array(pixels: Pixels) -> Image.Image | Pixels:
    """Make a Pillow image of grey or RGB values; an array of other bands stays as it is."""
    if pixels.ndim == 2:
        return Image.fromarray(pixels)
    if pixels.shape[2] == 1:
        return Image.fromarray(pixels[:, :, 0])
    return Image.fromarray(pixels) if pixels.shape[2] in PLAIN else pixels
