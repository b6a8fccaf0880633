"""The true class of an image: from the name of its folder, or from a table of labels.

Labels are matched to class names in steps, and the first step that finds one decides: the exact
name; the name without regard to case and separators (space, ``_``, ``-``, ``.``), so that
``House_Finch`` is ``house finch``; one of several names with commas between, as in ``tench, Tinca
tinca``; the WordNet number of an ImageNet class.
"""

import csv
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from unicodedata import normalize

from resnet_cli import imagenet
from resnet_cli.errors import InputError
from resnet_cli.records import Item
from resnet_cli.sources.inputs import folder_name
from resnet_cli.sources.lists import NOT_HERE, as_western, is_windows
from resnet_cli.text import EncodingError, amount, find_separator, is_declaration, read_text

log = logging.getLogger("resnet_cli")

SEPARATORS = re.compile(r"[\s_.-]+")

SHOWN = 12  # names listed in a message


class UnmatchedError(InputError):
    """Labels that match no class of a checkpoint."""


class Lookup:
    """An index of class names that tolerates other spellings."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Index the names, in the order of the outputs; a name may occur twice."""
        self.class_names = class_names
        self.exact: dict[str, list[int]] = defaultdict(list)
        self.alike: dict[str, list[int]] = defaultdict(list)
        self.synonyms: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(class_names):
            self.exact[normalize("NFC", name)].append(index)
            self.alike[loose_name(name)].append(index)
            for synonym in set(split_synonyms(name)):
                self.synonyms[synonym].append(index)

    def indices(self, name: str) -> Sequence[int]:
        """Return the indices of the classes that a name can mean, in order."""
        return self.named(name) or self.numbered(name)

    def named(self, name: str) -> Sequence[int]:
        """Return the indices of the classes with a name."""
        same = self.exact.get(normalize("NFC", name), [])
        plain = loose_name(name)
        return same or self.alike.get(plain, []) or self.synonyms.get(plain, [])

    def numbered(self, name: str) -> Sequence[int]:
        """Return the index of the ImageNet class with a WordNet number."""
        output = imagenet.output_of(name)
        if output is None:
            return []
        return [output] if self.is_imagenet else self.named(imagenet.imagenet_categories()[output])

    @cached_property
    def is_imagenet(self) -> bool:
        """True if the outputs are ImageNet's in order: most names equal torchvision's.

        Other lists of ImageNet's class names differ in some names.
        """
        if len(self.class_names) != len(imagenet.outputs_by_wordnet()):
            return False
        pairs = zip(self.class_names, imagenet.imagenet_categories(), strict=True)
        same = sum(
            loose_name(category) in (loose_name(name), *split_synonyms(name))
            for name, category in pairs
        )
        return 2 * same > len(self.class_names)


def split_synonyms(name: str) -> list[str]:
    """Split a name at its commas."""
    return [loose_name(part) for part in name.split(",")] if "," in name else []


def loose_name(name: str) -> str:
    """Normalise case and separators of a name; the sign before a number stays."""
    return SEPARATORS.sub(" ", normalize("NFC", name.strip()).casefold())


def folder_truth(class_names: Sequence[str]) -> Callable[[Item], str | None]:
    """Return a function that labels an image as its source does, or by the name of its folder.

    Returns:
        A function from an item to a class name, or to None if that matches no class or several.
    """
    lookup = Lookup(class_names)

    def truth(item: Item) -> str | None:
        if isinstance(item.label, int):
            return class_names[item.label] if 0 <= item.label < len(class_names) else None
        stated = folder_name(item) if item.label is None else item.label
        labels = {class_names[index] for index in lookup.indices(stated)}
        return labels.pop() if len(labels) == 1 else None

    return truth


def match_labels(
    place: str, labels: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Match labels to class names.

    Returns:
        The class index of each label, and notes on matches that are not exact.

    Raises:
        UnmatchedError: a label matches no class, or several.
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
        raise UnmatchedError(explain_unmatched(place, unknown, meant, names))
    index = {label: indices[0] for label, indices in meant.items()}
    notes = [*note_wordnet_numbers(index, names), *note_spellings(index, names)]
    twice = [
        names[i] for i in dict.fromkeys(index.values()) if sum(v == i for v in index.values()) > 1
    ]
    if twice:
        notes.append(f"several folders of one class: {few_names(twice)}")
    return index, notes


def note_wordnet_numbers(index: Mapping[str, int], names: Sequence[str]) -> Iterator[str]:
    """Yield a note on the labels that are WordNet numbers, and the classes they stand for."""
    pairs = [
        f"{label} is {names[i]}" for label, i in index.items() if is_wordnet_number(label, names[i])
    ]
    if pairs:
        yield f"{amount(len(pairs), 'WordNet number')} of ImageNet's classes: {few_names(pairs)}"


def note_spellings(index: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """List the labels that are spelt differently from the names of their classes."""
    notes = [
        f"{label!r} is taken for the class {names[i]!r}"
        for label, i in index.items()
        if names[i] != label and not is_wordnet_number(label, names[i])
    ]
    more = len(notes) - SHOWN
    return notes[:SHOWN] + ([f"and {more} more so"] if more > 0 else [])


def is_wordnet_number(label: str, name: str) -> bool:
    """Return True if a label refers to its class by a WordNet number."""
    return imagenet.output_of(label) is not None and imagenet.output_of(name) is None


def in_wordnet_order(labels: Sequence[str], names: Sequence[str]) -> bool:
    """Return True if the labels are ImageNet's 1,000 WordNet numbers, which sort as its classes."""
    return len(labels) == len(names) == 1000 and all(map(imagenet.WORDNET_NUMBER.match, labels))


def explain_unmatched(
    place: str, unknown: Sequence[str], meant: Mapping[str, Sequence[int]], names: Sequence[str]
) -> str:
    """Explain which labels match no class, and which classes have no label."""
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
        f"{len(free):,} of its {classes} have no label: {few_names(free)}"
        if free
        else f"it has {classes}: {few_names(names)}"
    )
    return (
        f"cannot match {place} to the classes by name: {few_names(unknown)} "
        f"{'is not a class' if len(unknown) == 1 else 'are not classes'} of the checkpoint"
        f"{explain_numbers(unknown)}; {others}: rename the folders, or give "
        f"--classes{suggest_classes(meant, names)}"
    )


def explain_numbers(unknown: Sequence[str]) -> str:
    """Explain why WordNet numbers match no class here."""
    if not all(map(imagenet.WORDNET_NUMBER.match, unknown)):
        return ""
    return " (WordNet numbers match only the 1,000 classes of ImageNet, by name)"


def suggest_classes(meant: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """Suggest the labels as class names, if there are as many and none matches."""
    labels = sorted(meant)  # as torchvision's ImageFolder numbers them
    if any(meant.values()) or not len(labels) == len(names) <= SHOWN:
        return ""
    return f" {','.join(labels)} (the order of most trainings)"


def few_names(names: Iterable[str]) -> str:
    """Join names with commas; of many, only the first."""
    listed = list(names)
    more = f" … ({len(listed):,} in all)" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row of a table of labels."""

    line: int  # of the file, from 1
    path: str  # as written there
    label: str | None  # a class name; None if the row has an index
    index: int | None  # an index; None if the row has a label
    part: str = ""  # what inside the image, as that of an item


# fmt: off
HEADERS = {
    "part": ("part",),
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image",
             "image_path", "image_name"),
    "label": ("label", "class", "class_name", "category"),
    "index": ("index", "class_index", "label_index"),
}
# fmt: on
"""Accepted names of the columns of a table of labels; the first that is present is used."""


def read_labels(table: Path) -> list[Labelled]:
    """Read a table with the columns ``path`` and ``label``, or ``path`` and ``index``.

    A column ``part`` tells the parts of an image apart. Its cells are separated by
    commas, semicolons or tabs, its text is UTF-8 or UTF-16. Other columns are ignored, and so is
    ``index`` beside ``label``: results of ``predict`` that were corrected by hand can be used.

    Raises:
        InputError: an invalid row, with its line.
        OSError: the file cannot be opened.
    """
    try:
        # file names need not be UTF-8, as in the results of predict
        rows = list(labelled_lines(read_text(table, errors="surrogateescape"), table))
    except (csv.Error, EncodingError) as error:
        raise InputError(f"cannot read labels from {table}: {error}") from error
    if foreign := [row.path for row in rows if is_windows(row.path)]:
        log.warning(NOT_HERE, table, len(foreign), foreign[0])
    return rows


def labelled_lines(text: str, table: Path) -> Iterator[Labelled]:
    """Yield the rows of a table, checking its header and each row."""
    rows = numbered_rows(text)
    columns = find_columns(next(rows, (0, []))[1], table)
    kind = "label" if "label" in columns else "index"
    lines: dict[tuple[str, str], int] = {}
    for line, row in rows:
        cells = {name: row[at] if at < len(row) else "" for name, at in columns.items()}
        path, part, value = cells["path"], cells.get("part", "").strip(), cells[kind].strip()
        place = f"{table}, line {line}"
        if not path.strip() or not value:
            raise InputError(f"cannot read labels from {place}: a path and a {kind}")
        if (path, part) in lines:
            raise InputError(
                f"cannot read labels from {place}: {path} {part}".rstrip()
                + f" stands in line {lines[path, part]} already"
            )
        lines[path, part] = line
        if kind == "label":
            yield Labelled(line, path, as_western(value), None, part)
        elif value.isdecimal():
            yield Labelled(line, path, None, int(value), part)
        else:
            raise InputError(
                f"cannot read labels from {place}: {value!r} is not an index: 0, 1, 2 …"
            )


def numbered_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, with the line number of each."""
    separator = find_separator(text)
    rows = csv.reader(StringIO(text, newline=""), delimiter=separator)
    for row in rows:
        if any(map(str.strip, row)) and not is_declaration(row, separator):
            yield rows.line_num, row


def find_columns(header: Sequence[str], table: Path) -> Mapping[str, int]:
    """Find the columns of a table: the path, the label or else the index, and perhaps the part.

    Raises:
        InputError: a column is missing.
    """
    names = [name.strip().lower() for name in header]
    found = {
        kind: names.index(next(filter(names.__contains__, synonyms)))
        for kind, synonyms in HEADERS.items()
        if set(synonyms) & set(names)
    }
    if "path" not in found or not {"label", "index"} & set(found):
        columns = ", ".join(map(repr, header)) or "none"
        raise InputError(
            f"cannot read labels from {table}: its columns are {columns}: name them "
            "path and label, or path and index"
        )
    return found
