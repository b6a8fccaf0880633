"""Several checkpoints on the same decoded images: who is right where the other is wrong."""

from collections.abc import Callable, Collection, Generator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from threading import local
from typing import Any

import torch

from resnet_cli.classifier import Classifier
from resnet_cli.errors import ImageError
from resnet_cli.evaluate import TOP, Evaluation, Scorecard
from resnet_cli.evaluate.confusion import Share, mcnemar_test, wilson_share
from resnet_cli.images.decode import Decoder, type_of_pixels
from resnet_cli.images.files import Room
from resnet_cli.pipeline import cut_chunks, stream_results
from resnet_cli.pipeline.loader import Loader
from resnet_cli.pipeline.postprocess import Wanted
from resnet_cli.pipeline.workers import place_loader
from resnet_cli.records import Batch, Content, Item, Prediction
from resnet_cli.sources import Inputs
from resnet_cli.sources.truth import Lookup
from resnet_cli.system import available_cores

SURE = 0.05  # p above which a difference may be luck


@dataclass(frozen=True, slots=True)
class Pair:
    """Two checkpoints, by their places in the list."""

    first: int
    second: int
    agree: Share  # of the images, the share that gets the same class name, right or wrong
    only_first: int  # images that only the first has right
    only_second: int
    p: float  # that chance parts them so far, by McNemar's exact test


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several checkpoints on the same images."""

    checkpoints: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    pairs: tuple[Pair, ...]

    def record(self) -> dict[str, Any]:
        """Every figure as it is written into files."""
        return {
            "checkpoints": [
                {"checkpoint": path, **evaluation.record()}
                for path, evaluation in zip(self.checkpoints, self.evaluations, strict=True)
            ],
            "pairs": [asdict(pair) for pair in self.pairs],
        }


class Ledger:
    """The fold over what all checkpoints say of an image."""

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        *,
        threshold: float | None = None,
        present: Sequence[Collection[int]] | None = None,
    ) -> None:
        """Begin with no image.

        Args:
            classifiers: of the checkpoints.
            threshold: best probability, 0 to 1, below which an image is set aside; None keeps all.
            present: the classes that have images, in the list of each checkpoint.
        """
        names = [classifier.class_names for classifier in classifiers]
        self.checkpoints = tuple(str(each.checkpoint.path) for each in classifiers)
        self.scorecards = [
            Scorecard(
                each.class_names,
                threshold=threshold,
                present=classes,
                multi_label=each.checkpoint.is_multi_label,
            )
            for each, classes in zip(classifiers, present or [()] * len(classifiers), strict=True)
        ]
        self.common = common_numbers(names)
        pairs = list(combinations(range(len(classifiers)), 2))
        self.agree = dict.fromkeys(pairs, 0)
        self.only_first, self.only_second = dict.fromkeys(pairs, 0), dict.fromkeys(pairs, 0)

    def add(self, predictions: Sequence[Prediction], truths: Sequence[int]) -> None:
        """Count one image: what each checkpoint says, and its true class in the list of each."""
        for scorecard, prediction, truth in zip(self.scorecards, predictions, truths, strict=True):
            scorecard.add(prediction, truth)
        answers = [prediction.index for prediction in predictions]
        said = [
            None if index is None else numbers[index]
            for numbers, index in zip(self.common, answers, strict=True)
        ]
        right = [index == truth for index, truth in zip(answers, truths, strict=True)]
        for first, second in self.agree:
            if said[first] is None or said[second] is None:
                continue
            self.agree[first, second] += said[first] == said[second]
            self.only_first[first, second] += right[first] and not right[second]
            self.only_second[first, second] += right[second] and not right[first]

    def comparison(self) -> Comparison:
        """Work out every figure."""
        images = self.scorecards[0].images
        pairs = (
            Pair(
                *pair,
                wilson_share(self.agree[pair], images),
                self.only_first[pair],
                self.only_second[pair],
                mcnemar_test(self.only_second[pair], self.only_first[pair]),
            )
            for pair in self.agree
        )
        evaluations = tuple(scorecard.evaluation() for scorecard in self.scorecards)
        return Comparison(self.checkpoints, evaluations, tuple(pairs))


def common_numbers(lists: Sequence[Sequence[str]]) -> list[list[int]]:
    """Numbers for the classes of each list, that are the same where the names are.

    A list with two classes of one name keeps them apart.
    """
    numbers: list[list[int]] = []
    known: list[str] = []
    for names in lists:
        lookup = Lookup(known)
        mine: list[int] = []
        for name in names:
            found = [number for number in lookup.indices(name) if number not in mine]
            if not found:
                known = [*known, name]
            mine.append(found[0] if found else len(known) - 1)
        numbers.append(mine)
    return numbers


class Memory:
    """A decoder that remembers the last image of each thread, whose other networks want it too.

    Of the memory that is claimed for pixels, one image a thread is not given back at once.
    """

    def __init__(self, decode: Decoder) -> None:
        """Remember nothing yet."""
        self.decode = decode
        self.last = local()

    def __call__(self, source: Path | Content, room: Room) -> type_of_pixels:
        """Decode a file, unless this thread has just done so."""
        if getattr(self.last, "source", None) != source:
            self.last.source, self.last.error = source, None
            try:
                self.last.pixels = self.decode(source, room)
            except ImageError as error:
                self.last.pixels, self.last.error = None, error
        if self.last.error is not None:
            raise ImageError(str(self.last.error))
        pixels: type_of_pixels = self.last.pixels
        return pixels


class SharedLoader:
    """Decodes neighbouring images once, and preprocesses them for each network."""

    def __init__(self, classifiers: Sequence[Classifier], *, thumbnails: bool = False) -> None:
        """Take the loader of each; those that decode alike share it.

        Args:
            classifiers: of the networks.
            thumbnails: make a small picture of each image for the rows of the first network.
        """
        memories = {each.decoder: Memory(each.decoder) for each in classifiers}
        self.loaders: list[Loader] = []
        for classifier in classifiers:
            loader = classifier.loader(thumbnails=thumbnails and not self.loaders)
            loader.decode = memories[classifier.decoder]
            self.loaders.append(loader)

    def __call__(self, items: Sequence[Item]) -> tuple[Batch, ...]:
        """A batch of the same images for each network, held decoded one at a time."""
        singles = [[loader([item]) for loader in self.loaders] for item in items]
        return tuple(map(join_batches, zip(*singles, strict=True)))

    def nbytes(self, count: int) -> int:
        """Bytes of the pixels of so many images, for all networks."""
        return sum(loader.nbytes(count) for loader in self.loaders)

    def shared(self, workers: int) -> "SharedLoader":
        """The same for so many processes that load at a time."""
        same = copy(self)
        same.loaders = [loader.shared(workers) for loader in self.loaders]
        return same

    def refuse(self, item: Item, reason: str) -> None:
        """Make a row of the reason instead of opening this file."""
        for loader in self.loaders:
            loader.refuse(item, reason)


def join_batches(batches: Sequence[Batch]) -> Batch:
    """One batch of several."""
    return Batch(
        tuple(sample for batch in batches for sample in batch.samples),
        torch.cat([batch.pixels for batch in batches]).contiguous(
            memory_format=torch.channels_last
        ),
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
    """Classify images by several networks, each decoded once.

    Yields:
        For each image, in order, what each network says.
    """
    first = classifiers[0]
    threads = workers or available_cores()

    def launch(batches: tuple[Batch, ...]) -> Callable[[], list[tuple[Prediction, ...]]]:
        waits = [
            classifier.launch(batch, Wanted(classifier.topk(topk), distribution=True))
            for classifier, batch in zip(classifiers, batches, strict=True)
        ]
        return lambda: list(zip(*(wait() for wait in waits), strict=True))

    device = first.backend.device
    size = batch_size or first.default_batch_size(inputs.total, threads)
    with place_loader(
        SharedLoader(classifiers, thumbnails=thumbnails),
        device=device,
        workers=threads,
        size=size,
        total=inputs.total,
    ) as load:
        yield from stream_results(
            cut_chunks(inputs.items, size),
            load,
            launch,
            workers=threads,
            on_cpu=device.type == "cpu",
        )
