"""Classify images with several networks, each image decoded once for all of them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from copy import copy
from threading import local

import numpy as np

from resnet_cli.classifier import Classifier
from resnet_cli.errors import ImageError
from resnet_cli.evaluate.scorecard import TOP
from resnet_cli.images import Decoded, Decoder
from resnet_cli.images.files import Room
from resnet_cli.pipeline import cut_chunks, stream_results
from resnet_cli.pipeline.batches import Loader, Wanted
from resnet_cli.pipeline.prefetch import Prefetch
from resnet_cli.pipeline.workers import place_loader
from resnet_cli.records import Batch, Item, Prediction, Source
from resnet_cli.sources import Inputs
from resnet_cli.system import available_cores


class CachingDecoder:
    """A decoder that caches the last image of each thread for the other networks.

    One decoded image per thread stays in memory after its room is released.
    """

    def __init__(self, decode: Decoder) -> None:
        """Start with an empty cache."""
        self.decode = decode
        self.last = local()

    def __call__(self, source: Source, room: Room) -> Decoded:
        """Decode a file, or return its pixels again if this thread decoded it last.

        Raises:
            ImageError: the file cannot be decoded.
        """
        if getattr(self.last, "source", None) != source:
            self.last.source, self.last.error = source, None
            try:
                self.last.pixels = self.decode(source, room)
            except ImageError as error:
                self.last.pixels, self.last.error = None, error
        if self.last.error is not None:
            raise ImageError(str(self.last.error))
        pixels: Decoded = self.last.pixels
        return pixels


class SharedLoader:
    """Decodes images once, and preprocesses them for each network."""

    def __init__(self, classifiers: Sequence[Classifier], *, thumbnails: bool = False) -> None:
        """Build a loader per network; those with equal decoders share one.

        Args:
            classifiers: one per network.
            thumbnails: add a thumbnail of each image to the rows of the first network.
        """
        decoders = {each.decoder: CachingDecoder(each.decoder) for each in classifiers}
        self.loaders: list[Loader] = []
        for classifier in classifiers:
            loader = classifier.loader(thumbnails=thumbnails and not self.loaders)
            loader.decode = decoders[classifier.decoder]
            self.loaders.append(loader)

    def __call__(self, items: Sequence[Item]) -> tuple[Batch, ...]:
        """Load a batch of the same images for each network, one decoded image at a time."""
        singles = [[loader([item]) for loader in self.loaders] for item in items]
        return tuple(map(join_batches, zip(*singles, strict=True)))

    def pixel_bytes(self, count: int) -> int:
        """Return the size in bytes of the pixels of ``count`` images, for all networks."""
        return sum(loader.pixel_bytes(count) for loader in self.loaders)

    def shared(self, workers: int) -> "SharedLoader":
        """Return a copy that shares the memory budget among ``workers`` processes."""
        same = copy(self)
        same.loaders = [loader.shared(workers) for loader in self.loaders]
        return same

    def refuse(self, item: Item, reason: str) -> None:
        """Make an error row of this file instead of opening it."""
        for loader in self.loaders:
            loader.refuse(item, reason)


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches."""
    return Batch(
        tuple(sample for batch in batches for sample in batch.samples),
        np.concatenate([batch.pixels for batch in batches]),
        batches[0].warm_up,
    )


def predict_all(
    classifiers: Sequence[Classifier],
    inputs: Inputs,
    *,
    topk: int = TOP,
    batch_size: int | None = None,
    workers: int | None = None,
    thumbnails: bool = False,
) -> Generator[tuple[Prediction, ...]]:
    """Classify images with several networks; each image is decoded once.

    Yields:
        For each image, in order, the prediction of each network.
    """
    first = classifiers[0]
    threads = workers or available_cores()

    def launch(batches: tuple[Batch, ...]) -> Callable[[], list[tuple[Prediction, ...]]]:
        waits = [
            classifier.launch(batch, Wanted(classifier.topk(topk), distribution=True))
            for classifier, batch in zip(classifiers, batches, strict=True)
        ]
        return lambda: list(zip(*(wait() for wait in waits), strict=True))

    size = batch_size or first.default_batch_size(inputs.total, threads)
    with (
        place_loader(
            SharedLoader(classifiers, thumbnails=thumbnails),
            runtime=first.runtime,
            workers=threads,
            size=size,
            total=inputs.total,
        ) as load,
        closing(Prefetch(inputs.items, inputs.connections)) as fetched,
    ):
        yield from stream_results(
            cut_chunks(fetched, size),
            load,
            launch,
            workers=threads,
            on_workers_cores=first.runtime.on_workers_cores,
        )
