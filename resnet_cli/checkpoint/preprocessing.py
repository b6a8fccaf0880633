"""How pictures are prepared for the network of a checkpoint, as far as anything records it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from resnet_cli.checkpoint.examination import Examination
from resnet_cli.checkpoint.hub import preprocess_of
from resnet_cli.checkpoint.locate import Location
from resnet_cli.checkpoint.normalisation import laid_over
from resnet_cli.checkpoint.statistics import find_statistics
from resnet_cli.checkpoint.transforms import find_transforms
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import CAFFE, MSRA, PRESETS, Preprocess


def find_preprocess(examined: Examination, tree: Any, location: Location) -> tuple[Preprocess, str]:
    """What the checkpoint or the published weights record, else ``imagenet-v1``.

    The mean and deviation of a network that normalises by itself go before all others: what it
    was fed is not normalised.

    Args:
        examined: what is in the file.
        tree: all that is in it.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    inside = examined.found.applied.normalisation
    base, source = around_network(examined, tree, location)
    if inside is None:
        return base, source
    transforms, _ = find_transforms(tree, examined.found.in_channels) or (None, "")
    return laid_over(base, source, inside.after(transforms) if transforms == base else inside)


def around_network(examined: Examination, tree: Any, location: Location) -> tuple[Preprocess, str]:
    """The same, but for what the network does by itself.

    Args:
        examined: what is in the file.
        tree: all that is in it.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    record, config = examined.record.get("preprocess"), examined.config
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
        return with_statistics(default, found), source
    grey = default.with_channels(1) if channels == 1 else default
    return grey, f"imagenet-v1{unless}" if unless else "imagenet-v1, as none is recorded"


def with_statistics(default: Preprocess, kept: Mapping[str, Any]) -> Preprocess:
    """Settings with a mean and deviation, and with what stands beside them if it is of use."""
    with suppress(SettingError, TypeError):
        return replace(default, **kept)
    return replace(default, mean=kept["mean"], std=kept["std"])
