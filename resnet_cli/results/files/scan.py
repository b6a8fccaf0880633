"""What an earlier run left: its whole rows, and the torn ones at the end that are redone."""

from pathlib import Path
from typing import BinaryIO

from resnet_cli.results.columns import DamageError, Identities, SavedRows
from resnet_cli.results.csv import csv_dialect
from resnet_cli.results.files.append import ROWS
from resnet_cli.results.files.disk import ResumeError
from resnet_cli.results.files.journal import journal_path
from resnet_cli.results.readers import IDENTITIES


def saved_rows(path: Path) -> SavedRows:
    """Read which rows a file of results holds; a file that is not there holds none.

    Raises:
        ResumeError: it is no file of results, or damaged elsewhere than at its end.
    """
    place = journal_path(path) if journal_path(path).exists() else path
    saved = SavedRows(spelt_out=path.suffix.lower() == ".parquet")
    if not place.exists():
        return saved
    with place.open("rb") as file:
        if path.suffix.lower() == ".csv":
            saved.dialect = csv_dialect(file)
        try:
            collect_identities(saved, IDENTITIES[place.suffix.lower()](file))
        except DamageError as error:
            saved.damage = str(error)
            check_end(file, saved, place, foreign=error.row == (place.suffix.lower() != ".csv"))
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                place, f"it holds no results ({error}): replace it with --overwrite"
            ) from error
    saved.size = place.stat().st_size
    return saved.sorted()


def collect_identities(saved: SavedRows, identities: Identities) -> None:
    """Note rows until the last, or the first that is not whole."""
    for path, failed, end in identities:
        saved.add(path)
        saved.errors += failed
        saved.end = end


def check_end(file: BinaryIO, saved: SavedRows, place: Path, *, foreign: bool) -> None:
    """Make sure that only rows are cut off which the disk may not have had.

    Args:
        file: open for reading.
        saved: the rows before.
        place: where the file is.
        foreign: its very beginning is damaged, where a table has its header.

    Raises:
        ResumeError: there are more of them, or a header of another table.
    """
    file.seek(saved.end)
    lost = sum(not line.startswith(b"\0") for line in file)
    if lost > (1 if foreign else ROWS):
        raise ResumeError(
            place, f"{saved.damage}, and more follows: fix it, or replace it with --overwrite"
        )
