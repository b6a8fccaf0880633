"""A setting and images -> on how many of them its label is that of fp32."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from resnet_cli.benchmark.load import split_images
from resnet_cli.benchmark.settings import Setting
from resnet_cli.benchmark.workload import EndlessImages
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.classifier import Classifier, PredictOptions
from resnet_cli.records import Item
from resnet_cli.run.calibrate import CHECKED
from resnet_cli.runtimes import QUANTIZED, find_runtime
from resnet_cli.sources import Inputs

Load = Callable[[Setting], Classifier]


def measure_agreement(
    checkpoint: Checkpoint | ExportedCheckpoint,
    setting: Setting,
    load: Load,
    images: EndlessImages | None,
) -> str | None:
    """Compare the labels of a setting with those of fp32.

    Args:
        checkpoint: what both run.
        setting: to compare.
        load: gives the classifier of a setting.
        images: some of them are classified by both.

    Returns:
        The agreement in words; None where there is nothing to compare, or nothing with sense.
    """
    reference = find_reference(checkpoint, setting)
    if images is None or reference is None or reference == setting or is_random(checkpoint):
        return None
    items = choose_images(images, setting)
    expected, given = (labels_of(load(one), items) for one in (reference, setting))
    pairs = [
        (label, other)
        for label, other in zip(expected, given, strict=True)
        if label is not None and other is not None
    ]
    equal = sum(label == other for label, other in pairs)
    share = f" ({equal / len(pairs):.1%})" if pairs else ""
    return f"its label is that of {reference.words} on {equal} of {len(pairs)} images{share}"


def find_reference(checkpoint: Checkpoint | ExportedCheckpoint, setting: Setting) -> Setting | None:
    """Return the setting that loses nothing of a network; None for a file of int8."""
    if not isinstance(checkpoint, ExportedCheckpoint):
        runtime = find_runtime(setting.runtime.device)
        reference = Setting("torch", runtime, "fp32", compiled=False)
        return setting if same_words(reference, setting) else reference
    if checkpoint.graph.precision == QUANTIZED:
        return None
    return setting if setting.precision == "fp32" else replace(setting, precision="fp32")


def same_words(one: Setting, other: Setting) -> bool:
    """Return True for two names of the same arithmetic; a compiled network rounds differently."""
    return (one.words, one.compiled) == (other.words, other.compiled)


def choose_images(images: EndlessImages, setting: Setting) -> Sequence[Item]:
    """Return images at random, the same ones each time; not those that calibrated int8."""
    calibrating, others = split_images(images)
    if setting.precision == QUANTIZED and others:
        return others
    return [*others, *calibrating][:CHECKED]


def labels_of(classifier: Classifier, items: Sequence[Item]) -> list[int | None]:
    """Return the index of the best class of each image; None for one that cannot be read."""
    rows = classifier.classify(Inputs.of(items), PredictOptions(topk=1))
    return [row.index for row in rows]


def is_random(checkpoint: Checkpoint | ExportedCheckpoint) -> bool:
    """Return True for a model by name, whose weights no training made."""
    return not checkpoint.files


def name_unknown_agreement(
    checkpoint: Checkpoint | ExportedCheckpoint, setting: Setting, images: EndlessImages | None
) -> str:
    """Say how to get the agreement where it was not measured; empty where nothing is lost."""
    reference = find_reference(checkpoint, setting)
    if reference == setting:
        return ""
    if reference is None:
        return "its agreement with fp32 is unknown: the file holds int8 alone"
    missing = ["a checkpoint in place of random weights"] if is_random(checkpoint) else []
    missing += ["--images DIR"] if images is None else []
    if not missing:
        return ""  # interrupted before it was measured
    return f"its agreement with fp32 is unknown: give {' and '.join(missing)}"
