"""Where the weights of a file are, found by content whatever their keys; what belongs to them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor

from resnet_cli.checkpoint.network.identify import describe_incomplete, describe_inventory
from resnet_cli.checkpoint.network.kinds import TEMPERATURE
from resnet_cli.checkpoint.network.layouts import FEWEST_TENSORS, LAYOUTS, TensorLayout, with_dots
from resnet_cli.checkpoint.network.naming import (
    Role,
    choose_weights,
    common_modules,
    prefix_of,
    role_of,
    unwrapped_parts,
    unwrapped_tensors,
    without_wrappers,
)
from resnet_cli.checkpoint.network.parametrized import (
    compute_weights,
    plain_name,
    without_profilers,
)
from resnet_cli.checkpoint.tree import (
    Part,
    StateDict,
    as_container,
    items_of,
    tensors_in,
    walk_containers,
)
from resnet_cli.errors import CheckpointError

log = logging.getLogger("resnet_cli")

MOST_NETWORKS = 100  # networks in a file that are distinguished


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one network, and those around it."""

    layout: TensorLayout
    state_key: str  # path of keys to them; empty for the top of the file
    prefix: str  # removed from each name, such as "module."
    tensors: Mapping[str, Tensor] = field(repr=False)  # of the whole container, full names
    parts: Mapping[str, Part] = field(repr=False)  # modules that the file describes, full names
    notes: tuple[str, ...] = ()  # how tensors were computed, in words
    twins: tuple[str, ...] = ()  # prefixes of other networks in the container, which are dropped

    @property
    def names(self) -> tuple[str, ...]:
        """Names that ``--state-key`` accepts for these weights; the first one is unique."""
        inner = self.prefix.rstrip(".")
        return ".".join(filter(None, (self.state_key, inner))), self.state_key, inner

    @property
    def title(self) -> str:
        """The name that distinguishes these weights from all others."""
        return self.names[0] or "the top level"

    @property
    def identity(self) -> tuple[int, ...]:
        """A key that is equal for weights that the file holds once, under several names."""
        first = (t for name, t in self.tensors.items() if name.startswith(self.prefix))
        return tuple(tensor.data_ptr() for tensor in first)

    @property
    def role(self) -> Role:
        """What they are for, beside other weights of the file."""
        outer, inside, _ = self.prefix.partition("module.")
        if inside and f"{outer}n_averaged" in self.tensors:  # of torch's AveragedModel
            return Role.AVERAGE
        return role_of(self.names[0])

    def is_called(self, key: str) -> bool:
        """Return whether ``--state-key`` may mean these weights, or a module that holds them."""
        return any(f"{name}.".startswith(f"{key}.") for name in self.names)

    def backbone(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Split the tensors: the backbone's under torchvision's names, others under full names.

        Raises:
            CheckpointError: two tensors have the same name.
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
    """Choose the weights of a file.

    Args:
        tree: what the file holds.
        state_key: take those under this key, or with this prefix.
        ema: prefer an exponential moving average where there is one.

    Raises:
        CheckpointError: there are none, none under ``state_key``, or several that cannot be
            distinguished; the message lists what there is.
    """
    found = list(islice(find_candidates(tree), MOST_NETWORKS))
    if not found:
        raise CheckpointError(
            describe_incomplete(tree) or f"no ResNet in it: {describe_inventory(tree)}"
        )
    if state_key is not None:
        named = [weights for weights in found if state_key in weights.names]
        chosen = named or [weights for weights in found if weights.is_called(state_key)]
        if not chosen:
            raise CheckpointError(f"no weights under {state_key!r}: there are {list_titles(found)}")
        return complete_weights(prefer_weights(chosen, tree, ema=ema), found)
    weights = prefer_weights(found, tree, ema=ema)
    if len(found) > 1:
        log.info(
            "several weights (%s): took %s; --state-key takes others",
            list_titles(found),
            weights.title,
        )
    return complete_weights(weights, found)


def prefer_weights(found: Sequence[Weights], tree: Any, *, ema: bool) -> Weights:
    """Choose among weights by their names.

    Raises:
        CheckpointError: the names do not show which to take.
    """
    different: dict[tuple[int, ...], Weights] = {}
    for weights in found:
        different.setdefault(weights.identity, weights)
    found = list(different.values())
    roles = [weights.role for weights in found]
    # OpenMMLab's hook swaps the two in the file: training resumes from those under "ema"
    if isinstance(tree, Mapping) and {"ema_state_dict", "message_hub"} <= tree.keys():
        roles = [SWAPPED.get(role, role) for role in roles]
    return found[choose_weights([weights.names[0] for weights in found], roles, ema=ema)]


SWAPPED = {Role.AVERAGE: Role.PLAIN, Role.PLAIN: Role.AVERAGE}


def complete_weights(weights: Weights, found: Sequence[Weights]) -> Weights:
    """Bring weights into the form of the network, and add what they lack from the others.

    Raises:
        CheckpointError: they cannot be brought into it.
    """
    whole = settle_weights(weights)
    if weights.role != Role.AVERAGE or any(map(is_statistic, whole.tensors)):
        return whole
    for other in found:
        statistics = {
            f"{weights.prefix}{name.removeprefix(other.prefix)}": tensor
            for name, tensor in unwrapped_tensors(other.tensors, other.prefix).items()
            if is_statistic(name) and name.startswith(other.prefix)
        }
        if other.role != Role.AVERAGE and statistics:
            note = f"the average has no batch-norm statistics: taken from {other.title}"
            return replace(
                whole,
                tensors={**whole.tensors, **statistics},
                notes=(*whole.notes, note),
            )
    return whole


def is_statistic(name: str) -> bool:
    """Return whether a tensor is a statistic of a batch norm, which averages of parameters lack."""
    return name.endswith((".running_mean", ".running_var"))


def settle_weights(weights: Weights) -> Weights:
    """Give tensors the names and form that they have in a network without wrappers.

    Other networks in the container are dropped.

    Raises:
        CheckpointError: they cannot be brought into it.
    """
    tensors = unwrapped_tensors(without_profilers(weights.tensors), weights.prefix)
    twins = tuple(dict.fromkeys(twins_of(tensors, weights.prefix)))
    alone = {name: t for name, t in tensors.items() if not is_of(name, twins, weights.prefix)}
    plain_ones, notes = compute_weights(alone)
    parts = unwrapped_parts(weights.parts, weights.prefix)
    return replace(weights, tensors=plain_ones, parts=parts, notes=notes, twins=twins)


def twins_of(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[str]:
    """Yield the modules that hold other networks than the one with this prefix."""
    for _, other in landmark_prefixes(tensors)[:MOST_NETWORKS]:
        if other != prefix:
            shared = common_modules(other, prefix)
            own = other.removeprefix(shared).partition(".")[0]
            yield f"{shared}{own}." if own else shared


def is_of(name: str, twins: tuple[str, ...], prefix: str) -> bool:
    """Return whether a tensor lies in one of the modules, but not in a network inside it."""
    inside = [twin for twin in twins if name.startswith(twin)]
    return any(len(twin) > len(prefix) or not name.startswith(prefix) for twin in inside)


def with_siblings(weights: Weights, tree: Any) -> Weights | None:
    """Add the tensors of the dicts beside the weights, which may hold the head.

    ``{"backbone": …, "head": …}`` becomes one dict of ``backbone.…`` and ``head.…``. None where
    there is nothing beside the weights.
    """
    around, _, key = weights.state_key.rpartition(".")
    parent = dict(walk_containers(tree)).get(around)
    inside = [(name, as_container(value)) for name, value in items_of(parent)]
    tensors = {
        f"{name}.{inner}": tensor
        for name, container in inside
        for inner, tensor in tensors_in(container).items()
    }
    if not key or all(name == key or not tensors_in(container) for name, container in inside):
        return None
    parts = {
        f"{name}.{inner}".removesuffix("."): part  # the outermost module has the empty name
        for name, container in inside
        if isinstance(container, StateDict)
        for inner, part in container.parts.items()
    }
    prefix = f"{key}.{weights.prefix}"
    wider = replace(weights, state_key=around, prefix=prefix, tensors=tensors, parts=parts)
    return settle_weights(wider)


def list_titles(found: list[Weights]) -> str:
    """List the names of several weights, to choose from with ``--state-key``."""
    return ", ".join(weights.title for weights in found)


def find_candidates(tree: Any) -> Iterator[Weights]:
    """Yield every set of weights in a tree of dicts and lists, outermost first."""
    for path, container in walk_containers(tree):
        tensors = with_dots(tensors_in(container))
        parts = container.parts if isinstance(container, StateDict) else {}
        for layout, prefix in landmark_prefixes(tensors):
            yield Weights(layout, path, prefix, tensors, parts)


def landmark_prefixes(tensors: Mapping[str, Tensor]) -> list[tuple[TensorLayout, str]]:
    """Return each layout whose landmark is among the names, with the prefix before it."""
    plain_names = {plain_name(name): None for name in tensors}
    short = {without_wrappers(name) for name in plain_names}
    found: dict[tuple[str, str], tuple[TensorLayout, str]] = {}
    for name, layout in product(plain_names, LAYOUTS):
        prefix = prefix_of(name, layout.landmark)
        if prefix is not None and (
            layout.stem is None or without_wrappers(prefix + layout.stem) in short
        ):
            found[layout.landmark, prefix] = layout, prefix
    return list(found.values())


FEWEST_IN_MODULE = 2  # tensors of a module that can be matched; a loss has one, its class weights
MOST_MODULES = 100  # modules that are compared
UNUSED = frozenset({"training", "inplace", "p"})  # settings that do not affect predictions


def with_modules(weights: Weights, tree: Any) -> Weights:
    """Add the modules pickled beside a state dict, matched by names and shapes of tensors.

    Raises:
        CheckpointError: several modules have them, and compute differently.
    """
    parts = dict(weights.parts)
    if parts:
        return weights
    places: dict[str, str] = {}
    for path, module in islice(modules_in(tree), MOST_MODULES):
        for prefix in module_prefixes(module, weights.tensors):
            for name, part in module.parts.items():
                full = f"{prefix}{name}".rstrip(".")
                if not computes_alike(parts.setdefault(full, part), part):
                    raise CheckpointError(
                        f"its {full} is {parts[full].kind} under {places[full]}, and {part.kind} "
                        f"under {path}"
                    )
                places.setdefault(full, path)
    return replace(weights, parts=parts)


def modules_in(tree: Any) -> Iterator[tuple[str, StateDict]]:
    """Yield the pickled modules in a file that have enough tensors to be matched."""
    for path, container in walk_containers(tree):
        if isinstance(container, StateDict) and len(container) >= FEWEST_IN_MODULE:
            yield path, container


def computes_alike(one: Part, other: Part) -> bool:
    """Return whether two modules compute the same, apart from their tensors."""
    settings = [
        {key: value for key, value in part.settings.items() if key not in UNUSED}
        for part in (one, other)
    ]
    return one.kind == other.kind and settings[0] == settings[1]


def module_prefixes(module: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the prefixes under which a state dict has all tensors of a module."""
    first = next(iter(module))
    for name in tensors:
        prefix = name.removesuffix(first)
        if f"{prefix}{first}" == name and prefix[-1:] in ("", "."):
            theirs = (tensors.get(f"{prefix}{own}") for own in module)
            shapes = [None if tensor is None else tensor.shape for tensor in theirs]
            if shapes == [tensor.shape for tensor in module.values()]:
                yield prefix


def with_temperature(weights: Weights, tree: Any) -> Weights:
    """Add a temperature that lies beside the dict of the weights, in the dict around it.

    A calibration may store it as a plain float; an integer is more likely a setting of training.
    """
    around, _, key = weights.state_key.rpartition(".")
    if not key:
        return weights
    parent = dict(walk_containers(tree)).get(around)
    floats = {name: torch.tensor(one) for name, one in items_of(parent) if type(one) is float}
    found = {**floats, **tensors_in(parent)}
    near = {name: one for name, one in found.items() if TEMPERATURE.holds(name, one)}
    return replace(weights, tensors={**weights.tensors, **near})


def with_nameless(weights: Weights, tree: Any) -> Weights:
    """Add a note of averaged weights without names, as torch_ema stores them."""
    lists = (
        path
        for path, container in walk_containers(tree)
        if isinstance(container, list | tuple) and role_of(path) == Role.AVERAGE
        if len(tensors_in(dict(items_of(container)))) > FEWEST_TENSORS
    )
    notes = (f"unused: {path}, averaged weights without names" for path in lists)
    return replace(weights, notes=(*weights.notes, *notes))
