"""The activations between the layers of a head, and at its end, which tensors do not show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_cli.checkpoint.network.architectures import HeadLayer
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

ACTIVATION_KINDS = {  # classes of torch.nn: kinds of HeadLayer
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
"""Parts of a head that do nothing in evaluation, or that their tensors describe."""

IDLE = frozenset({"Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Identity", "Flatten"})
"""Those of them that do nothing anywhere."""

ORDERED = frozenset({"Sequential", "LinBnDrop"})
"""Modules that run their children in order."""

ENDS = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "sigmoid",
}
"""Classes that turn logits into probabilities, and the activation used in their place."""


def modules_of_head(
    found: Sequence[str], root: str, backbone: str, parts: Mapping[str, Part]
) -> list[str]:
    """List the modules of a head, in the order of the file.

    Args:
        found: modules that have tensors.
        root: the module that contains them all.
        backbone: prefix of the backbone; where the root contains it too, the head starts and
            ends with the modules that were found.
        parts: modules that the file describes.
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
    # in a Sequential every module behind the backbone runs, with tensors or without
    return names[place_behind(names, min(places), backbone, parts) :]


def place_behind(names: Sequence[str], first: int, backbone: str, parts: Mapping[str, Part]) -> int:
    """Return the place of the first module behind the backbone.

    ``first`` is the place of a layer of the head.
    """
    if backbone:
        return 1 + max(at for at, name in enumerate(names) if f"{name}.".startswith(backbone))
    while "." not in names[first - 1] and parts[names[first - 1]].kind not in ORDERED:
        first -= 1  # all are siblings: back to the last stage
    return first


def modules_inside(root: str, parts: Mapping[str, Part]) -> list[str]:
    """List a module and all modules in it, in order."""
    return [name for name in parts if not root or name == root or name.startswith(f"{root}.")]


def steps_of_head(
    found: Sequence[tuple[str, HeadLayer]],
    names: Sequence[str],
    root: str,
    parts: Mapping[str, Part],
) -> Iterator[tuple[str, HeadLayer]]:
    """Yield name and layer of everything that computes in a head, activations included, in order.

    Args:
        found: layers that have tensors.
        names: of the modules of the head, in the order of the file.
        root: the module that contains them all.
        parts: modules that the file describes.

    Raises:
        CheckpointError: an unknown part.
    """
    known = dict(found)
    if not follows_file(names, root, parts):
        yield from assume_activations(
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
            raise CheckpointError(f"its head has a {part.kind}, which is not supported")


def end_among(names: Sequence[str], parts: Mapping[str, Part]) -> str | None:
    """Return the last module that computes if it turns outputs into probabilities, else None."""
    for name in reversed(names):
        if parts[name].kind in ENDS:
            return name
        if parts[name].kind not in IDLE:
            return None
    return None


def follows_file(names: Sequence[str], root: str, parts: Mapping[str, Part]) -> bool:
    """Return whether the modules of a head run in the order of the file.

    They do in a Sequential, and where there is one layer; a custom module may call its parts in any
    order.

    Raises:
        CheckpointError: a custom module with other activations than ReLU.
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
    """Yield the root, and every module in it that contains others."""
    yield root
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            yield name


def with_eps(layer: HeadLayer, part: Part | None) -> HeadLayer:
    """Return a layer with the epsilon that its file states."""
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
    """Refuse an activation with other settings than the defaults.

    Raises:
        CheckpointError: names the setting.
    """
    for name, value in DEFAULTS.get(part.kind, {}).items():
        if part.settings.get(name, value) != value:
            raise CheckpointError(f"its head has a {part.kind} with {name} {part.settings[name]}")


def assume_activations(found: Sequence[tuple[str, HeadLayer]]) -> Iterator[tuple[str, HeadLayer]]:
    """Yield the layers of a head of which only the tensors are known, with ReLU between them.

    Modules without tensors leave gaps in the numbers of a Sequential. The first gap behind each
    hidden linear layer is its activation, further gaps are dropout; without a gap there is no
    activation. Names that are not numbers show no gaps: an activation then follows each hidden
    layer, behind its norm where it has one.
    """
    last = max(index for index, (_, layer) in enumerate(found) if layer.kind == "linear")
    waiting = False  # for a gap behind a hidden linear layer
    for index, (name, layer) in enumerate(found):
        yield name, layer
        if layer.kind == "linear":
            waiting = index < last
        following = found[index + 1] if index + 1 < len(found) else None
        if waiting and following is not None and needs_activation(name, following):
            yield f"{name}+", HeadLayer("relu")
            waiting = False


def needs_activation(name: str, following: tuple[str, HeadLayer]) -> bool:
    """Return whether an activation stands between two layers of a head."""
    parent, _, number = name.rpartition(".")
    next_parent, _, next_number = following[0].rpartition(".")
    if parent == next_parent and number.isdigit() and next_number.isdigit():
        return int(next_number) > int(number) + 1
    return following[1].kind == "linear"
