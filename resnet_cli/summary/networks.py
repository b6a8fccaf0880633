"""What can be summarised: any torchvision classification network by name, or a checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, list_models

from resnet_cli.architectures import (
    ARCHITECTURES,
    DILATED,
    PLAIN,
    Variant,
    WithoutWeights,
    build,
    unknown,
)
from resnet_cli.errors import SettingError
from resnet_cli.text import first_few

if TYPE_CHECKING:
    from resnet_cli.checkpoint import Checkpoint

INPUT_SIZES = {"inception_v3": 299}
"""Pixels of a side where it is not 224."""

SETTINGS = {
    # torchvision publishes it without the heads that only training uses
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False},
}
"""What two builders are told; an initialisation means nothing on the meta device."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to summarise, without its weights."""

    model: str  # torchvision's name
    source: str  # where it is from, in words
    network: nn.Module  # in evaluation mode, on the meta device
    in_channels: int
    num_classes: int  # 0 for a backbone alone
    is_resnet: bool
    facts: tuple[str, ...] = ()  # what was read from a file, in words
    img_size: tuple[int, int] | None = None  # height and width, where a file says them
    written: nn.Module | None = None  # the same network as its file names its layers


@dataclass(frozen=True, slots=True)
class Changes:
    """What the user wants otherwise; None leaves it."""

    num_classes: int | None = None
    in_channels: int | None = None
    dilated: bool = False


def find_subject(given: str, changes: Changes) -> Subject:
    """Find the network that a name, a checkpoint file or a .prototxt of Caffe stands for.

    Raises:
        SettingError: no such model, or changes that it cannot take.
        CheckpointError: the file holds no ResNet, or is no prototxt.
    """
    if given in known_models():
        return named(given, changes)
    if Path(given).suffix.lower() == ".prototxt" and Path(given).exists():
        from resnet_cli.summary.prototxts import subject_of_prototxt  # which imports this file

        return subject_of_prototxt(Path(given), changes)
    if given and Path(given).exists():
        return of_checkpoint(Path(given), changes)
    raise unknown(given, known_models(), "'resnet-cli models --all' lists the models")


def known_models() -> list[str]:
    """Names of torchvision's classification models."""
    return list(list_models(module=torchvision.models))


def named(name: str, changes: Changes) -> Subject:
    """A network of torchvision."""
    num_classes = changes.num_classes or 1000
    in_channels = changes.in_channels or 3
    if name in ARCHITECTURES:
        variant = Variant(dilated=DILATED) if changes.dilated else PLAIN
        network: nn.Module = build(
            name, num_classes=num_classes, in_channels=in_channels, variant=variant
        )
    else:
        if changes.dilated:
            raise SettingError(f"cannot dilate {name}: only ResNets of bottleneck blocks can be")
        settings = SETTINGS.get(name, {})
        try:
            with torch.device("meta"):
                network = get_model(name, num_classes=num_classes, **settings)
        except NotImplementedError:  # a builder that computes its widths with tensors
            with WithoutWeights():
                network = get_model(name, num_classes=num_classes, **settings)
        take_channels(network, in_channels)
    source = f"torchvision {torchvision.__version__.partition('+')[0]}"
    return Subject(name, source, network.eval(), in_channels, num_classes, name in ARCHITECTURES)


def take_channels(network: nn.Module, in_channels: int) -> None:
    """Let the first convolution of a network take so many channels."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != in_channels:
        first.in_channels = in_channels
        shape = (first.out_channels, in_channels // first.groups, *first.kernel_size)
        first.weight = nn.Parameter(torch.empty(shape, device="meta"))


def of_checkpoint(path: Path, changes: Changes) -> Subject:
    """The network that a checkpoint is of, with its own head and channels."""
    # here, as a name needs neither this nor what it imports in turn: a third of the waiting
    from resnet_cli.checkpoint import Location, load_checkpoint

    checkpoint = load_checkpoint(Location(path, "given"), headless=True)
    num_classes = changes.num_classes or checkpoint.num_classes
    in_channels = changes.in_channels or checkpoint.in_channels
    variant = checkpoint.variant
    network = build(
        checkpoint.model,
        num_classes=num_classes or 1,
        in_channels=in_channels,
        head=None if changes.num_classes else checkpoint.head or None,
        variant=replace(variant, dilated=DILATED) if changes.dilated else variant,
    )
    if not num_classes:
        network.fc = nn.Identity()
    return Subject(
        checkpoint.model,
        str(path),
        network,
        in_channels,
        num_classes,
        is_resnet=True,
        facts=facts_of(checkpoint),
    )


def facts_of(checkpoint: "Checkpoint") -> tuple[str, ...]:
    """What was read from a checkpoint, in words."""
    parts = ", ".join([checkpoint.format, *checkpoint.whereabouts])
    names = checkpoint.classes
    classes = f"classes: {first_few(names.names)} ({names.source})"
    return (
        f"read from {checkpoint.path}: {parts}",
        classes if checkpoint.head else "a backbone alone: it has no head, and so no classes",
    )


def default_size(model: str) -> int:
    """Pixels of a side of the pictures that a model was made for."""
    return INPUT_SIZES.get(model, 224)


def count(tensors: Iterable[torch.Tensor]) -> int:
    """Numbers in all of them."""
    return sum(tensor.numel() for tensor in tensors)
