"""Networks of systems that are too heavy to install for a test, written anew.

Each has the names of tensors and the forward pass of its system, and shares no code with it. The
sources are named beside them; fastai 2.8, Dive into Deep Learning 1.0, mmpretrain 1.2 with mmengine
0.10 and Lightning 2.6 were held against the program as well, and gave the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, get_model

Make = Callable[[int, int], nn.Module]  # a head of so many features and classes


@cache
def fresh(name: str) -> ResNet:
    """Torchvision's network as it begins, but for the convolutions with the most weights.

    All their channels begin alike, and a file of them takes a megabyte in place of fifty. What
    follows tells them apart: the norms that ``trained`` sets, and each layer's own weights.
    """
    torch.manual_seed(0)
    network: ResNet = get_model(name)
    for weight in network.parameters():
        if weight.numel() > 1 << 15:
            weight.data = weight.data[:1].clone().expand(weight.shape)
    return network


def resnet(
    name: str = "resnet18",
    fc: nn.Module | None = None,
    dilated: tuple[bool, bool, bool] = (False, False, False),
) -> ResNet:
    """Torchvision's network of four classes, or with another head, or with dilated layers."""
    network = deepcopy(fresh(name))
    if any(dilated):
        network = get_model(name, replace_stride_with_dilation=dilated)
        network.load_state_dict(fresh(name).state_dict(), assign=True)
    network.fc = fc or nn.Linear(network.fc.in_features, 4)
    return network


# Heads that people put in the place of torchvision's fc

HEADS: dict[str, Make] = {
    "linear": lambda f, n: nn.Linear(f, n),
    "linear without bias": lambda f, n: nn.Linear(f, n, bias=False),
    "dropout": lambda f, n: nn.Sequential(nn.Dropout(0.5), nn.Linear(f, n)),
    "linear in a sequential": lambda f, n: nn.Sequential(nn.Linear(f, n)),
    "flatten first": lambda f, n: nn.Sequential(nn.Flatten(), nn.Linear(f, n)),
    "two layers": lambda f, n: nn.Sequential(nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n)),
    "three layers": lambda f, n: nn.Sequential(
        nn.Linear(f, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n)
    ),
    "dropout behind the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(inplace=True), nn.Dropout(0.4), nn.Linear(32, n)
    ),
    "dropout everywhere": lambda f, n: nn.Sequential(
        nn.Dropout(), nn.Linear(f, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, n)
    ),
    "without bias": lambda f, n: nn.Sequential(
        nn.Linear(f, 32, bias=False), nn.ReLU(), nn.Linear(32, n, bias=False)
    ),
    "norm before the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm behind the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm first": lambda f, n: nn.Sequential(
        nn.BatchNorm1d(f), nn.Dropout(), nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n)
    ),
    "norm first and alone": lambda f, n: nn.Sequential(nn.BatchNorm1d(f), nn.Linear(f, n)),
    "norm without weights": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32, affine=False), nn.ReLU(), nn.Linear(32, n)
    ),
    "layer norm": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, n)
    ),
    "no activation": lambda f, n: nn.Sequential(nn.Linear(f, 32), nn.Linear(32, n)),
    "two layers with names": lambda f, n: nn.Sequential(
        OrderedDict(fc1=nn.Linear(f, 32), relu=nn.ReLU(), fc2=nn.Linear(32, n))
    ),
    "names, norm and dropout": lambda f, n: nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(f, 32),
            bn1=nn.BatchNorm1d(32),
            relu=nn.ReLU(),
            drop=nn.Dropout(),
            fc2=nn.Linear(32, n),
        )
    ),
    "names, and probabilities at the end": lambda f, n: nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(f, 32), relu=nn.ReLU(), fc2=nn.Linear(32, n), output=nn.LogSoftmax(dim=1)
        )
    ),
    "probabilities at the end": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n), nn.LogSoftmax(dim=1)
    ),
    "nested": lambda f, n: nn.Sequential(
        nn.Sequential(nn.Linear(f, 32), nn.BatchNorm1d(32), nn.ReLU()), nn.Linear(32, n)
    ),
}
"""Heads whose state dict is enough: between their layers is ReLU, or nothing."""


def between(activation: type[nn.Module]) -> Make:
    """Two layers with an activation between them."""
    return lambda f, n: nn.Sequential(nn.Linear(f, 32), activation(), nn.Linear(32, n))


ACTIVATIONS = (nn.Tanh, nn.GELU, nn.LeakyReLU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.SELU)

ACTIVE: dict[str, Make] = {
    **{activation.__name__: between(activation) for activation in ACTIVATIONS},
    "dropout, no activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm with an epsilon": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32, eps=0.1), nn.Tanh(), nn.Linear(32, n)
    ),
}
"""Heads that only a whole pickled module tells."""


class Joined(nn.Module):
    """A backbone, and layers that only the forward pass joins to it."""

    def __init__(
        self, resnet: nn.Module, join: Callable[[Any, Tensor], Tensor], **layers: nn.Module
    ) -> None:
        super().__init__()
        self.resnet, self.join = resnet, join
        for name, layer in layers.items():
            self.add_module(name, layer)

    def __getstate__(self) -> dict[str, Any]:
        """All but the forward pass, which no file holds."""
        return {key: value for key, value in vars(self).items() if key != "join"}

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self, x)


class Parted(nn.Module):
    """A backbone without its head, and the head beside it."""

    def __init__(self, backbone: nn.Module, **head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        (self.place,) = head
        self.add_module(self.place, head[self.place])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(self, self.place)(self.backbone(x).flatten(1))
        return result


class Pointwise(nn.Conv2d):
    """A linear layer that is written as a convolution of one pixel."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, 1)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input[:, :, None, None]).flatten(1)


def headless(network: ResNet) -> ResNet:
    """A network of torchvision without its last layer."""
    network.fc = nn.Identity()
    return network


def cut(network: ResNet, last: int = -1) -> nn.Sequential:
    """The layers of a network of torchvision as numbers: all but the last ones."""
    return nn.Sequential(*list(network.children())[:last])


JOINED: dict[str, Callable[[], nn.Module]] = {
    "two layers": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc2(net.fc1(net.resnet(x)).relu()),
        fc1=nn.Linear(512, 64),
        fc2=nn.Linear(64, 4),
    ),
    "two layers and a norm": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc2(net.bn(net.fc1(net.resnet(x))).relu()),
        fc1=nn.Linear(512, 64),
        bn=nn.BatchNorm1d(64),
        fc2=nn.Linear(64, 4),
    ),
    "two layers behind what was cut": lambda: Joined(
        cut(resnet()),
        lambda net, x: net.fc2(net.fc1(net.resnet(x).flatten(1)).relu()),
        fc1=nn.Linear(512, 64),
        fc2=nn.Linear(64, 4),
    ),
    "a norm first": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc(net.norm(net.resnet(x))),
        norm=nn.LayerNorm(512),
        fc=nn.Linear(512, 4),
    ),
    "behind the last layer": lambda: Joined(
        resnet(fc=nn.Linear(512, 10)),
        lambda net, x: net.fc(net.resnet(x)),
        fc=nn.Linear(10, 4),
    ),
    "behind the last layer and an activation": lambda: Joined(
        resnet(fc=nn.Linear(512, 64)),
        lambda net, x: net.out(net.resnet(x).relu()),
        out=nn.Linear(64, 4),
    ),
    "behind the last layer in a sequential": lambda: nn.Sequential(
        resnet(fc=nn.Linear(512, 64)), nn.ReLU(), nn.Dropout(), nn.Linear(64, 4)
    ),
    "beside the last layer": lambda: Joined(
        resnet(fc=nn.Linear(512, 10)),
        lambda net, x: net.head(nn.Sequential(*list(net.resnet.children())[:-1])(x).flatten(1)),
        head=nn.Linear(512, 4),
    ),
}
"""Networks with more behind the backbone than one module: an answer without all of it is wrong."""


# What courses build: https://github.com/WZMIAOMIAO/deep-learning-for-image-processing


class Bottleneck(nn.Module):
    def __init__(self, size: int, width: int, *, groups: int, per_group: int, stride: int) -> None:
        super().__init__()
        inner = width * per_group // 64 * groups
        self.conv1 = nn.Conv2d(size, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or size != 4 * width:
            projection = nn.Conv2d(size, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + identity)


class TeachingResNet(nn.Module):
    """A ResNet under torchvision's names, of blocks with groups and widths."""

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int,
        *,
        include_top: bool = True,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        size = 64
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                width = 64 << stage
                blocks.append(
                    Bottleneck(size, width, groups=groups, per_group=width_per_group, stride=stride)
                )
                size = 4 * width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.include_top = include_top
        if include_top:
            self.fc = nn.Linear(size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3))) if self.include_top else x


# Dive into Deep Learning: https://d2l.ai/chapter_convolutional-modern/resnet.html


class Residual(nn.Module):
    """The block of the book: biases in its convolutions, and no norm in its shortcut."""

    def __init__(self, size: int, channels: int, *, project: bool, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size, channels, 3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(size, channels, 1, stride=stride) if project else None
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.conv3 is None else self.conv3(x)))


def d2l_stem(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, 7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def d2l_stage(channels: int) -> nn.Sequential:
    if channels == 64:
        return nn.Sequential(*(Residual(64, 64, project=False, stride=1) for _ in range(2)))
    return nn.Sequential(
        Residual(channels // 2, channels, project=True, stride=2),
        Residual(channels, channels, project=False, stride=1),
    )


def d2l_ending(num_classes: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, num_classes)


def d2l_first_edition(in_channels: int, num_classes: int = 10) -> nn.Sequential:
    """ResNet-18 as Sequential(b1, b2, b3, b4, b5, pool, flatten, linear)."""
    stages = map(d2l_stage, (64, 128, 256, 512))
    return nn.Sequential(d2l_stem(in_channels), *stages, *d2l_ending(num_classes))


class D2lResNet18(nn.Module):
    """ResNet-18 of the later edition, whose stages have names and whose first block a number."""

    def __init__(self, in_channels: int, num_classes: int = 10) -> None:
        super().__init__()
        self.net = nn.Sequential(d2l_stem(in_channels))
        for number, channels in enumerate((64, 128, 256, 512), 2):
            self.net.add_module(f"b{number}", d2l_stage(channels))
        self.net.add_module("last", nn.Sequential(*d2l_ending(num_classes)))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


class GlobalAvgPool2d(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, kernel_size=x.size()[2:])


class FlattenLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


def d2l_chinese_edition(in_channels: int, num_classes: int = 10) -> nn.Sequential:
    """ResNet-18 of the Chinese edition for PyTorch, whose stages have names and whose stem none."""
    network = d2l_stem(in_channels)
    for number, channels in enumerate((64, 128, 256, 512), 1):
        network.add_module(f"resnet_block{number}", d2l_stage(channels))
    network.add_module("global_avg_pool", GlobalAvgPool2d())
    network.add_module("fc", nn.Sequential(FlattenLayer(), nn.Linear(512, num_classes)))
    return network


# fastai: https://docs.fast.ai/vision.learner.html#create_head


class AdaptiveConcatPool2d(nn.Module):
    """The largest value of each channel, and behind them the averages."""

    def __init__(self) -> None:
        super().__init__()
        self.ap = nn.AdaptiveAvgPool2d(1)
        self.mp = nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.mp(x), self.ap(x)], 1)


def fastai_head(
    features: int,
    num_classes: int,
    *,
    hidden: tuple[int, ...] = (512,),
    concat_pool: bool = True,
    first_bn: bool = True,
    bn_final: bool = False,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Pool and flatten; then a norm, a dropout and a linear layer for each size, ReLU between."""
    pool = AdaptiveConcatPool2d() if concat_pool else nn.AdaptiveAvgPool2d(1)
    layers: list[nn.Module] = [pool, nn.Flatten()]
    sizes = (features * (2 if concat_pool else 1), *hidden, num_classes)
    for index, (size, following) in enumerate(pairwise(sizes)):
        normed = first_bn or index > 0
        layers += [nn.BatchNorm1d(size)] if normed else []
        layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Linear(size, following, bias=not normed))
        layers += [nn.ReLU(inplace=True)] if index < len(hidden) else []
    layers += [nn.BatchNorm1d(num_classes, momentum=0.01)] if bn_final else []
    return nn.Sequential(*layers)


# mmpretrain: https://github.com/open-mmlab/mmpretrain, models/backbones/resnet.py and heads


class MmHead(nn.Module):
    """LinearClsHead."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(x)
        return result


class MmStackedHead(nn.Module):
    """StackedLinearClsHead: its layers have names inside."""

    def __init__(self, features: int, middle: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"fc": nn.Linear(size, following), "bn": nn.BatchNorm1d(following)})
            for size, following in pairwise((features, *middle))
        )
        self.layers.append(nn.ModuleDict({"fc": nn.Linear(middle[-1], num_classes)}))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x = layer["fc"](x)
            if "bn" in layer:
                x = functional.relu(layer["bn"](x))
        return x


def mm_classifier(backbone: ResNet, head: nn.Module, *, style: str = "pytorch") -> Parted:
    """ImageClassifier; ``style="caffe"`` strides in the first convolution of a bottleneck."""
    network = Parted(headless(backbone), head=head)
    if style == "caffe":
        for stage in (2, 3, 4):
            for name, stride in (("conv1", (2, 2)), ("conv2", (1, 1))):
                conv = backbone.get_submodule(f"layer{stage}.0.{name}")
                assert isinstance(conv, nn.Conv2d)
                conv.stride = stride
    return network


# detectron2: https://github.com/facebookresearch/detectron2, modeling/backbone/resnet.py


class ConvNorm(nn.Conv2d):
    """A convolution with its norm inside."""

    def __init__(self, size: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(size, channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = self.norm(super().forward(input))
        return result


class BottleneckBlock(nn.Module):
    """The block with the stride in its 3x3 convolution, which is detectron2's default for it."""

    def __init__(self, size: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut = ConvNorm(size, channels, 1, stride) if size != channels else None
        self.conv1 = ConvNorm(size, channels // 4, 1)
        self.conv2 = ConvNorm(channels // 4, channels // 4, 3, stride)
        self.conv3 = ConvNorm(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv1(x))
        y = self.conv3(functional.relu(self.conv2(y)))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Detectron2ResNet(nn.Module):
    """A ResNet of bottlenecks, with a linear head if it has classes."""

    def __init__(self, depths: Sequence[int], num_classes: int | None = None) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": ConvNorm(3, 64, 7, 2)})
        size = 64
        for stage, depth in enumerate(depths):
            channels = 256 << stage
            first = BottleneckBlock(size, channels, 2 if stage else 1)
            others = (BottleneckBlock(channels, channels, 1) for _ in range(depth - 1))
            self.add_module(f"res{stage + 2}", nn.Sequential(first, *others))
            size = channels
        self.linear = None if num_classes is None else nn.Linear(size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem["conv1"](x)), 3, stride=2, padding=1)
        for stage in range(2, 6):
            x = self.get_submodule(f"res{stage}")(x)
        return x if self.linear is None else self.linear(x.mean((2, 3)))


def to_detectron2(name: str) -> str:
    """What tools/convert-torchvision-to-d2.py calls a tensor of torchvision's."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    for number in range(1, 5):
        name = name.replace(f"layer{number}", f"res{number + 1}")
        name = name.replace(f"bn{number}", f"conv{number}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


# Learning without labels


def mlp(*sizes: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them, as projection heads are."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers.append(nn.Linear(size, following))
        layers += [nn.BatchNorm1d(following)] if norm else []
        layers.append(nn.ReLU())
    layers = layers[: -2 if norm else -1]
    return nn.Sequential(*layers)


def tensors(prefix: str, *modules: tuple[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of several modules, each under its own name, with what a wrapper puts before."""
    return {
        f"{prefix}{name}.{key}": tensor
        for name, module in modules
        for key, tensor in module.state_dict().items()
    }


def moco(version: int) -> dict[str, Any]:
    """https://github.com/facebookresearch/moco: in version 2 the head has two layers."""
    encoders = [resnet(fc=nn.Linear(512, 128) if version == 1 else mlp(512, 512, 128))] * 2
    state = tensors("module.", ("encoder_q", encoders[0]), ("encoder_k", encoders[1]))
    state |= {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1).long()}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}


def moco_v3() -> dict[str, Any]:
    """https://github.com/facebookresearch/moco-v3."""
    base = resnet(fc=mlp(512, 1024, 256, norm=True))
    state = tensors(
        "module.", ("base_encoder", base), ("momentum_encoder", base), ("predictor", mlp(256, 256))
    )
    return {"epoch": 300, "arch": "resnet18", "state_dict": state}


def simclr() -> dict[str, Any]:
    """https://github.com/sthalles/SimCLR: the head is projected through where fc was."""
    state = tensors("", ("backbone", resnet(fc=mlp(512, 512, 128))))
    return {"epoch": 100, "arch": "resnet18", "state_dict": state}


def simclr_of_spijkervet() -> dict[str, Tensor]:
    """https://github.com/Spijkervet/SimCLR."""
    return tensors("", ("encoder", headless(resnet())), ("projector", mlp(512, 512, 64)))


def dino() -> dict[str, Any]:
    """https://github.com/facebookresearch/dino: a student and a teacher, with weight norm."""
    head = mlp(512, 2048, 2048, 256)
    parts = {"weight_g": torch.ones(64, 1), "weight_v": torch.randn(64, 256)}
    student = tensors("module.", ("backbone", headless(resnet())), ("head.mlp", head))
    student |= {f"module.head.last_layer.{name}": tensor for name, tensor in parts.items()}
    teacher = {name.removeprefix("module."): tensor for name, tensor in student.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "optimizer": {"state": {}}}


def barlow_twins() -> dict[str, Any]:
    """https://github.com/facebookresearch/barlowtwins."""
    parts = ("backbone", headless(resnet())), ("projector", mlp(512, 1024, 1024, norm=True))
    return {"epoch": 1, "model": tensors("module.", *parts, ("bn", nn.BatchNorm1d(1024)))}


def swav() -> dict[str, Any]:
    """https://github.com/facebookresearch/swav."""
    head, prototypes = mlp(512, 1024, 128, norm=True), nn.Linear(128, 30, bias=False)
    state = {f"module.{name}": tensor for name, tensor in headless(resnet()).state_dict().items()}
    state |= tensors("module.", ("projection_head", head), ("prototypes", prototypes))
    return {"epoch": 400, "state_dict": state, "arch": "resnet18"}


def simsiam() -> dict[str, Any]:
    """https://github.com/facebookresearch/simsiam."""
    encoder = resnet(fc=mlp(512, 512, 512, 512, norm=True))
    state = tensors("module.", ("encoder", encoder), ("predictor", mlp(512, 128, 512, norm=True)))
    return {"epoch": 100, "arch": "resnet18", "state_dict": state}


LABELLESS: dict[str, Callable[[], dict[str, Any]]] = {
    "MoCo": lambda: moco(1),
    "MoCo v2": lambda: moco(2),
    "MoCo v3": moco_v3,
    "SimCLR": simclr,
    "SimCLR with a projector": simclr_of_spijkervet,
    "DINO": dino,
    "Barlow Twins": barlow_twins,
    "SwAV": swav,
    "SimSiam": simsiam,
}
"""What systems save that learn without labels: no head of theirs tells classes apart."""
