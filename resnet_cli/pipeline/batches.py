"""Chunks of items -> uint8 batches, and the outputs of the network for a batch -> rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from itertools import repeat
from math import isfinite
from threading import local
from time import perf_counter

import numpy as np

from resnet_cli.errors import ImageError, SettingError
from resnet_cli.images import Decoded, Decoder, thumbnail
from resnet_cli.images.files import Room
from resnet_cli.pipeline.memory_budget import (
    Budget,
    MemoryBudget,
    ProcessBudget,
    Reservation,
    default_total,
)
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import (
    Batch,
    Distribution,
    Item,
    Pixels,
    Prediction,
    Sample,
    Score,
    Source,
    decide_label,
)
from resnet_cli.runtimes import Top

Decode = Callable[[Source, Room], Decoded]
"""File or image in memory -> pixels, once there is room for them in memory."""

Allocate = Callable[[tuple[int, ...]], Pixels]
"""Shape -> uninitialised memory for pixels."""


def allocate_pixels(shape: tuple[int, ...]) -> Pixels:
    """Return ordinary memory for pixels."""
    return np.empty(shape, np.uint8)


THUMBNAIL_SIDE = 256  # pixels; what a tile of the grid shows at most


class Loader:
    """Decodes and preprocesses neighbouring images into one batch."""

    def __init__(
        self,
        decode: Decoder,
        preprocess: Preprocess,
        *,
        channels: int,
        allocate: Allocate = allocate_pixels,
        thumbnails: bool = False,
    ) -> None:
        """Set how images are loaded.

        Args:
            decode: file -> pixels.
            preprocess: pixels -> uint8 [crop_size, crop_size, channels].
            channels: of the network's input.
            allocate: memory for batches, of the kind that the runtime copies best.
            thumbnails: make a small copy of each image as well.
        """
        self.decode: Decode = decode
        self.preprocess = preprocess
        self.channels = channels
        self.allocate = allocate
        self.thumbnails = thumbnails
        self.budget: Budget = MemoryBudget()
        self.seen = local()  # whether this thread has loaded a chunk before
        self.refused: dict[tuple[str, str], str] = {}  # items that must not be opened, and why

    def pixel_bytes(self, count: int) -> int:
        """Return the bytes of the pixels of ``count`` images."""
        return count * self.channels * self.preprocess.crop_size**2

    def shared(self, workers: int) -> "Loader":
        """Return a copy that shares the memory budget among ``workers`` processes.

        They are forked, and must not use the GPU.
        """
        same = copy(self)
        same.budget = ProcessBudget(default_total() // workers)
        same.allocate = allocate_pixels
        return same

    def refuse(self, item: Item, reason: str) -> None:
        """Give this item an error row from now on, without opening it."""
        self.refused[item.identity] = reason

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Load items into one uint8 batch; those that fail leave no gap in it."""
        side = self.preprocess.crop_size
        pixels = self.allocate((len(items), side, side, self.channels))
        samples = []
        filled = 0
        for item in items:
            sample = self.sample(item, pixels[filled])
            samples.append(sample)
            filled += sample.error is None
        warm_up = not getattr(self.seen, "before", False)
        self.seen.before = True
        return Batch(tuple(samples), pixels[:filled], warm_up)

    def sample(self, item: Item, room: Pixels) -> Sample:
        """Decode and preprocess one image into ``room`` [H, W, C], and time both.

        Waiting for memory counts as neither.
        """
        kept = item.without_content()
        if item.identity in self.refused:
            return Sample(kept, error=self.refused[item.identity])
        begun = perf_counter()
        with closing(Reservation(self.budget)) as reserved:
            try:
                image = self.decode(item.source, reserved)
            except ImageError as error:
                return Sample(kept, error=str(error))
            decoded = perf_counter()
            room[:] = self.preprocess(image)
            done = perf_counter()
            small = thumbnail(image, THUMBNAIL_SIDE) if self.thumbnails else None
            del image  # before others take its memory
        return Sample(
            kept,
            decode_ms=1000 * (decoded - begun - reserved.waited),
            preprocess_ms=1000 * (done - decoded),
            thumbnail=small,
            warning="; ".join(reserved.warnings) or None,
        )


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
