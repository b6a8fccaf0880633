"""Where in a file the weights are: found by content, whatever the keys around them are called."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.layouts import LAYOUTS, Layout, with_dots
from resnet_cli.checkpoint.tree import (
    Foreign,
    Part,
    StateDict,
    containers,
    items,
    plain,
    tensors_in,
)
from resnet_cli.errors import CheckpointError
from resnet_cli.text import first_few

log = logging.getLogger("resnet_cli")

FEWEST = 50  # tensors by which a ResNet is known that lacks its landmark; a resnet18 has 102

VOWELS = ("a", "e", "i", "o")

EMA = re.compile(r"(?<![a-z])ema(?![a-z])")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one network, and those that stand around it."""

    layout: Layout
    state_key: str  # where they were, as a path of keys; empty for the top of the file
    prefix: str  # that was taken off each name, such as "module."
    tensors: Mapping[str, Tensor] = field(repr=False)  # of the whole container, full names
    parts: Mapping[str, Part] = field(repr=False)  # what the file says of modules, full names

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
        """Whether the keys, or a counter of averages beside them, speak of a moving average."""
        if EMA.search(self.names[0].lower()) is not None:
            return True
        return self.prefix.startswith("module.") and "n_averaged" in self.tensors

    def backbone(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors of the backbone under torchvision's names, and all others under full names.

        Raises:
            CheckpointError: two tensors of one name, which cannot both be right.
        """
        ours: dict[str, Tensor] = {}
        others = {}
        for name, tensor in self.tensors.items():
            inside = name.startswith(self.prefix)
            known = self.layout.translate(name.removeprefix(self.prefix)) if inside else None
            if known is None:
                others[name] = tensor
            elif known in ours:
                raise CheckpointError(f"it holds {known} twice")
            else:
                ours[known] = tensor
        return ours, others


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
        raise CheckpointError(incomplete(tree) or f"no ResNet in it: {inventory(tree)}")
    if state_key is not None:
        chosen = [weights for weights in found if state_key in weights.names]
        if not chosen:
            raise CheckpointError(f"no weights under {state_key!r}: there are {listed(found)}")
        return chosen[0]
    # OpenMMLab's hook swaps the two in the file: what stands under "ema" goes on with training
    swapped = isinstance(tree, Mapping) and {"ema_state_dict", "message_hub"} <= tree.keys()
    averages = [weights for weights in found if weights.is_average != swapped]
    others = [weights for weights in found if weights.is_average == swapped]
    first, second = (averages, others) if ema else (others, averages)
    weights = (first or second)[0]
    if len(found) > 1:
        log.info("several weights (%s): took %s", listed(found), weights.title)
    return weights


def with_siblings(weights: Weights, tree: Any) -> Weights | None:
    """The weights with the tensors of the dicts beside theirs, which may be of their head.

    ``{"backbone": …, "head": …}`` is read as one dict of ``backbone.…`` and ``head.…``; None where
    there is nothing beside them.
    """
    around, _, key = weights.state_key.rpartition(".")
    parent = dict(containers(tree)).get(around)
    inside = [(name, plain(value)) for name, value in items(parent)]
    tensors = {
        f"{name}.{inner}": tensor
        for name, container in inside
        for inner, tensor in tensors_in(container).items()
    }
    if not key or len(tensors) == len(weights.tensors):
        return None
    parts = {
        f"{name}.{inner}".removesuffix("."): part  # the outermost module has no name of its own
        for name, container in inside
        if isinstance(container, StateDict)
        for inner, part in container.parts.items()
    }
    prefix = f"{key}.{weights.prefix}"
    return replace(weights, state_key=around, prefix=prefix, tensors=tensors, parts=parts)


def listed(found: list[Weights]) -> str:
    """The names of several weights, to choose from with ``--state-key``."""
    return ", ".join(weights.title for weights in found)


def candidates(tree: Any) -> Iterator[Weights]:
    """Yield every set of weights in a tree of dicts and lists, outermost first."""
    for path, container in containers(tree):
        tensors = with_dots(tensors_in(container))
        parts = container.parts if isinstance(container, StateDict) else {}
        for layout, prefix in prefixes(tensors):
            yield Weights(layout, path, prefix, tensors, parts)


def prefixes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[Layout, str]]:
    """What stands before the landmark of a layout in the names of ``tensors``."""
    for name, layout in product(tensors, LAYOUTS):
        prefix = before(name, layout.landmark)
        if prefix is not None and (layout.stem is None or prefix + layout.stem in tensors):
            yield layout, prefix


def before(name: str, ending: str) -> str | None:
    """The modules around that a name begins with; None where it does not end so."""
    return name.removesuffix(ending) if name == ending or name.endswith(f".{ending}") else None


def incomplete(tree: Any) -> str | None:
    """Say that a ResNet lacks the very tensor it is known by; None where there is none."""
    for _, container in containers(tree):
        tensors = tensors_in(container)
        for name, layout in product(tensors, LAYOUTS):
            prefix = before(name, layout.landmark.replace("conv1", "conv2"))
            if prefix is not None:
                inside = (n.removeprefix(prefix) for n in tensors if n.startswith(prefix))
                if sum(layout.translate(n) is not None for n in inside) > FEWEST:
                    return f"it is not whole: {prefix}{layout.landmark} is missing"
                break  # a file may claim to hold ever so many
    return None


def inventory(tree: Any) -> str:
    """Say in a few words what a tree holds instead of a ResNet."""
    names: list[str] = []
    where = ""
    for path, container in containers(tree):
        tensors = tensors_in(container)
        if len(tensors) > max(1, len(names)):
            names, where = list(tensors), path
    if not isinstance(tree, Mapping):
        article = "an" if kind(tree)[:1].lower() in VOWELS else "a"
        held = f"it holds {article} {kind(tree)}, not a state dict"
    elif not tree:
        held = "it holds nothing"
    elif not any(tensors_in(container) for _, container in containers(tree)):
        listed = [f"{key} ({kind(value)})" for key, value in items(tree)]
        held = f"there are no weights in it, only a dict of {first_few(listed)}"
    else:
        held = f"it holds {first_few([key for key, _ in items(tree)])}"
    if names and (where or not isinstance(tree, Mapping)):
        held += f"; its {len(names)} tensors are {first_few(names)}"
    return held


def kind(value: Any) -> str:
    """Name of the class of a value, as its file has it."""
    if isinstance(value, Mapping):
        return "dict"
    return value.kind if isinstance(value, Foreign) else type(value).__name__
