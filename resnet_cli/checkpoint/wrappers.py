"""Modules that wrap others, and the names that they put into those of tensors."""

from collections.abc import Mapping
from os.path import commonprefix

from torch import Tensor

from resnet_cli.checkpoint.tree import Part

WRAPPERS = frozenset(
    {"_checkpoint_wrapped_module", "_forward_module", "_fpw_module", "_fsdp_wrapped_module",
     "_module", "_orig_mod", "_original_module", "mod", "module"}
)  # fmt: skip
"""Where torch.compile, DistributedDataParallel, FSDP, activation checkpointing, Lightning Fabric
and Opacus keep the module that they wrap."""


def unwrapped(name: str) -> str:
    """Return a name without any wrappers."""
    return ".".join(word for word in name.split(".") if word not in WRAPPERS)


def prefix_of(name: str, ending: str) -> str | None:
    """Return what stands before an ending of a name, with its dot.

    Args:
        name: which may have wrappers anywhere.
        ending: without any.

    Returns:
        The beginning as it is in the name, its own wrappers included; None where the name does not
        end so.
    """
    words, wanted = name.split("."), ending.split(".")
    while words and wanted:
        word = words.pop()
        if word == wanted[-1]:
            wanted.pop()
        elif word not in WRAPPERS:
            return None
    if wanted:
        return None
    return ".".join([*words, ""]) if words else ""


def shortened(name: str, prefix: str) -> str:
    """Take wrappers out of a name, but for those that the prefix of the network has as well."""
    start = common(name, prefix)
    return start + unwrapped(name.removeprefix(start))


def common(name: str, prefix: str) -> str:
    """Return the modules that a name and a prefix begin with."""
    shared = commonprefix([name, prefix])  # noqa: RUF071 - cut at a dot in the next line
    return shared[: shared.rfind(".") + 1]


def unwrapped_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take wrappers out of the names of tensors around a network of that prefix.

    A name stays as it is where the short one exists: then the wrapper tells two networks apart.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = shortened(name, prefix)
        found[name if short in tensors or short in found else short] = tensor
    return found


def unwrapped_parts(parts: Mapping[str, Part], prefix: str) -> dict[str, Part]:
    """Put modules in the places of their wrappers, which stand before them."""
    return {shortened(name, prefix): part for name, part in parts.items()}
