"""A folder of labelled pictures -> paths and the index of each one's true class."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import InputError
from resnet_cli.inputs import Inputs, list_images
from resnet_cli.text import amount
from resnet_cli.truth import Labelled, Lookup, read_labels

WORDNET_ID = re.compile(r"n\d{8}")
SHOWN = 12  # names of a side in a message


class UnmatchedError(InputError):
    """Labels that are not classes of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures whose class is known, in the order in which they are scored."""

    paths: Sequence[str]
    truths: Sequence[int]  # one a path
    notes: tuple[str, ...]  # what was left out or forgiven, in words

    @property
    def inputs(self) -> Inputs:
        """The pictures, as a classifier takes them."""
        return Inputs(self.paths, len(self.paths), 0)


def by_folder(folder: str, names: Sequence[str]) -> Dataset:
    """Take the first folder below ``folder`` on the way to a picture as the name of its class.

    Args:
        folder: holds a folder for each class.
        names: class names, one an output.

    Raises:
        InputError: no pictures, or folders that name no class.
    """
    if not Path(folder).is_dir():
        what = "it is no folder" if Path(folder).exists() else "there is no such folder"
        raise InputError(f"cannot evaluate on {folder}: {what}: name one with a folder a class")
    images, passed_over = list_images(folder, Counter())
    parts = [Path(path).relative_to(folder).parts for path in images]
    folders = dict.fromkeys(part[0] for part in parts if len(part) > 1)
    if not folders:
        raise InputError(
            f"no pictures to evaluate on: {folder}: a folder that holds a folder for each class, "
            "or --labels"
        )
    index, notes = match(folder, list(folders), names)
    pairs = [
        (path, index[part[0]]) for path, part in zip(images, parts, strict=True) if len(part) > 1
    ]
    return dataset(pairs, names, [*notes, *left_out(len(images) - len(pairs), passed_over)])


def by_table(table: Path, folder: str, names: Sequence[str]) -> Dataset:
    """Take the pictures that a table lists, and their classes.

    A path there is taken from ``folder``; where there is no such file, from the current folder.

    Raises:
        InputError: the table cannot be read, or a label names no class.
    """
    rows = read_labels(table)
    if not rows:
        raise InputError(
            f"no pictures to evaluate on: {table} lists none: a path and a label a line"
        )
    index, notes = match(str(table), [row.label for row in rows if row.label is not None], names)
    pairs = [(found(row.path, folder), place(row, index, len(names), table)) for row in rows]
    images, passed_over = list_images(folder, Counter()) if Path(folder).is_dir() else ([], 0)
    listed = {Path(path).absolute() for path, _ in pairs}
    others = sum(Path(path).absolute() not in listed for path in images)
    return dataset(pairs, names, [*notes, *left_out(others, passed_over)])


def found(path: str, folder: str) -> str:
    """Where the picture of a line is."""
    inside = Path(folder) / path
    return path if not inside.exists() and Path(path).exists() else str(inside)


def place(row: Labelled, index: Mapping[str, int], outputs: int, table: Path) -> int:
    """The index of a line's class."""
    if row.label is not None:
        return index[row.label]
    if row.index is None or row.index >= outputs:
        raise InputError(
            f"cannot read labels from {table}, line {row.line}: index {row.index}: there are "
            f"{outputs} classes, 0 to {outputs - 1}"
        )
    return row.index


def match(
    place: str, labels: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Find the class of each label, by name.

    Returns:
        The index of each, and what to say about it.

    Raises:
        UnmatchedError: labels that name no class, or several.
    """
    lookup = Lookup(names)
    labels = list(dict.fromkeys(labels))
    meant = {label: lookup.indices(label) for label in labels}
    if not any(meant.values()) and in_wordnet_order(labels, names):
        return (
            {label: number for number, label in enumerate(sorted(labels))},
            ["1,000 folders named by WordNet's numbers: in ImageNet's order, which is sorted"],
        )
    unknown = [label for label in labels if len(meant[label]) != 1]
    if unknown:
        raise UnmatchedError(both_sides(place, unknown, meant, names))
    index = {label: indices[0] for label, indices in meant.items()}
    twice = [
        names[i] for i in dict.fromkeys(index.values()) if sum(v == i for v in index.values()) > 1
    ]
    notes = [
        f"{label!r} is taken for the class {names[i]!r}"
        for label, i in index.items()
        if names[i] != label
    ]
    if twice:
        notes.append(f"several folders of one class: {few(twice)}")
    return index, notes[:SHOWN] + (
        [f"and {len(notes) - SHOWN} more so"] if len(notes) > SHOWN else []
    )


def in_wordnet_order(labels: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the folders are those of ImageNet, whose numbers are sorted as its classes are."""
    return len(labels) == len(names) == 1000 and all(map(WORDNET_ID.fullmatch, labels))


def both_sides(
    place: str, unknown: Sequence[str], meant: Mapping[str, Sequence[int]], names: Sequence[str]
) -> str:
    """Say which labels name no class, and which classes no label names."""
    taken = {index for indices in meant.values() for index in indices}
    several = {label: meant[label] for label in unknown if meant[label]}
    if several:
        label, indices = next(iter(several.items()))
        return (
            f"cannot match {label!r} of {place} to a class: it is the name of the outputs "
            f"{', '.join(map(str, indices))}: give --labels with indices"
        )
    free = [name for index, name in enumerate(names) if index not in taken]
    classes = amount(len(names), "class", "classes")
    others = (
        f"of its {classes} nothing is there for {few(free)}"
        if free
        else f"it has {classes}: {few(names)}"
    )
    wordnet = " (WordNet's numbers: without names only where all 1,000 of ImageNet are there)"
    return (
        f"cannot match {place} to the classes by name: {few(unknown)} "
        f"{'is' if len(unknown) == 1 else 'are'} no class of the checkpoint"
        f"{wordnet if all(map(WORDNET_ID.fullmatch, unknown)) else ''}; {others}: mend the names "
        f"there, or give --classes{suggestion(meant, names)}"
    )


def suggestion(meant: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """The labels as class names, where there are as many and none is known by its name."""
    labels = sorted(meant)  # as torchvision's ImageFolder numbers them
    if any(meant.values()) or not len(labels) == len(names) <= SHOWN:
        return ""
    return f" {','.join(labels)} (the order of most trainings)"


def few(names: Iterable[str]) -> str:
    """The first of many names."""
    listed = list(names)
    more = f" … ({len(listed):,} in all)" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def left_out(without_class: int, passed_over: int) -> list[str]:
    """Say which files have no part in it."""
    notes = []
    if passed_over:
        notes.append(f"{amount(passed_over, 'file')} passed over, by a suffix that no image has")
    if without_class:
        notes.append(f"{amount(without_class, 'image')} without a class left out")
    return notes


def dataset(pairs: Sequence[tuple[str, int]], names: Sequence[str], notes: list[str]) -> Dataset:
    """Join what was found, and say which classes have no images."""
    present = {truth for _, truth in pairs}
    empty = [name for index, name in enumerate(names) if index not in present]
    if empty:
        classes = amount(len(empty), "class", "classes")
        notes.append(f"{classes} without images: {few(empty)}")
    paths, truths = zip(*pairs, strict=True)
    return Dataset(paths, truths, tuple(notes))
