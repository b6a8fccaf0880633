"""Splits of a data set, such as train and val: which one to evaluate on."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_cli.records import is_url
from resnet_cli.sources.truth import Lookup

FOLDERS = 6  # listed in a message

SPLIT = re.compile(
    r"(train|val|valid|validation|test|dev|eval|holdout|fold|split)(ing|[\s_-]*\d+)?"
)
"""Names of the splits of a data set."""

FIRST = ("val", "dev", "eval", "holdout", "test")
"""Splits to evaluate on, the preferred one first; a network was trained on the others."""


def suggest_split(given: str, parts: Sequence[Sequence[str]], names: Sequence[str]) -> str | None:
    """Return an error that names the split to evaluate on, if ``given`` holds splits.

    Args:
        given: the INPUT.
        parts: of the paths of its images, below it.
        names: class names, one per output.
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
    classes = ", ".join(list(inside[best])[:FOLDERS])
    return (
        f"cannot evaluate on {given}: the folders of the classes ({classes}) are in "
        f"{', '.join(splits[:FOLDERS])}: {way_to_split(given, best, splits)}"
    )


def way_to_split(given: str, best: str, splits: Sequence[str]) -> str:
    """Say how to evaluate on one of several splits."""
    if Path(given).is_file():  # an archive
        others = " ".join(f"--exclude {split}" for split in splits if split != best)
        return f"leave the others out: {others}"
    place = f"{given.rstrip('/')}/{best}/" if is_url(given) else Path(given) / best
    return f"name that folder: evaluate {place}"


def folders_inside(parts: Sequence[Sequence[str]]) -> Mapping[str, Mapping[str, None]]:
    """Map each folder that holds images to its subfolders, in order."""
    inside: dict[str, dict[str, None]] = defaultdict(dict)
    for part in parts:
        for depth in range(1, len(part) - 1):
            inside["/".join(part[:depth])].setdefault(part[depth])
    return inside


def is_split(name: str) -> bool:
    """Return True if a folder is named like a split of a data set."""
    return SPLIT.fullmatch(last_name(name)) is not None


def split_preference(split: str) -> int:
    """Rank a split; the lowest is the one to evaluate on."""
    name = last_name(split)
    return next((rank for rank, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


def last_name(path: str) -> str:
    """Return the last name of a path in lower case."""
    return path.rpartition("/")[2].strip().casefold()
