"""A folder of images -> pixels to calibrate on, and others to measure on, with their classes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import find_labelled
from resnet_cli.images import DecodeOptions
from resnet_cli.pipeline import cut_chunks, map_ordered
from resnet_cli.pipeline.batches import Loader
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item, Pixels
from resnet_cli.sources import find_inputs
from resnet_cli.system import available_cores
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")

MEASURED = 1000  # other images at the most: a share of them is known to 3 %
SEED = 0
CHUNK = 8  # images loaded at a time


@dataclass(frozen=True, slots=True)
class Images:
    """Images as a network takes them, and their classes where they are known."""

    pixels: Pixels  # RGB [N, crop, crop, C]
    truths: NDArray[np.int64] | None  # [N]


def list_items(folder: str | Path) -> list[Item]:
    """Find the images of a folder, in an order that is random and the same each time.

    Raises:
        InputError: there are none.
    """
    return shuffled(find_inputs([str(folder)]).known)


def find_items(
    folder: str | Path, names: Sequence[str], labels: str | Path | None
) -> tuple[list[Item], str]:
    """Find the images of a folder as ``list_items`` does, with their classes where all are known.

    Args:
        folder: of images, or of a folder for each class.
        names: class names, one an outcome.
        labels: table of labels; None takes the names of the folders if those are class names.

    Returns:
        The images, and why their classes are unknown; empty where they are known.

    Raises:
        InputError: no images, or labels that match no class.
    """
    if labels is not None:
        return shuffled(find_labelled(folder, names, labels=labels).items), ""
    everything = list_items(folder)
    try:
        return shuffled(find_labelled(folder, names).items), ""
    except InputError as error:
        return everything, str(error)


def shuffled(items: Sequence[Item]) -> list[Item]:
    """Return items in an order that is random and the same each time."""
    return Random(SEED).sample(items, len(items))


def load_images(
    items: Sequence[Item], preprocess: Preprocess, step: Callable[[int], None]
) -> Images:
    """Decode and resize images on all cores; those that cannot be read are left out.

    Args:
        items: to load.
        preprocess: of RGB, whatever the network was trained with.
        step: called with how many are done since the last call.

    Raises:
        InputError: there are images, and none can be read.
    """
    side, channels = preprocess.crop_size, preprocess.channels
    parts: list[Pixels] = [np.empty((0, side, side, channels), np.uint8)]
    loaded: list[Item] = []
    for found, pixels in load_chunks(items, preprocess):
        loaded += found
        parts.append(pixels)
        step(len(found))
    if items and not loaded:
        raise InputError(f"none of {amount(len(items), 'image')} for calibration can be read")
    if missing := len(items) - len(loaded):
        log.warning("%s for calibration cannot be read", amount(missing, "image"))
    truths = [item.truth for item in loaded]
    known = None if None in truths or not truths else np.array(truths, np.int64)
    return Images(np.concatenate(parts), known)


def load_chunks(
    items: Sequence[Item], preprocess: Preprocess
) -> Iterator[tuple[list[Item], Pixels]]:
    """Yield the images of each chunk that can be read."""
    decoder = DecodeOptions(exact=True).decoder(preprocess.channels)
    loader = Loader(decoder, preprocess, channels=preprocess.channels)
    chunks = cut_chunks(items, CHUNK)
    with closing(map_ordered(chunks, loader, workers=available_cores())) as batches:
        for batch in batches:
            found = [sample.item for sample in batch.samples if sample.error is None]
            yield found, batch.pixels
