"""Prediction -> what a report says of it."""

import json
import os
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL.Image import Image

from resnet_cli.records import Prediction
from resnet_cli.results.judge import Verdict
from resnet_cli.text import escape_unprintable

SIGNIFICANT = 6  # digits of a probability


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a report."""

    number: int  # in input order, from 0
    path: str
    href: str  # of the picture, seen from the report
    scores: tuple[tuple[int, float], ...]  # index and probability, best first
    milliseconds: tuple[float, float, float] | None  # decode, preprocess, forward
    label: str | None  # of the best class
    verdict: Verdict
    error: str | None

    @property
    def striking(self) -> bool:
        """Whether a person who looks for trouble wants to see it."""
        return self.error is not None or self.verdict.uncertain or self.verdict.right is False

    def encoded(self) -> bytes:
        """One object of JSON, that may stand anywhere in HTML; what is not known is left out."""
        shown = escape_unprintable(self.path)
        facts: dict[str, Any] = {
            "n": self.number,
            "path": shown,
            "raw": self.path if shown != self.path and is_copyable(self.path) else None,
            "href": self.href,
            "scores": self.scores,
            "ms": self.milliseconds and [round(ms, 2) for ms in self.milliseconds],
            "uncertain": self.verdict.uncertain or None,
            "truth": self.verdict.truth and escape_unprintable(self.verdict.truth),
            "right": self.verdict.right,
            "error": None if self.error is None else escape_unprintable(self.error),
        }
        return for_html({key: value for key, value in facts.items() if value is not None}).encode()


def entry_of(prediction: Prediction, verdict: Verdict, number: int, folder: Path) -> Entry:
    """What the report in a folder says of the next prediction."""
    return Entry(
        number=number,
        path=str(prediction.path),
        href=quote(os.fsencode(os.path.relpath(prediction.path, folder))),
        scores=tuple((score.index, round_probability(score.prob)) for score in prediction.scores),
        milliseconds=entry_times(prediction),
        label=prediction.label,
        verdict=verdict,
        error=prediction.error,
    )


def round_probability(prob: float) -> float:
    """As many digits as are worth their bytes."""
    return float(f"{prob:.{SIGNIFICANT}g}")


def entry_times(prediction: Prediction) -> tuple[float, float, float] | None:
    """Milliseconds of the three stages; None for a picture that did not go through all."""
    if prediction.forward_ms is None:
        return None
    return (prediction.decode_ms or 0.0, prediction.preprocess_ms or 0.0, prediction.forward_ms)


def is_copyable(text: str) -> bool:
    """Whether text can be copied as it is: no bytes of another encoding hide in it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def for_html(value: Any) -> str:
    """JSON in pure ASCII that cannot end, nor begin, any element of HTML."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


LARGEST = 12_000  # bytes of a picture
QUALITIES = (80, 70, 55, 40)  # of JPEG: WebP saves a third of the bytes and takes six times as long


def encode_thumbnail(thumbnail: Image | None) -> bytes:
    """Encode a picture at the best quality that fits; of no picture, nothing."""
    return b"" if thumbnail is None else b64encode(small_jpeg(thumbnail))


def small_jpeg(image: Image) -> bytes:
    """Lower the quality, then halve the sides, until the file is small enough."""
    for quality in QUALITIES:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= LARGEST:
            return file.getvalue()
    return small_jpeg(image.reduce(2))
