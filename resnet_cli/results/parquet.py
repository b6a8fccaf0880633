"""Parquet, for tables of millions of rows."""

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_cli.results.columns import Identities, Records, Row, as_utf8, flat_row, from_flat
from resnet_cli.results.json import jsonl_records
from resnet_cli.results.options import WriterOptions

ROW_GROUP = 10_000  # rows in memory at a time

ARROW_TYPES = {str: pa.string(), int: pa.int32(), float: pa.float64()}


def write_table(rows: BinaryIO, file: BinaryIO, options: WriterOptions) -> None:
    """Write lines of JSON as a table, a group of rows at a time."""
    layout = options.layout
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in layout.columns.items()])
    remaining = (spell_row(flat_row(prediction, layout)) for prediction, _ in jsonl_records(rows))
    with pq.ParquetWriter(file, schema) as table:
        for group in row_groups(remaining):
            table.write_table(pa.Table.from_pylist(group, schema))


def row_groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Cut rows into groups, of which there is one at least."""
    group = list(islice(rows, ROW_GROUP))
    yield group
    while group := list(islice(rows, ROW_GROUP)):
        yield group


def spell_row(row: Row) -> Row:
    """The row in text that Parquet can hold."""
    return {
        name: as_utf8(value) if isinstance(value, str) else value for name, value in row.items()
    }


def parquet_records(file: BinaryIO) -> Records:
    """Yield the rows of a Parquet file, a group in memory at a time."""
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                yield from_flat(row), 0


def parquet_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a Parquet file, of which no other column is read."""
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(columns=["path", "status"]):
            for path, status in zip(*(column.to_pylist() for column in batch), strict=True):
                yield path, status == "error", 0
