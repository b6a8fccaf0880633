"""The mean and std of pixels that a training script stored in its checkpoint.

A ``mean`` and a ``std`` may also describe targets, losses or times. They are taken for those of
pixels only where they are lists of one number per channel, from 0 to 1 or in the range of values
from 0 to 255, under a key that names settings.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.metadata.class_names import unwrap_value
from resnet_cli.checkpoint.tree import OPTIMIZER_KEYS, Foreign, StateDict, items_of, walk_containers
from resnet_cli.errors import CheckpointError

STARTS = ("", "img_", "image_", "norm_", "normalize_", "pixel_")
"""Prefixes of ``mean`` and ``std``."""

# fmt: off
PLACES = frozenset({
    "", "args", "cfg", "config", "data", "data_config", "data_preprocessor", "dataset",
    "default_cfg", "hparams", "hyper_parameters", "image", "img_norm_cfg", "input", "meta", "model",
    "norm", "normalisation", "normalization", "normalize", "options", "opts", "params",
    "preprocess", "preprocessing", "preprocessor", "pretrained_cfg", "settings", "stats",
    "transform", "transforms",
})
# fmt: on
"""Keys of dicts of settings; the top of a file has the empty key."""

BESIDE = ("interpolation", "color")  # fields of Preprocess that are taken along with the two sizes
SIZES = ("resize_size", "crop_size")

DARKEST = 16  # mean of pixels from 0 to 255; a smaller one belongs to something else
MOST_KEYS = 1000  # of a dict of settings
UNREADABLE = (CheckpointError, OverflowError, RuntimeError, TypeError, ValueError)


def find_statistics(tree: Any, channels: int) -> tuple[dict[str, Any], str] | None:
    """Find the mean and std that pixels are normalised with.

    Args:
        tree: what the file holds.
        channels: of the network's input.

    Returns:
        Fields of ``Preprocess``, and the path of keys to the mean: mean and std, and where both
        sizes stand beside them under their names in ``Preprocess``, those too. None where there
        are none.
    """
    for path, container in training_settings(tree):
        values = {key.lower(): value for key, value in items_of(container)}
        for start in STARTS:
            pair = [channel_numbers(values.get(start + name), channels) for name in ("mean", "std")]
            found = scale_statistics(*pair)
            if found is not None:
                where = f"{path}.{start}mean" if path else f"{start}mean"
                return {**other_fields(values), "mean": found[0], "std": found[1]}, where
    return None


def training_settings(tree: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the dicts and transforms in a file by which training prepares its images."""
    for path, container in walk_containers(tree):
        words = path.lower().split(".")
        if OPTIMIZER_KEYS & set(words) or isinstance(container, StateDict):
            continue
        if not isinstance(container, Mapping | list | tuple) or len(container) > MOST_KEYS:
            continue
        if isinstance(container, Mapping) and words[-1] in PLACES:
            yield path, container
        for key, value in items_of(container):
            place = f"{path}.{key}".strip(".")
            if isinstance(value, Foreign) and value.kind == "Normalize" and is_transform(place):
                yield place, value.attributes


def is_transform(place: str) -> bool:
    """Return whether the path of keys to an object is one of transforms of images."""
    words = place.lower()
    return "target" not in words and ("transform" in words or "normali" in words)


def channel_numbers(value: Any, channels: int) -> list[float] | None:
    """Return one number per channel from a list or tensor in any form; None for anything else."""
    with suppress(*UNREADABLE):
        tensor = value.tensor() if isinstance(value, Foreign) else value
        if isinstance(tensor, Tensor):
            value = (
                tensor.flatten().tolist() if tensor.numel() == channels and tensor.ndim else None
            )
        found = unwrap_value(value)
        if isinstance(found, list) and len(found) == channels:
            kinds = {type(number) for number in found}
            if kinds <= {int, float} and all(map(isfinite, found)):
                return [float(number) for number in found]
    return None


def scale_statistics(
    mean: list[float] | None, std: list[float] | None
) -> tuple[list[float], list[float]] | None:
    """Return mean and std for values from 0 to 1, scaled if they are for 0 to 255; else None."""
    if mean is None or std is None or min(mean) < 0 or min(std) <= 0:
        return None
    if max(mean) <= 1 and max(std) <= 1:
        return mean, std
    if min(mean) >= DARKEST and min(std) >= 1 and max(mean + std) <= 255:
        return [number / 255 for number in mean], [number / 255 for number in std]
    return None


def other_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the colour order among settings, and both sizes with the fields beside them."""
    reversed_colours = values.get("to_rgb") is False or values.get("format") == "BGR"
    found: dict[str, Any] = {"color": "bgr"} if reversed_colours else {}
    if all(type(values.get(name)) is int for name in SIZES):
        found |= {name: values[name] for name in (*SIZES, *BESIDE) if name in values}
    return found
