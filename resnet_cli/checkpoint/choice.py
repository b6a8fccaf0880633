"""Which of several weights in one file a person wants: by what they are called."""

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum

from resnet_cli.errors import CheckpointError


class Role(IntEnum):
    """What weights are beside the others of their file."""

    AVERAGE = 0  # of the raw ones, over time
    PLAIN = 1
    RAW = 2  # named as such, as there is an average
    SPARE = 3  # of a network that only helps to train another


WORDS: Mapping[Role, frozenset[str]] = {
    Role.AVERAGE: frozenset({"average", "averaged", "avg", "ema", "polyak", "shadow", "swa"}),
    Role.RAW: frozenset({"current", "online", "raw"}),
    Role.SPARE: frozenset({"backup", "collected", "momentum", "target", "teacher"}),
}
"""Words by which a role is known, the most telling first."""

ORDER: Mapping[bool, tuple[Role, ...]] = {
    True: (Role.AVERAGE, Role.PLAIN, Role.RAW, Role.SPARE),
    False: (Role.RAW, Role.PLAIN, Role.AVERAGE, Role.SPARE),
}
"""Roles in the order in which they are wanted: with a preference for averages, and without."""

USUAL = frozenset(
    {"backbone", "base", "encoder", "encoder_q", "model", "model_state", "model_state_dict",
     "module", "net", "network", "state_dict", "student", "weights"}
)  # fmt: skip
"""What people call the weights that count."""


def role_of(path: str) -> Role:
    """Return the role that a path of keys speaks of; the innermost key that says it decides."""
    for key in reversed(path.split(".")):
        words = set(words_of(key))
        for role, known in WORDS.items():
            if words & known:
                return role
    return Role.PLAIN


def words_of(key: str) -> list[str]:
    """Split a key into its words, in small letters: emaModel, ema_model and EMA-Model alike."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.findall(r"[a-z]+", parted.lower())


def best_of(paths: Sequence[str], roles: Sequence[Role], *, ema: bool) -> int:
    """Choose among several weights.

    Args:
        paths: of keys, which differ; at least one.
        roles: of each.
        ema: prefer an average.

    Returns:
        The place of the chosen one.

    Raises:
        CheckpointError: several that are named alike, as ``net1`` and ``net2`` are.
    """
    role = min(roles, key=ORDER[ema].index)
    wanted = [index for index, own in enumerate(roles) if own == role]
    first = wanted[0]
    rivals = {index: key for index in wanted[1:] if (key := rival(paths[first], paths[index]))}
    if not rivals:
        return first
    keys = {first: rival(paths[next(iter(rivals))], paths[first]), **rivals}
    usual = [index for index, key in keys.items() if key in USUAL]
    if usual:
        return usual[0]
    raise CheckpointError(
        f"it holds several networks ({', '.join(paths[index] for index in keys)}): choose one "
        f"with --state-key {paths[first]}"
    )


def rival(path: str, other: str) -> str | None:
    """Return the one key in which another path differs; None where it differs otherwise."""
    if not path or not other:
        return None
    pairs = list(zip(path.split("."), other.split("."), strict=False))
    apart = [theirs for own, theirs in pairs if own != theirs]
    alike = path.count(".") == other.count(".") and len(apart) == 1
    return apart[0].lower() if alike else None
