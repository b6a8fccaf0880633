"""Tally: counts and mean times of a run, and what limits it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from resnet_cli.classifier import Classifier
from resnet_cli.records import Prediction

log = logging.getLogger("resnet_cli")

STAGES = ("decode", "preprocess", "forward")

BUSY = 0.6
"""The share of a run during which its workers compute, at least, when nothing else limits it."""

LONG_ENOUGH = 2.0  # seconds of a run in which its start and end hardly count


@dataclass(slots=True)
class StageMeans:
    """Mean milliseconds of the stages over some images."""

    images: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, prediction: Prediction) -> None:
        """Count one image that was classified."""
        self.images += 1
        for stage in STAGES:
            self.sums[stage] += getattr(prediction, f"{stage}_ms")

    def milliseconds(self) -> dict[str, float]:
        """Return the mean of each stage; 0 when there was no image."""
        return {stage: total / max(self.images, 1) for stage, total in self.sums.items()}


@dataclass(slots=True)
class Tally:
    """A fold over predictions."""

    workers: int  # threads that decode
    on_cpu: bool  # the network runs on the workers' own cores
    errors: int = 0
    warnings: int = 0  # images that were read with a warning
    everything: StageMeans = field(default_factory=StageMeans)
    settled: StageMeans = field(default_factory=StageMeans)  # each worker's first pass left out

    @classmethod
    def of(cls, classifier: Classifier, workers: int) -> Self:
        """Begin to count what a classifier does."""
        return cls(workers, on_cpu=classifier.runtime.on_workers_cores)

    def add(self, prediction: Prediction) -> None:
        """Count one row."""
        if prediction.error is not None:
            self.errors += 1
            return
        self.warnings += prediction.warning is not None
        self.everything.add(prediction)
        if not prediction.warm_up:
            self.settled.add(prediction)

    @property
    def images(self) -> int:
        """Return the number of rows, readable or not."""
        return self.everything.images + self.errors

    def means(self) -> dict[str, float]:
        """Return the mean milliseconds of each stage, without warm-up where there is more."""
        return (self.settled if self.settled.images else self.everything).milliseconds()

    def pace(self, forward_ms: float) -> float:
        """Estimate the seconds that each image of a long run takes.

        Args:
            forward_ms: mean of the network, once it is warm.
        """
        means = self.everything.milliseconds()
        decoding = (means["decode"] + means["preprocess"]) / self.workers
        if self.on_cpu:
            return (decoding + forward_ms / self.workers) / 1000
        return max(decoding, forward_ms) / 1000

    def limit(self, seconds: float) -> str:
        """Say which stage limits a run, and what would help.

        Args:
            seconds: that the run took.
        """
        if not self.everything.images:
            return "nothing was classified"
        means = self.means()
        busy = sum(self.everything.sums.values()) / 1000 / self.workers
        if self.on_cpu and seconds > LONG_ENOUGH and busy < BUSY * seconds:
            return (
                "limited by writing the results (grid, report, reader of stdout): the workers "
                f"wait {1 - busy / seconds:.0%} of the time"
            )
        decoding = means["decode"] + means["preprocess"]
        if self.on_cpu:
            share = f"of {sum(means.values()):.1f} ms of a core per image"
            if means["forward"] >= decoding:
                return f"limited by the network: {means['forward']:.1f} {share}"
            return f"limited by decoding: {decoding:.1f} {share}"
        if decoding / self.workers > means["forward"]:
            return f"limited by decoding on {self.workers} threads: the device waits for images"
        return "limited by the network on the device"

    def record(self, seconds: float) -> dict[str, Any]:
        """Return counts and times as the manifest has them.

        Args:
            seconds: that the run took.
        """
        return {
            "counts": {
                "images": self.images,
                "ok": self.everything.images,
                "errors": self.errors,
            },
            "times": {
                "wall_s": round(seconds, 3),
                "images_per_second": round(self.images / seconds, 3) if seconds else None,
                **{f"{stage}_ms": round(ms, 3) for stage, ms in self.means().items()},
            },
            "limit": self.limit(seconds),
        }


@contextmanager
def note_interruption(
    tally: Tally, total: int | None, *, earlier: int = 0, rest: str = ""
) -> Iterator[None]:
    """Log how many images are done when a signal ends a run.

    Args:
        tally: of this run.
        total: number of images; None while unknown.
        earlier: images with rows of earlier runs.
        rest: of the message: how to continue, or which files exist.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        images = "images" if total is None else f"of {total:,} images"
        log.info("stopped after %s %s%s", f"{earlier + tally.images:,}", images, rest)
        raise
