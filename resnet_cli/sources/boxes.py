"""Images and the boxes of a detector -> an item for each box, in whole pixels of its image."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import Image

from resnet_cli.errors import ImageError, InputError
from resnet_cli.images.files import describe_failure
from resnet_cli.images.pages import upright_size
from resnet_cli.records import Item, Pause, is_url
from resnet_cli.remote import fetch_file, redact_url
from resnet_cli.sources.box_files import Boxed, FoundBoxes, read_boxes
from resnet_cli.sources.inputs import FindOptions, is_remote
from resnet_cli.sources.pages import opened
from resnet_cli.sources.places import base_of, parts_below
from resnet_cli.text import amount, list_few

FARTHEST = 999_999_999  # pixels; what a part can say

PLACES = ("INPUT", "its own folder", "the current folder", "the root")
"""Where the paths in a file of boxes may start."""

Names = tuple[str, ...]
"""How an image would be called in a file of boxes, from each of the ``PLACES``."""


@dataclass
class BoxSource:
    """The boxes of files, for the images of a run.

    Attributes:
        inputs: as typed, whose folders the names in the files may start from.
        options: with the files, the least confidence and the margin.
        remarks: receives what is to be said, when all images are known.
        words: the files as messages name them.
        images: what the files say of each image, by its name there.
        taken: the names that an image had, and its path.
        counts: of images without a box, without an entry.
    """

    inputs: Sequence[str]
    options: FindOptions
    remarks: list[str]
    images: dict[str, Boxed] = field(init=False)
    taken: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Read the files.

        Raises:
            InputError: one of them holds no boxes.
        """
        files = {redact_url(given): fetch_box_file(given) for given in self.options.boxes}
        self.images = {normalize_name(name): boxed for name, boxed in read_boxes(files).items()}
        self.words = list_few(list(files))
        bases = [base for given in self.inputs if (base := base_of(given)) is not None]
        self.urls = [base for base in bases if is_url(base)]
        self.bases = [os.path.abspath(base) for base in bases if not is_url(base)]
        self.folders = [os.path.abspath(file.parent) for file in files.values()]
        self.here = [os.getcwd()]

    def expand(self, items: Sequence[Item]) -> list[Item]:
        """Return the boxes of images that are all known.

        Raises:
            InputError: the names in the files fit no image, or not one way alone.
        """
        place = self.choose_place(items)
        found = [box for item in items for box in self.boxes_of(item, (self.names(item)[place],))]
        self.finish()
        if not found:
            raise InputError(f"no boxes to classify: {'; '.join(self.remarks)}")
        return found

    def stream(self, items: Iterable[Item | Pause]) -> Iterator[Item | Pause]:
        """Yield the boxes of images as they come.

        Raises:
            InputError: the names in the files fit none of them, or several at once.
        """
        for item in items:
            if isinstance(item, Pause):
                yield item
            else:
                yield from self.boxes_of(item, self.names(item))
        self.finish()
        if not self.taken:
            raise self.no_match_error()

    def names(self, item: Item) -> Names:
        """Return how an image would be called from each of the ``PLACES``."""
        inside = f"#{item.part}" * bool(item.part)
        if is_url(item.path):
            name = normalize_name(inside_of(item, self.urls) + inside)
            return name, name, name, normalize_name(item.path + inside)
        path = os.path.abspath(item.path)
        starts = (self.bases, self.folders, self.here, ())
        return tuple(normalize_name(below(path, bases) + inside) for bases in starts)

    def choose_place(self, items: Sequence[Item]) -> int:
        """Return from which of the ``PLACES`` the names fit the most images.

        Raises:
            InputError: they fit none, or as many in another way.
        """
        ways = list(zip(*map(self.names, items), strict=True))
        counts = [sum(name in self.images for name in names) for names in ways]
        best = counts.index(max(counts))
        if not counts[best]:
            raise self.no_match_error(items)
        for other in range(best + 1, len(ways)):
            if counts[other] == counts[best] and ways[other] != ways[best]:
                raise InputError(
                    f"cannot tell which images the boxes in {self.words} are of: its paths fit "
                    f"{amount(counts[best], 'image')} from {PLACES[best]}, and as many from "
                    f"{PLACES[other]}: write the whole paths into it"
                )
        return best

    def no_match_error(self, items: Sequence[Item] = ()) -> InputError:
        """Build the error for files whose names fit no image."""
        named = amount(len(self.images), "image")
        example = next(iter(self.images), "")
        there = f", such as {example}" if example else ""
        here = (
            f"; INPUT has {amount(len(items), 'image')}, such as {items[0].path}" if items else ""
        )
        return InputError(
            f"cannot find the images of {self.words}: it names {named}{there}{here}: its paths "
            "have to be whole, or start from INPUT, from its own folder or from the current folder"
        )

    def boxes_of(self, item: Item, names: Iterable[str]) -> Iterator[Item]:
        """Yield the boxes of an image, or why the detector could not read it.

        Raises:
            InputError: its name was that of another image.
        """
        name = next((name for name in names if name in self.images), None)
        if name is None and isinstance(item.content, str):  # an archive that is cut off, say
            yield item
            return
        if name is None:
            self.counts["unlisted"] += 1
            return
        if self.taken.setdefault(name, item.path) != item.path:
            raise InputError(
                f"cannot tell which image {name} in {self.words} is: {self.taken[name]} or "
                f"{item.path}: write the whole paths into it"
            )
        boxed = self.images[name]
        if boxed.failure:
            yield replace(item, content=f"the detector could not read it: {boxed.failure}")
            return
        found = [box for box in boxed.boxes if self.is_sure(box)]
        self.counts["empty"] += not found
        yield from self.placed(item, boxed, found)

    def is_sure(self, box: FoundBoxes) -> bool:
        """Return True for a box of enough confidence, or of none that is stated."""
        conf = box.detection.conf
        return conf is None or conf >= self.options.min_box_confidence

    def placed(self, item: Item, boxed: Boxed, found: Sequence[FoundBoxes]) -> Iterator[Item]:
        """Yield an item for each box."""
        size = boxed.size
        if size is None and any(box.relative for box in found):
            try:
                size = size_of(item)
            except Exception as error:  # noqa: BLE001 - whatever it is, the image cannot be read
                why = str(error) if isinstance(error, ImageError) else describe_failure(error)
                yield replace(item, content=why)
                return
        for box in found:
            part = place_box(box, size, self.options.box_margin)
            joined = "&".join(filter(None, (item.part, part)))
            yield replace(item, part=joined, detection=box.detection)

    def finish(self) -> None:
        """Say what has no rows, once all images are known."""
        least, files = self.options.min_box_confidence, self.words
        if count := self.counts["empty"]:
            self.remarks.append(f"{amount(count, 'image')} without a box of at least {least:g}")
        if count := self.counts["unlisted"]:
            self.remarks.append(f"{amount(count, 'image')} that {files} does not name: left out")
        others = sum(
            bool(each.boxes) for name, each in self.images.items() if name not in self.taken
        )
        if others:
            self.remarks.append(f"{files}: boxes of {amount(others, 'image')} not among the inputs")


def fetch_box_file(given: str) -> Path:
    """Return the place of a file, which is downloaded to the cache if it is given by URL."""
    return fetch_file(given) if is_remote(given) else Path(given)


def normalize_name(name: str) -> str:
    """Return a name in one spelling: slashes forward, without detours, accents composed."""
    slashed = name.replace("\\", "/") if "/" not in name else name
    return normalize("NFC", slashed if is_url(slashed) else posixpath.normpath(slashed))


def below(path: str, bases: Iterable[str]) -> str:
    """Return a path as seen from the deepest of the folders it is in; else as it is."""
    inside = [base for base in bases if path.startswith(base.rstrip("/") + "/")]
    return os.path.relpath(path, max(inside, key=len)) if inside else path


def inside_of(item: Item, bases: Iterable[str]) -> str:
    """Return the name of an image in an archive, or below an INPUT that is a URL."""
    names = ("/".join(parts_below(item, base)) for base in bases or ("",))
    return next(filter(None, names), item.path)


def size_of(item: Item) -> tuple[int, int]:
    """Return width and height of an upright image; of a file only its header is read.

    Raises:
        ImageError: it has no pixels.
        Exception: what reading its header raises.
    """
    content = item.content
    if isinstance(content, str):
        raise ImageError(content)
    if isinstance(content, np.ndarray):
        return content.shape[1], content.shape[0]
    if isinstance(content, Image.Image):
        return content.size
    with opened(item) as file:
        return upright_size(file)


def place_box(box: FoundBoxes, size: tuple[int, int] | None, margin: float) -> str:
    """Return the part of an image that is a box, in whole pixels, within the image if it is known.

    Args:
        box: as the detector states it.
        size: width and height of the upright image.
        margin: added on each side, as a share of the box.
    """
    left, top, width, height = box.edges
    across, down = size if size and box.relative else (1, 1)
    sides = []
    for start, length, scale, most in (
        (left, width, across, size and size[0]),
        (top, height, down, size and size[1]),
    ):
        first, last = start - margin * length, start + (1 + margin) * length
        low, high = (min(max(edge * scale, 0), most or FARTHEST) for edge in (first, last))
        sides.append((round(low), round(high) - round(low)))
    (x, w), (y, h) = sides
    return f"xywh={x},{y},{w},{h}"
