"""Shapes of the tensors of networks, built quickly."""

from functools import cache
from typing import Any

import torch
from torch import nn
from torchvision import models

Shapes = dict[str, tuple[int, ...]]

TEN = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
       "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")  # fmt: skip
BLIND = {"weights": None, "weights_backbone": None}


def shapes(network: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@cache
def built(name: str, **settings: Any) -> Shapes:
    with torch.device("meta"):
        return shapes(models.get_model(name, **settings))


def tensors(line: str) -> Shapes:
    """Names and shapes as in ``a.weight:3,4 b.bias:3``."""
    pairs = (entry.split(":") for entry in line.split(" "))
    return {name: tuple(int(size) for size in shape.split(",")) for name, shape in pairs}


RESNET18 = built("resnet18")

RESNET_INSIDE = " with a ResNet inside"
MBCONV = "an EfficientNet, a MobileNet or similar"
