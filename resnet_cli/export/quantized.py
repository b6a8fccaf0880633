"""int8: a network file is calibrated on images, and measured on others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import SettingError
from resnet_cli.evaluate.metrics import Share, percentage, wilson_share
from resnet_cli.export.check import Probabilities
from resnet_cli.export.images import Images
from resnet_cli.graph import Description, Graph
from resnet_cli.graph.accuracy_control import AccuracyControl, quantize_with_max_drop
from resnet_cli.graph.quantize import quantize_graph
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Pixels
from resnet_cli.runtimes.graph_session import to_probabilities
from resnet_cli.text import amount

Normalised = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 on images that did not calibrate the network."""

    before: Share  # in fp32
    after: Share  # in int8

    def __str__(self) -> str:
        return f"top-1 {interval(self.before)} in fp32, {interval(self.after)} in int8"

    def record(self) -> dict[str, Any]:
        """Return both, each with its 95 % interval, as a file states them."""
        return {
            f"top1_{precision}": [share.value, share.low, share.high]
            for precision, share in (("fp32", self.before), ("int8", self.after))
        }


def interval(share: Share) -> str:
    """Format a share with its interval."""
    low, high = percentage(share.low), percentage(share.high)
    return f"{percentage(share.value)} (95 % interval {low} to {high})"


def measure_accuracy(images: Images, plain: Probabilities, found: Probabilities) -> Accuracy | None:
    """Return top-1 before and after; None where the classes of the images are not known."""
    if images.truths is None:
        return None
    before, after = (
        wilson_share(int((probs.argmax(axis=1) == images.truths).sum()), len(probs))
        for probs in (plain, found)
    )
    return Accuracy(before, after)


@dataclass(frozen=True, slots=True)
class Material:
    """What a network is quantised with."""

    calibrating: Images
    measured: Images  # others, unless there are only those
    plain: Probabilities  # of the measured ones, in fp32
    only: bool  # there are no others

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the right classes [N] of the measured ones, or those in fp32 if unknown."""
        truths = self.measured.truths
        return self.plain.argmax(axis=1) if truths is None else truths


def quantise_file(
    graph: Graph,
    path: Path,
    material: Material,
    *,
    description: Description,
    max_drop: float | None,
) -> Description:
    """Write a network file in int8.

    Args:
        graph: of the network in fp32.
        path: to write.
        material: images.
        description: what the file will state of itself.
        max_drop: of top-1 on the other images, as a share, by their classes where those are known
            and else by the labels of fp32; None accepts any.

    Returns:
        What the file states of itself.

    Raises:
        SettingError: there are too few images.
        ExtraError: NNCF is missing.
        OutputError: it cannot be written.
        ProcessError: a signal ended the process that limits the drop.
    """
    require_pass(graph, material.calibrating, "calibrate")
    batches = [as_taken(graph, material.calibrating.pixels, description)]
    if max_drop is None:
        return quantize_graph(graph, batches, path, description=description)
    if material.only:
        raise SettingError("cannot limit the drop: there are too few images to measure it on")
    require_pass(graph, material.measured, "limit the drop")
    control = AccuracyControl(
        images=[as_taken(graph, material.measured.pixels, description)],
        score=RightLabel(material.labels, description.activation),
        max_drop=max_drop,
    )
    return quantize_with_max_drop(graph, batches, path, control=control, description=description)


def require_pass(graph: Graph, images: Images, what: str) -> None:
    """Check that there are enough images for a pass of a network whose number is fixed.

    Raises:
        SettingError: there are fewer.
    """
    count = len(images.pixels)
    if graph.batch is not None and count < graph.batch:
        raise SettingError(
            f"cannot {what} on {amount(count, 'image')}: the file takes {graph.batch} at once: "
            "give more images"
        )


def as_taken(graph: Graph, pixels: Pixels, description: Description) -> Pixels | Normalised:
    """Return images [N, H, W, C] as a network takes them."""
    if graph.takes_pixels:
        return pixels
    return Preprocess.from_record(description.preprocess).normalise(pixels)


@dataclass(frozen=True, slots=True)
class RightLabel:
    """Says whether the best class of an image is the right one: 1, or 0."""

    labels: NDArray[np.int64]  # [N] of the images
    activation: str

    def __call__(self, outputs: NDArray[np.float32], number: int) -> float:
        """Judge the outputs [classes] of one image."""
        best = to_probabilities(outputs[None], self.activation)[0].argmax()
        return float(best == self.labels[number])
