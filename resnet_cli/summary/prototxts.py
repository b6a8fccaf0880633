"""A .prototxt of Caffe as the subject of a summary: as torchvision's ResNet where it is one."""

import re
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import ResNet

from resnet_cli.architectures import ARCHITECTURES, DILATED, Variant, build
from resnet_cli.checkpoint.prototxt import Network, Shape
from resnet_cli.errors import SettingError
from resnet_cli.summary.caffe import CaffeNetwork, assemble, image_input, read
from resnet_cli.summary.networks import Changes, Subject
from resnet_cli.summary.trace import pair

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
    described = read(path)
    written = assemble(described, path)
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
    network = like(written, name, variant, changes)
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
        if layers_that_count(like(written, name, variant, Changes())) == layers:
            return name, variant
    return None


def like(written: CaffeNetwork, name: str, variant: Variant, changes: Changes) -> ResNet:
    """Torchvision's network with the first and last layers of the written one."""
    first = next(module for module in written.modules() if isinstance(module, nn.Conv2d))
    heads = [module for module in written.modules() if isinstance(module, nn.Linear)]
    network = build(
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
            own = ("max pool", module.ceil_mode, pair(module.kernel_size))
        else:
            continue
        windows = ("stride", "padding", "dilation")
        found[own + tuple(pair(getattr(module, window, None)) for window in windows)] += 1
    return found
