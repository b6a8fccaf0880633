"""A folder of labelled images -> paths and the index of each one's true class."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_cli import imagenet
from resnet_cli.errors import InputError
from resnet_cli.evaluate.splits import instead_of_splits
from resnet_cli.records import Item
from resnet_cli.sources import Inputs, excluded_words, list_images, skipped_words
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.lists import as_found
from resnet_cli.sources.truth import Labelled, Lookup, read_labels
from resnet_cli.text import amount

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
        """The images, as a classifier takes them."""
        return Inputs.of(
            [Item(path, truth=truth) for path, truth in zip(self.paths, self.truths, strict=True)]
        )

    @property
    def present(self) -> list[int]:
        """The classes that have images, in order."""
        return sorted(set(self.truths))


def by_folder(folder: str, names: Sequence[str], sieve: Sieve | None = None) -> Dataset:
    """Take the first folder below ``folder`` on the way to an image as the name of its class.

    Args:
        folder: holds a folder for each class.
        names: class names, one an output.
        sieve: says what is passed over, and counts it.

    Raises:
        InputError: no images, or folders that name no class.
    """
    sieve = sieve or Sieve()
    if not Path(folder).is_dir():
        what = "it is not a folder" if Path(folder).exists() else "there is no such folder"
        raise InputError(f"cannot evaluate on {folder}: {what}: name one with a folder a class")
    images, passed_over = list_images(folder, sieve)
    parts = [Path(path).relative_to(folder).parts for path in images]
    folders = dict.fromkeys(part[0] for part in parts if len(part) > 1)
    if not folders:
        raise InputError(
            f"no images to evaluate on: {folder}{why_none(passed_over, sieve)}: name a folder that "
            "holds a folder for each class, or use --labels"
        )
    if better := instead_of_splits(folder, parts, names):
        raise InputError(better)
    index, notes = match_labels(folder, list(folders), names)
    pairs = [
        (path, index[part[0]]) for path, part in zip(images, parts, strict=True) if len(part) > 1
    ]
    notes += describe_left_out(len(images) - len(pairs), passed_over, sieve)
    return make_dataset(pairs, names, notes, "have a folder")


def by_table(table: Path, folder: str, names: Sequence[str], sieve: Sieve | None = None) -> Dataset:
    """Take the images that a table lists, and their classes.

    A path there is taken from ``folder``; where there is no such file, from the current folder.

    Args:
        table: of labels.
        folder: that its paths are seen from.
        names: class names, one an output.
        sieve: says which lines of the table are left out, and counts them.

    Raises:
        InputError: the table cannot be read, or a label names no class.
    """
    sieve = sieve or Sieve()
    rows = [row for row in read_labels(table) if not sieve.drops_line(row.path)]
    if not rows:
        raise InputError(
            f"no images to evaluate on: {table} lists none{why_none(0, sieve)}: a path and a label "
            "a line"
        )
    index, notes = match_labels(
        str(table), [row.label for row in rows if row.label is not None], names
    )
    pairs = [
        (find_labelled_image(row.path, folder), class_index_of(row, index, len(names), table))
        for row in rows
    ]
    images, passed_over = list_images(folder, sieve) if Path(folder).is_dir() else ([], 0)
    listed = {Path(path).absolute() for path, _ in pairs}
    others = sum(Path(path).absolute() not in listed for path in images)
    notes += describe_left_out(others, passed_over, sieve)
    return make_dataset(pairs, names, notes, f"are in {table}")


def find_labelled_image(path: str, folder: str) -> str:
    """Where the image of a line is; a path that leads nowhere is taken from ``folder``."""
    inside = Path(folder) / as_found(path, folder)
    here = Path(as_found(path))
    return str(here if not inside.exists() and here.exists() else inside)


def class_index_of(row: Labelled, index: Mapping[str, int], outputs: int, table: Path) -> int:
    """The index of a line's class."""
    if row.label is not None:
        return index[row.label]
    if row.index is None or row.index >= outputs:
        raise InputError(
            f"cannot read labels from {table}, line {row.line}: index {row.index}: there are "
            f"{outputs} classes, 0 to {outputs - 1}"
        )
    return row.index


def match_labels(
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
    notes = [*by_number(index, names), *by_likeness(index, names)]
    twice = [
        names[i] for i in dict.fromkeys(index.values()) if sum(v == i for v in index.values()) > 1
    ]
    if twice:
        notes.append(f"several folders of one class: {few_names(twice)}")
    return index, notes


def by_number(index: Mapping[str, int], names: Sequence[str]) -> Iterator[str]:
    """Say which labels are numbers of WordNet, and what they are taken for."""
    pairs = [
        f"{label} is {names[i]}" for label, i in index.items() if is_wordnet_number(label, names[i])
    ]
    if pairs:
        yield f"{amount(len(pairs), 'WordNet number')} of ImageNet's classes: {few_names(pairs)}"


def by_likeness(index: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """Say which labels are written in another way than the names of their classes."""
    notes = [
        f"{label!r} is taken for the class {names[i]!r}"
        for label, i in index.items()
        if names[i] != label and not is_wordnet_number(label, names[i])
    ]
    more = len(notes) - SHOWN
    return notes[:SHOWN] + ([f"and {more} more so"] if more > 0 else [])


def is_wordnet_number(label: str, name: str) -> bool:
    """Whether a label stands for its class by a number of WordNet."""
    return imagenet.output_of(label) is not None and imagenet.output_of(name) is None


def in_wordnet_order(labels: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the folders are those of ImageNet, whose numbers are sorted as its classes are."""
    return len(labels) == len(names) == 1000 and all(map(imagenet.WORDNET_NUMBER.match, labels))


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
        f"of its {classes} nothing is there for {few_names(free)}"
        if free
        else f"it has {classes}: {few_names(names)}"
    )
    return (
        f"cannot match {place} to the classes by name: {few_names(unknown)} "
        f"{'is not a class' if len(unknown) == 1 else 'are not classes'} of the checkpoint"
        f"{about_numbers(unknown)}; {others}: rename the folders, or give "
        f"--classes{suggest_classes(meant, names)}"
    )


def about_numbers(unknown: Sequence[str]) -> str:
    """Say why numbers of WordNet match no class."""
    if not all(map(imagenet.WORDNET_NUMBER.match, unknown)):
        return ""
    return " (WordNet numbers match only the 1,000 classes of ImageNet, by name)"


def suggest_classes(meant: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """The labels as class names, where there are as many and none is known by its name."""
    labels = sorted(meant)  # as torchvision's ImageFolder numbers them
    if any(meant.values()) or not len(labels) == len(names) <= SHOWN:
        return ""
    return f" {','.join(labels)} (the order of most trainings)"


def few_names(names: Iterable[str]) -> str:
    """The first of many names."""
    listed = list(names)
    more = f" … ({len(listed):,} in all)" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def why_none(passed_over: int, sieve: Sieve) -> str:
    """Say what was passed over where nothing else was found."""
    reasons = [*skipped_words(passed_over, sieve), *excluded_words(sieve)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def describe_left_out(without_class: int, passed_over: int, sieve: Sieve) -> list[str]:
    """Say which files have no part in it."""
    notes = [*skipped_words(passed_over, sieve), *excluded_words(sieve)]
    if without_class:
        notes.append(f"{amount(without_class, 'image')} without a class left out")
    return notes


def make_dataset(
    pairs: Sequence[tuple[str, int]], names: Sequence[str], notes: list[str], have: str
) -> Dataset:
    """Join what was found, and say which classes have no images."""
    present = {truth for _, truth in pairs}
    empty = [name for index, name in enumerate(names) if index not in present]
    if empty:
        classes = amount(len(names), "class", "classes")
        notes.append(f"{len(present):,} of {classes} {have}; without images: {few_names(empty)}")
    paths, truths = zip(*pairs, strict=True)
    return Dataset(paths, truths, tuple(notes))
