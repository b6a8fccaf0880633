"""The head among the tensors around a backbone: its layers, and how its outputs end."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from resnet_cli.checkpoint.network.backbone import as_exact
from resnet_cli.checkpoint.network.beside import Beside, is_in
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

USUAL = ("fc", "head.fc", "head", "classifier", "linear", "last_linear", "logits")
"""Usual places of heads, the likeliest first; another place counts if it is the only one."""


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A head, and its place."""

    root: str  # full name of its module
    layers: Head
    state: Mapping[str, Tensor] = field(repr=False)  # under fc
    names: frozenset[str]  # full names of its tensors
    assumed: bool = False  # whether the activations are a convention that the file does not state
    last: str = ""  # full name of its last layer
    end: str | None = None  # softmax or sigmoid, where one is part of the head


@dataclass(frozen=True, slots=True)
class Parameters:
    """The tensors of one layer, by their own names."""

    name: str  # full
    tensors: Mapping[str, Tensor]

    @property
    def layer(self) -> HeadLayer | None:
        """The layer that they are of; None where no head has such a layer."""
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
        """Return the tensors as the module of the layer has them."""
        tensors = dict(self.tensors)
        if layer.kind == "linear":
            tensors["weight"] = tensors["weight"].flatten(1)
        if layer.kind == "batch_norm" and "weight" not in tensors:  # affine=False
            mean = tensors["running_mean"]
            tensors |= {"weight": mean.new_ones(mean.shape), "bias": mean.new_zeros(mean.shape)}
        return tensors


NORM = ("running_mean", "running_var")


def fits_channels(tensors: Mapping[str, Tensor], count: int) -> bool:
    """Return whether all tensors but the counter have one number per channel."""
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
        parts: modules that the file describes, by full names.
        prefix: of the backbone's names; those of the head start with it, or a part of it.
        features: size of the backbone's output.
        places: of the head in this layout.

    Raises:
        CheckpointError: several heads, or an unknown layer.
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
    """Return the layers of the only head among tensors under a prefix; None where there is none.

    Raises:
        CheckpointError: there are several, and none at a usual place.
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
    """Return the layers of tensors if they take ``features``, feed each other and end linear."""
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
    """Group tensors by layer, in the order of the file."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, own = name.rpartition(".")
        grouped.setdefault(layer, {})[own] = tensor
    return [Parameters(name, own) for name, own in grouped.items()]


def natural_layer_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts fc.2 before fc.10."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"(\d{1,9})", name)
    ]


def assemble_head(found: list[Parameters], backbone: str, parts: Mapping[str, Part]) -> FoundHead:
    """Join the layers of a head and the activations between them."""
    root = common_root([one.name for one in found])
    while root and is_sequential(root.rpartition(".")[0], parts):
        root = root.rpartition(".")[0]
    known = [(one.name, one.layer) for one in found if one.layer is not None]
    inside = modules_of_head([one.name for one in found], root, backbone, parts)
    listed = list(steps_of_head(known, inside, root, parts))
    around = not root or backbone.startswith(f"{root}.")
    if around and not listed[0][1].size_in:
        raise CheckpointError(
            f"{listed[0][0]} follows its backbone, which torchvision's network does not have"
        )
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
    stated = follows_file(inside, root, parts)
    assumed = not stated and any(layer.kind == "relu" for layer in layers)
    last = [name for name, _ in listed if name in states][-1]
    end = end_among(inside, parts) if stated else None
    return FoundHead(
        root, layers, state, names, assumed, last, ENDS[parts[end].kind] if end else None
    )


def is_sequential(name: str, parts: Mapping[str, Part]) -> bool:
    """Return whether a module runs everything in it in order, and so is the root of a head."""
    return name in parts and parts[name].kind in ORDERED


def common_root(names: Sequence[str]) -> str:
    """Return the module that contains all layers; empty for the whole network."""
    if len(names) == 1:
        return names[0]
    split = [name.split(".") for name in names]
    shared = []
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return ".".join(shared)


FUNCTIONS = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "sigmoid": "sigmoid",
    "log_sigmoid": "sigmoid",
}
"""Functions that the code of a module calls, with the same meaning as ``ENDS``."""

TELLING = frozenset(
    {"sub", "rsub", "div", "mul", "pow", "sqrt", "rsqrt", "exp", "log", "clamp", "clamp_min",
     "reciprocal", "tanh", "gelu", "silu", "elu", "celu", "selu", "mish", "softplus", "hardtanh",
     "hardswish", "hardsigmoid", "leaky_relu", "prelu", "norm", "linalg_vector_norm", "bmm",
     "matmul", "mm", "einsum", "normalize", "softmin", *FUNCTIONS}
)  # fmt: skip
"""Operators that no ResNet calls outside its layers."""

OF_NORMALISATION = frozenset({"sub", "div", "mul", "sqrt", "reciprocal"})
OF_TEMPERATURE = frozenset({"div", "mul", "reciprocal"})
OF_EXPONENT = frozenset({"pow", "clamp", "clamp_min", "reciprocal", "div", "mul"})


def find_end(parts: Mapping[str, Part], head: FoundHead) -> str | None:
    """Find what turns outputs into probabilities, ``softmax`` or ``sigmoid``; None where unstated.

    Args:
        parts: modules that the file describes, by full names.
        head: of the network.

    Raises:
        CheckpointError: there are several.
    """
    found = dict(ends_behind_head(parts, head))
    if head.end:
        found[head.root] = head.end
    if len(set(found.values())) > 1:
        raise CheckpointError(
            f"it ends in several ways ({', '.join(filter(None, found))}): sigmoid or softmax?"
        )
    return next(iter(found.values()), None)


def ends_behind_head(parts: Mapping[str, Part], head: FoundHead) -> Iterator[tuple[str, str]]:
    """Yield the modules behind a head that turn its outputs into probabilities."""
    for name, part in parts.items():
        if contains_module(name, head.last) and (end := FUNCTIONS.get(returned_operator(part))):
            yield name, end
        parent = name.rpartition(".")[0]
        inside = head.root and is_in(name, (head.root,))
        if part.kind not in ENDS or inside or not contains_module(parent, head.last):
            continue
        ordered = parent in parts and parts[parent].kind in ORDERED
        if not ordered or is_behind(name, head.last, parts):
            yield name, ENDS[part.kind]


def called_operators(part: Part) -> list[str]:
    """Return the operators that the code of a module calls, where the file has its code."""
    calls = part.settings.get("calls")
    return [name for name in calls if isinstance(name, str)] if isinstance(calls, tuple) else []


def returned_operator(part: Part) -> str:
    """Return the operator whose value the code of a module returns, or an empty name."""
    name = part.settings.get("returns")
    return name if isinstance(name, str) else ""


def contains_module(module: str, name: str) -> bool:
    """Return whether a module is another one, or contains it."""
    return not module or is_in(name, (module,))


def is_behind(name: str, other: str, parts: Mapping[str, Part]) -> bool:
    """Return whether a module comes after another one in the order of the file."""
    order = list(parts)
    return other in parts and order.index(other) < order.index(name)


def require_known_code(
    parts: Mapping[str, Part], head: FoundHead, beside: Beside, end: str | None
) -> None:
    """Refuse a network whose modules compute something unknown in their own code.

    Raises:
        CheckpointError: names the module and the operators.
    """
    applied = beside.applied
    explained = (
        (OF_NORMALISATION if applied.normalisation else frozenset())
        | (OF_TEMPERATURE if applied.temperature else frozenset())
        | (OF_EXPONENT if applied.exponent else frozenset())
    )
    for name, part in parts.items():
        if is_in(name, beside.own) or (head.root and is_in(name, (head.root,))):
            continue
        calls = Counter(called_operators(part))
        if end and part.kind not in ENDS:
            calls -= Counter([returned_operator(part)])
        strange = calls.keys() & TELLING - explained
        if strange and part.kind not in ENDS:
            raise CheckpointError(
                f"its {name or 'network'} computes {', '.join(sorted(strange))} in code of its "
                "own: what that does is unknown"
            )


def divide_outputs(head: FoundHead, temperature: tuple[str, float]) -> dict[str, Tensor]:
    """Divide the outputs of a head by a temperature in its tensors, which is exact.

    Raises:
        CheckpointError: its last layer has no tensors to scale.
    """
    name, value = temperature
    layers: Head = head.layers
    start = "fc." if len(layers) == 1 else f"fc.{len(layers) - 1}."
    if layers[-1].kind not in ("linear", "batch_norm", "layer_norm"):
        raise CheckpointError(f"its {name} divides what a {layers[-1].kind} gives: unknown here")
    scaled = {f"{start}weight", f"{start}bias"}
    return {
        own: as_exact(tensor) / value if own in scaled else tensor
        for own, tensor in head.state.items()
    }
