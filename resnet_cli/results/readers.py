"""Result files read back as the predictions that were written into them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from resnet_cli.errors import InputError
from resnet_cli.records import Prediction
from resnet_cli.results.columns import Identities, Records
from resnet_cli.results.csv import csv_identities, csv_records
from resnet_cli.results.json import json_identities, json_records, jsonl_identities, jsonl_records


def read_results(path: Path) -> Iterator[Prediction]:
    """Read a file of results as a stream, in its order.

    What a file does not hold is left out: ``warm_up``, thumbnails.

    Raises:
        InputError: no such format, or a row that is none.
        OSError: a file that cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"cannot read results from {path}: the suffix must be one of {', '.join(READERS)}"
        )
    with path.open("rb") as file:
        try:
            for prediction, _ in reader(file):
                yield prediction
        except (ValueError, KeyError, TypeError) as error:  # of pyarrow too: ArrowInvalid
            raise InputError(
                f"cannot read results from {path}: {error}: a file that predict wrote, with its "
                "header; predict --resume repairs one that was cut off"
            ) from error


def late_parquet_records(file: BinaryIO) -> Records:
    """Yield the rows of a Parquet file; the library behind it is imported when it is used."""
    from resnet_cli.results import parquet

    return parquet.parquet_records(file)


def late_parquet_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a Parquet file."""
    from resnet_cli.results import parquet

    return parquet.parquet_identities(file)


READERS: dict[str, Callable[[BinaryIO], Records]] = {
    ".csv": csv_records,
    ".jsonl": jsonl_records,
    ".json": json_records,
    ".parquet": late_parquet_records,
}

IDENTITIES: dict[str, Callable[[BinaryIO], Identities]] = {
    ".csv": csv_identities,
    ".jsonl": jsonl_identities,
    ".json": json_identities,
    ".parquet": late_parquet_identities,
}
"""What a run that resumes has to know of each row, which is read in a fraction of the time."""
