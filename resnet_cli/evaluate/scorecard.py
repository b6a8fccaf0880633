"""Scorecard: a fold over predictions and true classes, in bounded memory -> Evaluation."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from heapq import heappush, heappushpop
from math import log
from typing import Any

import numpy as np

from resnet_cli.evaluate.metrics import (
    SMALLEST,
    Bin,
    ClassMeans,
    ClassRow,
    Confused,
    LogProbs,
    Matrix,
    Reliability,
    Share,
    Temperature,
    class_rows,
    mean_figures,
    most_confused,
    wilson_share,
)
from resnet_cli.evaluate.order import Order, find_order
from resnet_cli.records import Prediction, tidy_path
from resnet_cli.text import amount

MOST = 20  # confused pairs and confident mistakes listed, at most
TOP = 5  # of top-5 accuracy


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that was predicted as another class than its own."""

    path: str
    part: str  # of the image at the path; empty for a whole one
    truth: str
    label: str
    prob: float  # of the label
    truth_prob: float | None  # of the true class; None where the rows do not hold it


@dataclass(frozen=True, slots=True)
class Kept:
    """The images whose top probability reaches the threshold."""

    threshold: float
    images: Share  # of all
    top1: Share  # of those


@dataclass(frozen=True, slots=True)
class Subset:
    """Accuracy when only the classes that have images can be predicted."""

    classes: int  # that have images
    outputs: int  # of the network
    top1: Share

    def __str__(self) -> str:
        return f"the {self.classes:,} of {self.outputs:,} classes that have images"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a checkpoint on labelled images; None where the data cannot tell."""

    images: int  # scored
    errors: int  # could not be read
    top1: Share
    top5: Share | None  # with more than five classes
    subset: Subset | None  # if some classes, but at least two, have images
    loss: float | None  # mean negative log likelihood, in nats
    means: ClassMeans | None
    ece: float | None  # expected calibration error, 15 bins
    temperature: Temperature | None
    kept: Kept | None  # with a threshold
    order: Order | None  # an order of the class names that scores far better
    classes: tuple[ClassRow, ...]
    confused: tuple[Confused, ...]  # most images first
    mistakes: tuple[Mistake, ...]  # the most confident, in descending order
    bins: tuple[Bin, ...]
    matrix: Matrix

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy, 0 to 1; None without images."""
        return self.top1.value

    def record(self) -> dict[str, Any]:
        """Return every metric as plain data; the confusion matrix has a file of its own."""
        record = asdict(self)
        del record["matrix"]
        return record


def describe_mistake(prediction: Prediction, truth: int, names: Sequence[str]) -> Mistake:
    """Describe a wrong prediction."""
    best = prediction.scores[0]
    kept = (score.prob for score in prediction.scores if score.index == truth)
    whole = prediction.distribution
    return Mistake(
        tidy_path(prediction.item.path),
        prediction.part,
        names[truth],
        names[best.index],  # rows saved by earlier versions hold ``uncertain`` as the label
        best.prob,
        next(kept, None if whole is None else float(f"{whole[truth]:.8g}")),
    )


def best_among(prediction: Prediction, classes: Collection[int]) -> int | None:
    """Return the most probable of some classes; None where the row does not hold it."""
    kept = (score.index for score in prediction.scores if score.index in classes)
    whole = prediction.distribution
    if (best := next(kept, None)) is not None or whole is None or not classes:
        return best
    return max(classes, key=lambda index: whole[index])


def empty_matrix(size: int) -> Matrix:
    """Return the confusion matrix of no images."""
    return np.zeros((size, size), dtype=np.int64)


class Scorecard:
    """A fold over predictions: counts of the images so far, in bounded memory."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        threshold: float | None = None,
        present: Collection[int] = (),
        multi_label: bool = False,
    ) -> None:
        """Start with no image.

        Args:
            names: class names, one per output.
            threshold: top probability, 0 to 1, below which an image is not kept; None keeps all.
            present: the classes that have images, if known.
            multi_label: each probability stands alone. One true class is known and the others are
                unknown rather than false, so there is no loss and no calibration.
        """
        self.names, self.multi_label, self.threshold = names, multi_label, threshold
        self.present = frozenset(present)
        self.in_subset = self.right_in_subset = 0
        size = len(names)
        # alternating in each class, so that one half can validate what the other suggests
        self.halves: tuple[Matrix, Matrix] = empty_matrix(size), empty_matrix(size)
        self.seen = [0] * size
        self.images = self.errors = self.in_top = self.ranked = 0
        self.kept = self.kept_right = 0
        self.loss, self.losses = 0.0, 0
        self.reliability = Reliability()
        self.log_probs = LogProbs(size)
        self.mistakes: list[tuple[float, int, Mistake]] = []  # a heap, least confident first

    def add(self, prediction: Prediction, truth: int) -> None:
        """Count one image whose true class is ``truth``."""
        if prediction.error is not None:
            self.errors += 1
            return
        best = prediction.scores[0]
        right = best.index == truth
        self.halves[self.seen[truth] % 2][truth, best.index] += 1
        self.seen[truth] += 1
        self.images += 1
        self.add_ranks(prediction, truth)
        self.reliability.add(best.prob, right=right)
        if self.threshold is None or best.prob >= self.threshold:
            self.kept += 1
            self.kept_right += right
        if prediction.distribution is not None:
            self.loss -= log(max(float(prediction.distribution[truth]), SMALLEST))
            self.losses += 1
            self.log_probs.add(prediction.distribution, truth)
        if not right:
            self.remember(describe_mistake(prediction, truth, self.names))

    def add_ranks(self, prediction: Prediction, truth: int) -> None:
        """Count an image for top-5, and for accuracy among the classes that have images."""
        if len(prediction.scores) >= min(TOP, len(self.names)):
            self.ranked += 1
            self.in_top += any(score.index == truth for score in prediction.scores[:TOP])
        if (among := best_among(prediction, self.present)) is not None:
            self.in_subset += 1
            self.right_in_subset += among == truth

    def remember(self, mistake: Mistake) -> None:
        """Keep the most confident mistakes; ties go to those seen first."""
        entry = mistake.prob, -self.images, mistake
        if len(self.mistakes) < MOST:
            heappush(self.mistakes, entry)
        else:
            heappushpop(self.mistakes, entry)

    def kept_share(self) -> Kept | None:
        """Count the images that reach the threshold, and how many of them are right."""
        if not self.threshold:
            return None
        return Kept(
            self.threshold,
            wilson_share(self.kept, self.images),
            wilson_share(self.kept_right, self.kept),
        )

    def top1(self) -> Share:
        """Compute top-1 accuracy so far."""
        return wilson_share(sum(int(half.trace()) for half in self.halves), self.images)

    def summary(self) -> str:
        """Describe accuracy so far in one line."""
        line = f"top-1 {self.top1()} over {amount(len(self.names), 'class', 'classes')}"
        subset = self.subset()
        return line if subset is None else f"{line}; {subset.top1} among {subset}"

    def subset(self) -> Subset | None:
        """Compute accuracy among the classes that have images, if they are a proper subset."""
        present, outputs = len(self.present), len(self.names)
        if not 1 < present < outputs or self.in_subset < self.images:
            return None
        return Subset(present, outputs, wilson_share(self.right_in_subset, self.images))

    def evaluation(self) -> Evaluation:
        """Compute every metric."""
        matrix = self.halves[0] + self.halves[1]
        rows = class_rows(matrix, self.names)
        complete = self.images > 0 and self.losses == self.images and not self.multi_label
        ranked = len(self.names) > TOP and self.ranked == self.images
        return Evaluation(
            images=self.images,
            errors=self.errors,
            top1=self.top1(),
            top5=wilson_share(self.in_top, self.images) if ranked else None,
            subset=self.subset(),
            loss=self.loss / self.images if complete else None,
            means=mean_figures(rows),
            ece=self.reliability.error() if self.images and not self.multi_label else None,
            temperature=self.log_probs.temperature() if complete else None,
            kept=self.kept_share(),
            order=find_order(self.halves, self.names) if self.images else None,
            classes=rows,
            confused=most_confused(matrix, self.names, MOST),
            mistakes=tuple(entry[2] for entry in sorted(self.mistakes, reverse=True)),
            bins=tuple(self.reliability.bins()),
            matrix=matrix,
        )
