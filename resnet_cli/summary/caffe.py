"""A .prototxt of Caffe -> the network that it describes, layer by layer, under Caffe's names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_cli.checkpoint.formats.prototxt import Network, ProtoLayer, Shape, read_prototxt
from resnet_cli.errors import CheckpointError, SettingError, describe

Settings = Mapping[str, Any]


class Input(nn.Identity):
    """Returns the images."""


class ScaleLayer(nn.Module):
    """Scales and shifts each channel, which Caffe's batch norms leave to a layer of its own."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, …] to the same shape."""
        ones = (1,) * (features.ndim - 2)
        scaled = features * self.weight.view(-1, *ones)
        return scaled if self.bias is None else scaled + self.bias.view(-1, *ones)


class Eltwise(nn.Module):
    """Adds tensors of one shape, each multiplied by its coefficient."""

    def __init__(self, coefficients: Sequence[float]) -> None:
        super().__init__()
        self.coefficients = tuple(coefficients)

    def forward(self, *features: Tensor) -> Tensor:
        """Map tensors of one shape to their sum."""
        if len({tensor.shape for tensor in features}) != 1:
            raise ValueError(f"it adds shapes {[list(tensor.shape) for tensor in features]}")
        total, *others = (
            tensor if factor == 1 else factor * tensor
            for factor, tensor in zip(self.coefficients, features, strict=True)
        )
        for other in others:
            total = total + other
        return total


class InnerProduct(nn.Linear):
    """A linear layer over all features of an image."""

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, …] to [N, outputs]."""
        return super().forward(features.flatten(1))


def convolution_layer(settings: Settings, features: Tensor) -> nn.Module:
    """Build a convolution over height and width."""
    return nn.Conv2d(
        features.shape[1],
        settings["num_output"],
        settings["kernel_size"],
        stride=settings["stride"],
        padding=settings["pad"],
        dilation=settings["dilation"],
        groups=settings["group"],
        bias=settings["bias_term"],
    )


def pooling_layer(settings: Settings, _: Tensor) -> nn.Module:
    """Build a pool, which rounds sizes up unless ``ceil_mode`` is false.

    Caffe's averages count the padding as well (pooling_layer.cpp).
    """
    largest = settings["pool"] == "MAX"
    if settings["pool"] not in ("MAX", "AVE"):
        raise ValueError(f"a pool of kind {settings['pool']}")
    if settings["global_pooling"]:
        return nn.AdaptiveMaxPool2d(1) if largest else nn.AdaptiveAvgPool2d(1)
    kind = nn.MaxPool2d if largest else nn.AvgPool2d
    return kind(
        settings["kernel_size"],
        stride=settings["stride"],
        padding=settings["pad"],
        ceil_mode=settings.get("ceil_mode", True),
    )


def relu_layer(settings: Settings, _: Tensor) -> nn.Module:
    """Build a ReLU, or a leaky one."""
    slope = settings.get("negative_slope", 0)
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def eltwise_layer(settings: Settings, *features: Tensor) -> nn.Module:
    """Build a sum; products and maxima, which have the same name in Caffe, are refused."""
    if (operation := settings.get("operation", "SUM")) != "SUM":
        raise ValueError(f"an operation {operation}, only SUM is known")
    return Eltwise(settings.get("coeff") or (1.0,) * len(features))


def inner_product(settings: Settings, features: Tensor) -> nn.Module:
    """Build a linear layer."""
    require_channels(settings)
    size = features.flatten(1).shape[1]
    return InnerProduct(size, settings["num_output"], bias=settings["bias_term"])


def scale_layer(settings: Settings, features: Tensor) -> nn.Module:
    """Build a layer that scales each channel."""
    require_channels(settings)
    return ScaleLayer(features.shape[1], bias=settings.get("bias_term", False))


def require_channels(settings: Settings) -> None:
    """Refuse a layer whose parameters are for other axes than the channels.

    Raises:
        ValueError: names the axis.
    """
    axes = settings.get("axis", 1), settings.get("num_axes", 1)
    if axes != (1, 1):
        raise ValueError(f"axis {axes[0]} and {axes[1]} axes, only the channels are known")


def batch_norm(settings: Settings, features: Tensor) -> nn.Module:
    """Build a batch norm without scale and shift, which are a ``Scale`` layer of their own."""
    kind = nn.BatchNorm1d if features.ndim == 2 else nn.BatchNorm2d
    return kind(features.shape[1], eps=settings["eps"], affine=False)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "BatchNorm": batch_norm,
    "Convolution": convolution_layer,
    "Dropout": lambda settings, _: nn.Dropout(settings.get("dropout_ratio", 0.5)),
    "Eltwise": eltwise_layer,
    "InnerProduct": inner_product,
    "Input": lambda _settings, _images: Input(),
    "Pooling": pooling_layer,
    "ReLU": relu_layer,
    "Scale": scale_layer,
    "Softmax": lambda settings, _: nn.Softmax(dim=settings.get("axis", 1)),
}
"""Builds the module of each type, from its settings and its input tensors."""

BROKEN = (RuntimeError, ValueError, TypeError, LookupError, OverflowError, ZeroDivisionError)
"""What PyTorch raises for impossible sizes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a forward pass."""

    module: str  # name
    bottoms: tuple[str, ...]  # blobs
    top: str
    done: tuple[str, ...]  # blobs that no later layer reads


class CaffeNetwork(nn.Module):
    """Runs its layers one after the other, on named blobs."""

    def __init__(self, image_blob: str) -> None:
        super().__init__()
        self.image_blob = image_blob
        self.steps: list[Step] = []

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, C, H, W] to the output of the last layer."""
        blobs = {self.image_blob: images}
        output = images
        del images  # a blob lives until its last reader
        for step in self.steps:
            output = self.get_submodule(step.module)(*(blobs[name] for name in step.bottoms))
            blobs[step.top] = output
            for name in step.done:
                del blobs[name]
        return output


def network_from_prototxt(path: Path) -> CaffeNetwork:
    """Build the network of a .prototxt without allocating weights.

    Returns:
        A network in evaluation mode on the meta device with a module for each layer, of its name
        with dots replaced, that maps float [N, C, H, W] to the output of the last layer.

    Raises:
        CheckpointError: the file is not a prototxt.
        SettingError: a layer of a type that is not in ``BUILDERS``, or one that does not fit.
    """
    return assemble_network(read_network(path), path)


def read_network(path: Path) -> Network:
    """Read the layers of a .prototxt.

    Raises:
        CheckpointError: the file is not a prototxt.
    """
    try:
        return read_prototxt(path.read_text(encoding="utf-8", errors="replace"))
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error


def assemble_network(described: Network, path: Path) -> CaffeNetwork:
    """Build a network; the shapes of a layer's inputs set its sizes.

    Raises:
        SettingError: names the layer that cannot be built.
    """
    require_known(described.layers, path)
    image_blob, shape = image_input(described, path)
    network = CaffeNetwork(image_blob)
    layers = [replace(layer, bottoms=layer.bottoms or layer.tops) for layer in described.layers]
    with torch.device("meta"):
        blobs = {image_blob: torch.empty(1, *shape[1:])}
        for index, layer in enumerate(layers):
            later = {name for reader in layers[index + 1 :] for name in reader.bottoms}
            try:
                add_layer(network, layer, blobs, later)
            except BROKEN as error:
                raise SettingError(
                    f"cannot build {path}: its layer {layer.name} ({layer.part.kind}) does not fit "
                    f"({describe(error)})"
                ) from error
    return network.eval()


def add_layer(
    network: CaffeNetwork, layer: ProtoLayer, blobs: dict[str, Tensor], later: set[str]
) -> None:
    """Add the module of a layer to a network, and its output to the blobs."""
    if missing := [name for name in layer.bottoms if name not in blobs]:
        raise ValueError(f"it reads {missing[0]}, which no layer before it gives")
    features = [blobs[name] for name in layer.bottoms]
    module = BUILDERS[layer.part.kind](layer.part.settings, *features).eval()
    if isinstance(module, nn.ReLU | nn.LeakyReLU):
        module.inplace = layer.bottoms == layer.tops
    name = layer.name.replace(".", "_") or layer.part.kind
    while hasattr(network, name):  # such as a layer "half"
        name += "_"
    network.add_module(name, module)
    (top,) = layer.tops
    blobs[top] = module(*features)
    done = set(layer.bottoms) - later - {top}
    network.steps.append(Step(name, layer.bottoms, top, tuple(done)))


def require_known(layers: Sequence[ProtoLayer], path: Path) -> None:
    """Refuse layers that cannot be built.

    Raises:
        SettingError: names the types of all such layers.
    """
    unknown = {layer.part.kind: layer.name for layer in layers if layer.part.kind not in BUILDERS}
    if unknown:
        named = ", ".join(f"{kind} ({name})" for kind, name in unknown.items())
        raise SettingError(
            f"cannot build {path}: it has layers of unknown types: {named}: only "
            f"{', '.join(BUILDERS)} are known"
        )
    if not layers:
        raise SettingError(f"cannot build {path}: it has no layers: is it a network of Caffe?")


def image_input(described: Network, path: Path) -> tuple[str, Shape]:
    """Return the blob of the images and its shape: batch, channels, height, width.

    Raises:
        SettingError: not exactly one input, or one whose shape is not that of images.
    """
    inputs = dict(described.inputs)
    for layer in described.layers:
        if layer.part.kind == "Input":
            shapes = layer.part.settings.get("shape", ()) or ((),)
            inputs |= dict(zip(layer.tops, shapes * len(layer.tops), strict=False))
    shape = next(iter(inputs.values()), ())
    if len(inputs) != 1 or len(shape) != 4 or min(shape) < 1:
        named = ", ".join(f"{name} {list(shape)}" for name, shape in inputs.items()) or "none"
        raise SettingError(
            f"cannot build {path}: its inputs are {named}: it needs one of batch, channels, "
            "height and width, as in a deploy.prototxt"
        )
    return next(iter(inputs)), shape
