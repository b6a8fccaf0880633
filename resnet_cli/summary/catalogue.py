"""The models that torchvision has, with the facts that it publishes about them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models import WeightsEnum, get_model_weights

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.summary.networks import known_models

GROUPS: dict[str, tuple[str, ...]] = {
    "classic": (
        "alexnet", "vgg", "googlenet", "inception", "resnet", "resnext", "wide_resnet", "densenet",
        "convnext",
    ),
    "light-weight": ("squeezenet", "mobilenet", "shufflenet", "mnasnet"),
    "searched": ("efficientnet", "regnet"),
    "transformers": ("vit", "swin", "maxvit"),
}  # fmt: skip
"""Groups that people know, by the beginnings of the names in them."""

OTHERS = "others"

MB, MIB = 10**6, 2**20  # bytes; torchvision's metadata count in the latter


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One set of published weights."""

    name: str  # IMAGENET1K_V1
    acc1: float  # top-1 accuracy on ImageNet's validation set, percent
    acc5: float
    resize_size: int  # pixels, of the preset they were evaluated with
    crop_size: int
    megabytes: float  # 10^6 bytes, of the download
    cached: bool  # whether the file is in the torch hub cache
    gmacs: float  # at that crop


@dataclass(frozen=True, slots=True)
class Model:
    """One network and its published weights."""

    name: str
    group: str
    parameters: int
    gmacs: float  # of the first weights' crop
    weights: tuple[WeightsEntry, ...]


def list_models(*, everything: bool) -> list[Model]:
    """List the ten ResNets, or with ``everything`` all classification models, group by group."""
    names = known_models() if everything else list(ARCHITECTURES)
    order = [*GROUPS, OTHERS]
    models = [describe_model(name) for name in names]
    return sorted(models, key=lambda model: order.index(model.group)) if everything else models


def group_of(name: str) -> str:
    """The group of a model."""
    for group, starts in GROUPS.items():
        if name.startswith(starts):
            return group
    return OTHERS


def describe_model(name: str) -> Model:
    """Read torchvision's metadata of one model."""
    table = get_model_weights(name)
    entries = tuple(map(describe_weights, table))
    parameters = next(iter(table)).meta["num_params"]
    return Model(name, group_of(name), parameters, entries[0].gmacs, entries)


def describe_weights(weights: WeightsEnum) -> WeightsEntry:
    """Read torchvision's metadata of one set of weights."""
    accuracy = weights.meta["_metrics"]["ImageNet-1K"]
    transforms = weights.transforms()
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    return WeightsEntry(
        name=weights.name,
        acc1=accuracy["acc@1"],
        acc5=accuracy["acc@5"],
        resize_size=transforms.resize_size[0],
        crop_size=transforms.crop_size[0],
        megabytes=round(weights.meta["_file_size"] * MIB / MB, 3),
        cached=file.exists(),
        gmacs=weights.meta["_ops"],
    )
