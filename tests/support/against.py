"""Holding a checkpoint against the system that it came from: networks, pictures, probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from heads import Pointwise
from resnet_cli.checkpoint.loading import Checkpoint, load_checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, Location

LARGEST = 1e-5  # difference of a probability; 1e-4 is promised

CLASSES = ["crow", "daw", "jay", "rook"]

Forward = Callable[[Tensor], Tensor]
Network = TypeVar("Network", bound=nn.Module)
State = dict[str, Tensor]


def pictures(channels: int = 3) -> Tensor:
    """Two of blots and some noise, 48 pixels wide: unlike enough to be of different classes."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.randn(2, channels, 4, 4, generator=random)
    blots = functional.interpolate(coarse, (48, 48), mode="bicubic")
    shades = torch.randn(2, channels, 1, 1, generator=random)
    return 1.5 * blots + shades + 0.2 * torch.randn(blots.shape, generator=random)


def trained(network: Network, channels: int = 3) -> Network:
    """Give a network scales, shifts and statistics as training leaves them, and mixed answers."""
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.ndim == 1 and name.endswith("weight"):
            weight.data.uniform_(0.5, 1.0)
        elif weight.ndim == 1:
            weight.data.normal_(0, 0.2)
    modules = list(network.eval().modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None  # the statistics become those of the next batch
    images = pictures(channels)
    with torch.no_grad():
        network(torch.cat([images, images.flip(3)]))
    for norm in norms:
        norm.eval().momentum = 0.1
    if not isinstance(modules[-1], nn.BatchNorm1d):
        mix(network, next(m for m in reversed(modules) if isinstance(m, LINEAR)), images)
    return network


LINEAR = (nn.Linear, Pointwise)


def mix(network: nn.Module, last: nn.Module, images: Tensor) -> None:
    """Turn and scale the last layer, so that it tells the pictures apart."""

    def turn(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        weight, mean = layer.get_parameter("weight").data.flatten(1), inputs[0].mean(0)
        weight.sub_(torch.outer(weight @ mean, mean) / mean.dot(mean))  # what they have in common
        weight.mul_(1.5 / (inputs[0] @ weight.T).std(0).mean())

    hook = last.register_forward_hook(turn)
    with torch.no_grad():
        network(images)
    hook.remove()


def turned(network: Network) -> Network:
    """Make the last layer say the opposite: averaged weights are others than the last ones."""
    for weight in network.get_submodule("fc").parameters():
        weight.data.neg_()
    return network


def probabilities(logits: Tensor) -> Tensor:
    """Of each class; a single output is the logit of index 1."""
    if logits.shape[1] > 1:
        return logits.softmax(1)
    return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], 1)


def opened(path: str | Path, **options: Any) -> Checkpoint:
    return load_checkpoint(Location(Path(path), "given"), LoadOptions(**options))


def difference(checkpoint: Checkpoint, forward: Forward) -> float:
    """The largest difference between the probabilities of the program and of a system."""
    images = pictures(checkpoint.in_channels)
    with torch.inference_mode():
        ours = probabilities(checkpoint.network()(images))
        theirs = probabilities(forward(images))
    assert float((theirs - theirs[0]).abs().max()) > 0.02  # or nothing would be shown
    return float((ours - theirs).abs().max())


def check(path: str | Path, forward: Forward, **facts: Any) -> Checkpoint:
    """Open a file, and hold it against the system and against what is known of it."""
    checkpoint = opened(path)
    for name, value in facts.items():
        assert getattr(checkpoint, name) == value, name
    assert difference(checkpoint, forward) <= LARGEST
    return checkpoint


def saved(content: Any, path: str = "model.pth") -> str:
    torch.save(content, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Soft shapes with edges and grain, so that every pixel of a shift or a filter shows."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    hard = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST), np.float64)
    grain = random.normal(0, 12, soft.shape)
    return Image.fromarray((0.7 * soft + 0.3 * hard + grain).clip(0, 255).astype(np.uint8))


PHOTOGRAPHS = [(640, 480), (375, 500), (120, 90), (1001, 257), (347, 256), (300, 471)]
"""Width and height; the margins of the last two are halves of a pixel."""


def largest_shift(checkpoint: Checkpoint, theirs: Callable[[Image.Image], Tensor]) -> float:
    """The largest difference of a pixel that reaches the network, in levels of 255."""
    found = []
    for size in PHOTOGRAPHS:
        image = photograph(size)
        pixels = checkpoint.preprocess(image)[None]
        ours = torch.from_numpy(checkpoint.preprocess.normalise(pixels)[0]).permute(2, 0, 1)
        levels = 255 * torch.tensor(checkpoint.preprocess.std).view(-1, 1, 1)
        assert ours.shape == theirs(image).shape
        found.append(float(((ours - theirs(image)) * levels).abs().max()))
    return max(found)
