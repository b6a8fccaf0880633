"""The network to summarize: any classifier of torchvision by name, a checkpoint, a .prototxt."""

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
from resnet_cli.errors import OptionError, SettingError
from resnet_cli.graph import is_graph, read_graph
from resnet_cli.summary.caffe import CaffeNetwork, assemble_network, image_input, read_network
from resnet_cli.text import amount, first_few

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint

INPUT_SIZES = {"inception_v3": 299}
"""Side of the images in pixels, where it is not 224."""

SETTINGS = {
    # torchvision publishes it without the heads that only training uses
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False},
}
"""Arguments of two builders; an initialisation means nothing on the meta device."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to summarize, without its weights."""

    model: str  # torchvision's name
    source: str  # where it is from, in words
    network: nn.Module  # in evaluation mode, on the meta device
    in_channels: int
    num_classes: int  # 0 for a backbone alone
    is_resnet: bool
    facts: tuple[str, ...] = ()  # what was read from a file, in words
    img_size: tuple[int, int] | None = None  # height and width, if a file records them
    written: nn.Module | None = None  # the same network under the layer names of its file


VIEWS = ("layers", "blocks", "stages")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryOptions:
    """What ``summarize`` shows, and how the network is changed first; None changes nothing.

    Raises:
        OptionError: an unknown view, or a number below 1.
    """

    view: str = "layers"  # or blocks, stages
    depth: int | None = None  # deepest layers shown; deeper ones count for the row they are in
    img_size: tuple[int, int] | None = None  # height, width; None: what the model was made for
    batch_size: int = 1  # images per pass
    in_channels: int | None = None
    num_classes: int | None = None
    dilated: bool = False  # dilate the last two stages instead of striding

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise OptionError(f"cannot show view {self.view!r}: one of {', '.join(VIEWS)}")
        for name in ("depth", "batch_size", "in_channels", "num_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")
        if self.img_size is not None and min(self.img_size) < 1:
            raise OptionError(f"img_size must be at least 1, got {self.img_size}")

    @property
    def changes_network(self) -> bool:
        """True if the network differs from the one that was named."""
        return self.dilated or self.num_classes is not None or self.in_channels is not None


AS_GIVEN = SummaryOptions()


def find_subject(given: str, options: SummaryOptions) -> Subject:
    """Build the network of a model's name, a checkpoint or a .prototxt of Caffe.

    Raises:
        SettingError: no such model, or changes that it cannot take.
        CheckpointError: the file holds no ResNet, or is not a prototxt.
    """
    if given in known_models():
        return network_by_name(given, options)
    from resnet_cli.checkpoint.locate import local_file

    path = local_file(given)
    if path.suffix.lower() == ".prototxt" and path.exists():
        return subject_of_prototxt(path, options)
    if is_graph(path) and path.exists():
        return subject_of_graph(path, options)
    if given and path.exists():
        return subject_of_checkpoint(path, options)
    raise unknown_model_error(given, known_models(), "'resnet-cli models --all' lists the models")


def known_models() -> list[str]:
    """Return the names of torchvision's classification models."""
    return list(list_models(module=torchvision.models))


def network_by_name(name: str, options: SummaryOptions) -> Subject:
    """Build a network of torchvision."""
    num_classes = options.num_classes or 1000
    in_channels = options.in_channels or 3
    if name in ARCHITECTURES:
        variant = Variant(dilated=DILATED) if options.dilated else PLAIN
        network: nn.Module = build_network(
            name, num_classes=num_classes, in_channels=in_channels, variant=variant
        )
    else:
        if options.dilated:
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
    """Replace the first convolution of a network by one with other input channels."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != in_channels:
        first.in_channels = in_channels
        shape = (first.out_channels, in_channels // first.groups, *first.kernel_size)
        first.weight = nn.Parameter(torch.empty(shape, device="meta"))


def subject_of_checkpoint(path: Path, options: SummaryOptions) -> Subject:
    """Build the network of a checkpoint, with its own head and channels."""
    # a model by name does not need it, and importing it takes a third of the time
    from resnet_cli.checkpoint.loading import load_checkpoint
    from resnet_cli.checkpoint.locate import LoadOptions, Location

    checkpoint = load_checkpoint(Location(path, "given"), LoadOptions(headless=True))
    num_classes = options.num_classes or checkpoint.num_classes
    in_channels = options.in_channels or checkpoint.in_channels
    variant = checkpoint.variant
    network = build_network(
        checkpoint.model,
        num_classes=num_classes or 1,
        in_channels=in_channels,
        head=None if options.num_classes else checkpoint.head or None,
        variant=replace(variant, dilated=DILATED) if options.dilated else variant,
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
        facts=describe_checkpoint(checkpoint),
    )


def describe_checkpoint(checkpoint: "Checkpoint") -> tuple[str, ...]:
    """Return what was read from a checkpoint, in words."""
    parts = ", ".join([checkpoint.format, *checkpoint.whereabouts])
    names = checkpoint.classes
    classes = f"classes: {first_few(names.names)} ({names.source})"
    return (
        f"read from {checkpoint.path}: {parts}",
        classes if checkpoint.head else "a backbone alone: it has no head, and so no classes",
    )


CONVOLUTIONS = ("Conv", "Convolution", "FusedConv", "QLinearConv")
"""Kinds of operations that convolve, in ONNX and OpenVINO."""


def subject_of_graph(path: Path, options: SummaryOptions) -> Subject:
    """Build the network that a file of ONNX or OpenVINO says it holds.

    Raises:
        SettingError: it does not say which, or has other layers; or changes are wanted.
        CheckpointError: it is damaged, or does not classify.
    """
    graph = read_graph(path)
    if options.changes_network:
        raise SettingError(f"cannot change {path}: it is a network file: summarize a checkpoint")
    model = graph.description.model if graph.description else ""
    network = None
    if model in ARCHITECTURES:
        network = build_network(model, num_classes=graph.num_classes, in_channels=graph.channels)
    convolutions = sum(graph.operations.get(kind, 0) for kind in CONVOLUTIONS)
    if network is None or count_convolutions(network) != convolutions:
        raise SettingError(
            f"cannot list the layers of {path}: it does not say which network it is: it has "
            f"{amount(graph.parameters, 'parameter')} and {amount(convolutions, 'convolution')}: "
            f"'resnet-cli inspect {path}' shows its operations"
        )
    return Subject(
        model,
        str(path),
        network,
        graph.channels,
        graph.num_classes,
        is_resnet=True,
        facts=(
            f"read from {path}: {graph.format} in {graph.precision}; the layers are those of "
            f"torchvision's {model}",
        ),
        img_size=graph.size,
    )


def count_convolutions(network: nn.Module) -> int:
    """Return how many convolutions a network has."""
    return sum(isinstance(module, nn.Conv2d) for module in network.modules())


def default_size(model: str) -> int:
    """Return the side, in pixels, of the images that a model was made for."""
    return INPUT_SIZES.get(model, 224)


def count_numbers(tensors: Iterable[torch.Tensor]) -> int:
    """Return how many numbers some tensors hold together."""
    return sum(tensor.numel() for tensor in tensors)


BLOCK = re.compile(r"res([2-5])[a-z]\d*_branch2a")
"""First convolution of a block, under the name that the authors of the ResNet paper use."""


def subject_of_prototxt(path: Path, options: SummaryOptions) -> Subject:
    """Build the network that a .prototxt describes.

    A whole ResNet-50, 101 or 152 of Caffe becomes torchvision's network with Caffe's strides, so
    that it has blocks and stages; any other network keeps its own layers.

    Raises:
        CheckpointError: the file is not a prototxt.
        SettingError: a network that cannot be built, or changes that it cannot take.
    """
    described = read_network(path)
    written = assemble_network(described, path)
    _, (_, channels, height, width) = image_input(described, path)
    subject = as_written(described, written, (channels, height, width), path)
    same = same_resnet(described, written)
    if same is not None:
        return as_resnet(subject, written, *same, options)
    if options.changes_network:
        raise SettingError(
            f"cannot change {path}: its channels, classes and dilation are in the file: edit a copy"
        )
    return subject


def as_written(described: Network, written: CaffeNetwork, shape: Shape, path: Path) -> Subject:
    """Return a network with the layers of its file, for images of a shape [C, H, W]."""
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
    subject: Subject, written: CaffeNetwork, name: str, variant: Variant, options: SummaryOptions
) -> Subject:
    """Return a whole ResNet of Caffe as torchvision's network, with the changes of the options."""
    network = network_like(written, name, variant, options)
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
        written=written if not options.changes_network else None,
    )


def same_resnet(described: Network, written: CaffeNetwork) -> tuple[str, Variant] | None:
    """Find torchvision's network of exactly the same layers, if the blocks have Caffe's names."""
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
        if layers_that_count(network_like(written, name, variant, AS_GIVEN)) == layers:
            return name, variant
    return None


def network_like(
    written: CaffeNetwork, name: str, variant: Variant, options: SummaryOptions
) -> ResNet:
    """Build torchvision's network with the first and last layers of the given one."""
    first = next(module for module in written.modules() if isinstance(module, nn.Conv2d))
    heads = [module for module in written.modules() if isinstance(module, nn.Linear)]
    network = build_network(
        name,
        num_classes=options.num_classes or (heads[-1].out_features if heads else 1),
        in_channels=options.in_channels or first.in_channels,
        variant=replace(variant, dilated=DILATED) if options.dilated else variant,
    )
    if first.bias is not None:  # useless before a batch norm, but Caffe's ResNet-50 has it
        network.conv1.bias = nn.Parameter(torch.empty(64, device="meta"))
    return network


def layers_that_count(network: nn.Module) -> Counter[tuple[Any, ...]]:
    """Count convolutions, max pools and linear layers by their sizes and strides."""
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


def as_pair(value: Any) -> tuple[int, ...] | None:
    """Return the height and width of a kernel, a stride or a padding; None without any."""
    if isinstance(value, int):
        return value, value
    return tuple(value) if isinstance(value, tuple) else None
