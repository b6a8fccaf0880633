"""Files that only their own classes can read, unpickled by them: at the user's request alone."""

import logging
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnet_cli.checkpoint.formats import UnreadableError, read_contents
from resnet_cli.checkpoint.formats.torch_files import MAGIC
from resnet_cli.checkpoint.pickle.stand_ins import OTHER_NAMES
from resnet_cli.checkpoint.tree import (
    Contents,
    Foreign,
    Part,
    StateDict,
    tensors_in,
    walk_containers,
)
from resnet_cli.errors import CheckpointError, describe
from resnet_cli.text import list_few

log = logging.getLogger("resnet_cli")


def read_or_trust(path: Path) -> Contents:
    """Read a file without running anything; unpickle it only where that is impossible.

    Raises:
        CheckpointError: neither is possible.
    """
    try:
        return read_contents(path)
    except UnreadableError as error:
        return read_trusted(path, Contents(error.format, None, imports=error.imports))


def read_trusted(path: Path, contents: Contents) -> Contents:
    """Unpickle a file, which runs whatever its author put into it.

    Args:
        path: of the file.
        contents: what was read without running anything.

    Returns:
        The same, with state dicts in place of networks.

    Raises:
        CheckpointError: it is not a pickle, or cannot be unpickled here.
    """
    if not contents.format.startswith("pickle"):
        raise CheckpointError(
            f"cannot load {path}: there is nothing to unpickle in {contents.format}"
        )
    log.warning("trusting %s, which imports and may run: %s", path, ", ".join(contents.imports))
    try:
        tree = as_tree(load_trusted(path, contents.format))
    except Exception as error:
        raise CheckpointError(f"cannot unpickle {path}: {describe(error)}") from error
    return replace(contents, tree=tree, imports=())


def load_trusted(path: Path, format: str) -> Any:
    """Load a file with the library that wrote it."""
    if format == "pickle":
        with path.open("rb") as file:
            found = pickle.load(file)
        if found != MAGIC:
            return found
    return torch.load(path, map_location="cpu", weights_only=False)


def as_tree(value: Any, depth: int = 0) -> Any:
    """Turn a loaded object into a tree of plain containers."""
    if isinstance(value, nn.Module):
        parts = {name: module_part(module) for name, module in value.named_modules()}
        tensors = {name: as_tree(tensor) for name, tensor in value.state_dict().items()}
        plain = {name: one for name, one in tensors.items() if isinstance(one, torch.Tensor)}
        return StateDict(plain, parts, dict(module_extras(value, depth + 1)))
    if isinstance(value, torch.Tensor):
        return as_plain(value)
    if depth > 8:
        return value
    if isinstance(value, Mapping):
        return {key: as_tree(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_tree(inner, depth + 1) for inner in value]
    if hasattr(value, "__dict__") and not isinstance(value, type | torch.Tensor):
        return {key: as_tree(inner, depth + 1) for key, inner in vars(value).items()}
    return value


def module_extras(network: nn.Module, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the attributes set on a network's modules, such as class names, by dotted names."""
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_") and not isinstance(value, nn.Module | torch.Tensor):
                yield f"{name}.{key}".strip("."), as_tree(value, depth)


def as_plain(value: torch.Tensor) -> Any:
    """Return a tensor of plain numbers, and a stand-in for any other, as read_contents does."""
    kind = type(value)
    local = getattr(value, "_local_tensor", None)  # of a DTensor
    summand = "Partial" in repr(getattr(value, "placements", None))
    if local is not None and local.shape == value.shape and not summand:
        return local
    dispatched = kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    form = "nested" if value.is_nested else str(value.layout)
    if not dispatched and form == "torch.strided":
        return value
    path = f"{kind.__module__}.{kind.__qualname__}" if dispatched else form
    return type("StandIn", (Foreign,), {"path": path})()


def module_part(module: nn.Module) -> Part:
    """Return class and settings of a module."""
    settings = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
    }
    return Part(type(module).__name__, settings)


SAFE_MODULES = frozenset(
    {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions", "pathlib",
     "types", "uuid"}
)  # fmt: skip
"""Modules of the standard library whose objects are common in checkpoints."""


def holds_tensors(tree: Any) -> bool:
    """Return whether tensors can be read without running the file, which then shows no others."""
    return any(len(tensors_in(container)) > 1 for _, container in walk_containers(tree))


def describe_unrun(imports: Sequence[str], *, hidden: bool) -> str:
    """Say what was not run, and how to run it where that may open the file.

    Trust is not suggested for imports that only an attack or a program needs, such as
    ``os.system``.

    Args:
        imports: what unpickling would import.
        hidden: no tensors can be read without running it.
    """
    reason = f"it would import {list_few(imports)}: none of it was run"
    strange = [name for name in imports if name not in OTHER_NAMES]
    modules = {name.partition(".")[0] for name in strange}
    if not hidden or not strange or modules & (sys.stdlib_module_names - SAFE_MODULES):
        return reason
    return f"{reason}; if you trust who made it, predict and convert do with --trust-checkpoint"
