"""Classification metrics: confusion counts, precision and recall, intervals and calibration.

Each is computed from a confusion matrix, or folded over predictions one at a time.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random

import numpy as np
from numpy.typing import NDArray

from resnet_cli.records import Distribution

Logits = NDArray[np.float32]  # [N, classes], up to a constant an image
Indices = NDArray[np.int64]  # [N], of classes

Matrix = NDArray[np.int64]
"""Images [true class, predicted class]."""

Z = 1.959963984540054  # quantile of the normal distribution that leaves 2.5 % on each side

BINS = 15  # of equal width, as in Guo et al. 2017
EDGES = tuple(number / BINS for number in range(1, BINS))

SMALLEST = float(np.finfo(np.float32).tiny)
"""Lower limit of a probability in a logarithm: the loss of an image is at most 87."""

KEPT_VALUES = 1 << 24  # float32 log-probabilities kept for the temperature: 64 MiB
CHUNK_VALUES = 1 << 20  # float64 values of them processed at a time: 8 MiB
COOLEST, HOTTEST = 0.05, 20.0  # bounds of the search for a temperature


@dataclass(frozen=True, slots=True)
class Share:
    """A share of images with its 95 % confidence interval."""

    right: int
    images: int
    value: float | None  # right / images; None without images
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        return (
            f"{percentage(self.value)}  ({self.right:,} of {self.images:,}; "
            f"95 % interval {percentage(self.low)} to {percentage(self.high)})"
        )


def percentage(value: float | None) -> str:
    """Format a share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f} %"


def wilson_share(right: int, images: int) -> Share:
    """Compute a share with Wilson's score interval, which stays within 0 to 1 for few images.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    1927.
    """
    if not images:
        return Share(right, images, None, None, None)
    value = right / images
    scale = 1 + Z**2 / images
    middle = (value + Z**2 / (2 * images)) / scale
    half = Z / scale * sqrt(value * (1 - value) / images + Z**2 / (4 * images**2))
    return Share(right, images, value, max(0.0, middle - half), min(1.0, middle + half))


def mcnemar_test(gained: int, lost: int) -> float:
    """Compute the p-value of the difference between two classifiers, by McNemar's exact test.

    Args:
        gained: images that only the one classifies correctly.
        lost: images that only the other classifies correctly.

    Returns:
        Two-sided p of the binomial distribution, 0 to 1, for any counts.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Metrics of one class; None where the denominator is zero."""

    label: str
    index: int
    precision: float | None  # right / predicted
    recall: float | None  # right / support
    f1: float | None
    support: int  # images of this class
    predicted: int  # images predicted as this class
    right: int


@dataclass(frozen=True, slots=True)
class ClassMeans:
    """Macro averages over the classes that have images; a missing precision counts as 0."""

    classes: int
    precision: float
    recall: float  # also called balanced accuracy
    f1: float


@dataclass(frozen=True, slots=True)
class Confused:
    """Images of one class that were predicted as another."""

    truth: str
    label: str
    images: int
    share: float  # of the images of the true class


def class_rows(matrix: Matrix, names: Sequence[str]) -> tuple[ClassRow, ...]:
    """Compute the metrics of each class, in the order of the outputs."""
    support, predicted = matrix.sum(1).tolist(), matrix.sum(0).tolist()
    right = matrix.diagonal().tolist()
    return tuple(
        ClassRow(
            name, index, share_or_none(hit, said), share_or_none(hit, true),
            share_or_none(2 * hit, said + true), true, said, hit,
        )
        for index, (name, true, said, hit) in enumerate(
            zip(names, support, predicted, right, strict=True)
        )
    )  # fmt: skip


def share_or_none(part: int, whole: int) -> float | None:
    """Divide; return None where ``whole`` is zero."""
    return part / whole if whole else None


def mean_figures(rows: Sequence[ClassRow]) -> ClassMeans | None:
    """Average the metrics over the classes that have images; None if no class has any."""
    found = [row for row in rows if row.support]
    if not found:
        return None

    def mean(name: str) -> float:
        return sum(getattr(row, name) or 0.0 for row in found) / len(found)

    return ClassMeans(len(found), mean("precision"), mean("recall"), mean("f1"))


def most_confused(matrix: Matrix, names: Sequence[str], most: int) -> tuple[Confused, ...]:
    """List the pairs of classes with the most confusions; ties go to the larger share."""
    support = matrix.sum(1)
    truths, labels = np.nonzero(matrix - np.diag(matrix.diagonal()))
    counts = matrix[truths, labels]
    order = np.lexsort((labels, truths, -(counts / support[truths]), -counts))[:most]
    return tuple(
        Confused(names[t], names[p], int(matrix[t, p]), float(matrix[t, p] / support[t]))
        for t, p in zip(truths[order].tolist(), labels[order].tolist(), strict=True)
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose top probability is in one interval."""

    low: float  # included
    high: float  # excluded, except for 1
    images: int
    confidence: float | None  # mean top probability; None without images
    accuracy: float | None  # share of them that is right


@dataclass(frozen=True, slots=True)
class Temperature:
    """The temperature that minimises the loss on these images: logits are divided by it."""

    value: float
    at_bound: bool  # the minimum lies outside the range that was searched
    images: int  # used for the fit: all, or a random sample of very many
    loss_before: float
    loss_after: float
    ece_before: float
    ece_after: float


class Reliability:
    """Fold over top probabilities: confidence and accuracy of each bin."""

    def __init__(self) -> None:
        """Start with no image."""
        self.images = [0] * BINS
        self.right = [0] * BINS
        self.confidence = [0.0] * BINS

    def add(self, prob: float, *, right: bool) -> None:
        """Count one image."""
        place = bisect_right(EDGES, prob)
        self.images[place] += 1
        self.right[place] += right
        self.confidence[place] += prob

    def bins(self) -> Iterator[Bin]:
        """Yield all bins, the least confident first."""
        for place, count in enumerate(self.images):
            low, high = place / BINS, (place + 1) / BINS
            if count:
                means = self.confidence[place] / count, self.right[place] / count
                yield Bin(low, high, count, *means)
            else:
                yield Bin(low, high, 0, None, None)

    def error(self) -> float:
        """Compute the expected calibration error: mean |confidence - accuracy|, 0 to 1.

        Source: https://arxiv.org/abs/1706.04599, equation 3.
        """
        pairs = zip(self.confidence, self.right, strict=True)
        total = sum(self.images)
        return sum(abs(confidence - right) for confidence, right in pairs) / max(total, 1)


class LogProbs:
    """Log-probabilities of all images, or of a random sample of them where there are many.

    They equal the logits up to a constant per image, which a softmax cancels.
    """

    def __init__(self, classes: int) -> None:
        """Reserve room; memory is used only as images arrive."""
        self.room = max(1, KEPT_VALUES // classes)
        self.values: NDArray[np.float32] = np.empty((self.room, classes), dtype=np.float32)
        self.truths: NDArray[np.int64] = np.empty(self.room, dtype=np.int64)
        self.seen = 0
        self.random = Random(0)  # the same images give the same sample

    def add(self, distribution: Distribution, truth: int) -> None:
        """Keep an image, or let it replace a random one once the room is full."""
        place = self.seen if self.seen < self.room else self.random.randrange(self.seen + 1)
        self.seen += 1
        if place < self.room:
            np.log(np.maximum(distribution, SMALLEST), out=self.values[place])
            self.truths[place] = truth

    def temperature(self) -> Temperature | None:
        """Fit the temperature with the lowest loss; None without images."""
        images = min(self.seen, self.room)
        if not images:
            return None
        return fit_temperature(self.values[:images], self.truths[:images])


def fit_temperature(logits: Logits, truths: Indices) -> Temperature:
    """Find the temperature with the lowest mean negative log likelihood.

    The loss is convex in 1 / temperature, so the minimum is where its slope is zero.

    Args:
        logits: float32 [N, classes], up to a constant per image.
        truths: int64 [N], indices of the true classes.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    def slope(inverse: float) -> float:
        return sum(
            float((softmax(inverse * z, axis=1) * z).sum() - values_at(z, t).sum())
            for z, t in logit_chunks(logits, truths)
        )

    lowest, highest = 1 / HOTTEST, 1 / COOLEST
    if slope(lowest) >= 0:
        inverse, at_bound = lowest, True
    elif slope(highest) <= 0:
        inverse, at_bound = highest, True
    else:
        inverse, at_bound = float(brentq(slope, lowest, highest, xtol=1e-7)), False
    before, after = loss_and_error(logits, truths, 1.0), loss_and_error(logits, truths, inverse)
    return Temperature(1 / inverse, at_bound, len(logits), before[0], after[0], before[1], after[1])


def loss_and_error(logits: Logits, truths: Indices, inverse: float) -> tuple[float, float]:
    """Compute the mean loss and the calibration error of ``inverse * logits``."""
    from scipy.special import log_softmax

    loss, reliability = 0.0, Reliability()
    for z, t in logit_chunks(logits, truths):
        logs = log_softmax(inverse * z, axis=1)
        loss -= float(values_at(logs, t).sum())
        rights: Sequence[bool] = (logs.argmax(axis=1) == t).tolist()
        for prob, right in zip(np.exp(logs.max(axis=1)).tolist(), rights, strict=True):
            reliability.add(prob, right=right)
    return loss / len(logits), reliability.error()


def values_at(values: NDArray[np.float64], indices: Indices) -> NDArray[np.float64]:
    """Return the value at an index of each row [N, classes]."""
    return np.take_along_axis(values, indices[:, None], axis=1)[:, 0]


def logit_chunks(logits: Logits, truths: Indices) -> Iterator[tuple[NDArray[np.float64], Indices]]:
    """Yield logits and truths in chunks, as float64."""
    size = max(1, CHUNK_VALUES // logits.shape[1])
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        yield logits[part].astype(np.float64), truths[part]
