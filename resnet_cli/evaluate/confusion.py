"""Which class was taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
"""Images [true class, predicted class]."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """How one class fares; None where there is nothing to divide by."""

    label: str
    index: int
    precision: float | None  # of the images predicted as this class, the share that is
    recall: float | None  # of the images of this class, the share that was found
    f1: float | None
    support: int  # images of this class
    predicted: int  # images predicted as this class
    right: int


@dataclass(frozen=True, slots=True)
class ClassMeans:
    """Plain means over the classes that have images; a precision of none counts 0."""

    classes: int
    precision: float
    recall: float  # also called balanced accuracy
    f1: float


@dataclass(frozen=True, slots=True)
class Confused:
    """Images of one class that were taken for another."""

    truth: str
    label: str
    images: int
    share: float  # of the images of the true class


def class_rows(matrix: Matrix, names: Sequence[str]) -> tuple[ClassRow, ...]:
    """A row for each class, in the order of the outputs."""
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
    """A share; None of nothing."""
    return part / whole if whole else None


def mean_figures(rows: Sequence[ClassRow]) -> ClassMeans | None:
    """Means over the classes that have images; None where none has."""
    found = [row for row in rows if row.support]
    if not found:
        return None

    def mean(name: str) -> float:
        return sum(getattr(row, name) or 0.0 for row in found) / len(found)

    return ClassMeans(len(found), mean("precision"), mean("recall"), mean("f1"))


def most_confused(matrix: Matrix, names: Sequence[str], most: int) -> tuple[Confused, ...]:
    """The pairs with the most images, of equal ones those with the larger share first."""
    support = matrix.sum(1)
    truths, labels = np.nonzero(matrix - np.diag(matrix.diagonal()))
    counts = matrix[truths, labels]
    order = np.lexsort((labels, truths, -(counts / support[truths]), -counts))[:most]
    return tuple(
        Confused(names[t], names[p], int(matrix[t, p]), float(matrix[t, p] / support[t]))
        for t, p in zip(truths[order].tolist(), labels[order].tolist(), strict=True)
    )


Z = 1.959963984540054  # quantile of the normal distribution that leaves 2.5 % on each side


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, and the 95 % interval of the share that a larger sample would show."""

    right: int
    images: int
    value: float | None  # None of no images
    low: float | None
    high: float | None


def wilson_share(right: int, images: int) -> Share:
    """A share with Wilson's score interval, which keeps within 0 to 1 and suits few images.

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
    """Probability that chance alone parts two classifiers so far, by McNemar's exact test.

    Args:
        gained: images that only the one has right.
        lost: images that only the other has right.

    Returns:
        Two-sided p of the binomial distribution, 0 to 1, for any counts.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
