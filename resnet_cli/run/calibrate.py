"""int8: a network is quantised by some of the images of a run, and checked on others."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from resnet_cli.cache import choose_cache, versions_of
from resnet_cli.classifier import Classifier
from resnet_cli.errors import SettingError
from resnet_cli.files import sha256_of_files
from resnet_cli.graph import NORMALIZED, PIXELS, Description, Graph, read_graph
from resnet_cli.graph.quantize import quantize_graph, sums_overflow
from resnet_cli.pipeline import cut_chunks, map_ordered
from resnet_cli.pipeline.batches import in_class_order
from resnet_cli.records import Item, Pixels
from resnet_cli.results.files.manifest import recorded_values
from resnet_cli.runtimes import QUANTIZED, Session, SessionOptions
from resnet_cli.sources import Inputs
from resnet_cli.sources.in_memory import Source, inputs_of_source
from resnet_cli.system import available_cores
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")

CALIBRATION = 300  # images
CHECKED = 200  # other images
SEED = 0
LOW = 0.95  # share of equal labels below which there is a warning
BATCH = 16  # images loaded at a time

FACTS = "agreement.json"  # beside a network in the cache


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a quantised network is from the one in fp32, on images that did not calibrate it."""

    images: int
    same: int  # of those, with the same best class
    largest_difference: float  # of a probability

    @property
    def share(self) -> float:
        """Return the share of equal labels; 1 of no images."""
        return self.same / self.images if self.images else 1.0


def calibrate_classifier(classifier: Classifier, source: Source) -> Classifier:
    """Quantise the network of a classifier that was loaded with ``precision="int8"``.

    Some of the images calibrate it, and the labels on others are compared with those in fp32. The
    same images give the same network, which stays in the cache.

    Args:
        classifier: to calibrate; one of another precision is returned as it is.
        source: images as ``Classifier.predict`` takes them, a few hundred.

    Returns:
        The classifier in int8, which is ready to classify.

    Raises:
        InputError: there are no images.
        SettingError: no image can be read.
        ExtraError: NNCF is missing.
    """
    return calibrate_for_run(classifier, inputs_of_source(source, classifier.decoder.bands))[0]


def calibrate_for_run(
    classifier: Classifier,
    inputs: Inputs,
    calibration: Inputs | None = None,
    *,
    resumed: Sequence[Path] = (),
) -> tuple[Classifier, Inputs]:
    """Quantise the network of a classifier that was loaded for int8; log how well it agrees.

    The same images give the same network, which stays in the cache. A run that is resumed takes the
    network that it began with from there, whatever images have come since.

    Args:
        classifier: loaded with ``precision="int8"``; any other is returned as it is.
        inputs: of the run.
        calibration: images to take instead of some of ``inputs``.
        resumed: result files that the run continues.

    Returns:
        The classifier in int8, and the inputs of the run from the first.

    Raises:
        SettingError: no image can be read to calibrate on.
        ExtraError: NNCF is missing.
    """
    if not classifier.needs_calibration:
        return classifier, inputs
    path = find_earlier(classifier, resumed)
    if path is None:
        items, rest = choose_items(calibration or inputs)
        inputs = inputs if calibration else rest
        path = quantise(classifier, *split_items(items))
    report_agreement(read_agreement(path))
    graph = read_graph(path)
    session = load_session(classifier, graph)
    digest = sha256_of_files(*graph.files)
    return replace(classifier, session=session, graph=graph, quantized=digest), inputs


def find_earlier(classifier: Classifier, resumed: Sequence[Path]) -> Path | None:
    """Return the network that made the rows of files from the cache, or None."""
    digests = recorded_values(resumed, "quantized")
    if len(digests) != 1:
        return None
    path = choose_cache(keep=classifier.keeps).find(
        QUANTIZED,
        graph_of(classifier).path.name,
        lambda file: sha256_of_files(*read_graph(file).files) in digests,
    )
    if path is not None:
        log.info("int8: the network that made the earlier rows, from the cache")
    return path


def choose_items(inputs: Inputs) -> tuple[list[Item], Inputs]:
    """Choose items at random, or the first of a stream, and return all inputs again."""
    if inputs.total is None:
        log.info("int8: the first %d images are held back to calibrate on them", CALIBRATION)
        return inputs.peek(CALIBRATION)
    known = inputs.known
    return Random(SEED).sample(known, min(CALIBRATION + CHECKED, len(known))), inputs


def split_items(
    items: Sequence[Item], calibrating: int = CALIBRATION, checked: int = CHECKED
) -> tuple[Sequence[Item], Sequence[Item]]:
    """Split items into those that calibrate and those that check: of few items a third.

    Args:
        items: in random order.
        calibrating: most that calibrate.
        checked: most that check.
    """
    checked = min(checked, max(len(items) // 3, len(items) - calibrating))
    return items[checked:][:calibrating], items[:checked]


def quantise(classifier: Classifier, calibrating: Sequence[Item], checking: Sequence[Item]) -> Path:
    """Return the network in int8, made now or taken from the cache.

    Raises:
        SettingError: no image can be read.
    """
    fp32 = graph_of(classifier)
    batches = list(load_pixels(classifier, calibrating))
    if not batches:
        raise SettingError(
            f"int8 is calibrated on images, and none of {amount(len(calibrating), 'image')} can be "
            "read"
        )

    def make(path: Path) -> None:
        count = sum(map(len, batches))
        log.info("int8: calibrating on %s, which is kept in the cache", amount(count, "image"))
        given = (
            batches if fp32.takes_pixels else list(map(classifier.preprocess.normalise, batches))
        )
        quantize_graph(fp32, given, path, description=describe_graph(classifier, fp32))
        session = load_session(classifier, read_graph(path))
        agreement = compare_sessions(classifier, session, checking)
        path.with_name(FACTS).write_text(json.dumps(asdict(agreement)), encoding="utf-8")

    key = {
        "made": QUANTIZED,
        "network": sha256_of_files(*fp32.files),
        "pixels": digest_of_pixels(batches),
        "checked": [list(item.identity) for item in checking],
        "half_range": sums_overflow(),
        "versions": versions_of("nncf", fp32.format),
    }
    return choose_cache(keep=classifier.keeps).fetch(key, make, name=fp32.path.name)


def read_agreement(path: Path) -> Agreement:
    """Return how well a network of the cache agrees with the one in fp32."""
    return Agreement(**json.loads(path.with_name(FACTS).read_text(encoding="utf-8")))


def graph_of(classifier: Classifier) -> Graph:
    """Return the network file that a classifier runs."""
    if classifier.graph is None:
        raise SettingError("int8 needs a runtime of network files: use --runtime openvino")
    return classifier.graph


def load_pixels(classifier: Classifier, items: Sequence[Item]) -> Iterator[Pixels]:
    """Load images on all cores, uint8 [N, H, W, C]; those that cannot be read are left out."""
    workers = available_cores()
    chunks = cut_chunks(items, min(BATCH, max(1, ceil(len(items) / workers))))
    with closing(map_ordered(chunks, classifier.loader(), workers=workers)) as batches:
        for batch in batches:
            if len(batch.pixels):
                yield batch.pixels


def describe_graph(classifier: Classifier, graph: Graph) -> Description:
    """Return what a network file states, also one of another program."""
    if graph.description is not None:
        return graph.description
    checkpoint = classifier.checkpoint
    return Description(
        model=checkpoint.model,
        class_names=checkpoint.classes.names,
        classes_source=checkpoint.classes.source,
        made_up=checkpoint.classes.made_up,
        preprocess=classifier.preprocess.record(),
        preprocess_source=classifier.preprocess_source,
        input=PIXELS if graph.takes_pixels else NORMALIZED,
        activation="sigmoid" if checkpoint.is_multi_label else "softmax",
        source=checkpoint.path.name,
        sha256=sha256_of_files(*checkpoint.files),
        notes=checkpoint.notes,
    )


def digest_of_pixels(batches: Sequence[Pixels]) -> str:
    """Return the SHA-256 of pixels."""
    digest = hashlib.sha256()
    for pixels in batches:
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def load_session(classifier: Classifier, graph: Graph) -> Session:
    """Load a network in int8 as the one of a classifier is."""
    options = SessionOptions(
        preprocess=classifier.preprocess,
        activation=classifier.checkpoint.activation,
        precision=QUANTIZED,
    )
    return classifier.runtime.load(graph, options)


def compare_sessions(classifier: Classifier, int8: Session, items: Sequence[Item]) -> Agreement:
    """Compare a session in int8 with that of a classifier in fp32, image by image."""
    count, same, largest = 0, 0, 0.0
    for pixels in load_pixels(classifier, items):
        plain, quantised = (all_probabilities(one, pixels, classifier) for one in
                            (classifier.session, int8))  # fmt: skip
        count += len(plain)
        same += int((plain.argmax(axis=1) == quantised.argmax(axis=1)).sum())
        largest = max(largest, float(np.abs(plain - quantised).max()))
    return Agreement(count, same, largest)


def all_probabilities(session: Session, pixels: Pixels, classifier: Classifier) -> Any:
    """Return the probabilities [N, classes] in the order of the classes."""
    passes = session.launch(pixels, len(classifier.class_names))
    return np.concatenate([in_class_order(wait()) for wait in passes])


def report_agreement(agreement: Agreement) -> None:
    """Log how well the labels in int8 agree with those in fp32."""
    if not agreement.images:
        log.warning("int8: there are too few images to check the labels on others: see --verify")
        return
    log.info(
        "int8: the label of fp32 on %s of %s other images, largest difference of probability %.3f",
        f"{agreement.same:,}",
        f"{agreement.images:,}",
        agreement.largest_difference,
    )
    if agreement.share < LOW:
        log.warning(
            "int8: under %.0f %% of equal labels: 'resnet-cli export --precision int8 --max-drop "
            "0.01' keeps the layers that cost most in floating point",
            100 * LOW,
        )
