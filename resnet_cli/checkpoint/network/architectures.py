"""ARCHITECTURES, the ten ResNets of torchvision; their variants, and the heads that replace fc."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode
from torchvision.models import ResNet, get_model
from torchvision.models.resnet import Bottleneck

from resnet_cli.errors import SettingError


@dataclass(frozen=True, slots=True)
class Architecture:
    """The settings that distinguish one ResNet from the others."""

    name: str  # torchvision's
    block: str  # BasicBlock or Bottleneck
    depths: tuple[int, int, int, int]  # blocks in layer1 .. layer4
    groups: int = 1  # of the 3x3 convolution in a bottleneck
    width_per_group: int = 64  # channels of one group in layer1


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("resnet18", "BasicBlock", (2, 2, 2, 2)),
        Architecture("resnet34", "BasicBlock", (3, 4, 6, 3)),
        Architecture("resnet50", "Bottleneck", (3, 4, 6, 3)),
        Architecture("resnet101", "Bottleneck", (3, 4, 23, 3)),
        Architecture("resnet152", "Bottleneck", (3, 8, 36, 3)),
        Architecture("resnext50_32x4d", "Bottleneck", (3, 4, 6, 3), 32, 4),
        Architecture("resnext101_32x8d", "Bottleneck", (3, 4, 23, 3), 32, 8),
        Architecture("resnext101_64x4d", "Bottleneck", (3, 4, 23, 3), 64, 4),
        Architecture("wide_resnet50_2", "Bottleneck", (3, 4, 6, 3), 1, 128),
        Architecture("wide_resnet101_2", "Bottleneck", (3, 4, 23, 3), 1, 128),
    )
}


def architecture_of_timm(architecture: str) -> str | None:
    """Return torchvision's name of a network of timm, or None where torchvision has no equal.

    Args:
        architecture: as timm writes it, of any of its releases: ``resnet50.a1_in1k``,
            ``tv_resnet50``, ``gluon_resnet50_v1b``, ``timm/resnet50``.
    """
    name = architecture.rpartition("/")[2].partition(".")[0]
    name = re.sub(r"^(?:gluon|tv|ssl|swsl|ig)_|_v1b$", "", name)
    return name if name in ARCHITECTURES else None


def unknown_model_error(given: str, names: Iterable[str], otherwise: str) -> SettingError:
    """Build the error for a name that is neither a model nor a file.

    Args:
        given: what the user typed.
        names: of the models that exist.
        otherwise: the hint where no name is similar.
    """
    if not given:
        return SettingError("cannot use an empty name: give a model or a checkpoint file")
    if Path(given).suffix or given != Path(given).name:
        return SettingError(f"cannot load {given}: there is no such file")
    names = list(names)
    longer = [name for name in names if name.startswith(given)]
    near = longer[:3] or get_close_matches(given, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else otherwise
    return SettingError(f"cannot find a model or a checkpoint file {given!r}: {hint}")


@dataclass(frozen=True, slots=True)
class Variant:
    """Deviations from torchvision's default in a network with the same tensors."""

    stride_in_1x1: bool = False  # bottlenecks stride in their first convolution, as Caffe's do
    ceil_pool: bool = False  # the max pool rounds sizes up and does not pad, as Caffe's does
    dilated: tuple[bool, bool, bool] = (False, False, False)  # layer2, 3, 4, instead of strides
    concat_pool: bool = False  # maximum of each channel beside the average, as fastai's
    exponents: int = 0  # of a generalised mean in place of the average: one, or one per channel


PLAIN = Variant()
DILATED = (False, True, True)  # the usual dilated ResNet: output stride 8


@dataclass(frozen=True, slots=True)
class HeadLayer:
    """One layer of a head."""

    kind: str  # linear, batch_norm, layer_norm, or one of ACTIVATIONS
    size_in: int = 0
    size_out: int = 0
    bias: bool = True
    eps: float = 1e-5  # of a norm


Head = tuple[HeadLayer, ...]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""Activations between the layers of a head, with the default settings of their classes."""


def module_of(layer: HeadLayer) -> nn.Module:
    """Make the module of one layer."""
    if layer.kind == "linear":
        return nn.Linear(layer.size_in, layer.size_out, bias=layer.bias)
    if layer.kind == "batch_norm":
        return nn.BatchNorm1d(layer.size_in, eps=layer.eps)
    if layer.kind == "layer_norm":
        return nn.LayerNorm(layer.size_in, eps=layer.eps)
    return ACTIVATIONS[layer.kind]()


def module_of_head(head: Head) -> nn.Module:
    """Make the module in place of ``fc``; a single linear layer is not wrapped."""
    modules = [module_of(layer) for layer in head]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


class ConcatPool(nn.Module):
    """The maximum of each channel, followed by the averages: fastai's last pool."""

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, 2 C, 1, 1]."""
        return torch.cat(
            [
                nn.functional.adaptive_max_pool2d(features, 1),
                nn.functional.adaptive_avg_pool2d(features, 1),
            ],
            dim=1,
        )


class GeneralisedMean(nn.Module):
    """The last pool of image retrieval: a mean of powers (GeM), https://arxiv.org/abs/1711.02512."""

    SMALLEST = 1e-6  # of a feature, as in its authors' code

    def __init__(self, exponents: int) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.empty(exponents))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, 1, 1], in float32 inside: powers leave the range of fp16."""
        exponent = self.p.view(1, -1, 1, 1)
        powers = features.float().clamp(min=self.SMALLEST).pow(exponent)
        return powers.mean((2, 3), keepdim=True).pow(1 / exponent).to(features.dtype)


class WithoutWeights(TorchFunctionMode):
    """Allocates the weights of layers on the meta device, and leaves them unfilled.

    ``torch.device("meta")`` does the same for every tensor, in twice the time.
    """

    ALLOCATE = frozenset({torch.empty, torch.ones, torch.zeros})
    FILL = frozenset(
        {init.kaiming_uniform_, init.uniform_, init.constant_,
         Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}
    )  # fmt: skip

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in self.FILL:
            filled = args[0] if args else options["tensor"]
            if filled.is_meta:
                return filled
        is_counter = func is torch.tensor and args == (0,)  # the counter of a batch norm
        if func in self.ALLOCATE or is_counter:
            options["device"] = "meta"
        return func(*args, **options)


def build_network(
    name: str,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    head: Head | None = None,
    variant: Variant = PLAIN,
) -> ResNet:
    """Build torchvision's network without memory for its weights.

    Args:
        name: of ``ARCHITECTURES``.
        num_classes: outputs of ``fc``.
        in_channels: inputs of ``conv1``.
        head: layers in place of the linear ``fc``.
        variant: deviations from torchvision's default.

    Returns:
        The network in evaluation mode on the meta device, mapping float [N, in_channels, H, W] to
        logits [N, num_classes].

    Raises:
        SettingError: a dilated network of basic blocks, which torchvision does not support.
    """
    if any(variant.dilated) and ARCHITECTURES[name].block != "Bottleneck":
        raise SettingError(f"cannot dilate {name}: only networks of bottleneck blocks can be")
    settings = {"replace_stride_with_dilation": variant.dilated} if any(variant.dilated) else {}
    with WithoutWeights():
        network = get_model(name, weights=None, num_classes=num_classes, **settings)
        assert isinstance(network, ResNet)
        if in_channels != network.conv1.in_channels:
            network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        if head is not None:
            network.fc = module_of_head(head)
        if variant.exponents:
            network.avgpool = GeneralisedMean(variant.exponents)
    apply_variant(network, variant)
    return network.eval()


def apply_variant(network: ResNet, variant: Variant) -> None:
    """Change the strides and pools of a network to those of its variant."""
    if variant.stride_in_1x1:
        for module in network.modules():
            if isinstance(module, Bottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    if variant.ceil_pool:
        network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    if variant.concat_pool:
        network.avgpool = ConcatPool()
