"""Parquet, for tables of millions of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_cli.records import Prediction
from resnet_cli.writers.options import Options, Write
from resnet_cli.writers.rows import Row, columns, flat

ROW_GROUP = 1000  # rows held in memory before they are written

ARROW_TYPES = {str: pa.string(), int: pa.int32(), float: pa.float64()}


@contextmanager
def parquet_writer(path: Path, options: Options) -> Iterator[Write]:
    """Write rows in groups to a new file."""
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in columns(options.topk).items()])
    rows: list[Row] = []
    with pq.ParquetWriter(path, schema) as file:

        def write_group() -> None:
            group = rows.copy()
            rows.clear()  # first, so that a signal in between does not double them
            file.write_table(pa.Table.from_pylist(group, schema))

        def write(prediction: Prediction) -> None:
            row = flat(prediction, options.topk)
            rows.append({name: as_utf8(value) for name, value in row.items()})
            if len(rows) == ROW_GROUP:
                write_group()

        try:
            yield write
        finally:
            write_group()


def as_utf8(value: object) -> object:
    r"""Parquet's text is UTF-8: bytes of a name that are none are spelt out as ``\xe9``."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
