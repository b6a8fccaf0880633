"""The rows that a file holds already."""

import os
import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from resnet_cli.writers.dialect import Dialect
from resnet_cli.writers.rows import as_utf8

UNTIDY = re.compile(r"//|(?:^|/)\.(?:/|\Z)|(?<=[^/])/\Z|^\Z")
"""What ``Path`` would leave out of a path, or put into it."""


def tidy(path: str) -> str:
    """Spell a path as ``str(Path(path))`` does, which takes its time and mostly changes nothing."""
    return str(Path(path)) if os.sep != "/" or UNTIDY.search(path) else path


@dataclass(slots=True)
class Saved:
    """The rows that a file holds; sixteen bytes a row in memory."""

    spelt_out: bool = False  # paths as Parquet spells them
    size: int = 0  # bytes of the file
    end: int = 0  # bytes of its whole rows
    damage: str = ""  # what is wrong with the bytes between the two
    errors: int = 0  # rows of images that could not be read
    dialect: Dialect | None = None  # of a .csv, as its header says
    decides: bool = True  # it has a column for the decision, where the run decides
    keys: "array[int]" = field(default_factory=lambda: array("q"))  # of paths, then sorted
    taken: "array[int]" = field(default_factory=lambda: array("q"))  # of those keys, at their first

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.keys)

    def add(self, path: str) -> None:
        """Note one row."""
        self.keys.append(self.key(path))

    def sorted(self) -> Self:
        """The same, ready to be asked."""
        values = np.frombuffer(self.keys, dtype=np.int64).copy() if self.keys else np.empty(0)
        values.sort()
        self.keys = array("q", values.tobytes()) if len(values) else array("q")
        self.taken = array("q", bytes(8 * len(self.keys)))
        return self

    def moved(self, size: int) -> "Saved":
        """The same rows in another file of so many bytes."""
        return replace(self, size=size, end=size)

    def key(self, path: str) -> int:
        """A number for a path: two of a million have the same with a chance of 1 to 10^7."""
        path = tidy(path)
        return hash(as_utf8(path) if self.spelt_out else path)

    def take(self, path: str) -> bool:
        """Whether there is a row for this path; a path that is listed twice has two."""
        key = self.key(path)
        first = bisect_left(self.keys, key)
        if first == len(self.keys) or self.keys[first] != key:
            return False
        mine = first + self.taken[first]
        if mine == len(self.keys) or self.keys[mine] != key:
            return False
        self.taken[first] += 1
        return True

    @property
    def untaken(self) -> int:
        """Rows whose pictures were not asked for."""
        return len(self.keys) - sum(self.taken)
