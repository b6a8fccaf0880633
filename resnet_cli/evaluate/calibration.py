"""Whether a probability of 0.9 is right nine times of ten, and the temperature that mends it."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_cli.records import Distribution

BINS = 15  # of equal width, as Guo et al. 2017 count
EDGES = tuple(number / BINS for number in range(1, BINS))

SMALLEST = float(np.finfo(np.float32).tiny)
"""What float32 cannot hold as a probability counts as this much: a loss of 87 at the most."""

KEPT_VALUES = 1 << 24  # float32 of log-probabilities for the temperature: 64 MiB
CHUNK_VALUES = 1 << 20  # float64 of them worked on at a time: 8 MiB
COOLEST, HOTTEST = 0.05, 20.0  # temperatures that are looked at


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose best probability is in one interval."""

    low: float  # included
    high: float  # excluded, but for 1
    images: int
    confidence: float | None  # mean best probability; None of no images
    accuracy: float | None  # share of them that is right


@dataclass(frozen=True, slots=True)
class Temperature:
    """What the logits would have to be divided by for the least loss on these very images."""

    value: float
    at_bound: bool  # the least loss lies beyond the temperatures that were looked at
    images: int  # it was fitted on: all, or a random sample where there are very many
    loss_before: float
    loss_after: float
    ece_before: float
    ece_after: float


class Reliability:
    """A fold over best probabilities and whether they were right."""

    def __init__(self) -> None:
        """Begin with no image."""
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
        """Yield all bins, from the least confident."""
        for place, count in enumerate(self.images):
            low, high = place / BINS, (place + 1) / BINS
            if count:
                means = self.confidence[place] / count, self.right[place] / count
                yield Bin(low, high, count, *means)
            else:
                yield Bin(low, high, 0, None, None)

    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, 0 to 1.

        Source: https://arxiv.org/abs/1706.04599, equation 3.
        """
        pairs = zip(self.confidence, self.right, strict=True)
        total = sum(self.images)
        return sum(abs(confidence - right) for confidence, right in pairs) / max(total, 1)


class LogProbs:
    """Log-probabilities of a random sample of images, all of them as long as they are few.

    They are the logits but for a number that is the same for all classes of an image, which a
    softmax takes out again.
    """

    def __init__(self, classes: int) -> None:
        """Make room; memory is taken only as images come."""
        self.room = max(1, KEPT_VALUES // classes)
        self.values: NDArray[np.float32] = np.empty((self.room, classes), dtype=np.float32)
        self.truths: NDArray[np.int64] = np.empty(self.room, dtype=np.int64)
        self.seen = 0
        self.random = Random(0)  # the same images give the same sample

    def add(self, distribution: Distribution, truth: int) -> None:
        """Keep an image, or let chance decide whether it takes another's place."""
        place = self.seen if self.seen < self.room else self.random.randrange(self.seen + 1)
        self.seen += 1
        if place < self.room:
            np.log(np.maximum(distribution, SMALLEST), out=self.values[place])
            self.truths[place] = truth

    def temperature(self) -> Temperature | None:
        """The temperature of the least loss; None of no images."""
        images = min(self.seen, self.room)
        if not images:
            return None
        return fit_temperature(
            torch.from_numpy(self.values[:images]), torch.from_numpy(self.truths[:images])
        )


def fit_temperature(logits: Tensor, truths: Tensor) -> Temperature:
    """Find the temperature of the least mean negative log likelihood.

    The loss is convex in 1 / temperature: where its slope is zero it is least.

    Args:
        logits: float32 [N, classes], up to a number for each image.
        truths: int64 [N], indices of the true classes.
    """
    from scipy.optimize import brentq

    def slope(inverse: float) -> float:
        return sum(
            float((((inverse * z).softmax(1) * z).sum(1) - z.gather(1, t[:, None])[:, 0]).sum())
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


def loss_and_error(logits: Tensor, truths: Tensor, inverse: float) -> tuple[float, float]:
    """Mean loss and calibration error of logits times ``inverse``."""
    loss, reliability = 0.0, Reliability()
    for z, t in logit_chunks(logits, truths):
        logs = (inverse * z).log_softmax(1)
        loss -= float(logs.gather(1, t[:, None]).sum())
        best = logs.max(1)
        rights: Sequence[bool] = (best.indices == t).tolist()
        for prob, right in zip(best.values.exp().tolist(), rights, strict=True):
            reliability.add(prob, right=right)
    return loss / len(logits), reliability.error()


def logit_chunks(logits: Tensor, truths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some images at a time, in float64."""
    size = max(1, CHUNK_VALUES // logits.shape[1])
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        yield logits[part].double(), truths[part]
