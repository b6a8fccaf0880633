"""Labelled images -> items with the index of their true class.

Labels come from the source of an image, the names of folders or a table of labels, and are matched
to class names.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from resnet_cli.errors import InputError
from resnet_cli.evaluate.labelled import Places
from resnet_cli.evaluate.splits import suggest_split
from resnet_cli.records import Item
from resnet_cli.sources import (
    FindOptions,
    Inputs,
    Search,
    excluded_words,
    list_input,
    select_parts,
    skipped_words,
    source_of,
    without_pauses,
)
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.inputs import CONNECTIONS
from resnet_cli.sources.places import base_of, is_inside, is_missing, parts_below
from resnet_cli.sources.truth import Labelled, Lookup, few_names, match_labels, read_labels
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images whose class is known, in the order in which they are scored."""

    folder: str  # as given
    items: Sequence[Item]  # each with its truth
    notes: tuple[str, ...] = ()  # sentences on what was skipped or matched loosely
    connections: int = CONNECTIONS  # by which remote images are fetched

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
        return replace(Inputs.of(self.items), connections=self.connections)

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
    find: FindOptions | None = None,
) -> Dataset:
    """Return a dataset as given, or find the labelled images of an INPUT and log its notes.

    The arguments are those of ``find_labelled``.

    Raises:
        InputError: no images, or labels that match no class.
    """
    if isinstance(data, Dataset):
        return data
    dataset = find_labelled(data, names, labels=labels, find=find)
    for note in dataset.notes:
        log.info(note)
    return dataset if find is None else replace(dataset, connections=find.fetch)


def find_labelled(
    given: str | Path,
    names: Sequence[str],
    *,
    labels: str | Path | None = None,
    find: FindOptions | None = None,
) -> Dataset:
    """Find the labelled images of an INPUT.

    Args:
        given: holds a folder for each class, states the classes itself, or holds the images that
            ``labels`` lists.
        names: class names, one per output.
        labels: table of labels; None takes what the source states, else the names of the folders.
        find: what to take.

    Raises:
        InputError: no images, or labels that match no class.
    """
    find = find or FindOptions()
    if labels is not None:
        dataset = label_by_table(Path(labels), str(given), names, find)
    else:
        dataset = label_by_folder(str(given), names, find)
    return replace(dataset, connections=find.fetch)


def label_by_folder(
    given: str, names: Sequence[str], find: FindOptions | None = None, *, saved: bool = False
) -> Dataset:
    """Label each image as its source does, or by the first folder below ``given`` on its path.

    Args:
        given: an INPUT: a folder with a folder for each class, an archive of such, a table.
        names: class names, one per output.
        find: what to take.
        saved: the images have been classified already, and are not read.

    Raises:
        InputError: no images, or labels that match no class.
    """
    search = Search(find or FindOptions())
    require_folders(given)
    listed = list_given(given, search, saved=saved)
    items = listed.known
    parts = find_parts(items, given, names)
    stated = [state_label(item, below) for item, below in zip(items, parts, strict=True)]
    labels = [label for label in dict.fromkeys(stated) if isinstance(label, str)]
    if not any(label is not None for label in stated):
        raise InputError(
            f"no images to evaluate on: {given}{explain_none(search.sieve)}: name a folder that "
            "holds a folder for each class, or use --labels"
        )
    if better := suggest_split(given, parts, names):
        raise InputError(better)
    index, notes = match_labels(given, labels, names)
    found = [
        replace(item, truth=index[label] if isinstance(label, str) else label)
        for item, label in zip(items, stated, strict=True)
        if label is not None
    ]
    check_indices(found, names, given)
    notes += [*listed.remarks, *describe_left_out(len(items) - len(found), search.sieve)]
    have = "have images" if any(item.label is not None for item in found) else "have a folder"
    return make_dataset(given, found, names, notes, have)


def require_folders(given: str) -> None:
    """Refuse what holds no folders.

    Raises:
        InputError: it is missing, or an image.
    """
    if is_missing(given):
        what = "there is no such folder"
    elif Path(given).is_file() and source_of(given) is None:
        what = "it is not a folder"
    else:
        return
    raise InputError(f"cannot evaluate on {given}: {what}: name one with a folder a class")


def list_given(given: str, search: Search, *, saved: bool = False) -> Inputs:
    """List the items of an INPUT, with the parts that are asked for.

    They are read afterwards, unless their predictions are ``saved``.

    Raises:
        InputError: it names nothing, or can be read only once.
    """
    listings = list_input(given, search)
    items = []
    for item in without_pauses(chain.from_iterable(each.items for each in listings)):
        if saved:
            items.append(item.without_content())
            continue
        if isinstance(item.content, bytes | np.ndarray):  # of a stream: all of them would be held
            raise InputError(
                f"cannot evaluate on {given}: its images can be read only once, in their order: "
                "use 'predict -o FILE' and then 'evaluate --predictions FILE'"
            )
        if isinstance(item.content, str):
            log.warning("could not read %s: %s", item.words, item.content)
        items.append(item)
    return select_parts(Inputs.of(items), [given], search.options)


def find_parts(items: Sequence[Item], given: str, names: Sequence[str]) -> list[Sequence[str]]:
    """Return the folders from an INPUT to each image, and the name of the image.

    Folders that hold all of an archive, as its makers put there, are left out.
    """
    base = base_of(given)
    parts = [parts_below(item, base) for item in items]
    if not all(map(is_inside, items)):
        return parts
    lookup = Lookup(names)
    while parts and all(len(below) > 2 and below[0] == parts[0][0] for below in parts):
        if lookup.indices(parts[0][0]):
            break
        parts = [below[1:] for below in parts]
    return parts


def state_label(item: Item, below: Sequence[str]) -> str | int | None:
    """Return the label of an image as its source states it, or its first folder."""
    if item.label is not None:
        return item.label
    return below[0] if len(below) > 1 else None


def check_indices(items: Sequence[Item], names: Sequence[str], given: str) -> None:
    """Refuse an index that is not one of the outputs.

    Raises:
        InputError: names the first.
    """
    for item in items:
        if not 0 <= true_class(item) < len(names):
            raise InputError(
                f"cannot evaluate on {given}: {item.path} {item.part} has the label {item.truth}: "
                f"there are {len(names)} classes, 0 to {len(names) - 1}"
            )


def label_by_table(
    table: Path, given: str, names: Sequence[str], find: FindOptions | None = None
) -> Dataset:
    """Take images and their labels from a table.

    Its paths are relative to ``given``, or to the current folder if no such file exists. A row
    without a part is about all parts of its image that have no row of their own.

    Args:
        table: of labels.
        given: an INPUT that holds the images; others are taken by their paths.
        names: class names, one per output.
        find: what to take of the INPUT, and which rows of the table.

    Raises:
        InputError: the table cannot be read, or a label matches no class.
    """
    search = Search(find or FindOptions())
    rows = [row for row in read_labels(table) if not search.sieve.drops_line(row.path)]
    if not rows:
        raise InputError(
            f"no images to evaluate on: {table} lists none{explain_none(search.sieve)}: give a "
            "path and a label per line"
        )
    index, notes = match_labels(
        str(table), [row.label for row in rows if row.label is not None], names
    )
    inside = Inputs.of([]) if is_missing(given) else list_given(given, search)
    items = inside.known
    places = Places(base_of(given))
    places.add(items)
    truths: dict[tuple[str, str], Item] = {}
    for row in sorted(rows, key=lambda row: not row.part):
        truth = class_index_of(row, index, len(names), table)
        for item in places.find(row):
            truths.setdefault(item.identity, replace(item, truth=truth))
    if search.options.boxes:  # an image without boxes is no item
        kept = {item.identity for item in items}
        truths = {identity: item for identity, item in truths.items() if identity in kept}
    listed = sum(item.identity in truths for item in items)
    notes += [*inside.remarks, *describe_left_out(len(items) - listed, search.sieve)]
    return make_dataset(given, list(truths.values()), names, notes, f"are in {table}")


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
    given: str, items: Sequence[Item], names: Sequence[str], notes: list[str], have: str
) -> Dataset:
    """Build a dataset, with a note on the classes without images."""
    present = {item.truth for item in items}
    empty = [name for index, name in enumerate(names) if index not in present]
    if empty:
        classes = amount(len(names), "class", "classes")
        notes.append(f"{len(present):,} of {classes} {have}; without images: {few_names(empty)}")
    return Dataset(given, items, tuple(notes))


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
