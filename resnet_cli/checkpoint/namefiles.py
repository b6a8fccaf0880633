"""Files of class names: .txt, .json and .csv."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.names import in_order, is_key, names_from
from resnet_cli.checkpoint.tree import items
from resnet_cli.errors import SettingError, describe

HEADERS = frozenset({
    "category", "class", "classes", "classid", "classname", "id", "idx", "index", "label",
    "labels", "labelname", "name", "names",
})  # fmt: skip
"""What stands above a column of class names or indices."""


def read_file(path: Path) -> tuple[str, ...]:
    """Read class names from .txt, .json or .csv.

    Raises:
        SettingError: it cannot be opened, or holds no class names.
    """
    names = read_names(path) or (under_a_key(path) if path.suffix.lower() == ".json" else None)
    if not names:
        raise SettingError(
            f"cannot read class names from {path}: a name for each output is wanted, in their "
            "order, or each with its index from 0 on"
        )
    return names


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read class names from .txt, .json or .csv; None where there are none.

    Raises:
        SettingError: it cannot be opened, or is no text.
    """
    try:
        return READERS[path.suffix.lower()](path)
    except OSError as error:
        raise SettingError(f"cannot read class names from {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"cannot read class names from {path}: {describe(error)}") from error


def read_text(path: Path) -> tuple[str, ...]:
    """A name a line; blank lines are passed over."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # not even UTF-8, or no JSON
        return None


def read_json_names(path: Path) -> tuple[str, ...] | None:
    """A list, name -> index or index -> name."""
    return names_from(read_json(path))


def under_a_key(path: Path) -> tuple[str, ...] | None:
    """Names in a JSON file under one of the usual keys."""
    value = read_json(path)
    found = [names_from(inner) for key, inner in items(value) if is_key(key)]
    return next(filter(None, found), None)


def read_table(path: Path) -> tuple[str, ...] | None:
    """Names in a column or a row, or beside a column of indices; a header is passed over."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    if len(rows) > 1 and HEADERS & {re.sub("[ _-]", "", cell.lower()) for cell in rows[0]}:
        rows = rows[1:]
    if all(len(row) == 1 for row in rows):
        return tuple(row[0] for row in rows)
    if len(rows) == 1 and (len(rows[0]) > 2 or not any(cell.isdigit() for cell in rows[0])):
        return tuple(filter(None, rows[0]))
    for index, name in ((0, 1), (1, 0)):
        if all(len(row) == 2 and row[index].isdigit() for row in rows):
            return names_from(in_order([(row[index], row[name]) for row in rows]))
    return None


READERS: dict[str, Callable[[Path], tuple[str, ...] | None]] = {
    ".txt": read_text,
    ".json": read_json_names,
    ".csv": read_table,
}
