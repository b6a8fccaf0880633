"""Predictions to write, and the files that hold them."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer
from resnet_cli.results.options import WriterOptions

LABELS = ("ants", "bees", "wasps, and kin")


def ok(path: str = "photos/a.jpg", classes: int = 1, **changes: Any) -> Prediction:
    scores = tuple(
        Score(LABELS[rank], 2 - rank, prob)
        for rank, prob in zip(range(classes), (0.75, 0.2, 0.05), strict=False)
    )
    values: dict[str, Any] = {
        "scores": scores, "decode_ms": 1.25, "preprocess_ms": 0.5, "forward_ms": 12.345,
        "batch_size": 16,
    }  # fmt: skip
    return Prediction(Item(path), **(values | changes))


def broken(path: str = "photos/b.jpg", error: str = "truncated JPEG") -> Prediction:
    return Prediction(Item(path), error=error)


def labelled(label: str, path: str = "a.jpg") -> Prediction:
    return ok(path, scores=(Score(label, 0, 0.9),))


def write(path: Path, *predictions: Prediction, topk: int = 1, **options: Any) -> Path:
    with open_writer(path, WriterOptions(topk=topk, **options)) as write_row:
        for prediction in predictions:
            write_row(prediction)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def paths_in(path: Path) -> list[str]:
    """The paths of any result file, read by a library that did not write it."""
    match path.suffix:
        case ".csv":
            return [row["path"] for row in read_csv(path)]
        case ".jsonl":
            return [row["path"] for row in read_jsonl(path)]
        case ".json":
            return [row["path"] for row in json.loads(path.read_text(encoding="utf-8"))]
        case _:
            return pq.read_table(path)["path"].to_pylist()


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG"
