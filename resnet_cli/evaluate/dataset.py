"""Labelled images -> items with the index of their true class.

Labels come from the names of folders or from a table, and are matched to class names.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_cli.errors import InputError
from resnet_cli.records import Item
from resnet_cli.sources import Inputs, excluded_words, skipped_words
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.lists import as_found
from resnet_cli.sources.local import list_images
from resnet_cli.sources.truth import Labelled, Lookup, few_names, match_labels, read_labels
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")

FOLDERS = 6  # listed in a message

SPLIT = re.compile(
    r"(train|val|valid|validation|test|dev|eval|holdout|fold|split)(ing|[\s_-]*\d+)?"
)
"""Names of the splits of a data set."""

FIRST = ("val", "dev", "eval", "holdout", "test")
"""Splits to evaluate on, the preferred one first; a network was trained on the others."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images whose class is known, in the order in which they are scored."""

    folder: str  # as given
    items: Sequence[Item]  # each with its truth
    notes: tuple[str, ...] = ()  # sentences on what was skipped or matched loosely

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the path of each image."""
        return tuple(item.path for item in self.items)

    @property
    def truths(self) -> tuple[int, ...]:
        """Return the class index of each image."""
        return tuple(map(true_class, self.items))

    @property
    def inputs(self) -> Inputs:
        """Return the images as ``Classifier.predict`` takes them."""
        return Inputs.of(self.items)

    @property
    def present(self) -> list[int]:
        """Return the indices of the classes that have images, in order."""
        return sorted(set(self.truths))

    def select(self, places: Sequence[int]) -> "Dataset":
        """Return the images at some places, in that order."""
        return replace(self, items=[self.items[place] for place in places])

    def relabel(self, truths: Sequence[int]) -> "Dataset":
        """Return the same images with other class indices."""
        pairs = zip(self.items, truths, strict=True)
        return replace(self, items=[replace(item, truth=truth) for item, truth in pairs])


def true_class(item: Item) -> int:
    """Return the class index of a labelled image."""
    if item.truth is None:
        raise ValueError(f"{item.path} has no true class")
    return item.truth


def open_dataset(
    data: Dataset | str | Path,
    names: Sequence[str],
    *,
    labels: str | Path | None = None,
    exclude: Sequence[str] = (),
    hidden: bool = False,
) -> Dataset:
    """Return a dataset as given, or find the labelled images of a folder and log its notes.

    The arguments are those of ``find_labelled``.

    Raises:
        InputError: no images, or labels that match no class.
    """
    if isinstance(data, Dataset):
        return data
    dataset = find_labelled(data, names, labels=labels, exclude=exclude, hidden=hidden)
    for note in dataset.notes:
        log.info(note)
    return dataset


def find_labelled(
    folder: str | Path,
    names: Sequence[str],
    *,
    labels: str | Path | None = None,
    exclude: Sequence[str] = (),
    hidden: bool = False,
) -> Dataset:
    """Find the labelled images of a folder.

    Args:
        folder: holds a folder for each class, or the images that ``labels`` lists.
        names: class names, one per output.
        labels: table of labels; None takes the names of the folders.
        exclude: globs of files and folders to leave out.
        hidden: include hidden and system files.

    Raises:
        InputError: no images, or labels that match no class.
    """
    sieve = Sieve(hidden, tuple(exclude))
    if labels is not None:
        return label_by_table(Path(labels), str(folder), names, sieve)
    return label_by_folder(str(folder), names, sieve)


def label_by_folder(folder: str, names: Sequence[str], sieve: Sieve | None = None) -> Dataset:
    """Label each image by the first folder below ``folder`` on its path.

    Args:
        folder: holds a folder for each class.
        names: class names, one per output.
        sieve: decides what is skipped, and counts it.

    Raises:
        InputError: no images, or folders that match no class.
    """
    sieve = sieve or Sieve()
    if not Path(folder).is_dir():
        what = "it is not a folder" if Path(folder).exists() else "there is no such folder"
        raise InputError(f"cannot evaluate on {folder}: {what}: name one with a folder a class")
    images = list_images(folder, sieve)
    parts = [Path(path).relative_to(folder).parts for path in images]
    folders = dict.fromkeys(part[0] for part in parts if len(part) > 1)
    if not folders:
        raise InputError(
            f"no images to evaluate on: {folder}{explain_none(sieve)}: name a folder that "
            "holds a folder for each class, or use --labels"
        )
    if better := suggest_split(folder, parts, names):
        raise InputError(better)
    index, notes = match_labels(folder, list(folders), names)
    pairs = [
        (path, index[part[0]]) for path, part in zip(images, parts, strict=True) if len(part) > 1
    ]
    notes += describe_left_out(len(images) - len(pairs), sieve)
    return make_dataset(folder, pairs, names, notes, "have a folder")


def label_by_table(
    table: Path, folder: str, names: Sequence[str], sieve: Sieve | None = None
) -> Dataset:
    """Take images and their labels from a table.

    Its paths are relative to ``folder``, or to the current folder if no such file exists.

    Args:
        table: of labels.
        folder: base of its paths.
        names: class names, one per output.
        sieve: decides which rows of the table are skipped, and counts them.

    Raises:
        InputError: the table cannot be read, or a label matches no class.
    """
    sieve = sieve or Sieve()
    rows = [row for row in read_labels(table) if not sieve.drops_line(row.path)]
    if not rows:
        raise InputError(
            f"no images to evaluate on: {table} lists none{explain_none(sieve)}: give a path "
            "and a label per line"
        )
    index, notes = match_labels(
        str(table), [row.label for row in rows if row.label is not None], names
    )
    pairs = [
        (find_labelled_image(row.path, folder), class_index_of(row, index, len(names), table))
        for row in rows
    ]
    images = list_images(folder, sieve) if Path(folder).is_dir() else []
    listed = {Path(path).absolute() for path, _ in pairs}
    others = sum(Path(path).absolute() not in listed for path in images)
    notes += describe_left_out(others, sieve)
    return make_dataset(folder, pairs, names, notes, f"are in {table}")


def find_labelled_image(path: str, folder: str) -> str:
    """Return the path of an image in a table: below ``folder``, unless it is only found here."""
    inside = Path(folder) / as_found(path, folder)
    here = Path(as_found(path))
    return str(here if not inside.exists() and here.exists() else inside)


def class_index_of(row: Labelled, index: Mapping[str, int], outputs: int, table: Path) -> int:
    """Return the class index of a row of a table.

    Raises:
        InputError: the index is not one of the outputs.
    """
    if row.label is not None:
        return index[row.label]
    if row.index is None or row.index >= outputs:
        raise InputError(
            f"cannot read labels from {table}, line {row.line}: index {row.index}: there are "
            f"{outputs} classes, 0 to {outputs - 1}"
        )
    return row.index


def explain_none(sieve: Sieve) -> str:
    """Explain what was skipped when no image is left."""
    reasons = [*skipped_words(sieve), *excluded_words(sieve)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def describe_left_out(without_class: int, sieve: Sieve) -> list[str]:
    """List notes on the files that are not scored."""
    notes = [*skipped_words(sieve), *excluded_words(sieve)]
    if without_class:
        notes.append(f"{amount(without_class, 'image')} without a class left out")
    return notes


def make_dataset(
    folder: str, pairs: Sequence[tuple[str, int]], names: Sequence[str], notes: list[str], have: str
) -> Dataset:
    """Build a dataset, with a note on the classes without images."""
    present = {truth for _, truth in pairs}
    empty = [name for index, name in enumerate(names) if index not in present]
    if empty:
        classes = amount(len(names), "class", "classes")
        notes.append(f"{len(present):,} of {classes} {have}; without images: {few_names(empty)}")
    items = [Item(path, truth=truth) for path, truth in pairs]
    return Dataset(folder, items, tuple(notes))


def sample_places(truths: Sequence[int], size: int) -> list[int]:
    """Choose ``size`` images, the same number from each class as far as there are enough.

    They are spread evenly over the images of a class, as neighbours are often similar.
    """
    places: dict[int, list[int]] = {}
    for place, truth in enumerate(truths):
        places.setdefault(truth, []).append(place)
    queues = [spread_evenly(found) for found in places.values()]
    chosen: list[int] = []
    while queues and len(chosen) < size:
        taken = queues[: size - len(chosen)]
        chosen += [queue.pop() for queue in taken]
        queues = [queue for queue in queues if queue]
    return sorted(chosen)


def spread_evenly(places: Sequence[int]) -> list[int]:
    """Order places so that any number taken from the end is spread evenly (bit reversal)."""
    bits = max(1, (len(places) - 1).bit_length())
    return [
        places[turned]
        for turned in (int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits))
        if turned < len(places)
    ][::-1]


def suggest_split(folder: str, parts: Sequence[Sequence[str]], names: Sequence[str]) -> str | None:
    """Return an error that names the split to evaluate on, if ``folder`` holds splits.

    Args:
        folder: as given.
        parts: of the paths of its images, relative to it.
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
        f"cannot evaluate on {folder}: the folders of the classes ({classes}) are in "
        f"{', '.join(splits[:FOLDERS])}: name that folder: evaluate {Path(folder) / best}"
    )


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
