"""What the names of tensors and keys show: wrappers, and which of several networks to take."""

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from os.path import commonprefix

from torch import Tensor

from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

WRAPPERS = frozenset(
    {"_checkpoint_wrapped_module", "_forward_module", "_fpw_module", "_fsdp_wrapped_module",
     "_module", "_orig_mod", "_original_module", "mod", "module"}
)  # fmt: skip
"""Attributes in which torch.compile, DistributedDataParallel, FSDP, activation checkpointing,
Lightning Fabric and Opacus hold the module that they wrap."""


def without_wrappers(name: str) -> str:
    """Return a name without wrappers."""
    return ".".join(word for word in name.split(".") if word not in WRAPPERS)


def prefix_of(name: str, ending: str) -> str | None:
    """Return the part of a name before an ending, with its dot.

    Args:
        name: may contain wrappers anywhere.
        ending: without wrappers.

    Returns:
        The beginning as it is in the name, with its own wrappers; None where the name has another
        ending.
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


def shorten_name(name: str, prefix: str) -> str:
    """Remove wrappers from a name, except those in the prefix of the network."""
    start = common_modules(name, prefix)
    return start + without_wrappers(name.removeprefix(start))


def common_modules(name: str, prefix: str) -> str:
    """Return the modules with which a name and a prefix both start."""
    shared = commonprefix([name, prefix])  # noqa: RUF071 - cut at a dot in the next line
    return shared[: shared.rfind(".") + 1]


def unwrapped_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove wrappers from the names of tensors around the network with that prefix.

    A name keeps them where the short name exists too: the wrapper then distinguishes two networks.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = shorten_name(name, prefix)
        found[name if short in tensors or short in found else short] = tensor
    return found


def unwrapped_parts(parts: Mapping[str, Part], prefix: str) -> dict[str, Part]:
    """Remove wrappers from the names of modules; a module replaces its wrapper."""
    return {shorten_name(name, prefix): part for name, part in parts.items()}


class Role(IntEnum):
    """What weights are for, among the others of their file."""

    AVERAGE = 0  # over time, of the raw weights
    PLAIN = 1
    RAW = 2  # named as raw, beside an average
    SPARE = 3  # of a network that only helps to train another


WORDS: Mapping[Role, frozenset[str]] = {
    Role.AVERAGE: frozenset({"average", "averaged", "avg", "ema", "polyak", "shadow", "swa"}),
    Role.RAW: frozenset({"current", "online", "raw"}),
    Role.SPARE: frozenset({"backup", "collected", "momentum", "target", "teacher"}),
}
"""Words that show a role, the most specific first."""

ORDER: Mapping[bool, tuple[Role, ...]] = {
    True: (Role.AVERAGE, Role.PLAIN, Role.RAW, Role.SPARE),
    False: (Role.RAW, Role.PLAIN, Role.AVERAGE, Role.SPARE),
}
"""Roles in the order of choice, with a preference for averages and without."""

USUAL = frozenset(
    {"backbone", "base", "encoder", "encoder_q", "model", "model_state", "model_state_dict",
     "module", "net", "network", "state_dict", "student", "weights"}
)  # fmt: skip
"""Usual keys of the weights to load."""


def role_of(path: str) -> Role:
    """Return the role that a path of keys shows; the innermost key that shows one decides."""
    for key in reversed(path.split(".")):
        words = set(words_of_key(key))
        for role, known in WORDS.items():
            if words & known:
                return role
    return Role.PLAIN


def words_of_key(key: str) -> list[str]:
    """Split a key into its words in lower case: emaModel, ema_model and EMA-Model alike."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.findall(r"[a-z]+", parted.lower())


def choose_weights(paths: Sequence[str], roles: Sequence[Role], *, ema: bool) -> int:
    """Choose among several weights.

    Args:
        paths: of keys, all different; at least one.
        roles: of each.
        ema: prefer an average.

    Returns:
        The place of the chosen one.

    Raises:
        CheckpointError: several have equivalent names, such as ``net1`` and ``net2``.
    """
    role = min(roles, key=ORDER[ema].index)
    wanted = [index for index, own in enumerate(roles) if own == role]
    first = wanted[0]
    rivals = {index: key for index in wanted[1:] if (key := rival_key(paths[first], paths[index]))}
    if not rivals:
        return first
    keys = {first: rival_key(paths[next(iter(rivals))], paths[first]), **rivals}
    usual = [index for index, key in keys.items() if key in USUAL]
    if usual:
        return usual[0]
    raise CheckpointError(
        f"it holds several networks ({', '.join(paths[index] for index in keys)}): choose one "
        f"with --state-key {paths[first]}"
    )


def rival_key(path: str, other: str) -> str | None:
    """Return the one key in which another path differs; None where it differs in more."""
    if not path or not other:
        return None
    pairs = list(zip(path.split("."), other.split("."), strict=False))
    apart = [theirs for own, theirs in pairs if own != theirs]
    alike = path.count(".") == other.count(".") and len(apart) == 1
    return apart[0].lower() if alike else None
