"""Judge: whether a prediction is right, where the truth is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resnet_cli.records import Prediction
from resnet_cli.results.options import WriterOptions


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one prediction."""

    best: str | None = None  # name of the best class
    uncertain: bool = False
    truth: str | None = None  # None where it is not known
    right: bool | None = None  # None where the truth is not known, or there is no prediction


@dataclass(frozen=True, slots=True)
class Judge:
    """Says of each prediction whether its best class is the true one."""

    truth: Callable[[Path], str | None]
    names: dict[int, str] = field(default_factory=dict)
    """Of the classes, by index; it grows where they are not known beforehand."""

    @classmethod
    def of(cls, options: WriterOptions) -> "Judge":
        """One that knows what the writer is told."""
        return cls(options.truth, dict(enumerate(options.record().get("classes", ()))))

    def __call__(self, prediction: Prediction) -> Verdict:
        """Judge the next prediction."""
        for score in prediction.scores:
            self.names.setdefault(score.index, score.label)
        truth = self.truth(prediction.path)
        if prediction.index is None:
            return Verdict(truth=truth)
        best = self.names.get(prediction.index)
        return Verdict(
            best=best,
            uncertain=prediction.uncertain,
            truth=truth,
            right=None if truth is None or best is None else best == truth,
        )
