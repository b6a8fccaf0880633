"""Modules pickled beside a state dict, which has no modules itself: what they say of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.network.weights import Weights
from resnet_cli.checkpoint.tree import Part, StateDict, walk_containers
from resnet_cli.errors import CheckpointError

FEWEST = 2  # tensors by which a module is known; a loss has one, its weights of the classes
MOST = 100  # modules that are looked at
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
    for path, module in islice(modules_in(tree), MOST):
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
        if isinstance(container, StateDict) and len(container) >= FEWEST:
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
