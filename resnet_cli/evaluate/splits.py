"""A folder that holds the parts of a data set (train, val): which of them to evaluate on."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_cli.sources.truth import Lookup

SPLIT = re.compile(
    r"(train|val|valid|validation|test|dev|eval|holdout|fold|split)(ing|[\s_-]*\d+)?"
)
"""How the parts of a data set are called."""

FIRST = ("val", "dev", "eval", "holdout", "test")
"""What a network is evaluated on, rather than on what it was trained with."""

SHOWN = 6  # folders in a message


def instead_of_splits(
    folder: str, parts: Sequence[Sequence[str]], names: Sequence[str]
) -> str | None:
    """Return the error that names the folder to give, where the classes are not in ``folder``.

    Args:
        folder: that was given.
        parts: of the paths of its images, seen from there.
        names: class names, one an output.
    """
    lookup = Lookup(names)
    if any(lookup.indices(part[0]) for part in parts if len(part) > 1):
        return None
    inside = folders_inside(parts)
    splits = [
        split
        for split, classes in inside.items()
        if any(map(lookup.indices, classes)) or is_split(split)
    ]
    if not splits:
        return None
    best = min(splits, key=split_preference)
    classes = ", ".join(list(inside[best])[:SHOWN])
    return (
        f"cannot evaluate on {folder}: the folders of the classes ({classes}) are in "
        f"{', '.join(splits[:SHOWN])}: name that folder: evaluate {Path(folder) / best}"
    )


def folders_inside(parts: Sequence[Sequence[str]]) -> Mapping[str, Mapping[str, None]]:
    """Every folder on the way to an image -> the folders in it, in order."""
    inside: dict[str, dict[str, None]] = defaultdict(dict)
    for part in parts:
        for depth in range(1, len(part) - 1):
            inside["/".join(part[:depth])].setdefault(part[depth])
    return inside


def is_split(name: str) -> bool:
    """Return whether a folder is called like a part of a data set."""
    return SPLIT.fullmatch(last_name(name)) is not None


def split_preference(split: str) -> int:
    """Rank a part of a data set, the one to evaluate on first."""
    name = last_name(split)
    return next((rank for rank, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


def last_name(path: str) -> str:
    """The name of a folder, in small letters."""
    return path.rpartition("/")[2].strip().casefold()
