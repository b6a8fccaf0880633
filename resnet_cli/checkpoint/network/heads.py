"""Where the head is among the tensors around a backbone, and what its layers are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from resnet_cli.checkpoint.network.activations import (
    ENDS,
    ORDERED,
    end_among,
    follows_file,
    modules_of_head,
    steps_of_head,
)
from resnet_cli.checkpoint.network.architectures import Head, HeadLayer
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

USUAL = ("fc", "head.fc", "head", "classifier", "linear", "last_linear", "logits")
"""Where heads are, the likeliest first; any other place is found as well if it is the only one."""


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A head, and where it was."""

    root: str  # full name of its module
    layers: Head
    state: Mapping[str, Tensor] = field(repr=False)  # under fc
    names: frozenset[str]  # full names of the tensors that it is made of
    assumed: bool = False  # whether the activations are a convention, not a fact of the file
    last: str = ""  # full name of its last layer
    end: str | None = None  # softmax or sigmoid, where one is part of it


@dataclass(frozen=True, slots=True)
class Parameters:
    """The tensors of one layer, by their own names."""

    name: str  # full
    tensors: Mapping[str, Tensor]

    @property
    def layer(self) -> HeadLayer | None:
        """What layer they are of; None for none of a head."""
        names = self.tensors.keys() - {"num_batches_tracked"}
        weight = self.tensors.get("weight")
        if "running_mean" in names and names <= {*NORM, "weight", "bias"}:
            count = len(self.tensors["running_mean"])
            return (
                HeadLayer("batch_norm", count, count)
                if fits_channels(self.tensors, count)
                else None
            )
        if weight is None or not names <= {"weight", "bias"}:
            return None
        if weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2:] == (1, 1)):
            out, into = weight.shape[:2]
            return HeadLayer("linear", into, out, bias="bias" in names)
        if weight.ndim == 1 and len(names) == 2:
            return HeadLayer("layer_norm", len(weight), len(weight))
        return None

    def state(self, layer: HeadLayer) -> dict[str, Tensor]:
        """The tensors as the layer's module has them."""
        tensors = dict(self.tensors)
        if layer.kind == "linear":
            tensors["weight"] = tensors["weight"].flatten(1)
        if layer.kind == "batch_norm" and "weight" not in tensors:  # affine=False
            mean = tensors["running_mean"]
            tensors |= {"weight": mean.new_ones(mean.shape), "bias": mean.new_zeros(mean.shape)}
        return tensors


NORM = ("running_mean", "running_var")


def fits_channels(tensors: Mapping[str, Tensor], count: int) -> bool:
    """Whether all but the counter have one number a channel."""
    return all(
        tensor.shape == (count,)
        for name, tensor in tensors.items()
        if name != "num_batches_tracked"
    )


def find_head(
    others: Mapping[str, Tensor],
    parts: Mapping[str, Part],
    *,
    prefix: str,
    features: int,
    places: Sequence[str] = (),
) -> FoundHead | None:
    """Find the head of a backbone.

    Args:
        others: tensors that are not of the backbone, by full names.
        parts: what the file says of modules, by full names.
        prefix: of the backbone's names; the head is behind it, or behind a shorter one.
        features: numbers that the backbone gives for an image.
        places: where the layout has its head.

    Raises:
        CheckpointError: several heads, or a layer that this program does not know.
    """
    backbone = prefix
    while True:
        near = {name: tensor for name, tensor in others.items() if name.startswith(prefix)}
        head = choose_head(near, prefix, features, places)
        if head is not None:
            return assemble_head(head, backbone, parts)
        if not prefix:
            return None
        prefix = prefix[: prefix[:-1].rfind(".") + 1]


def choose_head(
    near: Mapping[str, Tensor], prefix: str, features: int, places: Sequence[str]
) -> list[Parameters] | None:
    """The layers of the one head among tensors under a prefix; None where there is none.

    Raises:
        CheckpointError: there are several, none at a usual place.
    """
    everything = chain_layers(near, features)
    if everything is not None:
        return everything
    usual = [*places, *USUAL]
    found: dict[str, list[Parameters]] = {}
    roots = {name.removeprefix(prefix).split(".")[0]: None for name in near}
    for root in dict.fromkeys([*usual, *roots]):
        start = f"{prefix}{root}."
        layers = chain_layers({n: t for n, t in near.items() if n.startswith(start)}, features)
        if layers is not None:
            if root in usual:
                return layers
            found[root] = layers
    if len(found) > 1:
        raise CheckpointError(
            f"it has several heads ({', '.join(found)}): which one tells the classes apart?"
        )
    return next(iter(found.values()), None)


def chain_layers(tensors: Mapping[str, Tensor], features: int) -> list[Parameters] | None:
    """The layers of tensors, if they take ``features`` numbers, feed each other, and end linear."""
    layers = group_by_layer(tensors)
    for order in (layers, sorted(layers, key=lambda one: natural_layer_key(one.name))):
        kinds = [one.layer for one in order]
        known = [kind for kind in kinds if kind is not None]
        if (
            known
            and len(known) == len(kinds)
            and known[0].size_in in (features, 2 * features)
            and all(a.size_out == b.size_in for a, b in pairwise(known))
            and any(layer.kind == "linear" for layer in known[-2:])
            and all(layer.size_out for layer in known)
        ):
            return order
    return None


def group_by_layer(tensors: Mapping[str, Tensor]) -> list[Parameters]:
    """Group tensors by the layer that they are of, in the order of the file."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, own = name.rpartition(".")
        grouped.setdefault(layer, {})[own] = tensor
    return [Parameters(name, own) for name, own in grouped.items()]


def natural_layer_key(name: str) -> list[tuple[int, str]]:
    """A sort key that puts fc.2 before fc.10."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"(\d{1,9})", name)
    ]


def assemble_head(found: list[Parameters], backbone: str, parts: Mapping[str, Part]) -> FoundHead:
    """Put the layers of a head together with the activations between them."""
    root = common_root([one.name for one in found])
    while root and is_sequential(root.rpartition(".")[0], parts):
        root = root.rpartition(".")[0]
    known = [(one.name, one.layer) for one in found if one.layer is not None]
    inside = modules_of_head([one.name for one in found], root, backbone, parts)
    listed = list(steps_of_head(known, inside, root, parts))
    around = not root or backbone.startswith(f"{root}.")
    if around and not listed[0][1].size_in:
        raise CheckpointError(f"{listed[0][0]} follows its backbone, which torchvision's has not")
    states = {one.name: one for one in found}
    left = states.keys() - dict(listed).keys()
    if left:
        raise CheckpointError(f"its head has tensors of {min(left)}, and its modules lack it")
    layers = tuple(layer for _, layer in listed)
    state: dict[str, Tensor] = {}
    for index, (name, layer) in enumerate(listed):
        start = "fc." if len(layers) == 1 else f"fc.{index}."
        if name in states:
            own = states[name].state(layer)
            state |= {f"{start}{key}": tensor for key, tensor in own.items()}
    names = frozenset(f"{one.name}.{key}" for one in found for key in one.tensors)
    told = follows_file(inside, root, parts)
    assumed = not told and any(layer.kind == "relu" for layer in layers)
    last = [name for name, _ in listed if name in states][-1]
    end = end_among(inside, parts) if told else None
    return FoundHead(
        root, layers, state, names, assumed, last, ENDS[parts[end].kind] if end else None
    )


def is_sequential(name: str, parts: Mapping[str, Part]) -> bool:
    """Whether a module computes all that is in it, in order: the root of a head then."""
    return name in parts and parts[name].kind in ORDERED


def common_root(names: Sequence[str]) -> str:
    """The module that all layers are in: what their names share; empty for the whole network."""
    if len(names) == 1:
        return names[0]
    split = [name.split(".") for name in names]
    shared = []
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return ".".join(shared)
