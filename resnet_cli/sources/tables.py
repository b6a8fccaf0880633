"""Parquet tables with a column of encoded images -> an item a row.

A row has the part ``row=17``, counted from 0 over the file. Listing reads the footer and the column
``label``; ``table_rows`` reads the images.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import repeat

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from resnet_cli.errors import InputError
from resnet_cli.records import Item, Stored
from resnet_cli.remote import redact_url
from resnet_cli.sources.inputs import Listing, Search, is_remote
from resnet_cli.sources.table_rows import (
    BYTES,
    FAILURES,
    RemoteError,
    StoredRow,
    explain_arrow,
    open_parts,
    open_table,
)

LABEL = "label"  # the column of the truth

RESULTS = frozenset({"path", "status", "label", "index", "prob"})
"""Columns of the results of ``predict``, which hold no images."""

ROW = re.compile(r"row=(\d+)")

REMEMBERED = 64  # files whose column is known

BITS = 8  # rows in a byte of a file; no table of images has more


class UnreadableTableError(InputError):
    """A file that is no Parquet table, or damaged."""


def list_items(given: str, search: Search) -> Listing:
    """List the rows of a Parquet file; one that cannot be read is an item that says why.

    Args:
        given: its path or URL.
        search: names the column of the images where there are several.

    Raises:
        InputError: it has no such column.
    """
    try:
        with opened_table(given) as table:
            name = name_table(given)
            column = image_column(name, table.schema_arrow, search.options.image_column)
            items = list(list_rows(given, table, column))
    except UnreadableTableError as error:
        items = [Item(name_table(given), content=str(error))]
    return Listing.of(items, parts=True)


def name_table(given: str) -> str:
    """Return the path of a table, or its URL without what is secret in it."""
    return redact_url(given) if is_remote(given) else given


def list_rows(given: str, table: pq.ParquetFile, column: str) -> Iterator[Item]:
    """Yield the items of an open table."""
    name, version = name_table(given), version_of_file(given)
    for row, label in enumerate(read_row_labels(table)):
        content = StoredRow(given, column, row, version)
        yield Item(name, f"row={row}", content=content, label=label, version=version)


def stored_row(path: str, part: str, column: str | None = None) -> Stored:
    """Return where the image of a row lies, for rows of saved results.

    Args:
        path: of the file.
        part: of the item, such as ``row=17``.
        column: of the images; None takes the only one.

    Raises:
        InputError: it is no Parquet file, has no such column, or the part is no row.
    """
    found = ROW.match(part)
    if not found:
        raise InputError(f"cannot find {part!r} in {path}: the parts of a table are row=0, row=1 …")
    version = version_of_file(path)
    return StoredRow(path, find_column(path, column, version), int(found[1]), version)


@lru_cache(REMEMBERED)
def find_column(path: str, wanted: str | None, _version: str) -> str:
    """Return the name of the column that holds images.

    Raises:
        InputError: it is no Parquet file, or has no such column.
    """
    try:
        with opened_table(path) as table:
            return image_column(path, table.schema_arrow, wanted)
    except UnreadableTableError as error:
        raise InputError(f"cannot read {path}: {error}") from error


@contextmanager
def opened_table(path: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to list what it holds.

    Raises:
        UnreadableTableError: says why it cannot be read.
    """
    try:
        with closing(open_parts(path)) as file:
            table = open_table(file)
            check_counts(table.metadata, file.seek(0, os.SEEK_END))
            yield table
    except RemoteError as error:
        raise UnreadableTableError(str(error)) from error
    except FAILURES as error:
        reason = f"is not a Parquet table, or is damaged: {explain_arrow(error)}"
        raise UnreadableTableError(reason) from error


def check_counts(metadata: pq.FileMetaData, size: int) -> None:
    """Refuse numbers of rows that no file of ``size`` bytes holds.

    Raises:
        ValueError: it states so many.
    """
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(counts, default=0) < 0 or not 0 <= sum(counts) == metadata.num_rows <= BITS * size:
        raise ValueError(f"it states {metadata.num_rows:,} rows in {size:,} bytes: it is damaged")


def version_of_file(path: str) -> str:
    """Return the modification time of a file, in nanoseconds; empty where there is none."""
    with suppress(OSError):
        return str(os.stat(path).st_mtime_ns)
    return ""


def image_column(path: str, schema: pa.Schema, wanted: str | None) -> str:
    """Return the name of the column that holds images.

    Args:
        path: of the file, for messages.
        schema: of the table.
        wanted: its name, if the user gave one.

    Raises:
        InputError: there is none of that name or kind, or there are several.
    """
    found = [field.name for field in schema if holds_bytes(field.type)]
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found[0]
    if set(schema.names) >= RESULTS:
        raise InputError(
            f"cannot classify {path}: it holds results of predict, not images: to score them: "
            f"evaluate --predictions {path}"
        )
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    if wanted is not None:
        raise InputError(
            f"cannot take images from the column {wanted} of {path}: "
            f"{'it holds no encoded images' if wanted in schema.names else 'there is none'}: "
            f"its columns are {columns}"
        )
    if found:
        raise InputError(
            f"cannot choose a column of {path}: {', '.join(found)} may hold images: name one with "
            "--image-column"
        )
    raise InputError(
        f"cannot find images in {path}: no column holds encoded images (bytes, or a struct of "
        f"bytes and path): its columns are {columns}"
    )


def holds_bytes(kind: pa.DataType) -> bool:
    """Return True for bytes, and for a struct with bytes in it."""
    if kinds.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        return names.count(BYTES) == 1 and is_binary(kind.field(BYTES).type)
    return is_binary(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Return True for bytes of any length."""
    return kinds.is_binary(kind) or kinds.is_large_binary(kind)


def read_row_labels(table: pq.ParquetFile) -> Iterator[str | int | None]:
    """Yield the label of each row: its name, its index, or None where it has none."""
    names = stated_class_names(table.schema_arrow)
    wanted = [field for field in table.schema_arrow if field.name == LABEL and is_label(field.type)]
    for group in range(table.metadata.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        found = read_group_labels(table, group) if len(wanted) == 1 else []
        labels = found if len(found) == count else repeat(None, count)
        yield from (name_label(label, names) for label in labels)


def read_group_labels(table: pq.ParquetFile, group: int) -> list[str | int | None]:
    """Return the labels of a row group; none where they are damaged."""
    try:
        column = table.read_row_group(group, columns=[LABEL], use_threads=False).column(0)
        labels: list[str | int | None] = column.to_pylist()
    except FAILURES:
        return []
    return labels


def is_label(kind: pa.DataType) -> bool:
    """Return True for whole numbers and for text."""
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return kinds.is_integer(kind) or kinds.is_string(kind) or kinds.is_large_string(kind)


def name_label(label: str | int | None, names: Sequence[str]) -> str | int | None:
    """Return the name of a label, if the table states names; None for -1, which is no label."""
    if not isinstance(label, int):
        return label or None
    if label < 0 or (names and label >= len(names)):
        return None
    return names[label] if names else label


def stated_class_names(schema: pa.Schema) -> Sequence[str]:
    """Return the names of the classes, which Hugging Face's datasets puts into the schema."""
    try:
        stated = json.loads((schema.metadata or {})[b"huggingface"])
        names = stated["info"]["features"][LABEL]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if fits else ()
