"""What a report says of each image, and the sample of images that it holds."""

import json
import os
import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import IO, Any, NamedTuple
from urllib.parse import quote

from PIL.Image import Image

from resnet_cli.records import Item, Prediction, is_url, part_words, tidy_path
from resnet_cli.results.options import Verdict
from resnet_cli.text import escape_unprintable

WEB = re.compile("https?://", re.IGNORECASE)  # what a browser opens

SIGNIFICANT = 6  # digits of a probability


@dataclass(frozen=True, slots=True)
class Entry:
    """What a report says of one image."""

    number: int  # in input order, from 0
    path: str
    part: str  # of the image at the path, in words
    href: str | None  # of its file, relative to the report, or on the web
    scores: tuple[tuple[int, float], ...]  # index and probability, best first
    milliseconds: tuple[float, float, float] | None  # decode, preprocess, forward
    label: str | None  # of the best class
    verdict: Verdict
    error: str | None

    @property
    def striking(self) -> bool:
        """True for errors, uncertain and wrong images, which a report shows first."""
        return self.error is not None or self.verdict.uncertain or self.verdict.right is False

    def encoded(self) -> bytes:
        """Return it as a JSON object that may stand anywhere in HTML, without unknown values."""
        shown = escape_unprintable(self.path)
        facts: dict[str, Any] = {
            "n": self.number,
            "path": shown,
            "raw": self.path if shown != self.path and is_copyable(self.path) else None,
            "part": escape_unprintable(self.part) or None,
            "href": self.href,
            "scores": self.scores,
            "ms": self.milliseconds and [round(ms, 2) for ms in self.milliseconds],
            "uncertain": self.verdict.uncertain or None,
            "truth": self.verdict.truth and escape_unprintable(self.verdict.truth),
            "right": self.verdict.right,
            "error": None if self.error is None else escape_unprintable(self.error),
        }
        return encode_for_html(
            {key: value for key, value in facts.items() if value is not None}
        ).encode()


def build_entry(prediction: Prediction, verdict: Verdict, number: int, folder: Path) -> Entry:
    """Build the entry of a prediction.

    Args:
        prediction: with the classes to show.
        verdict: on it.
        number: of the image in input order, from 0.
        folder: of the report.
    """
    return Entry(
        number=number,
        path=tidy_path(prediction.item.path),
        part=describe_part(prediction.item),
        href=link_to(prediction.item.path, folder),
        scores=tuple((score.index, round_probability(score.prob)) for score in prediction.scores),
        milliseconds=stage_times(prediction),
        label=prediction.label,
        verdict=verdict,
        error=prediction.error,
    )


def describe_part(item: Item) -> str:
    """Say a part in words, and what a detector said of it."""
    if item.detection is None:
        return part_words(item.part)
    conf = item.detection.conf
    words = (item.detection.label, "" if conf is None else f"{conf:.2f}")
    return f"{part_words(item.part)}: {' '.join(filter(None, words))}".removesuffix(": ")


def link_to(path: str, folder: Path) -> str | None:
    """Return a link to an image, or to the archive that it is in; None where no browser opens it.

    Args:
        path: of the image.
        folder: of the report.
    """
    place = path.rpartition("::")[2] if is_url(path) else path
    if not is_url(place):
        return quote(os.fsencode(os.path.relpath(place, folder)))
    return place if WEB.match(place) else None


def round_probability(prob: float) -> float:
    """Round a probability to the digits that are worth their bytes."""
    return float(f"{prob:.{SIGNIFICANT}g}")


def stage_times(prediction: Prediction) -> tuple[float, float, float] | None:
    """Return the milliseconds of the three stages, or None for an image that did not pass all."""
    if prediction.forward_ms is None:
        return None
    return (prediction.decode_ms or 0.0, prediction.preprocess_ms or 0.0, prediction.forward_ms)


def is_copyable(text: str) -> bool:
    """Return True if text can be copied: it has no bytes of another encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def encode_for_html(value: Any) -> str:
    """Return a value as ASCII JSON that cannot begin or end an element of HTML."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


LARGEST = 12_000  # bytes of a thumbnail
QUALITIES = (80, 70, 55, 40)  # of JPEG: WebP saves a third of the bytes and takes six times as long


def encode_thumbnail(thumbnail: Image | None) -> bytes:
    """Encode a thumbnail at the best quality that fits; no thumbnail gives no bytes."""
    return b"" if thumbnail is None else b64encode(small_jpeg(thumbnail))


def small_jpeg(image: Image) -> bytes:
    """Encode as JPEG; lower the quality, then halve the sides, until it is small enough."""
    for quality in QUALITIES:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= LARGEST:
            return file.getvalue()
    return small_jpeg(image.reduce(2))


SEED = 0  # the same run gives the same report


class Place(NamedTuple):
    """The bytes of an entry in the spool: its row, then its thumbnail."""

    begin: int
    middle: int
    end: int


class Reservoir:
    """A uniform sample of a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int, random: Random) -> None:
        self.size = size
        self.random = random
        self.seen = 0
        self.kept: list[Place] = []
        self.slot: int | None = None  # of the next item

    def wants(self) -> bool:
        """Return True if the next item of the stream belongs to the sample: then call ``put``."""
        self.seen += 1
        slot = len(self.kept) if self.seen <= self.size else self.random.randrange(self.seen)
        self.slot = slot if slot < self.size else None
        return self.slot is not None

    def put(self, place: Place) -> None:
        """Add an item, or replace an earlier one if the sample is full."""
        self.kept[self.slot : (self.slot or 0) + 1] = [place]


class ReportSample:
    """Up to ``limit`` images of a run, whose rows and thumbnails are kept in a file.

    Errors, uncertain and wrong images take up to half of the places, or more if the others leave
    some; of both kinds it is a uniform sample.
    """

    def __init__(self, spool: IO[bytes], limit: int) -> None:
        random = Random(SEED)
        self.spool = spool
        self.limit = limit
        self.random = random
        self.striking = Reservoir(limit, random)
        self.others = Reservoir(limit, random)
        self.next = self.others

    def wants(self, *, striking: bool) -> bool:
        """Return True if the next image may be in the report: then call ``add``."""
        self.next = self.striking if striking else self.others
        return self.next.wants()

    def add(self, row: bytes, thumbnail: bytes) -> None:
        """Keep the row and the thumbnail of an image."""
        begin = self.spool.tell()
        self.spool.write(row)
        self.spool.write(thumbnail)
        middle = begin + len(row)
        self.next.put(Place(begin, middle, middle + len(thumbnail)))

    def places(self) -> list[Place]:
        """Return the places of the images in the report, in input order."""
        room = max(self.limit // 2, self.limit - len(self.others.kept))
        striking = self.choose(self.striking, room)
        return sorted(striking + self.choose(self.others, self.limit - len(striking)))

    def choose(self, reservoir: Reservoir, room: int) -> list[Place]:
        """Return a uniform sample of ``room`` places."""
        if len(reservoir.kept) <= room:
            return reservoir.kept
        return self.random.sample(reservoir.kept, room)

    def read(self, begin: int, end: int) -> str:
        """Read a row, or a thumbnail."""
        self.spool.seek(begin)
        return self.spool.read(end - begin).decode("ascii")


BINS = 20  # of the histogram of the best probability, from 0 to 1


@dataclass(slots=True)
class Counts:
    """Counts over all images of a run."""

    images: int = 0
    errors: int = 0
    uncertain: int = 0
    right: int = 0
    wrong: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, entry: Entry) -> None:
        """Count one image."""
        self.images += 1
        self.errors += entry.error is not None
        self.uncertain += entry.verdict.uncertain
        self.right += entry.verdict.right is True
        self.wrong += entry.verdict.right is False
        if entry.label is not None:
            self.labels[entry.label] += 1
            self.histogram[min(BINS - 1, int(BINS * entry.scores[0][1]))] += 1
