"""A ResNet in NumPy, slow and obvious: https://arxiv.org/abs/1512.03385, with groups."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]

EPSILON = 1e-5  # of batch norm


def windows(x: Array, size: int, stride: int, padding: int, fill: float) -> Array:
    edges = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(x, edges, constant_values=fill)
    return sliding_window_view(padded, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]


def conv(x: Array, weight: Array, stride: int = 1, groups: int = 1) -> Array:
    size = weight.shape[-1]
    outputs = [
        np.einsum(
            "nchwij,ocij->nohw", windows(part, size, stride, size // 2, 0), kernel, optimize=True
        )
        for part, kernel in zip(
            np.split(x, groups, axis=1), np.split(weight, groups, axis=0), strict=True
        )
    ]
    return np.concatenate(outputs, axis=1)


def norm(x: Array, w: Weights, name: str) -> Array:
    mean, var, scale, shift = (
        w[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + EPSILON) * scale + shift


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def basic(x: Array, w: Weights, name: str, stride: int, groups: int) -> Array:
    y = relu(norm(conv(x, w[f"{name}.conv1.weight"], stride), w, f"{name}.bn1"))
    return norm(conv(y, w[f"{name}.conv2.weight"]), w, f"{name}.bn2")


def bottleneck(x: Array, w: Weights, name: str, stride: int, groups: int) -> Array:
    y = relu(norm(conv(x, w[f"{name}.conv1.weight"]), w, f"{name}.bn1"))
    y = relu(norm(conv(y, w[f"{name}.conv2.weight"], stride, groups), w, f"{name}.bn2"))
    return norm(conv(y, w[f"{name}.conv3.weight"]), w, f"{name}.bn3")


def shortcut(x: Array, w: Weights, name: str, stride: int) -> Array:
    if f"{name}.downsample.0.weight" not in w:
        return x
    return norm(conv(x, w[f"{name}.downsample.0.weight"], stride), w, f"{name}.downsample.1")


def resnet(x: Array, w: Weights, depths: Sequence[int], groups: int = 1) -> Array:
    """Map images [N, C, H, W] to logits [N, classes]; weights under torchvision's names."""
    x = relu(norm(conv(x, w["conv1.weight"], 2), w, "bn1"))
    x = windows(x, 3, 2, 1, -np.inf).max(axis=(-2, -1))
    block = bottleneck if "layer1.0.conv3.weight" in w else basic
    for layer, depth in enumerate(depths, start=1):
        for number in range(depth):
            name = f"layer{layer}.{number}"
            stride = 2 if layer > 1 and number == 0 else 1
            x = relu(block(x, w, name, stride, groups) + shortcut(x, w, name, stride))
    return x.mean(axis=(2, 3)) @ w["fc.weight"].T + w["fc.bias"]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
