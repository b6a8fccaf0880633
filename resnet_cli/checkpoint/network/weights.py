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

MOST_NETWORKS = 100  # networks in a file that are told apart


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one network, and those that stand around it."""

    layout: TensorLayout
    state_key: str  # where they were, as a path of keys; empty for the top of the file
    prefix: str  # that was taken off each name, such as "module."
    tensors: Mapping[str, Tensor] = field(repr=False)  # of the whole container, full names
    parts: Mapping[str, Part] = field(repr=False)  # what the file says of modules, full names
    notes: tuple[str, ...] = ()  # how its tensors were computed, in words
    twins: tuple[str, ...] = ()  # prefixes of other networks in the container, which are left out

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
    def identity(self) -> tuple[int, ...]:
        """The same for weights that the file has once, and under several names."""
        first = (t for name, t in self.tensors.items() if name.startswith(self.prefix))
        return tuple(tensor.data_ptr() for tensor in first)

    @property
    def role(self) -> Role:
        """What they are beside other weights of the file."""
        outer, inside, _ = self.prefix.partition("module.")
        if inside and f"{outer}n_averaged" in self.tensors:  # of torch's AveragedModel
            return Role.AVERAGE
        return role_of(self.names[0])

    def is_called(self, key: str) -> bool:
        """Whether ``--state-key`` may call these weights so, or the module that they are in."""
        return any(f"{name}.".startswith(f"{key}.") for name in self.names)

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
        CheckpointError: none, none under ``state_key``, or several that nothing tells apart; the
            message names what there is.
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
        CheckpointError: the names do not tell which.
    """
    different: dict[tuple[int, ...], Weights] = {}
    for weights in found:
        different.setdefault(weights.identity, weights)
    found = list(different.values())
    roles = [weights.role for weights in found]
    # OpenMMLab's hook swaps the two in the file: what stands under "ema" goes on with training
    if isinstance(tree, Mapping) and {"ema_state_dict", "message_hub"} <= tree.keys():
        roles = [SWAPPED.get(role, role) for role in roles]
    return found[choose_weights([weights.names[0] for weights in found], roles, ema=ema)]


SWAPPED = {Role.AVERAGE: Role.PLAIN, Role.PLAIN: Role.AVERAGE}


def complete_weights(weights: Weights, found: Sequence[Weights]) -> Weights:
    """Bring chosen weights into the form of the network, with what they lack from the others.

    Raises:
        CheckpointError: tensors that have no such form.
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
    """Whether a tensor is a statistic of a batch norm, which averages of parameters leave out."""
    return name.endswith((".running_mean", ".running_var"))


def settle_weights(weights: Weights) -> Weights:
    """Give tensors the names and the form that they have in a network without wrappers.

    Other networks in the container are left out.

    Raises:
        CheckpointError: tensors that have no such form.
    """
    tensors = unwrapped_tensors(without_profilers(weights.tensors), weights.prefix)
    twins = tuple(dict.fromkeys(twins_of(tensors, weights.prefix)))
    alone = {name: t for name, t in tensors.items() if not is_of(name, twins, weights.prefix)}
    plain_ones, notes = compute_weights(alone)
    parts = unwrapped_parts(weights.parts, weights.prefix)
    return replace(weights, tensors=plain_ones, parts=parts, notes=notes, twins=twins)


def twins_of(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[str]:
    """Yield the modules that hold other networks than that of a prefix."""
    for _, other in landmark_prefixes(tensors)[:MOST_NETWORKS]:
        if other != prefix:
            shared = common_modules(other, prefix)
            own = other.removeprefix(shared).partition(".")[0]
            yield f"{shared}{own}." if own else shared


def is_of(name: str, twins: tuple[str, ...], prefix: str) -> bool:
    """Whether a tensor is in one of the modules, and not in a network that is in them."""
    inside = [twin for twin in twins if name.startswith(twin)]
    return any(len(twin) > len(prefix) or not name.startswith(prefix) for twin in inside)


def with_siblings(weights: Weights, tree: Any) -> Weights | None:
    """The weights with the tensors of the dicts beside theirs, which may be of their head.

    ``{"backbone": …, "head": …}`` is read as one dict of ``backbone.…`` and ``head.…``; None where
    there is nothing beside them.
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
        f"{name}.{inner}".removesuffix("."): part  # the outermost module has no name of its own
        for name, container in inside
        if isinstance(container, StateDict)
        for inner, part in container.parts.items()
    }
    prefix = f"{key}.{weights.prefix}"
    wider = replace(weights, state_key=around, prefix=prefix, tensors=tensors, parts=parts)
    return settle_weights(wider)


def list_titles(found: list[Weights]) -> str:
    """The names of several weights, to choose from with ``--state-key``."""
    return ", ".join(weights.title for weights in found)


def find_candidates(tree: Any) -> Iterator[Weights]:
    """Yield every set of weights in a tree of dicts and lists, outermost first."""
    for path, container in walk_containers(tree):
        tensors = with_dots(tensors_in(container))
        parts = container.parts if isinstance(container, StateDict) else {}
        for layout, prefix in landmark_prefixes(tensors):
            yield Weights(layout, path, prefix, tensors, parts)


def landmark_prefixes(tensors: Mapping[str, Tensor]) -> list[tuple[TensorLayout, str]]:
    """What stands before the landmark of a layout in the names of ``tensors``."""
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


FEWEST_IN_MODULE = (
    2  # tensors by which a module is known; a loss has one, its weights of the classes
)
MOST_MODULES = 100  # modules that are looked at
UNUSED = frozenset({"training", "inplace", "p"})  # settings without a say in the result


def with_modules(weights: Weights, tree: Any) -> Weights:
    """Add the modules in a file whose tensors a state dict has too, by name and shape.

    Raises:
        CheckpointError: several modules have them, and compute otherwise.
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
    """Yield the pickled modules in a file that have enough tensors to be known again."""
    for path, container in walk_containers(tree):
        if isinstance(container, StateDict) and len(container) >= FEWEST_IN_MODULE:
            yield path, container


def computes_alike(one: Part, other: Part) -> bool:
    """Whether two modules compute the same, but for their tensors."""
    settings = [
        {key: value for key, value in part.settings.items() if key not in UNUSED}
        for part in (one, other)
    ]
    return one.kind == other.kind and settings[0] == settings[1]


def module_prefixes(module: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what the names of a module's tensors begin with in a state dict that has them all."""
    first = next(iter(module))
    for name in tensors:
        prefix = name.removesuffix(first)
        if f"{prefix}{first}" == name and prefix[-1:] in ("", "."):
            theirs = (tensors.get(f"{prefix}{own}") for own in module)
            shapes = [None if tensor is None else tensor.shape for tensor in theirs]
            if shapes == [tensor.shape for tensor in module.values()]:
                yield prefix


def with_temperature(weights: Weights, tree: Any) -> Weights:
    """The weights with a temperature that stands beside their dict, in the dict around it.

    A calibration may keep it as a plain float; an integer is rather a setting of a training.
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
    """The weights with a note of averaged ones that have no names, as torch_ema keeps them."""
    lists = (
        path
        for path, container in walk_containers(tree)
        if isinstance(container, list | tuple) and role_of(path) == Role.AVERAGE
        if len(tensors_in(dict(items_of(container)))) > FEWEST_TENSORS
    )
    notes = (f"unused: {path}, averaged weights without names" for path in lists)
    return replace(weights, notes=(*weights.notes, *notes))
