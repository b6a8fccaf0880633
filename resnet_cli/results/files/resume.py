"""Read the rows that earlier runs saved, so that this run can resume after them.

Rows at the end of a file that are cut off are redone; a file that is damaged elsewhere, or that was
made with other settings, is refused.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from resnet_cli.errors import OutputError
from resnet_cli.records import tidy_path
from resnet_cli.results.columns import DamageError, Identities, Identity, as_utf8
from resnet_cli.results.files import ROWS
from resnet_cli.results.files.manifest import ResumeError, check_same, earlier_record
from resnet_cli.results.formats import format_of, journal_path, manifest_path
from resnet_cli.results.options import Dialect, WriterOptions


@dataclass(slots=True)
class SavedRows:
    """The identities of the rows in a file; sixteen bytes a row in memory."""

    utf8_only: bool = False  # the format escapes paths that are not UTF-8
    size: int = 0  # bytes of the file
    end: int = 0  # bytes of its whole rows
    damage: str = ""  # what is wrong with the bytes between the two
    errors: int = 0  # rows of images that could not be read
    dialect: Dialect | None = None  # of a .csv, as its header says
    decides: bool = True  # there is a column for the decision, if the run decides
    keys: "array[int]" = field(default_factory=lambda: array("q"))  # of identities, then sorted
    taken: "array[int]" = field(default_factory=lambda: array("q"))  # of those keys, at their first

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.keys)

    def add(self, identity: Identity) -> None:
        """Add a row."""
        self.keys.append(self.key(identity))

    def sorted(self) -> Self:
        """Sort the rows, after the last ``add`` and before the first ``take``."""
        values = np.frombuffer(self.keys, dtype=np.int64).copy() if self.keys else np.empty(0)
        values.sort()
        self.keys = array("q", values.tobytes()) if len(values) else array("q")
        self.taken = array("q", bytes(8 * len(self.keys)))
        return self

    def moved(self, size: int) -> "SavedRows":
        """Return a copy of the rows for another file of ``size`` bytes."""
        return replace(self, size=size, end=size)

    def key(self, identity: Identity) -> int:
        """Return the hash of an identity; two of a million collide with a chance of 1 to 10^7."""
        path, part = identity
        path = tidy_path(path)
        return hash((as_utf8(path) if self.utf8_only else path, part))

    def take(self, identity: Identity) -> bool:
        """Return True if an item has another row; an item that is listed twice has two."""
        key = self.key(identity)
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
        """The number of rows whose items were not asked for."""
        return len(self.keys) - sum(self.taken)


def read_resumed(files: Mapping[Path, WriterOptions], record: Mapping[str, Any]) -> list[SavedRows]:
    """Read the rows that earlier runs saved, so that this run can resume after them.

    Args:
        files: each with how this run would write it.
        record: what decides the rows of this run.

    Raises:
        OutputError: names every file that cannot be resumed, and why.
    """
    saved: list[SavedRows] = []
    refused: dict[str, list[str]] = {}  # files by the reason
    for path, options in files.items():
        try:
            saved.append(check_resumed(path, options, record))
        except ResumeError as error:
            refused.setdefault(error.reason, []).append(str(error.place))
    if refused:
        raise OutputError(
            "; ".join(
                f"cannot resume {', '.join(places)}: {reason}" for reason, places in refused.items()
            )
        )
    return saved


def check_resumed(path: Path, options: WriterOptions, record: Mapping[str, Any]) -> SavedRows:
    """Read the rows of one file, and check that this run would make such rows.

    Args:
        path: of the file.
        options: how this run would write it.
        record: what decides the rows of this run.

    Raises:
        ResumeError: the rows were made with other settings, or nothing says with which.
    """
    saved = saved_rows(path)
    # a run that was cut off before it had a record has no rows either
    opened_only = not (saved.rows or saved.damage or manifest_path(path).exists())
    if not saved.size or opened_only:
        return saved
    before = earlier_record(path)
    saved.decides = "decision" in before["columns"]
    now = {**record, "columns": [*options.after(saved).layout.columns]}
    if saved.rows and saved.dialect is not None:  # which a spreadsheet may have changed
        before |= saved.dialect.record()
        now |= options.dialect.record()
    check_same(path, before, now)
    return saved


def saved_rows(path: Path) -> SavedRows:
    """Read which rows a result file has; a missing file has none.

    Raises:
        ResumeError: it is not a result file, or damaged elsewhere than at its end.
    """
    place = journal_path(path) if journal_path(path).exists() else path
    saved = SavedRows(utf8_only=format_of(path).utf8_only)
    found = format_of(place)
    if not place.exists() or found.read_identities is None:
        return saved
    with place.open("rb") as file:
        if found.find_dialect is not None:
            saved.dialect = found.find_dialect(file)
        try:
            collect_identities(saved, found.read_identities(file))
        except DamageError as error:
            saved.damage = str(error)
            first = 0 if found.has_header else 1
            check_end(file, saved, place, foreign=error.row == first)
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                place, f"it holds no results ({error}): replace it with --overwrite"
            ) from error
    saved.size = place.stat().st_size
    return saved.sorted()


def collect_identities(saved: SavedRows, identities: Identities) -> None:
    """Add rows up to the last, or up to the first that is not whole."""
    for identity, failed, end in identities:
        saved.add(identity)
        saved.errors += failed
        saved.end = end


def check_end(file: BinaryIO, saved: SavedRows, place: Path, *, foreign: bool) -> None:
    """Check that resuming cuts off only rows that the disk may not have had.

    Args:
        file: open for reading.
        saved: the rows before the damage.
        place: of the file.
        foreign: the damage is in the first line, as if another program had written the file.

    Raises:
        ResumeError: more rows would be lost, or the file of another program.
    """
    file.seek(saved.end)
    lost = sum(not line.startswith(b"\0") for line in file)
    if lost > (1 if foreign else ROWS):
        raise ResumeError(
            place, f"{saved.damage}, and more follows: fix it, or replace it with --overwrite"
        )
