"""Outline of a network file -> Graph: which input takes images, which output scores classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import CheckpointError
from resnet_cli.graph import PIXELS, Description, Graph
from resnet_cli.graph.description import as_properties, description_from
from resnet_cli.graph.ends import final_activation, refuse_features
from resnet_cli.graph.outline import Outline, Tensor
from resnet_cli.text import amount, list_few

NCHW, NHWC = LAYOUTS = ("NCHW", "NHWC")
LIKELY_CHANNELS = (1, 3, 4)  # grey, RGB, RGB and another

INPUTS = ("uint8", "float32", "float16")
SCORES = ("float32", "float16", "float64", "bfloat16")

PRECISIONS: Mapping[str, str] = {
    "float64": "fp32",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "int4": "int8",
    "uint4": "int8",
}
"""Types of numbers that weights have, and the precision that each means."""

QUANTIZED = ("FakeQuantize", "QuantizeLinear", "DynamicQuantizeLinear",
             "QLinearConv", "ConvInteger")  # fmt: skip
"""Operations that show a network in int8, whatever type its weights are stored in."""

OTHER_KIND = "name a network that classifies images, with one output [N, classes]"
NAMELESS = "its outputs have no names to tell them apart: name them, or export it with one"
UNFIT = "the record that resnet-cli wrote into it does not fit it: export the file again"


def graph_of(outline: Outline) -> Graph:
    """Return what a network states.

    Raises:
        CheckpointError: it does not classify images, or its record does not fit it; the message
            names no file.
    """
    description = description_from(outline.metadata)
    image, output = find_input(outline), find_output(outline)
    refuse_features(outline, output.name)
    sizes = image_sizes(image, outline.layout)
    ours = as_properties(description) if description else {}
    graph = Graph(
        path=outline.path,
        files=outline.files,
        format=outline.format,
        input=image.name,
        channels=sizes["C"] or 0,
        size=fixed_size(sizes["H"], sizes["W"]),
        layout="".join(sizes),
        dtype=image.dtype,
        batch=sizes["N"],
        output=output.name,
        num_classes=class_count(output),
        activation=final_activation(outline, output.name),
        precision=precision_of(outline),
        operations=outline.operations,
        parameters=sum(outline.numbers.get(dtype, 0) for dtype in PRECISIONS),
        producer=outline.producer,
        metadata={key: value for key, value in outline.metadata.items() if key not in ours},
        description=description,
    )
    if description is not None:
        require_fit(graph, description)
    return graph


def find_input(outline: Outline) -> Tensor:
    """Return the one input.

    Raises:
        CheckpointError: there are others, or it takes no images.
    """
    if len(outline.inputs) != 1:
        listed = list_few([tensor.words for tensor in outline.inputs])
        found = f"{len(outline.inputs)} inputs, {listed}" if listed else "no input"
        raise CheckpointError(f"it has {found}: name a network with one, which takes images")
    image = outline.inputs[0]
    if image.shape is None or len(image.shape) != 4:
        raise CheckpointError(
            f"its input {image.words} takes no images, which have four axes: {OTHER_KIND}"
        )
    if 0 in image.shape:
        raise CheckpointError(f"its input {image.words} has no place for a pixel: is it damaged?")
    if image.dtype not in INPUTS:
        raise CheckpointError(
            f"its input {image.words} is of a type that no image has: one of {', '.join(INPUTS)}"
        )
    return image


def image_sizes(image: Tensor, stated: str) -> dict[str, int | None]:
    """Return the size of each axis by its letter, in the order that they have.

    Raises:
        CheckpointError: it is unknown which axis is the channels', or how many there are.
    """
    shape = image.shape or ()
    layout = stated if stated in LAYOUTS else likely_layout(shape)
    if layout is None:
        raise CheckpointError(
            f"its input {image.words} does not tell which axis holds the channels: export it with "
            "sizes of 3 channels"
        )
    sizes = dict(zip(layout, shape, strict=True))
    if sizes["C"] is None:
        raise CheckpointError(
            f"its input {image.words} leaves the number of channels open: export it with a fixed "
            "one"
        )
    return sizes


def likely_layout(shape: tuple[int | None, ...]) -> str | None:
    """Tell the channels by their number, or by two other axes of equal size."""
    _, first, middle, last = shape
    if first in LIKELY_CHANNELS:
        return NCHW
    if last in LIKELY_CHANNELS:
        return NHWC
    if first is not None and middle == last:
        return NCHW
    return NHWC if last is not None and first == middle else None


def fixed_size(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Return height and width; a square where only one of them is fixed."""
    if height is None or width is None:
        side = height or width
        return None if side is None else (side, side)
    return height, width


def find_output(outline: Outline) -> Tensor:
    """Return the one output that scores classes; auxiliary ones of other shapes may be beside it.

    Raises:
        CheckpointError: there is none, or there are several, or it cannot be asked for by name.
    """
    found = [tensor for tensor in outline.outputs if class_count(tensor)]
    if len(found) == 1:
        if len(outline.outputs) > 1 and not found[0].named:
            raise CheckpointError(NAMELESS)
        return found[0]
    listed = list_few([tensor.words for tensor in found or outline.outputs])
    if found:
        raise CheckpointError(
            f"{len(found)} of its outputs look like scores of classes: {listed}: export it with one"
        )
    raise CheckpointError(f"it gives {listed or 'nothing'}, no scores of classes: {OTHER_KIND}")


def class_count(output: Tensor) -> int:
    """Return how many classes an output [N, classes] or [N, classes, 1, 1] scores, 0 for others."""
    shape = output.shape or ()
    flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
    return (shape[1] or 0) if flat and output.dtype in SCORES else 0


def precision_of(outline: Outline) -> str:
    """Return the precision of most weights."""
    if any(kind in outline.operations for kind in QUANTIZED):
        return "int8"
    most = max(PRECISIONS, key=lambda dtype: outline.numbers.get(dtype, 0))
    return PRECISIONS[most] if outline.numbers.get(most) else "fp32"


def require_fit(graph: Graph, description: Description) -> None:
    """Check that our record is of this network.

    Raises:
        CheckpointError: it is of another.
    """
    names = len(description.class_names)
    classes = names == graph.num_classes or (graph.num_classes == 1 and names == 2)
    pixels = graph.takes_pixels == (description.input == PIXELS)
    if not classes or not pixels or len(description.preprocess["mean"]) != graph.channels:
        raise CheckpointError(UNFIT)


def scores_of(graph: Graph, output: NDArray[Any], images: int) -> NDArray[np.float32]:
    """Return what a network gave as float32 [N, classes].

    A damaged file may state other outputs than it computes, which a runtime tells too late.

    Args:
        graph: of the network.
        output: what its runtime returned.
        images: how many went in.

    Raises:
        CheckpointError: these are not the scores that it states.
    """
    if output.shape not in ((images, graph.num_classes), (images, graph.num_classes, 1, 1)):
        raise CheckpointError(
            f"cannot use {graph.path}: it states {amount(graph.num_classes, 'class', 'classes')}, "
            f"and gives {list(output.shape)} for {amount(images, 'image')}: is it damaged?"
        )
    return output.reshape(images, graph.num_classes).astype(np.float32, copy=False)
