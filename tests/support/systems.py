"""Networks of systems that are too heavy to install for a test, reimplemented.

Each has the names of tensors and the forward pass of its system, and shares no code with it. The
sources are named beside them; fastai 2.8, Dive into Deep Learning 1.0, mmpretrain 1.2 with mmengine
0.10 and Lightning 2.6 were held against the program as well, and gave the same.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, get_model


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


def headless(network: ResNet) -> ResNet:
    """A network of torchvision without its last layer."""
    network.fc = nn.Identity()
    return network


def cut(network: ResNet, last: int = -1) -> nn.Sequential:
    """The layers of a network of torchvision as numbers: all but the last ones."""
    return nn.Sequential(*list(network.children())[:last])


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
