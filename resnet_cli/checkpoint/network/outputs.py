"""How the outputs of a network become probabilities, where its file says it."""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor

from resnet_cli.checkpoint.network.activations import ENDS, ORDERED
from resnet_cli.checkpoint.network.architectures import Head
from resnet_cli.checkpoint.network.beside import Beside, is_in
from resnet_cli.checkpoint.network.facts import as_exact
from resnet_cli.checkpoint.network.heads import FoundHead
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

FUNCTIONS = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "sigmoid": "sigmoid",
    "log_sigmoid": "sigmoid",
}
"""The same as ``ENDS``, as the code of a module calls it."""

TELLING = frozenset(
    {"sub", "rsub", "div", "mul", "pow", "sqrt", "rsqrt", "exp", "log", "clamp", "clamp_min",
     "reciprocal", "tanh", "gelu", "silu", "elu", "celu", "selu", "mish", "softplus", "hardtanh",
     "hardswish", "hardsigmoid", "leaky_relu", "prelu", "norm", "linalg_vector_norm", "bmm",
     "matmul", "mm", "einsum", "normalize", "softmin", *FUNCTIONS}
)  # fmt: skip
"""Operators that no ResNet needs outside of its layers."""

OF_NORMALISATION = frozenset({"sub", "div", "mul", "sqrt", "reciprocal"})
OF_TEMPERATURE = frozenset({"div", "mul", "reciprocal"})
OF_EXPONENT = frozenset({"pow", "clamp", "clamp_min", "reciprocal", "div", "mul"})


def find_end(parts: Mapping[str, Part], head: FoundHead) -> str | None:
    """Find what turns the outputs of a network into probabilities: ``softmax`` or ``sigmoid``.

    Args:
        parts: what the file says of modules, by full names.
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
    """Yield the modules behind a head that only turn its outputs into probabilities."""
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
    """Return the operators that the code of a module calls, where its file has that."""
    calls = part.settings.get("calls")
    return [name for name in calls if isinstance(name, str)] if isinstance(calls, tuple) else []


def returned_operator(part: Part) -> str:
    """Return the operator whose value the code of a module gives back, or nothing."""
    name = part.settings.get("returns")
    return name if isinstance(name, str) else ""


def contains_module(module: str, name: str) -> bool:
    """Return whether a module is, or has in it, another one."""
    return not module or is_in(name, (module,))


def is_behind(name: str, other: str, parts: Mapping[str, Part]) -> bool:
    """Return whether a module stands behind another one in the order of the file."""
    order = list(parts)
    return other in parts and order.index(other) < order.index(name)


def require_known_code(
    parts: Mapping[str, Part], head: FoundHead, beside: Beside, end: str | None
) -> None:
    """Refuse a network whose modules compute in code of their own what is not known here.

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
                "own: what that does is not known here"
            )


def divide_outputs(head: FoundHead, temperature: tuple[str, float]) -> dict[str, Tensor]:
    """The tensors of a head with its outputs divided by a temperature, which is exact.

    Raises:
        CheckpointError: it does not end with a layer that scales with its tensors.
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
