"""A network file -> how many multiplications an image takes, as OpenVINO knows its shapes."""

from importlib.util import find_spec
from math import prod
from typing import Any

from resnet_cli.graph import Graph

WINDOWS = {"Convolution": 1, "GroupConvolution": 2}
"""Operations that slide a window: how many sizes of their weights stand before the window's."""


def count_macs(graph: Graph, side: int) -> int | None:
    """Count the multiply-adds of convolutions and matrix products for one image.

    Args:
        graph: of either format.
        side: of the image, in pixels.

    Returns:
        None where OpenVINO is not installed, or does not know every shape.
    """
    if find_spec("openvino") is None:
        return None
    import openvino as ov

    try:
        model = ov.Core().read_model(graph.path)
        sizes = {"N": 1, "C": graph.channels, "H": side, "W": side}
        if graph.batch is None:
            model.reshape({model.input(graph.input): [sizes[axis] for axis in graph.layout]})
        total = sum(map(macs_of, model.get_ordered_ops()))
    except RuntimeError:  # it reads no such file, or a shape depends on what is computed
        return None
    return total // (graph.batch or 1)


def macs_of(operation: Any) -> int:
    """Return the multiply-adds of an operation whose shapes are known.

    Raises:
        RuntimeError: they are not.
    """
    kind = operation.get_type_name()
    if kind in WINDOWS:
        weights = operation.input(1).get_shape()
        return prod(operation.output(0).get_shape()) * prod(weights[WINDOWS[kind] :])
    if kind == "MatMul":
        inner = operation.input(0).get_shape()[
            -2 if operation.get_attributes()["transpose_a"] else -1
        ]
        return prod(operation.output(0).get_shape()) * inner
    return 0
