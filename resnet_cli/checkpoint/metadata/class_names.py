"""Class names in any form -> names in the order of the outputs.

Forms are values from a checkpoint (lists, dicts, label encoders) and files: lines, tables, JSON,
YAML, and lists or dicts as Python writes them.
"""

import ast
import csv
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.tree import Foreign, as_container, items_of
from resnet_cli.errors import SettingError, describe
from resnet_cli.text import EncodingError, read_table_rows, read_text

HEADERS = frozenset({
    "category", "class", "classes", "classid", "classname", "id", "idx", "index", "label",
    "labels", "labelname", "name", "names", "signname",
})  # fmt: skip
"""Headers of a column of class names or indices."""

COMMENT = "#"
QUOTED = re.compile(r"""(?P<index>\d+\s*:\s*)?(?P<quote>["']).*(?P=quote)""")
DATA = re.compile(r"[\[\]{}].*|- .*|.*[{:]|.*: *[\[{].*|.*\t.*")
"""Lines of JSON, YAML, a table or a label map, which are not names."""

BETWEEN = r"(?:\s*[:=]\s*|[.)]\s+|\s+-\s+|\s+)"
WORD = r"(?P<name>.*[^\W\d_].*?)"
LONGEST_LINE = 1000  # characters; the patterns would take minutes on longer ones

NUMBERED = (
    re.compile(rf"(?P<index>\d+){BETWEEN}{WORD}"),
    re.compile(rf"{WORD}{BETWEEN}(?P<index>\d+)"),
)
"""Lines with both the index of a class and its name."""


class NoNamesError(ValueError):
    """A file holds no class names, for a reason that the user can fix."""


def read_file(path: Path) -> tuple[str, ...]:
    """Read class names from a file.

    Raises:
        SettingError: it cannot be opened, or holds no class names.
    """
    names = read_names(path) or read_under_key(path)
    if not names:
        raise SettingError(
            f"cannot read class names from {path}: a name for each output is wanted, in their "
            "order, or each with its index from 0 on"
        )
    return names


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read class names from a file; None where it has none.

    Raises:
        SettingError: it cannot be opened, is not text, or does not number from 0 on.
    """
    try:
        return READERS[path.suffix.lower()](path)
    except OSError as error:
        raise SettingError(f"cannot read class names from {path}: {error.strerror}") from error
    except (EncodingError, NoNamesError) as error:
        raise SettingError(f"cannot read class names from {path}: {error}") from error
    except csv.Error as error:
        raise SettingError(f"cannot read class names from {path}: {describe(error)}") from error


def read_lines(path: Path) -> tuple[str, ...] | None:
    """Read one name per line, plain, in quotes or with its index; or a list as Python writes it.

    Raises:
        NoNamesError: the indices do not run from 0 on.
    """
    text = read_text(path).strip()
    lines = list(without_synsets(without_comments(text)))
    if all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",") for line in lines]
    if text.startswith(("{", "[")):
        return read_python(text)
    if all(QUOTED.fullmatch(line) for line in lines):
        return read_python(",".join(lines))
    found = numbered_cells(list(read_table_rows("\n".join(lines))))
    if found is None and any(DATA.fullmatch(line) for line in lines):
        return None
    return found or numbered_lines(lines) or tuple(lines)


def without_comments(text: str) -> list[str]:
    """Drop blank lines and comments; all lines are names where all start like comments."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(COMMENT)] or lines


def read_python(text: str) -> tuple[str, ...] | None:
    """Read a list or a dict as Python writes it, also without its brackets."""
    for candidate in (text, f"{{{text}}}", f"[{text}]"):
        with (
            suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError),
            warnings.catch_warnings(action="ignore"),  # warnings of backslashes in names
        ):
            if found := names_from(ast.literal_eval(candidate)):
                return found
    return None


def numbered_lines(lines: Sequence[str]) -> tuple[str, ...] | None:
    """Read lines of index and name; None where the lines are names alone.

    Lines like ``phase 1`` and ``phase 2`` are names: they are the same without their numbers.

    Raises:
        NoNamesError: the indices do not run from 0 on.
    """
    if max(map(len, lines), default=0) > LONGEST_LINE:
        return None
    for pattern in NUMBERED:
        found = [match for match in map(pattern.fullmatch, lines) if match]
        pairs = [(int(match["index"][:18]), match["name"]) for match in found]
        if len(lines) == len(pairs) == len({name for _, name in pairs}) > 1:
            first = min(index for index, _ in pairs)
            moved = in_order([(index - first, name) for index, name in pairs])
            if moved and first:
                raise NoNamesError(
                    f"its indices run from {first} to {first + len(pairs) - 1}: number from 0 on"
                )
            if moved:
                return tuple(moved)
    return None


def read_json(path: Path) -> Any:
    """Parse a JSON file; None where it is damaged."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError):  # not text, or not JSON
        return None


def read_json_names(path: Path) -> tuple[str, ...] | None:
    """Read a list, name -> index or index -> name."""
    return names_from(read_json(path))


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; None where it is damaged.

    Raises:
        NoNamesError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise NoNamesError(
            "PyYAML is not installed: pip install pyyaml, or write a name a line into a .txt"
        ) from error
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def read_yaml_names(path: Path) -> tuple[str, ...] | None:
    """Read a list, name -> index or index -> name."""
    return names_from(read_yaml(path))


def read_under_key(path: Path) -> tuple[str, ...] | None:
    """Read names under one of the usual keys in a file of nested values."""
    reader = VALUES.get(path.suffix.lower())
    value = reader(path) if reader else None
    found = [names_from(inner) for key, inner in items_of(value) if is_key(key)]
    return next(filter(None, found), None)


def read_table(path: Path) -> tuple[str, ...] | None:
    """Read names in a column or a row, or beside a column of indices; a header is skipped."""
    rows = list(read_table_rows(read_text(path)))
    if rows and all(len(row) == 1 for row in rows):
        return tuple(row[0] for row in without_header(rows))
    found = numbered_cells(rows)
    if (
        found is None
        and len(rows) == 1
        and (len(rows[0]) > 2 or not any(map(str.isdigit, rows[0])))
    ):
        return tuple(filter(None, map(str.strip, rows[0])))
    return found


def numbered_cells(rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """Read the names beside a column of indices; None where there is no such column."""
    cells = without_header(rows)
    for index, name in ((0, 1), (1, 0)):
        if cells and all(len(row) == 2 and row[index].isdigit() for row in cells):
            return names_from(in_order([(row[index], row[name]) for row in cells]))
    return None


def without_header(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the cells below the header; of many columns only those of names and indices."""
    cells = [[cell.strip() for cell in row] for row in rows]
    titles = [re.sub("[ _-]", "", cell.lower()) for cell in cells[0]] if len(cells) > 1 else []
    ours = [column for column, title in enumerate(titles) if title in HEADERS]
    if len(ours) == 2:
        return [[row[column] for column in ours] for row in cells[1:] if len(row) > max(ours)]
    return cells[1:] if ours else cells


Reader = Callable[[Path], tuple[str, ...] | None]

READERS: dict[str, Reader] = {
    ".txt": read_lines,
    ".json": read_json_names,
    ".csv": read_table,
    ".tsv": read_table,
    ".yaml": read_yaml_names,
    ".yml": read_yaml_names,
}

VALUES: dict[str, Callable[[Path], Any]] = {
    ".json": read_json,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
"""Readers of files of nested values, by suffix."""

THINGS = ("category", "cat", "class", "label", "name", "target")
NUMBERS = ("id", "idx", "index", "int")
PLURALS = {"category": "categories", "class": "classes"}
"""Irregular plurals."""

LISTS = frozenset(
    form
    for thing in ("category", "class", "label")
    for form in (PLURALS.get(thing, f"{thing}s"), f"{thing}names", f"{thing}map")
)

PAIRS = frozenset(
    form
    for thing, number, to in product(THINGS, NUMBERS, ("to", "2"))
    for form in (f"{thing}{to}{number}", f"{number}{to}{thing}")
)

KEYS = LISTS | PAIRS | {
    "classdict", "classindex", "classindices", "classlabels", "classmapping",
    "labelmapping", "labelsmap", "names", "targetnames", "vocab",
}  # fmt: skip
"""Keys of class names, in lower case without ``_`` and ``-``."""

WORDNET = re.compile(r"n\d{8}")
SYNSET = re.compile(rf"{WORDNET.pattern}[\s,:]+(?=\S)")
"""Numbers of WordNet, alone or before the names of a class of ImageNet."""

LISTED = frozenset({"CategoryMap", "L"})
"""Lists of fastai, which store their elements under ``items``."""


def is_key(key: str) -> bool:
    """Return whether a key is a usual one for class names."""
    return re.sub("[_ -]", "", key.lower()) in KEYS


def names_from(value: Any) -> tuple[str, ...] | None:
    """Turn class names in any form into names in order; None where it is not class names.

    Args:
        value: a list of names, or of pairs or records that number them; name -> index, or
            index -> name.
    """
    value = unwrap_value(value)
    pairs = pairs_in(value)
    if pairs is not None:
        value = in_order(pairs)
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return without_synsets(value)
    return None


def pairs_in(value: Any) -> list[tuple[Any, Any]] | None:
    """Return index and name of each class; None where they are not numbered."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list) and all(is_numbered(item) for item in value):
        pairs = [(item[0], item[1]) for item in value]
    else:
        return None
    if pairs and all(type(index) is int for _, index in pairs):
        return [(index, name) for name, index in pairs]
    return pairs or None


def is_numbered(item: Any) -> bool:
    """Return whether an element of a list is a name with its index."""
    return isinstance(item, list) and sorted(map(type, item), key=str) == [int, str]


def without_synsets(names: Sequence[str]) -> tuple[str, ...]:
    """Drop the numbers of WordNet where every name starts with one and goes on after it."""
    if all(SYNSET.match(name) for name in names):
        return tuple(SYNSET.sub("", name, count=1) for name in names)
    return tuple(names)


def unwrap_value(value: Any) -> Any:
    """Return a list or dict without what other libraries wrap around it and its values."""
    value = open_container(value)
    if isinstance(value, Mapping):
        return {name_of(key): name_of(inner) for key, inner in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 1 and isinstance(open_container(value[0]), list | tuple):  # of OrdinalEncoder
        value = open_container(value[0])
    return [numbered_name(inner) or name_of(inner) for inner in value]


def open_container(value: Any) -> Any:
    """Return the container that a value holds."""
    for _ in range(len(LISTED)):  # a CategoryMap holds an L
        if isinstance(value, Foreign) and value.kind in LISTED:
            value = value.attributes.get("items", ())
    return as_container(value)


def numbered_name(value: Any) -> list[Any] | None:
    """Return index and name of an element that has both; None for any other."""
    value = as_container(value)
    if isinstance(value, Mapping):  # as in the annotations of COCO
        value = [value.get("id"), value.get("name")]
    if isinstance(value, list | tuple) and len(value) == 2:
        pair = [name_of(inner) for inner in value]
        return pair if is_numbered(pair) else None
    return None


def name_of(value: Any) -> Any:
    """Return a name or number without its wrapper, such as an enum or a list of synonyms."""
    value = as_container(value)
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        value = value[1] if len(value) > 1 and WORDNET.fullmatch(value[0]) else value[0]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], int):
        value = value[0]
    return value if isinstance(value, str | int | float | bool) else None


def in_order(pairs: Sequence[tuple[Any, Any]]) -> list[Any] | None:
    """Sort names by their indices, which must be 0, 1, 2 … each once; None where they are not."""
    try:
        by_index = {int(index): name for index, name in pairs}
    except (TypeError, ValueError, OverflowError):
        return None
    if sorted(by_index) != list(range(len(pairs))):
        return None
    return [by_index[index] for index in range(len(pairs))]
