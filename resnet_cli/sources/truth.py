"""The true class of an image: from the name of its folder, or from a table of labels.

Names are compared as names. Only where none is the same, case and separators (space, ``_``,
``-``, ``.``) are forgiven, so that ``House_Finch`` is ``house finch``; then one of the names that
commas separate will do, as in ``tench, Tinca tinca``; then the number of an ImageNet class in
WordNet.
"""

import csv
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from unicodedata import normalize

from resnet_cli import imagenet
from resnet_cli.errors import InputError
from resnet_cli.sources.lists import NOT_HERE, as_western, is_windows
from resnet_cli.text import EncodingError, find_separator, is_declaration, read_text

log = logging.getLogger("resnet_cli")

SEPARATORS = re.compile(r"[\s_.-]+")


class Lookup:
    """Class names that can be found as people write them."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Take the names in the order of the outputs; some may occur twice."""
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
        """Indices of the classes that a name can mean, in order; none, one or several."""
        return self.named(name) or self.numbered(name)

    def named(self, name: str) -> Sequence[int]:
        """Indices of the classes that have a name."""
        same = self.exact.get(normalize("NFC", name), [])
        plain = loose_name(name)
        return same or self.alike.get(plain, []) or self.synonyms.get(plain, [])

    def numbered(self, name: str) -> Sequence[int]:
        """Indices of the class of ImageNet that has a number in WordNet."""
        output = imagenet.output_of(name)
        if output is None:
            return []
        return [output] if self.is_imagenet else self.named(imagenet.imagenet_categories()[output])

    @cached_property
    def is_imagenet(self) -> bool:
        """Whether the outputs are ImageNet's in their order: most names are those of torchvision.

        Of other lists of ImageNet's names some names differ.
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
    """The names that commas separate in a name."""
    return [loose_name(part) for part in name.split(",")] if "," in name else []


def loose_name(name: str) -> str:
    """A name without what people write differently; a sign before a number stays a sign."""
    return SEPARATORS.sub(" ", normalize("NFC", name.strip()).casefold())


def folder_truth(class_names: Sequence[str]) -> Callable[[Path], str | None]:
    """What tells the true label of a picture by the name of the folder it is in.

    Returns:
        A function that gives the class name, or None where the folder is named like no class or
        like several.
    """
    lookup = Lookup(class_names)

    def truth(path: Path) -> str | None:
        folder = path.absolute().parent.name
        labels = {class_names[index] for index in lookup.indices(folder)}
        return labels.pop() if len(labels) == 1 else None

    return truth


@dataclass(frozen=True, slots=True)
class Labelled:
    """One line of a table of labels."""

    line: int  # in the file, from 1
    path: str  # as it is written there
    label: str | None  # a class name, or
    index: int | None  # an index; one of the two


# fmt: off
HEADERS = {
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image",
             "image_path", "image_name"),
    "label": ("label", "class", "class_name", "category"),
    "index": ("index", "class_index", "label_index"),
}
# fmt: on
"""What the columns of a table of labels may be called; of two the first in this order is taken."""


def read_labels(table: Path) -> list[Labelled]:
    """Read a table with the columns ``path`` and ``label``, or ``path`` and ``index``.

    Commas, semicolons or tabs separate its cells, and its text is UTF-8 or UTF-16. Other columns
    are ignored, and so is ``index`` where there is ``label``: so the results of ``predict`` can be
    corrected by hand and used.

    Raises:
        InputError: names the line and what is wrong with it.
        OSError: the file cannot be opened.
    """
    try:
        # a name of a file need not be UTF-8, as in the results of predict
        rows = list(labelled_lines(read_text(table, errors="surrogateescape"), table))
    except (csv.Error, EncodingError) as error:
        raise InputError(f"cannot read labels from {table}: {error}") from error
    if foreign := [row.path for row in rows if is_windows(row.path)]:
        log.warning(NOT_HERE, table, len(foreign), foreign[0])
    return rows


def labelled_lines(text: str, table: Path) -> Iterator[Labelled]:
    """Check the header and every line of a table."""
    rows = numbered_rows(text)
    columns = find_columns(next(rows, (0, []))[1], table)
    kind = columns[1][0]
    lines: dict[str, int] = {}
    for line, row in rows:
        path, value = (row[at] if at < len(row) else "" for _, at in columns)
        place = f"{table}, line {line}"
        if not path.strip() or not value.strip():
            raise InputError(f"cannot read labels from {place}: a path and a {kind}")
        if path in lines:
            raise InputError(
                f"cannot read labels from {place}: {path} stands in line {lines[path]} already"
            )
        lines[path] = line
        if kind == "label":
            yield Labelled(line, path, as_western(value.strip()), None)
        elif value.strip().isdecimal():
            yield Labelled(line, path, None, int(value))
        else:
            raise InputError(
                f"cannot read labels from {place}: {value!r} is not an index: 0, 1, 2 …"
            )


def numbered_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, with the line where each ends."""
    separator = find_separator(text)
    rows = csv.reader(StringIO(text, newline=""), delimiter=separator)
    for row in rows:
        if any(map(str.strip, row)) and not is_declaration(row, separator):
            yield rows.line_num, row


def find_columns(header: Sequence[str], table: Path) -> list[tuple[str, int]]:
    """Find what a table says of an image: its path, and its label or else its index.

    Raises:
        InputError: a column is missing.
    """
    names = [name.strip().lower() for name in header]
    found = [
        (kind, names.index(next(filter(names.__contains__, synonyms))))
        for kind, synonyms in HEADERS.items()
        if set(synonyms) & set(names)
    ]
    if len(found) < 2 or found[0][0] != "path":
        columns = ", ".join(map(repr, header)) or "none"
        raise InputError(
            f"cannot read labels from {table}: its columns are {columns}: name them "
            "path and label, or path and index"
        )
    return found[:2]
