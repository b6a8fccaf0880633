"""Files of detectors -> the boxes of each image: MegaDetector's and COCO's JSON, and tables."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from resnet_cli.errors import InputError
from resnet_cli.records import Detection
from resnet_cli.sources.truth import HEADERS, numbered_rows
from resnet_cli.text import EncodingError, read_text

LARGEST = 2 << 30  # bytes of a file of boxes, which is read whole

EXPECTED = (
    "give MegaDetector's JSON, COCO's results or annotations, or a .csv with the columns path, x, "
    "y, w, h"
)

TABLES = frozenset({".csv", ".tsv", ".txt"})


@dataclass(frozen=True, slots=True)
class FoundBoxes:
    """A box as a detector states it."""

    edges: tuple[float, float, float, float]  # left, top, width, height
    relative: bool  # in shares of the sides of the upright image; else in its pixels
    detection: Detection


@dataclass(slots=True)
class Boxed:
    """What a file says of one image."""

    boxes: list[FoundBoxes] = field(default_factory=list)
    size: tuple[int, int] | None = None  # width and height of the upright image, where stated
    failure: str = ""  # why the detector could not read it


BoxedImages = dict[str, Boxed]
"""What files say of each image, by its name there."""


class BoxError(ValueError):
    """Something in a file that is not as its format says."""


def read_boxes(files: Mapping[str, Path]) -> BoxedImages:
    """Read files of boxes; beside COCO's results stands the file of their images.

    Args:
        files: by the names that messages give them.

    Raises:
        InputError: a file that holds no boxes, or broken ones.
        OSError: a file cannot be opened.
    """
    images: BoxedImages = {}
    documents: dict[str, Any] = {}
    for name, file in files.items():
        with explained(name):
            if file.suffix.lower() in TABLES:
                add_table(images, file)
            else:
                documents[name] = load_box_json(file)
    coco = CocoNames()
    for name, document in documents.items():
        with explained(name):
            coco.learn(document)
    for name, document in documents.items():
        with explained(name):
            add_document(images, document, coco)
    return images


@contextmanager
def explained(file: str) -> Iterator[None]:
    """Turn what is wrong with a file into one line.

    Raises:
        InputError: names the file.
    """
    try:
        yield
    except (BoxError, EncodingError, csv.Error) as error:
        raise InputError(f"cannot read boxes from {file}: {error}") from error


def load_box_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        BoxError: it is too large, or none.
    """
    if file.stat().st_size > LARGEST:
        raise BoxError(f"it has over {LARGEST >> 30} GiB: split it")
    try:
        return json.loads(read_text(file, errors="surrogateescape"))
    except EncodingError:
        raise
    except (ValueError, RecursionError) as error:  # of numbers with thousands of digits as well
        raise BoxError(f"it is no JSON ({error}): {EXPECTED}") from error


def add_document(images: BoxedImages, document: Any, coco: "CocoNames") -> None:
    """Add the boxes of one JSON file.

    Raises:
        BoxError: it holds none, or broken ones.
    """
    if isinstance(document, list):
        add_coco(images, document, coco)
    elif not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise BoxError(f"it holds no boxes: {EXPECTED}")
    elif not is_coco(document):
        add_megadetector(images, document)
    elif not coco.has_results:  # beside results its annotations are the truth
        add_coco(images, as_list(document.get("annotations"), "annotations"), coco)


def is_coco(document: Mapping[str, Any]) -> bool:
    """Return True for images and annotations as COCO has them."""
    first = next(iter(document["images"]), None)
    return "annotations" in document or (isinstance(first, dict) and "file_name" in first)


def add_megadetector(images: BoxedImages, document: Mapping[str, Any]) -> None:
    """Add the boxes of MegaDetector's batch output; those in videos are left out.

    Raises:
        BoxError: it is broken.
    """
    labels = as_dict(document.get("detection_categories", {}), "detection_categories")
    for number, entry in enumerate(document["images"], start=1):
        place = f"image {number}"
        stated = as_dict(entry, place)
        boxed = images.setdefault(as_text(stated.get("file"), f"file of {place}"), Boxed())
        if stated.get("failure"):
            boxed.failure = str(stated["failure"])
        boxed.size = stated_size(stated)
        for each in as_list(stated.get("detections") or [], f"detections of {place}"):
            found = as_dict(each, f"a detection of {place}")
            if "frame_number" not in found:
                boxed.boxes.append(megadetector_box(found, labels, place))


def megadetector_box(found: Mapping[str, Any], labels: Mapping[str, Any], place: str) -> FoundBoxes:
    """Read one box of MegaDetector.

    Raises:
        BoxError: it is broken.
    """
    category = str(found.get("category", ""))
    detection = Detection(str(labels.get(category, category)), as_share(found.get("conf"), place))
    return FoundBoxes(as_edges(found.get("bbox"), place), relative=True, detection=detection)


def stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height, where an entry has both."""
    size = entry.get("width"), entry.get("height")
    width, height = (one if type(one) is int and one > 0 else 0 for one in size)
    return (width, height) if width and height else None


class CocoNames:
    """The names that COCO's files give to the numbers of images and categories."""

    def __init__(self) -> None:
        """Begin without names."""
        self.images: dict[Any, str] = {}
        self.categories: dict[Any, str] = {}
        self.has_results = False

    def learn(self, document: Any) -> None:
        """Learn the names in a file.

        Raises:
            BoxError: it is broken.
        """
        self.has_results |= isinstance(document, list)
        if not isinstance(document, dict) or not isinstance(document.get("images"), list):
            return
        if not is_coco(document):
            return
        for entry in document["images"]:
            image = as_dict(entry, "an image")
            self.images[as_key(image.get("id"))] = as_text(image.get("file_name"), "file_name")
        for entry in as_list(document.get("categories", []), "categories"):
            category = as_dict(entry, "a category")
            self.categories[as_key(category.get("id"))] = str(category.get("name", ""))

    def image(self, number: Any, place: str) -> str:
        """Return the name of an image.

        Raises:
            BoxError: none is known.
        """
        if (name := self.images.get(as_key(number))) is not None:
            return name
        if isinstance(number, str) and not self.images:
            return number  # some write the name itself
        raise BoxError(
            f"image_id {number!r} of {place} has no name: give the COCO file that lists its images "
            "as well, by another --boxes"
        )


def add_coco(images: BoxedImages, entries: Sequence[Any], coco: CocoNames) -> None:
    """Add the boxes of COCO's results or annotations; images without any have none.

    Raises:
        BoxError: they are broken.
    """
    for name in coco.images.values():
        images.setdefault(name, Boxed())
    for number, entry in enumerate(entries, start=1):
        place = f"box {number}"
        found = as_dict(entry, place)
        name = coco.image(found.get("image_id"), place)
        category = found.get("category_id", "")
        label = coco.categories.get(as_key(category), str(category))
        conf = as_share(found["score"], place) if "score" in found else None
        edges = as_edges(found.get("bbox"), place)
        box = FoundBoxes(edges, relative=False, detection=Detection(label, conf))
        images.setdefault(name, Boxed()).boxes.append(box)


# fmt: off
COLUMNS = {
    "path": HEADERS["path"],
    "x": ("x", "left", "xmin"), "y": ("y", "top", "ymin"),
    "w": ("w", "width"), "h": ("h", "height"),
    "label": ("detection_class", *HEADERS["label"]),
    "conf": ("conf", "confidence", "score", "detection_conf"),
}
# fmt: on
"""Accepted names of the columns of a table; the first that is present is used."""

OPTIONAL = frozenset({"label", "conf"})


def add_table(images: BoxedImages, file: Path) -> None:
    """Add the boxes of a table, in pixels of the upright image.

    Raises:
        BoxError: it is broken.
        csv.Error: it is no table.
    """
    rows = numbered_rows(read_text(file, errors="surrogateescape"))
    header = [name.strip().lower() for name in next(rows, (0, []))[1]]
    columns = {
        column: next((header.index(name) for name in names if name in header), None)
        for column, names in COLUMNS.items()
    }
    if missing := [name for name in columns if columns[name] is None and name not in OPTIONAL]:
        raise BoxError(f"it has no column {', '.join(missing)}: {EXPECTED}")
    for line, row in rows:
        cells = {
            column: row[at].strip() if at is not None and at < len(row) else ""
            for column, at in columns.items()
        }
        add_row(images, cells, f"line {line}")


def add_row(images: BoxedImages, cells: Mapping[str, str], place: str) -> None:
    """Add the box of one row; a row without numbers says that its image has none.

    Raises:
        BoxError: it is broken.
    """
    boxed = images.setdefault(as_text(cells["path"], f"the path of {place}"), Boxed())
    numbers = [cells[name] for name in ("x", "y", "w", "h")]
    if not any(numbers):
        return
    conf = as_share(parsed(cells["conf"], place), place) if cells["conf"] else None
    edges = as_edges([parsed(cell, place) for cell in numbers], place)
    boxed.boxes.append(FoundBoxes(edges, relative=False, detection=Detection(cells["label"], conf)))


def parsed(cell: str, place: str) -> float:
    """Read a number.

    Raises:
        BoxError: it is none.
    """
    try:
        return float(cell)
    except ValueError:
        raise BoxError(f"{cell!r} in {place} is no number") from None


def as_dict(value: Any, place: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        BoxError: it is none.
    """
    if not isinstance(value, dict):
        raise BoxError(f"{place} is no JSON object")
    return value


def as_list(value: Any, place: str) -> list[Any]:
    """Return a JSON list.

    Raises:
        BoxError: it is none.
    """
    if not isinstance(value, list):
        raise BoxError(f"{place}: no list")
    return value


def as_text(value: Any, place: str) -> str:
    """Return a text that is not empty.

    Raises:
        BoxError: it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise BoxError(f"{place}: no text")
    return value


def as_key(value: Any) -> Any:
    """Return what a number of COCO's is looked up by, which may be text in one file."""
    return str(value) if isinstance(value, int | str) else None


def as_share(value: Any, place: str) -> float:
    """Return a confidence.

    Raises:
        BoxError: it is none from 0 to 1.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise BoxError(f"the confidence of a box of {place} must be 0 to 1, got {short(value)}")
    return float(value)


def as_edges(value: Any, place: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height.

    Raises:
        BoxError: they are no four numbers, or a side is negative.
    """
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise BoxError(f"a box of {place} must be four numbers, got {short(value)}")
    left, top, width, height = map(float, value)
    if width < 0 or height < 0:
        raise BoxError(f"a box of {place} has a negative width or height, got {short(value)}")
    return left, top, width, height


def is_number(value: Any) -> bool:
    """Return True for a number of JSON that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)


def is_finite(value: float) -> bool:
    """Return True for what a float can hold."""
    try:
        return isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def short(value: Any) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
