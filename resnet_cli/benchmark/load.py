"""A setting -> the classifier that is measured in it, calibrated where it is int8."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from resnet_cli.benchmark.settings import Setting
from resnet_cli.benchmark.workload import EndlessImages
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.classifier import Classifier
from resnet_cli.graph import read_graph
from resnet_cli.records import Item
from resnet_cli.run.calibrate import choose_items, load_session, quantise, split_items
from resnet_cli.runtimes import RuntimeOptions
from resnet_cli.sources import Inputs
from resnet_cli.sources.in_memory import inputs_of_source

RANDOM = 8  # images of random pixels: the speed does not depend on what they show
SEED = 0


def load_classifier(
    checkpoint: Checkpoint | ExportedCheckpoint,
    setting: Setting,
    side: int,
    images: EndlessImages | None,
) -> Classifier:
    """Load a network for a setting.

    Args:
        checkpoint: with the network.
        setting: where and how it runs.
        side: of the images, in pixels.
        images: int8 is calibrated on some of them; None takes random pixels.
    """
    if setting.compiled:
        torch.compiler.reset()  # it compiles a network for a few batch sizes only
    classifier = Classifier.of(
        checkpoint,
        reason="to be measured",
        compute=RuntimeOptions(
            runtime=setting.name,
            device=setting.runtime.device,
            precision=setting.precision,
            compile=setting.compiled,
        ),
        preprocess=lambda recorded: replace(
            recorded, crop_size=side, resize_size=max(side, recorded.resize_size)
        ),
    )
    return calibrate(classifier, images) if classifier.needs_calibration else classifier


def calibrate(classifier: Classifier, images: EndlessImages | None) -> Classifier:
    """Quantise the network of a classifier, without comparing it with anything."""
    if images is None:
        items: Sequence[Item] = random_items(classifier)
    else:
        items, _ = split_images(images)
    graph = read_graph(quantise(classifier, items, []))
    return replace(classifier, session=load_session(classifier, graph), graph=graph)


def split_images(images: EndlessImages) -> tuple[Sequence[Item], Sequence[Item]]:
    """Split some of the images into those that calibrate int8 and those to compare labels on."""
    items, _ = choose_items(Inputs.of(images.readable))
    return split_items(items)


def random_items(classifier: Classifier) -> Sequence[Item]:
    """Return images of random pixels, the same ones each time."""
    side = classifier.preprocess.crop_size
    shape = (RANDOM, side, side, classifier.checkpoint.in_channels)
    pixels = np.random.default_rng(SEED).integers(256, size=shape, dtype=np.uint8)
    return inputs_of_source(pixels, classifier.decoder.bands).known
