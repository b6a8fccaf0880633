"""The preprocessing that is recorded for a network, and its source in words."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import isclose
from typing import Any

from torchvision.models import Weights

from resnet_cli.checkpoint.examine import Examination
from resnet_cli.checkpoint.locate import Location
from resnet_cli.checkpoint.metadata.statistics import find_statistics
from resnet_cli.checkpoint.metadata.transforms import find_transforms
from resnet_cli.checkpoint.network.normalisation import SAME, Normalisation
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import CAFFE, MSRA, PRESETS, Preprocess


def find_preprocess(examined: Examination, tree: Any, location: Location) -> tuple[Preprocess, str]:
    """Find the preprocessing that is recorded for the network, else ``imagenet-v1``.

    The mean and std of a network that normalises by itself replace those of any other source.

    Args:
        examined: the network, and what is stated about it.
        tree: what the file holds.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    inside = examined.found.applied.normalisation
    base, source = find_recorded_preprocess(examined, tree, location)
    if inside is None:
        return base, source
    transforms, _ = find_transforms(tree, examined.found.in_channels) or (None, "")
    return apply_normalisation(
        base, source, after_transforms(inside, transforms) if transforms == base else inside
    )


def find_recorded_preprocess(
    examined: Examination, tree: Any, location: Location
) -> tuple[Preprocess, str]:
    """Find the recorded preprocessing, without what the network does itself.

    Args:
        examined: the network, and what is stated about it.
        tree: what the file holds.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    record, config = examined.recorded.record.get("preprocess"), examined.recorded.config
    if isinstance(record, Mapping):
        return Preprocess.from_record(record), "recorded in the checkpoint"
    if location.published is not None:
        return preprocess_of(location.published), f"of {location.published}"
    if config.preprocess is not None:
        return config.preprocess, config.source
    if examined.weights.layout.name == "caffe":
        return CAFFE, "of Caffe's ResNets"
    if examined.weights.layout.name == "msra":
        return MSRA, "of Detectron's ResNets"
    default, channels = PRESETS["imagenet-v1"], examined.found.in_channels
    transforms, reason = find_transforms(tree, channels) or (None, "")
    if transforms is not None:
        return transforms, reason
    unless = f"; {reason}" if reason else ""
    kept = find_statistics(tree, channels)
    if kept is not None:
        found, where = kept
        source = f"imagenet-v1 with the mean and std in the checkpoint, under {where}{unless}"
        return with_kept_statistics(default, found), source
    grey = default.with_channels(1) if channels == 1 else default
    return grey, f"imagenet-v1{unless}" if unless else "imagenet-v1, as none is recorded"


def with_kept_statistics(default: Preprocess, kept: Mapping[str, Any]) -> Preprocess:
    """Add mean and std to the settings, and the fields beside them where they are valid."""
    with suppress(SettingError, TypeError):
        return replace(default, **kept)
    return replace(default, mean=kept["mean"], std=kept["std"])


def preprocess_of(weights: Weights) -> Preprocess:
    """Return the preprocessing that torchvision evaluated its weights with."""
    transforms: Any = weights.transforms()
    return Preprocess(
        resize_size=transforms.resize_size[0],
        crop_size=transforms.crop_size[0],
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def apply_normalisation(
    base: Preprocess, source: str, inside: Normalisation
) -> tuple[Preprocess, str]:
    """Return the preprocessing for a network that normalises by itself, and its source in words."""
    changes: dict[str, Any] = {"mean": inside.mean, "std": inside.std, "fixed": True}
    if inside.color:
        changes["color"] = inside.color
    around = source.removesuffix(", as none is recorded")
    return replace(base, **changes), f"{around}; mean and std from {inside.where} in the checkpoint"


def after_transforms(inside: Normalisation, steps: Preprocess) -> Normalisation:
    """Combine the Normalize of transforms with the normalisation inside the network behind it.

    The same numbers count once: the network then keeps its copy to show images.
    """
    theirs, ours = (*steps.mean, *steps.std), (*inside.mean, *inside.std)
    if all(isclose(one, own, rel_tol=SAME) for one, own in zip(theirs, ours, strict=True)):
        return inside
    mean = tuple(m + s * own for m, s, own in zip(steps.mean, steps.std, inside.mean, strict=True))
    std = tuple(s * own for s, own in zip(steps.std, inside.std, strict=True))
    return replace(inside, mean=mean, std=std, changed=(mean, std) != (inside.mean, inside.std))
