"""Where in a file the weights are: found by content, whatever the keys around them are called."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.layouts import LAYOUTS, Layout
from resnet_cli.checkpoint.tree import Foreign, Part, StateDict, containers, items, tensors_in
from resnet_cli.errors import CheckpointError
from resnet_cli.text import first_few

log = logging.getLogger("resnet_cli")

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
        raise CheckpointError(f"no ResNet in it: {inventory(tree)}")
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


def listed(found: list[Weights]) -> str:
    """The names of several weights, to choose from with ``--state-key``."""
    return ", ".join(weights.title for weights in found)


def candidates(tree: Any) -> Iterator[Weights]:
    """Yield every set of weights in a tree of dicts and lists, outermost first."""
    for path, container in containers(tree):
        tensors = tensors_in(container)
        parts = container.parts if isinstance(container, StateDict) else {}
        for layout, prefix in prefixes(tensors):
            yield Weights(layout, path, prefix, tensors, parts)


def prefixes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[Layout, str]]:
    """What stands before the landmark of a layout in the names of ``tensors``."""
    for name in tensors:
        for layout in LAYOUTS:
            if name == layout.landmark or name.endswith(f".{layout.landmark}"):
                prefix = name.removesuffix(layout.landmark)
                if layout.stem is None or prefix + layout.stem in tensors:
                    yield layout, prefix


def inventory(tree: Any) -> str:
    """Say in a few words what a tree holds instead of a ResNet."""
    names: list[str] = []
    where = ""
    for path, container in containers(tree):
        tensors = tensors_in(container)
        if len(tensors) > max(1, len(names)):
            names, where = list(tensors), path
    if not isinstance(tree, Mapping):
        kind = tree.kind if isinstance(tree, Foreign) else type(tree).__name__
        held = f"it holds a {kind}, not a state dict"
    else:
        held = (
            f"it holds {first_few([key for key, _ in items(tree)])}" if tree else "it holds nothing"
        )
    if names and (where or not isinstance(tree, Mapping)):
        held += f"; its {len(names)} tensors are {first_few(names)}"
    return held
