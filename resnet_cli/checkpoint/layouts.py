"""Where in a file the weights are: found by content, whatever the keys around them are called."""

import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from resnet_cli.errors import CheckpointError

LANDMARK = "layer1.0.conv1.weight"
"""A name that every ResNet of torchvision has; what stands before it is the prefix."""

log = logging.getLogger("resnet_cli")

EMA = re.compile(r"(?<![a-z])ema(?![a-z])")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one network, under torchvision's names."""

    state_key: str  # where they were, as a path of keys; empty for the top of the file
    prefix: str  # that was taken off each name, such as "module."
    state: dict[str, Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        """What ``--state-key`` may call these weights; the first tells them from all others."""
        inner = self.prefix.rstrip(".")
        return ".".join(filter(None, (self.state_key, inner))), self.state_key, inner

    @property
    def title(self) -> str:
        """The name that tells these weights from all others."""
        return self.names[0] or "the top level"

    @property
    def is_average(self) -> bool:
        """Whether the keys speak of an exponential moving average."""
        return EMA.search(self.names[0].lower()) is not None


def find_weights(tree: Any, *, state_key: str | None, ema: bool) -> Weights:
    """Pick the weights of a file.

    Args:
        tree: what the file holds.
        state_key: choose those whose key, or prefix, is this.
        ema: prefer an exponential moving average where there is one.

    Raises:
        CheckpointError: none, or none under ``state_key``; the message names what there is.
    """
    found = list(candidates(tree))
    if not found:
        raise CheckpointError(f"no ResNet in it: {inventory(tree)}")
    if state_key is not None:
        chosen = [weights for weights in found if state_key in weights.names]
        if not chosen:
            raise CheckpointError(f"no weights under {state_key!r}: there are {listed(found)}")
        return chosen[0]
    averages = [weights for weights in found if weights.is_average]
    others = [weights for weights in found if not weights.is_average]
    first, second = (averages, others) if ema else (others, averages)
    weights = (first or second)[0]
    if len(found) > 1:
        log.info("several weights (%s): took %s", listed(found), weights.title)
    return weights


def listed(found: list[Weights]) -> str:
    """The names of several weights, to choose from with ``--state-key``."""
    return ", ".join(weights.title for weights in found)


def candidates(tree: Any) -> Iterator[Weights]:
    """Yield every set of weights in a tree of dicts and lists, outermost first."""
    for path, container in containers(tree):
        if isinstance(container, Mapping):
            tensors = {
                key: value
                for key, value in container.items()
                if isinstance(key, str) and isinstance(value, Tensor)
            }
            for prefix in prefixes(tensors):
                state = {
                    key.removeprefix(prefix): tensor
                    for key, tensor in tensors.items()
                    if key.startswith(prefix)
                }
                yield Weights(path, prefix, state)


def containers(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield a tree and every dict and list in it with its dotted path, outermost first.

    Each is visited once, so that a file which nests a container in itself, or shares one a
    thousandfold, ends.
    """
    waiting = deque([("", tree)])
    seen = {id(tree)}
    while waiting:
        path, container = waiting.popleft()
        yield path, container
        for key, value in children(container):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{path}.{key}" if path else key, value))


def children(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the containers inside a container, with their keys."""
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield key, value


def prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the landmark in the names of ``tensors``."""
    return [
        name.removesuffix(LANDMARK)
        for name in tensors
        if name == LANDMARK or name.endswith(f".{LANDMARK}")
    ]


def inventory(tree: Any) -> str:
    """Say in a few words what a tree holds instead of a ResNet."""
    if not isinstance(tree, Mapping):
        return f"it holds a {type(tree).__name__}, not a state dict"
    keys = ", ".join(str(key) for key in list(tree)[:5])
    more = f" and {len(tree) - 5} more" if len(tree) > 5 else ""
    return f"it holds {keys}{more}" if keys else "it holds nothing"
