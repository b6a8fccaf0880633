"""What can be summarised: any torchvision classification network by name, or a checkpoint."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from torch import nn
from torchvision.models import ResNet, get_model, list_models

from resnet_cli.checkpoint.formats.prototxt import Network, Shape
from resnet_cli.checkpoint.network.architectures import (
    ARCHITECTURES,
    DILATED,
    PLAIN,
    Variant,
    WithoutWeights,
    build_network,
    unknown_model_error,
)
from resnet_cli.errors import SettingError
from resnet_cli.summary.caffe import CaffeNetwork, assemble_network, image_input, read_file
from resnet_cli.summary.trace import as_pair
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
        return network_by_name(given, changes)
    if Path(given).suffix.lower() == ".prototxt" and Path(given).exists():
        return subject_of_prototxt(Path(given), changes)
    if given and Path(given).exists():
        return of_checkpoint(Path(given), changes)
    raise unknown_model_error(given, known_models(), "'resnet-cli models --all' lists the models")


def known_models() -> list[str]:
    """Names of torchvision's classification models."""
    return list(list_models(module=torchvision.models))


def network_by_name(name: str, changes: Changes) -> Subject:
    """A network of torchvision."""
    num_classes = changes.num_classes or 1000
    in_channels = changes.in_channels or 3
    if name in ARCHITECTURES:
        variant = Variant(dilated=DILATED) if changes.dilated else PLAIN
        network: nn.Module = build_network(
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
    from resnet_cli.checkpoint import LoadOptions, Location, load_checkpoint

    checkpoint = load_checkpoint(Location(path, "given"), LoadOptions(headless=True))
    num_classes = changes.num_classes or checkpoint.num_classes
    in_channels = changes.in_channels or checkpoint.in_channels
    variant = checkpoint.variant
    network = build_network(
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


def count_numbers(tensors: Iterable[torch.Tensor]) -> int:
    """Numbers in all of them."""
    return sum(tensor.numel() for tensor in tensors)


BLOCK = re.compile(r"res([2-5])[a-z]\d*_branch2a")
"""First convolution of a block, as the authors of the ResNet paper call it."""


def subject_of_prototxt(path: Path, changes: Changes) -> Subject:
    """The network that a .prototxt describes.

    A whole ResNet-50, 101 or 152 of Caffe is torchvision's network with Caffe's strides, so that
    it has blocks and stages; any other network is its own layers.

    Raises:
        CheckpointError: the file is no prototxt.
        SettingError: a network that cannot be built, or changes that it cannot take.
    """
    described = read_file(path)
    written = assemble_network(described, path)
    _, (_, channels, height, width) = image_input(described, path)
    subject = as_written(described, written, (channels, height, width), path)
    same = same_resnet(described, written)
    if same is not None:
        return as_resnet(subject, written, *same, changes)
    if changes != Changes():
        raise SettingError(
            f"cannot change {path}: its channels, classes and dilation are in the file: edit a copy"
        )
    return subject


def as_written(described: Network, written: CaffeNetwork, shape: Shape, path: Path) -> Subject:
    """A network of its own layers, for pictures of a shape [C, H, W]."""
    with torch.no_grad():
        output = written(torch.empty(1, *shape, device="meta"))
    has_head = output[0, 0].numel() == 1
    last = described.layers[-1].name
    facts = [f"read from {path}: a prototxt of {len(described.layers)} layers"]
    facts += [] if has_head else [f"it has no classes: {last} gives {list(output.shape)}"]
    return Subject(
        described.name or path.stem,
        str(path),
        written,
        in_channels=shape[0],
        num_classes=output.shape[1] if has_head else 0,
        is_resnet=False,
        facts=tuple(facts),
        img_size=(shape[1], shape[2]),
    )


def as_resnet(
    subject: Subject, written: CaffeNetwork, name: str, variant: Variant, changes: Changes
) -> Subject:
    """A whole ResNet of Caffe as torchvision's, changed as asked."""
    network = network_like(written, name, variant, changes)
    stride = "first 1×1" if variant.stride_in_1x1 else "3×3"
    pool = "rounds sizes up without padding" if variant.ceil_pool else "is padded"
    return replace(
        subject,
        model=name,
        network=network,
        in_channels=network.conv1.in_channels,
        num_classes=network.fc.out_features,
        is_resnet=True,
        facts=(
            *subject.facts,
            f"its blocks are those of torchvision's {name}, under torchvision's names; they stride "
            f"in their {stride} convolution, and the max pool {pool}",
        ),
        written=written if changes == Changes() else None,
    )


def same_resnet(described: Network, written: CaffeNetwork) -> tuple[str, Variant] | None:
    """Torchvision's network of the very same layers, if the blocks have Caffe's names."""
    found = [BLOCK.fullmatch(layer.name) for layer in described.layers]
    blocks = Counter(match[1] for match in found if match)
    depths = tuple(blocks[stage] for stage in "2345")
    names = [
        architecture.name
        for architecture in ARCHITECTURES.values()
        if architecture.block == "Bottleneck" and architecture.depths == depths
    ]
    layers = layers_that_count(written)
    for name, in_1x1, ceil in product(names, (True, False), (True, False)):
        variant = Variant(stride_in_1x1=in_1x1, ceil_pool=ceil)
        if layers_that_count(network_like(written, name, variant, Changes())) == layers:
            return name, variant
    return None


def network_like(written: CaffeNetwork, name: str, variant: Variant, changes: Changes) -> ResNet:
    """Torchvision's network with the first and last layers of the written one."""
    first = next(module for module in written.modules() if isinstance(module, nn.Conv2d))
    heads = [module for module in written.modules() if isinstance(module, nn.Linear)]
    network = build_network(
        name,
        num_classes=changes.num_classes or (heads[-1].out_features if heads else 1),
        in_channels=changes.in_channels or first.in_channels,
        variant=replace(variant, dilated=DILATED) if changes.dilated else variant,
    )
    if first.bias is not None:  # of no use in front of a batch norm, yet Caffe's ResNet-50 has it
        network.conv1.bias = nn.Parameter(torch.empty(64, device="meta"))
    return network


def layers_that_count(network: nn.Module) -> Counter[tuple[Any, ...]]:
    """Sizes and strides of the convolutions, max pools and linear layers."""
    found: Counter[tuple[Any, ...]] = Counter()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            own: tuple[Any, ...] = (tuple(module.weight.shape), module.bias is not None)
        elif isinstance(module, nn.MaxPool2d):
            own = ("max pool", module.ceil_mode, as_pair(module.kernel_size))
        else:
            continue
        windows = ("stride", "padding", "dilation")
        found[own + tuple(as_pair(getattr(module, window, None)) for window in windows)] += 1
    return found
