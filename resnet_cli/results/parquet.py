"""Parquet, for tables of millions of rows."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_cli.results.columns import (
    Cell,
    Identities,
    Kind,
    Row,
    as_utf8,
    flat_cells,
    nest_row,
    row_identity,
)
from resnet_cli.results.json import read_jsonl
from resnet_cli.results.options import WriterOptions

T = TypeVar("T")

ROW_GROUP = 10_000  # rows in memory at a time

ARROW_TYPES: dict[Kind, Any] = {str: pa.string(), int: pa.int32(), float: pa.float64()}


def write_table(journal: BinaryIO, file: BinaryIO, options: WriterOptions) -> None:
    """Write the rows of a journal as a table, a group of rows at a time."""
    layout = options.layout
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in layout.columns.items()])
    rows = read_jsonl(journal, lambda row: list(map(escape_cell, flat_cells(row, layout))))
    with pq.ParquetWriter(file, schema) as table:
        for group in row_groups(rows):
            columns = zip(*group, strict=True) if group else ([] for _ in schema)
            arrays = [
                pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
            ]
            table.write_table(pa.Table.from_arrays(arrays, schema=schema))


def row_groups(rows: Iterator[list[Cell]]) -> Iterator[list[list[Cell]]]:
    """Split rows into groups; there is at least one, which may be empty."""
    group = list(islice(rows, ROW_GROUP))
    yield group
    while group := list(islice(rows, ROW_GROUP)):
        yield group


def escape_cell(cell: Cell) -> Cell:
    """Return a cell whose text, if any, is UTF-8."""
    return as_utf8(cell) if isinstance(cell, str) else cell


def read_parquet(file: BinaryIO, convert: Callable[[Row], T]) -> Iterator[T]:
    """Yield what ``convert`` makes of each row of a Parquet file, a group in memory at a time."""
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches():
            for cells in batch.to_pylist():
                yield convert(nest_row(cells))


def parquet_identities(file: BinaryIO) -> Identities:
    """Yield which items have rows in a Parquet file, without reading its other columns."""
    with pq.ParquetFile(file) as table:
        wanted = [name for name in ("path", "part", "status") if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                yield row_identity(row), row["status"] == "error", 0
