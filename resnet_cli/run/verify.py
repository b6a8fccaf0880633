"""Checks before a run: labels against plain fp32, missing class names, and how long it takes."""

import logging
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, cast

from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.classifier import Classifier
from resnet_cli.errors import ImageError, UserError
from resnet_cli.pipeline.batches import in_class_order
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item, Pixels, Progress
from resnet_cli.run import Run
from resnet_cli.run.tally import Tally
from resnet_cli.runtimes import SessionOptions
from resnet_cli.sources import Inputs
from resnet_cli.text import amount

if TYPE_CHECKING:
    from torchvision.models import ResNet

log = logging.getLogger("resnet_cli")

MOST_SUGGESTED = 20  # class names


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a classifier is from plain fp32 on the CPU."""

    images: int  # compared
    largest_difference: float  # of a probability
    flips: tuple[Item, ...]  # whose best class differs


def verify_classifier(classifier: Classifier, items: Sequence[Item]) -> Verification:
    """Compare images against plain fp32 on the CPU: Pillow, torchvision's network, one by one.

    Images that cannot be read are left out.
    """
    probabilities = plain_network(classifier)
    decoder = replace(classifier.decoder, exact=True)
    preprocess = classifier.preprocess
    count, largest, flips = 0, 0.0, []
    everything = len(classifier.class_names)
    rows = classifier.predict(Inputs.of(items), topk=everything)
    for item, row in zip(items, rows, strict=True):
        try:  # a row has no content of an image in memory any more
            pixels = preprocess(decoder(item.source))[None]
        except ImageError:
            continue
        if row.error is not None:
            continue
        plain = probabilities(pixels)
        count += 1
        largest = max(largest, *(abs(plain[score.index] - score.prob) for score in row.scores))
        if plain[row.scores[0].index] < max(plain):
            flips.append(row.item)
    return Verification(count, largest, tuple(flips))


def plain_network(classifier: Classifier) -> Callable[[Pixels], list[float]]:
    """Return what computes the probabilities of one image [1, H, W, C] in fp32, in class order."""
    checkpoint, preprocess = classifier.checkpoint, classifier.preprocess
    network = checkpoint.network()
    if isinstance(checkpoint, ExportedCheckpoint):
        options = SessionOptions(preprocess=preprocess, activation=checkpoint.activation)
        session = classifier.runtime.load(network, options)

        def run(pixels: Pixels) -> list[float]:
            (wait,) = session.launch(pixels, len(classifier.class_names))
            return in_class_order(wait())[0].tolist()

        return run
    return plain_torch(cast("ResNet", network), preprocess, checkpoint.activation)


def plain_torch(
    network: "ResNet", preprocess: Preprocess, activation: str
) -> Callable[[Pixels], list[float]]:
    """Return torchvision's network behind a normalisation, as it is."""
    import torch

    from resnet_cli.runtimes.torch_runtime import to_probabilities

    @torch.inference_mode()
    def run(pixels: Pixels) -> list[float]:
        images = torch.from_numpy(preprocess.normalise(pixels)).permute(0, 3, 1, 2)
        probs: list[float] = to_probabilities(network(images), activation)[0].tolist()
        return probs

    return run


def suggest_class_names(classifier: Classifier, folders: Collection[str]) -> Iterator[str]:
    """Say that the names of the images' folders may be the missing class names.

    Nothing is said where the checkpoint has class names, or where the folders are not as many as
    its classes.
    """
    classes = classifier.checkpoint.classes
    fits = classes.made_up and len(folders) == len(classes.names) <= MOST_SUGGESTED
    if fits and not any("," in name for name in folders):
        names = shlex.quote(",".join(sorted(folders)))
        yield f"--classes {names} may fit (the names of the folders; check the order)"


def verify_first(classifier: Classifier, inputs: Inputs, count: int) -> Inputs:
    """Compare the first ``count`` images against plain fp32 on the CPU, and log the result.

    Returns:
        The inputs again, from the first.

    Raises:
        UserError: the label of an image differs.
    """
    first, everything = inputs.peek(count)
    result = verify_classifier(classifier, first)
    log.info(
        "verified %s against plain fp32 on the CPU: largest difference of probability %.1e, %s",
        amount(result.images, "image"),
        result.largest_difference,
        amount(len(result.flips), "top-1 flip"),
    )
    if result.flips:
        flips = ", ".join(item.words for item in result.flips)
        raise UserError(
            f"another label than plain fp32 on the CPU: {flips}: try --exact, or --precision fp32"
        )
    return everything


SAMPLE = 20  # images that are classified


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take."""

    images: int | None  # that are left; None of a stream
    tried: int
    errors: int  # of those tried
    seconds: float  # for each image of a long run; 0 where none was classified
    workers: int


def forecast_run(run: Run, *, progress: Progress | None = None) -> Forecast:
    """Classify a sample of what is left of a run twice, and say how long all would take.

    The first time images are read from where they lie; the second time the network is warm.
    """
    sample = sample_items(run.left)
    options = replace(run.options, thumbnails=False)
    tallies = [Tally.of(run.classifier, options.threads) for _ in range(2)]
    first, second = tallies
    for tally in tallies:
        with closing(run.classifier.classify(Inputs.of(sample), options)) as rows:
            for prediction in rows:
                tally.add(prediction)
                if progress is not None:
                    progress(first.images + second.images, 2 * len(sample))
    return Forecast(
        images=run.left.total,
        tried=first.images,
        errors=first.errors,
        seconds=first.pace(second.means()["forward"]),
        workers=first.workers,
    )


def sample_items(inputs: Inputs) -> list[Item]:
    """Choose items from everywhere in the inputs, or the first ones of a stream."""
    if inputs.total is None:
        return inputs.peek(SAMPLE)[0]
    step = max(1, inputs.total // SAMPLE)
    return list(islice(inputs.known, 0, step * SAMPLE, step))
