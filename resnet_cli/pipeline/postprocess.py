"""The best classes of a batch -> the rows of its images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import isfinite

import numpy as np

from resnet_cli.errors import SettingError
from resnet_cli.records import Batch, Distribution, Prediction, Score, decide_label
from resnet_cli.runtimes import Top

Answer = tuple[tuple[Score, ...], Distribution | None, float | None, int | None]
"""Scores, probabilities of all classes, milliseconds and batch size of one image."""

NO_ANSWER: Answer = ((), None, None, None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a row keeps of the probabilities of its image."""

    topk: int  # classes
    threshold: float | None = None  # below it the decision is ``uncertain``; None: no decision
    distribution: bool = False  # the probabilities of all classes too


@dataclass(frozen=True, slots=True)
class Answers:
    """Turns the passes of a batch into rows."""

    class_names: Sequence[str]  # one an index
    precision: str  # of the network
    wanted: Wanted

    def rows(self, batch: Batch, passes: Sequence[Top]) -> list[Prediction]:
        """Join the samples of a batch with their classes.

        Raises:
            SettingError: the network gave NaN or infinity.
        """
        answers = (answer for top in passes for answer in self.of(top))
        rows = []
        for sample in batch.samples:
            scores, distribution, forward_ms, size = (
                NO_ANSWER if sample.error is not None else next(answers)
            )
            rows.append(
                Prediction(
                    item=sample.item,
                    scores=scores,
                    decode_ms=sample.decode_ms,
                    preprocess_ms=sample.preprocess_ms,
                    forward_ms=forward_ms,
                    batch_size=size,
                    error=sample.error,
                    decision=decide_label(scores, self.wanted.threshold),
                    warning=sample.warning,
                    warm_up=batch.warm_up,
                    thumbnail=sample.thumbnail,
                    distribution=distribution,
                )
            )
        return rows

    def of(self, top: Top) -> Iterator[Answer]:
        """Yield the answers of one pass."""
        size = len(top.probs)
        best = slice(self.wanted.topk)
        # tolist once a pass: a call for each value would cost more than the top-k itself
        for probs, indices, distribution in zip(
            top.probs[:, best].tolist(),
            top.indices[:, best].tolist(),
            in_class_order(top) if self.wanted.distribution else repeat(None, size),
            strict=True,
        ):
            if not isfinite(probs[0]):  # one such logit spoils all probabilities of its image
                raise SettingError(
                    f"the network gave NaN or infinity in {self.precision}: use --precision fp32, "
                    "or another checkpoint if that is no better"
                )
            names = [self.class_names[index] for index in indices]
            scores = tuple(map(Score, names, indices, map(drop_float32_noise, probs)))
            yield scores, distribution, top.forward_ms / size, size


def in_class_order(top: Top) -> Distribution:
    """Return the probabilities [N, classes] by index, of a pass that kept all classes."""
    probs = np.empty_like(top.probs)
    np.put_along_axis(probs, top.indices, top.probs, axis=1)
    return probs


def drop_float32_noise(prob: float) -> float:
    """Drop the digits that float32 never had, so that every format shows the same number."""
    return float(f"{prob:.8g}")
