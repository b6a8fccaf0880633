"""The mean and deviation of pixels that a training script kept in its checkpoint."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from math import isfinite
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.classes import NOT_SEARCHED
from resnet_cli.checkpoint.tree import Foreign, StateDict, containers, items, plain
from resnet_cli.errors import CheckpointError
from resnet_cli.preprocess import Preprocess

STARTS = ("", "img_", "image_", "norm_", "normalize_", "pixel_")
"""What people write before ``mean`` and ``std``."""

OURS = frozenset(field.name for field in fields(Preprocess))

SETTINGS = re.compile(
    r"|.*(args|cfg|conf|data|image|input|meta|norm|opts|option|param|pixel|prep|setting|transform).*",
    re.IGNORECASE,
)
"""What a dict of settings is called, at the top of a file nothing; others may be of results."""


def find_statistics(tree: Any, channels: int) -> tuple[dict[str, Any], str] | None:
    """Find the mean and deviation that pixels are to be normalised with.

    Args:
        tree: of a file.
        channels: of the network's input; other numbers of numbers are of something else.

    Returns:
        Fields of ``Preprocess``, and where they stood; with them the others of its fields that
        stand beside the two under their very names. None where there are none.
    """
    for path, container in outside_of_weights(tree):
        values = {key.lower(): value for key, value in items(container)}
        for start in STARTS:
            pair = scaled(
                *(numbers(values.get(start + name), channels) for name in ("mean", "std"))
            )
            if pair is not None:
                beside = {key: plain(values[key]) for key in OURS & values.keys() if not start}
                where = f"{path}.{start}mean" if path else f"{start}mean"
                return {**beside, "mean": pair[0], "std": pair[1]}, where
    return None


def outside_of_weights(tree: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the dicts of a file in which a training keeps its settings."""
    for path, container in containers(tree):
        if NOT_SEARCHED & set(path.lower().split(".")) or isinstance(container, StateDict):
            continue
        if isinstance(container, Mapping) and SETTINGS.fullmatch(path.rpartition(".")[2]):
            yield path, container
        for key, value in items(container):
            if isinstance(value, Foreign) and value.kind == "Normalize":  # a transform
                yield f"{path}.{key}", value.attributes


def numbers(value: Any, channels: int) -> list[float] | None:
    """One number a channel, however it is kept; None for anything else."""
    if isinstance(value, Foreign):
        with suppress(CheckpointError, TypeError):  # of a damaged array
            tensor = value.tensor()
            value = plain(value) if tensor is None else tensor
    if isinstance(value, Tensor):
        value = value.flatten().tolist() if value.numel() == channels else None
    found = value if isinstance(value, list | tuple) else [value]
    kinds = {type(number) for number in found}
    if len(found) != channels or not kinds <= {int, float} or not all(map(isfinite, found)):
        return None
    return [float(number) for number in found]


def scaled(
    mean: list[float] | None, std: list[float] | None
) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of values from 0 to 1; of values from 0 to 255 they are 255 times that."""
    if mean is None or std is None or min(mean) < 0 or min(std) <= 0 or max(mean + std) > 255:
        return None
    most = 255 if max(mean + std) > 1 else 1
    return [number / most for number in mean], [number / most for number in std]
