"""The true class of a picture: from the name of its folder, or from a table of labels.

Names are compared as names. Only where none is the same, case and separators (space, ``_``,
``-``, ``.``) are forgiven, so that ``House_Finch`` is ``house finch``.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from resnet_cli.errors import InputError, describe

SEPARATORS = re.compile(r"[\s_.-]+")


class Lookup:
    """Class names that can be found as people write them."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Take the names in the order of the outputs; some may occur twice."""
        self.class_names = class_names
        self.exact: dict[str, list[int]] = defaultdict(list)
        self.alike: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(class_names):
            self.exact[normalize("NFC", name)].append(index)
            self.alike[loose(name)].append(index)

    def indices(self, name: str) -> Sequence[int]:
        """Indices of the classes that a name can mean, in order; none, one or several."""
        same = self.exact.get(normalize("NFC", name), [])
        return same or self.alike.get(loose(name), [])


def loose(name: str) -> str:
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


def read_labels(table: Path) -> list[Labelled]:
    """Read a CSV file with the columns ``path`` and ``label``, or ``path`` and ``index``.

    Other columns are passed over, and ``index`` where there is ``label``: so the results of
    ``predict`` can be corrected by hand and used.

    Raises:
        InputError: names the line and what is wrong with it.
        OSError: the file cannot be opened.
    """
    try:
        # a name of a file need not be UTF-8, as in the results of predict
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return list(labelled(csv.DictReader(file), table))
    except csv.Error as error:
        raise InputError(f"cannot read labels from {table}: {describe(error)}") from error


def labelled(rows: "csv.DictReader[str]", table: Path) -> Iterator[Labelled]:
    """Check the header and every line of a table."""
    header = rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    if "path" not in header or not {"label", "index"} & set(header):
        raise InputError(
            f"cannot read labels from {table}: its first line is {','.join(header)!r}: "
            "path,label or path,index"
        )
    column = "label" if "label" in header else "index"
    lines: dict[str, int] = {}
    for row in rows:
        path, value = row["path"], (row[column] or "").strip()
        place = f"{table}, line {rows.line_num}"
        if not path or not value:
            raise InputError(f"cannot read labels from {place}: a path and a {column}")
        if path in lines:
            raise InputError(
                f"cannot read labels from {place}: {path} stands in line {lines[path]} already"
            )
        lines[path] = rows.line_num
        if column == "label":
            yield Labelled(rows.line_num, path, value, None)
        elif value.isdecimal():
            yield Labelled(rows.line_num, path, None, int(value))
        else:
            raise InputError(f"cannot read labels from {place}: {value!r} is no index: 0, 1, 2 …")
