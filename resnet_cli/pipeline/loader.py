"""Chunks of paths -> uint8 batches, on whichever thread asks."""

from collections.abc import Callable, Sequence
from contextlib import closing
from copy import copy
from pathlib import Path
from threading import local
from time import perf_counter

import torch
from torch import Tensor

from resnet_cli.errors import ImageError
from resnet_cli.images.decode import Decoder, thumbnail, type_of_pixels
from resnet_cli.images.files import Room
from resnet_cli.pipeline.memory_budget import Allowance, Bound, Budget, Turn, default_total
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Batch, Content, Item, Sample

Decode = Callable[[Path | Content, Room], type_of_pixels]
"""File or image in memory -> pixels, once there is room for them in memory."""

THUMBNAIL_SIDE = 256  # pixels; what a tile of the grid shows at most


class Loader:
    """Decodes and preprocesses neighbouring images into one batch."""

    def __init__(
        self,
        decode: Decoder,
        preprocess: Preprocess,
        *,
        channels: int,
        pinned: bool = False,
        thumbnails: bool = False,
    ) -> None:
        """Say how images are loaded.

        Args:
            decode: file -> pixels.
            preprocess: pixels -> uint8 [channels, crop_size, crop_size].
            channels: of the network's input.
            pinned: allot batches in memory that a GPU copies from by itself.
            thumbnails: make a small picture of each image as well.
        """
        self.decode: Decode = decode
        self.preprocess = preprocess
        self.channels = channels
        self.pinned = pinned
        self.thumbnails = thumbnails
        self.budget: Bound = Budget()  # large pictures take turns
        self.seen = local()  # whether this thread has loaded a chunk before
        self.refused: dict[tuple[str, str], str] = {}  # items that are not to be opened, and why

    def nbytes(self, count: int) -> int:
        """Bytes of the pixels of so many images."""
        return count * self.channels * self.preprocess.crop_size**2

    def shared(self, workers: int) -> "Loader":
        """The same for so many processes that load at a time, none of which may use the GPU."""
        same = copy(self)
        same.budget = Allowance(default_total() // workers)
        same.pinned = False
        return same

    def refuse(self, item: Item, reason: str) -> None:
        """Make a row of the reason instead of opening this item."""
        self.refused[item.identity] = reason

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Load neighbours into one uint8 batch; those that fail leave no gap in it."""
        side = self.preprocess.crop_size
        pixels = torch.empty(
            (len(items), self.channels, side, side),
            dtype=torch.uint8,
            pin_memory=self.pinned,
            memory_format=torch.channels_last,
        )
        samples = []
        filled = 0
        for item in items:
            sample = self.sample(item, pixels[filled])
            samples.append(sample)
            filled += sample.error is None
        warm_up = not getattr(self.seen, "before", False)
        self.seen.before = True
        return Batch(tuple(samples), pixels[:filled], warm_up)

    def sample(self, item: Item, room: Tensor) -> Sample:
        """Decode and preprocess one image into ``room`` [C, H, W], and time both.

        Waiting until there is memory for it counts for neither.
        """
        kept = item.without_content()
        if item.identity in self.refused:
            return Sample(kept, error=self.refused[item.identity])
        begun = perf_counter()
        with closing(Turn(self.budget)) as turn:
            try:
                image = self.decode(item.source, turn)
            except ImageError as error:
                return Sample(kept, error=str(error))
            decoded = perf_counter()
            room.copy_(self.preprocess(image))
            done = perf_counter()
            small = thumbnail(image, THUMBNAIL_SIDE) if self.thumbnails else None
            del image  # before others take its memory
        return Sample(
            kept,
            decode_ms=1000 * (decoded - begun - turn.waited),
            preprocess_ms=1000 * (done - decoded),
            thumbnail=small,
            warning="; ".join(turn.warnings) or None,
        )
