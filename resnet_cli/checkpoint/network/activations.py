"""The activations between the layers of a head, and at its end, which tensors do not show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_cli.checkpoint.network.architectures import HeadLayer
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

ACTIVATION_KINDS = {  # classes of torch.nn: layers of ours
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}

DO_NOTHING = frozenset(
    {"Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Identity", "Flatten", "FlattenLayer",
     "Sequential",
     "Linear", "BatchNorm1d", "LayerNorm", "AdaptiveAvgPool2d", "AdaptiveConcatPool2d", "Conv2d",
     "AdaptiveMaxPool2d", "NonDynamicallyQuantizableLinear"}
)  # fmt: skip
"""Parts of a head that change nothing in evaluation, or that their tensors describe."""

IDLE = frozenset({"Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Identity", "Flatten"})
"""Those of them that change nothing anywhere."""

ORDERED = frozenset({"Sequential", "LinBnDrop"})
"""Modules that compute what is in them one after the other."""

ENDS = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "sigmoid",
}
"""Classes at the end that only turn logits into probabilities: what does so here in their place."""


def modules_of_head(
    found: Sequence[str], root: str, backbone: str, parts: Mapping[str, Part]
) -> list[str]:
    """Names of the modules of a head, in the order of the file.

    Args:
        found: those that have tensors.
        root: module that they are all in.
        backbone: prefix of the backbone; where the root holds it too, the head begins and ends
            with the modules that were found.
        parts: what the file says of modules.
    """
    names = modules_inside(root, parts)
    if root not in parts:
        return []
    if root and not backbone.startswith(f"{root}."):
        return names
    places = [names.index(name) for name in found if name in names]
    if not places:
        return []
    if parts[root].kind not in ORDERED:
        return names[min(places) : max(places) + 1]
    # in a Sequential all that follows the backbone computes, with tensors or without
    return names[place_behind(names, min(places), backbone, parts) :]


def place_behind(names: Sequence[str], first: int, backbone: str, parts: Mapping[str, Part]) -> int:
    """Place of the first module behind the backbone; ``first`` is that of a layer of the head."""
    if backbone:
        return 1 + max(at for at, name in enumerate(names) if f"{name}.".startswith(backbone))
    while "." not in names[first - 1] and parts[names[first - 1]].kind not in ORDERED:
        first -= 1  # all are in one row: back to the last stage
    return first


def modules_inside(root: str, parts: Mapping[str, Part]) -> list[str]:
    """Names of a module and of all in it, in order."""
    return [name for name in parts if not root or name == root or name.startswith(f"{root}.")]


def steps_of_head(
    found: Sequence[tuple[str, HeadLayer]],
    names: Sequence[str],
    root: str,
    parts: Mapping[str, Part],
) -> Iterator[tuple[str, HeadLayer]]:
    """Yield name and layer of all that computes in a head, activations too, in order.

    Args:
        found: the layers that have tensors.
        names: of ``span``.
        root: module that they are all in.
        parts: what the file says of modules.

    Raises:
        CheckpointError: a part that this program does not know.
    """
    known = dict(found)
    if not follows_file(names, root, parts):
        yield from by_convention(
            [(name, with_eps(layer, parts.get(name))) for name, layer in found]
        )
        return
    end = end_among(names, parts)
    for name in names:
        part, layer, is_end = parts[name], known.get(name), name == end
        if layer is not None:
            yield name, with_eps(layer, part)
        elif part.kind in ACTIVATION_KINDS and not is_end:
            require_default(part)
            yield name, HeadLayer(ACTIVATION_KINDS[part.kind])
        elif part.kind not in DO_NOTHING and not is_end:
            raise CheckpointError(f"its head has a {part.kind}, which is not known here")


def end_among(names: Sequence[str], parts: Mapping[str, Part]) -> str | None:
    """The module that turns the outputs of a head into probabilities: the last that computes."""
    for name in reversed(names):
        if parts[name].kind in ENDS:
            return name
        if parts[name].kind not in IDLE:
            return None
    return None


def follows_file(names: Sequence[str], root: str, parts: Mapping[str, Part]) -> bool:
    """Whether the order of a file's modules is the order in which they compute.

    That is so in a Sequential, and in one layer; a module of its own calls its parts as it likes.

    Raises:
        CheckpointError: a module of its own that holds other activations than ReLU.
    """
    if not names:
        return False
    if len(names) == 1 or all(
        parts[name].kind in ORDERED | DO_NOTHING for name in outer_modules(names, root)
    ):
        return True
    strange = {parts[name].kind for name in names} & (ACTIVATION_KINDS.keys() - {"ReLU"})
    if strange:
        raise CheckpointError(
            f"its head {root} is a module of its own with {', '.join(sorted(strange))}: how it "
            "computes is not in the file"
        )
    return False


def outer_modules(names: Sequence[str], root: str) -> Iterator[str]:
    """Yield the root, and all inside it that hold others."""
    yield root
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            yield name


def with_eps(layer: HeadLayer, part: Part | None) -> HeadLayer:
    """A layer with the epsilon that its file names."""
    eps = None if part is None else part.settings.get("eps")
    if layer.kind == "linear" or not isinstance(eps, float):
        return layer
    return HeadLayer(layer.kind, layer.size_in, layer.size_out, layer.bias, eps)


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "LeakyReLU": {"negative_slope": 0.01},
    "ELU": {"alpha": 1.0},
    "GELU": {"approximate": "none"},
}


def require_default(part: Part) -> None:
    """Refuse an activation with settings of its own.

    Raises:
        CheckpointError: names it.
    """
    for name, value in DEFAULTS.get(part.kind, {}).items():
        if part.settings.get(name, value) != value:
            raise CheckpointError(f"its head has a {part.kind} with {name} {part.settings[name]}")


def by_convention(found: Sequence[tuple[str, HeadLayer]]) -> Iterator[tuple[str, HeadLayer]]:
    """Yield the layers of a head of which only the tensors are known, with ReLU between them.

    Modules without tensors leave gaps in the numbers of a Sequential. The first gap behind each
    hidden linear layer is its activation, further ones are dropout; where the numbers leave none,
    there is none. Names that are no numbers show no gaps: an activation follows each hidden layer,
    behind its norm where it has one.
    """
    last = max(index for index, (_, layer) in enumerate(found) if layer.kind == "linear")
    waiting = False  # for a gap, behind a hidden linear layer
    for index, (name, layer) in enumerate(found):
        yield name, layer
        if layer.kind == "linear":
            waiting = index < last
        following = found[index + 1] if index + 1 < len(found) else None
        if waiting and following is not None and needs_activation(name, following):
            yield f"{name}+", HeadLayer("relu")
            waiting = False


def needs_activation(name: str, following: tuple[str, HeadLayer]) -> bool:
    """Whether an activation stands between two layers of a head."""
    parent, _, number = name.rpartition(".")
    next_parent, _, next_number = following[0].rpartition(".")
    if parent == next_parent and number.isdigit() and next_number.isdigit():
        return int(next_number) > int(number) + 1
    return following[1].kind == "linear"
