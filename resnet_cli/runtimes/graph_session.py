"""What sessions of network files have in common: pixels in, the best classes out, by NumPy."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from resnet_cli.graph import Graph
from resnet_cli.records import Pixels
from resnet_cli.runtimes import Runtime, SessionOptions, Top

Logits = NDArray[np.float32]  # [N, outputs]


class GraphSession(ABC):
    """A network file that a runtime on the processor has loaded.

    Attributes:
        runtime: where it runs.
        limit: None, as the memory of the machine is shared out before.
    """

    limit: int | None = None

    def __init__(self, runtime: Runtime, graph: Graph, options: SessionOptions) -> None:
        self.runtime = runtime
        self.graph = graph
        self.activation = options.activation

    @property
    def algorithms(self) -> Mapping[str, int]:
        """Return nothing: not every library says."""
        return {}

    @abstractmethod
    def infer(self, pixels: Pixels) -> Logits:
        """Compute the outputs for uint8 [N, H, W, C], N as the file wants it."""

    def launch(self, pixels: Pixels, k: int) -> list[Callable[[], Top]]:
        """Run one pass and wait for it; see ``Session``."""
        begun = perf_counter()
        probs, indices = self.top(pixels, k)
        top = Top(probs, indices, 1000 * (perf_counter() - begun))
        return [lambda: top]

    def repeat(self, pixels: Pixels, k: int) -> Callable[[], object]:
        """Return a function that runs one pass over a batch."""
        return partial(self.top, pixels, k)

    def top(self, pixels: Pixels, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Compute probabilities and indices [N, k] of the best classes."""
        parts = [self.infer(part)[:count] for part, count in self.cut(pixels)]
        outputs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return best_classes(to_probabilities(outputs, self.activation), k)

    def cut(self, pixels: Pixels) -> list[tuple[Pixels, int]]:
        """Cut a batch for a file that takes a fixed number of images, and fill up the last part.

        Returns:
            Parts of that number, each with the images in it that count.
        """
        size = self.graph.batch
        if size is None:
            return [(pixels, len(pixels))]
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return [(fill_up(part, size), len(part)) for part in parts]


def fill_up(pixels: Pixels, size: int) -> Pixels:
    """Repeat the last image until there are ``size``."""
    missing = size - len(pixels)
    return np.concatenate([pixels, pixels[-1:].repeat(missing, axis=0)]) if missing else pixels


def best_classes(
    probs: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the ``k`` largest of each row and their indices, the largest first."""
    indices = np.argsort(-probs, axis=1, kind="stable")[:, :k].astype(np.int64, copy=False)
    return np.take_along_axis(probs, indices, axis=1), indices


def softmax(outputs: Logits) -> Logits:
    """Turn each row into probabilities that sum to 1."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def sigmoid(outputs: Logits) -> Logits:
    """Turn each output into a probability of its own."""
    with np.errstate(over="ignore"):  # of a large negative one, whose probability is 0
        return np.asarray(1 / (1 + np.exp(-outputs)), np.float32)


ACTIVATIONS: Mapping[str, Callable[[Logits], Logits]] = {
    "identity": lambda outputs: outputs,  # the network gives probabilities
    "sigmoid": sigmoid,
    "softmax": softmax,
}
"""Functions that turn outputs [N, C] into probabilities."""


def to_probabilities(outputs: Logits, activation: str) -> Logits:
    """Turn outputs [N, C] into probabilities.

    A single output is the probability of index 1, or its logit: it becomes two columns.

    Args:
        outputs: of the network.
        activation: one of ``ACTIVATIONS``.
    """
    outputs = np.asarray(outputs, np.float32)
    if outputs.shape[1] != 1:
        return ACTIVATIONS[activation](outputs)
    if activation == "identity":
        return np.concatenate([1 - outputs, outputs], axis=1)
    return np.concatenate([sigmoid(-outputs), sigmoid(outputs)], axis=1)
