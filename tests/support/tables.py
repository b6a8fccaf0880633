"""Parquet tables of images, as pyarrow and Hugging Face's datasets write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def images_below(folder: Path) -> list[Path]:
    """The images of a folder, in the order in which a search finds those of ``photos``."""
    return sorted(folder.rglob("*.*"), key=lambda path: (path.parent, int(path.stem[3:])))


def write_bytes(table: str, images: Sequence[Path], *, kind: Any = None, **options: Any) -> None:
    """Write a column of bytes, and the names of the folders as labels."""
    columns = {
        "id": list(range(len(images))),
        "picture": pa.array([path.read_bytes() for path in images], kind or pa.binary()),
        "label": [path.parent.name for path in images],
    }
    pq.write_table(pa.table(columns), table, **options)


def write_like_datasets(
    table: str, images: Sequence[Path], classes: Sequence[str], **options: Any
) -> None:
    """Write what ``datasets`` 5 writes: a struct of bytes and path, a ClassLabel in the schema."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    columns = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in images],
        "label": [classes.index(path.parent.name) for path in images],
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), table, **options)
