"""Records that travel from an item to its row."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

WARNING = "warning: "  # prefix of the remark on an image that was read with a warning

UNCERTAIN = "uncertain"  # the decision if the best probability is under the threshold

Progress = Callable[[int, int | None], None]
"""Receives how many items are done so far, and how many there are; None while that is unknown."""

Pixels = NDArray[np.uint8]
"""Values of 8 bits: an image [H, W, C] or a batch [N, H, W, C], which is channels-last."""

Distribution = NDArray[np.float32]
"""Probabilities, 0 to 1, one a class."""

UNTIDY = re.compile(r"//|(?:^|/)\.(?:/|\Z)|(?<=[^/])/\Z|^\Z")
"""What ``Path`` would remove from a path, or add to it."""


def tidy_path(path: str) -> str:
    """Return ``str(Path(path))``, which is slow and mostly changes nothing; a URL stays."""
    if is_url(path) or (os.sep == "/" and not UNTIDY.search(path)):
        return path
    return str(Path(path))


URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Return True for what ``fsspec.open`` opens: ``s3://b/a.jpg``, ``zip://a.jpg::x.zip``."""
    return URL.match(path) is not None


class Stored(Protocol):
    """Where the bytes of an image lie, if it is no file of its own: in an archive, on a server.

    It is read by the worker that decodes it, perhaps in another process.
    """

    def read(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            ImageError: they cannot be read.
        """


Content = Image | NDArray[np.uint8] | bytes | str | Stored
"""An image without a file: loaded, as bands uint8 [H, W, bands], as the bytes of a file or as the
place where they lie; or, as text, the reason why it has no pixels."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an image, such as a page, for a decoder."""

    whole: Path | Content
    part: str  # as that of an item


BOX = re.compile(r"([^,]+),([^,]+),([^,]+),([^,]+)")
BOX_WORDS = r"\3×\4 at \1,\2"

PART_WORDS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "page": "page {}".format,
        "row": "row {}".format,
        "t": "frame at {} s".format,
        "xywh": lambda numbers: f"box {BOX.sub(BOX_WORDS, numbers)}",
    }
)
"""Kind of part: how it is said."""


def part_words(part: str) -> str:
    """Say a part in words: ``page 3``, ``frame at 2.5 s``, ``box 300×200 at 10,20``."""
    pairs = (one.partition("=") for one in part.split("&") if one)
    return ", ".join(PART_WORDS.get(kind, f"{kind} {{}}".format)(value) for kind, _, value in pairs)


BY_SOURCE = ("row=", "t=")
"""What of a part its source selects, so that the content of the item is that part already."""

Source = Path | Content | Part
"""What a decoder reads: a file, an image without a file, or a part of either."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector says of a box: its class, and how sure it is."""

    label: str = ""
    conf: float | None = None  # 0 to 1


@dataclass(frozen=True, slots=True)
class Item:
    """What a row is about: a whole image, or a part of one."""

    path: str  # opens from the folder where the run was started; the name of an image in memory
    part: str = ""  # what inside it, as a W3C media fragment; empty for a whole image
    truth: int | None = None  # index of its class, where that is known
    content: Content | None = field(default=None, compare=False, repr=False)  # instead of a file
    label: str | int | None = None  # its class as its source states it: a name, or an index
    size: int | None = None  # bytes, where its source states them
    version: str = ""  # of its bytes, as its source states it: an ETag, a time
    detection: Detection | None = None  # of the box that is its part

    @property
    def identity(self) -> tuple[str, str]:
        """Return what tells it from the other items of a run."""
        return self.path, self.part

    @property
    def source(self) -> Source:
        """Return what a decoder reads."""
        whole = Path(self.path) if self.content is None else self.content
        part = "&".join(one for one in self.part.split("&") if not one.startswith(BY_SOURCE))
        return Part(whole, part) if part else whole

    @property
    def words(self) -> str:
        """Return what a person calls it: its path and, in words, its part."""
        return ", ".join(filter(None, (tidy_path(self.path), part_words(self.part))))

    def without_content(self) -> "Item":
        """Return the item as its row keeps it, which must not hold pixels in memory."""
        return self if self.content is None else replace(self, content=None)


class Pause:
    """What a stream yields while no item comes, so that those before it need not wait for more."""


PAUSE = Pause()


@dataclass(frozen=True, slots=True)
class Score:
    """One class of one image."""

    label: str
    index: int  # of the class among the outputs of the network
    prob: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One item after decoding: the times it took, or why it could not be read."""

    item: Item
    decode_ms: float | None = None
    preprocess_ms: float | None = None
    error: str | None = None
    thumbnail: Image | None = None
    warning: str | None = None  # of an image that was read: what is unusual about it


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring inputs, readable or not, and the pixels of the readable ones."""

    samples: tuple[Sample, ...]
    pixels: Pixels  # [N, H, W, C], N = the samples without error
    warm_up: bool  # the first batch of its worker, whose times tell little


@dataclass(frozen=True, slots=True)
class Prediction:
    """The row of one item."""

    item: Item
    scores: tuple[Score, ...] = ()  # best first; none for an image that could not be read
    decode_ms: float | None = None  # measured for this image
    preprocess_ms: float | None = None  # measured for this image
    forward_ms: float | None = None  # time of its batch over batch_size
    batch_size: int | None = None  # images that went through the network together
    error: str | None = None
    decision: str | None = None  # the label, or ``uncertain``; None where nothing was to decide
    warning: str | None = None  # of an image that was read: what is unusual about it
    warm_up: bool = False
    thumbnail: Image | None = None  # only when asked for
    # [classes] by index, only when asked for
    distribution: Distribution | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """Return the path of the image, which opens from where the run was started.

        A URL is not for ``Path``, which makes one slash of two: take ``item.path``.
        """
        return Path(self.item.path)

    @property
    def part(self) -> str:
        """Return what inside the image the row is about; empty for a whole image."""
        return self.item.part

    @property
    def status(self) -> str:
        """Return ``ok`` or ``error``."""
        return "error" if self.error is not None else "ok"

    @property
    def remark(self) -> str | None:
        """Return the column ``error``: the error, or the warning of a row that is ``ok``."""
        return self.error if self.warning is None else f"{WARNING}{self.warning}"

    @property
    def label(self) -> str | None:
        """Return the label of the best class."""
        return self.scores[0].label if self.scores else None

    @property
    def index(self) -> int | None:
        """Return the index of the best class."""
        return self.scores[0].index if self.scores else None

    @property
    def prob(self) -> float | None:
        """Return the probability of the best class, 0 to 1."""
        return self.scores[0].prob if self.scores else None

    @property
    def uncertain(self) -> bool:
        """Return True if the best probability is under the threshold of the run."""
        return self.decision == UNCERTAIN

    @property
    def total_ms(self) -> float:
        """Return the milliseconds of the three stages together."""
        return sum(ms or 0.0 for ms in (self.decode_ms, self.preprocess_ms, self.forward_ms))

    def best(self, topk: int) -> "Prediction":
        """Return a copy with at most ``topk`` classes."""
        return self if len(self.scores) <= topk else replace(self, scores=self.scores[:topk])


def decide_label(scores: Sequence[Score], threshold: float | None) -> str | None:
    """Return the label of the best class, or ``uncertain`` where its probability is too low.

    Args:
        scores: of one image, best first; none where it could not be read.
        threshold: the lowest probability that decides; None decides nothing.
    """
    if threshold is None or not scores:
        return None
    return UNCERTAIN if scores[0].prob < threshold else scores[0].label
