"""Small networks in ONNX and OpenVINO, as other programs write them, for tests of the readers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

CLASSES, SIDE = 4, 8
OPSET = 17
WEIGHTS = 6 * 3 * 9 + 6 + CLASSES * 6 + CLASSES  # numbers in them

Axis = int | str | None
FLOAT, UINT8, FLOAT16 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT16


def weights(numbers: Any = np.float32) -> dict[str, NDArray[Any]]:
    """The weights of the small network."""
    random = np.random.default_rng(0)
    shapes = {"conv": (6, 3, 3, 3), "conv_bias": (6,), "fc": (CLASSES, 6), "fc_bias": (CLASSES,)}
    return {name: random.normal(size=shape).astype(numbers) for name, shape in shapes.items()}


def small_nodes(image: str = "image", scores: str = "scores") -> list[NodeProto]:
    """A convolution, a pool and a linear layer."""
    return [
        helper.make_node("Conv", [image, "conv", "conv_bias"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fc_bias"], [scores], transB=1),
    ]


def model_of(
    nodes: Sequence[NodeProto],
    *,
    inputs: Sequence[tuple[str, int, Sequence[Axis]]] = (("image", FLOAT, ("N", 3, SIDE, SIDE)),),
    outputs: Sequence[tuple[str, int, Sequence[Axis]]] = (("scores", FLOAT, ("N", CLASSES)),),
    stored: dict[str, NDArray[Any]] | None = None,
    opset: int = OPSET,
    metadata: dict[str, str] | None = None,
) -> ModelProto:
    """A network of these nodes; the small network's weights where no others are given."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(a, n) for n, a in (stored or weights()).items()],
    )
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="test")
    helper.set_model_props(model, metadata or {})
    return model


def small(**options: Any) -> ModelProto:
    """The small network."""
    return model_of(small_nodes(), **options)


def with_softmax(**options: Any) -> ModelProto:
    """One that takes images as Keras lays them out, and ends in a softmax."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        *small_nodes("t", "logits"),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    inputs = [("image", FLOAT, ("N", SIDE, SIDE, 3))]
    return model_of(nodes, inputs=inputs, **options)


def of_pixels(**options: Any) -> ModelProto:
    """One that takes pixels and normalises them by itself."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        *small_nodes("scaled"),
    ]
    stored = weights() | {"scale": np.array([1 / 255], np.float32)}
    inputs = [("image", UINT8, ("N", 3, SIDE, SIDE))]
    return model_of(nodes, inputs=inputs, stored=stored, **options)


def of_maps() -> ModelProto:
    """One that ends as SqueezeNet does: a 1x1 convolution, and a pool over its maps."""
    nodes = [
        helper.make_node("Conv", ["image", "conv", "conv_bias"], ["c"]),
        helper.make_node("Conv", ["c", "last", "fc_bias"], ["l"]),
        helper.make_node("Relu", ["l"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["scores"]),
    ]
    stored = weights()
    stored["last"] = stored.pop("fc")[:, :, None, None]
    return model_of(nodes, outputs=[("scores", FLOAT, ("N", CLASSES, 1, 1))], stored=stored)


def in_half() -> ModelProto:
    """The small network in half precision throughout."""
    return model_of(
        small_nodes(),
        inputs=[("image", FLOAT16, ("N", 3, SIDE, SIDE))],
        outputs=[("scores", FLOAT16, ("N", CLASSES))],
        stored=weights(np.float16),
    )


def quantized() -> ModelProto:
    """The small network with its first layer in int8."""
    stored = weights()
    stored["conv_q"] = np.round(stored.pop("conv") * 30).astype(np.int8)
    stored |= {"step": np.array(1 / 30, np.float32), "zero": np.array(0, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["conv_q", "step", "zero"], ["conv"]),
        *small_nodes("dq"),
    ]
    return model_of(nodes, stored=stored)


def varied() -> ModelProto:
    """One of many operations, as the networks of other families have them."""
    random = np.random.default_rng(0)
    shapes = {
        "stem": (8, 3, 3, 3), "depth": (8, 1, 3, 3), "scale": (8,), "shift": (8,), "mean": (8,),
        "up": (8, 4, 2, 2), "point": (8, 8, 1, 1), "query": (4, 4), "norm": (4,),
        "fc": (4, CLASSES),
    }  # fmt: skip
    stored: dict[str, NDArray[Any]] = {
        name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    stored |= {
        "var": np.ones(8, np.float32),
        "sizes": np.array([1, 1, 2, 2], np.float32),
        "begin": np.array([0]),
        "end": np.array([4]),
        "axis": np.array([1]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    table: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("Conv", "image stem", "a", {"pads": [1, 1, 1, 1], "dilations": [1, 1]}),
        ("BatchNormalization", "a scale shift mean var", "b", {}),
        ("Clip", "b", "c", {}),
        ("Conv", "c depth", "d", {"group": 8, "pads": [1, 1, 1, 1]}),
        ("MaxPool", "d", "e", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", "c", "f", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Add", "e f", "g", {}),
        ("GlobalAveragePool", "g", "h", {}),
        ("Conv", "h point", "i", {}),
        ("HardSigmoid", "i", "j", {}),
        ("Mul", "g j", "k", {}),
        ("Slice", "k begin end axis", "l", {}),
        ("ConvTranspose", "k up", "m", {"strides": [2, 2]}),
        ("Resize", "l  sizes", "n", {"mode": "nearest"}),
        ("Concat", "m n", "o", {"axis": 1}),
        ("Slice", "o begin end axis", "p", {}),
        ("Pad", "p pads", "q", {}),
        ("Transpose", "q", "r", {"perm": [0, 2, 3, 1]}),
        ("Reshape", "r rows", "s", {}),
        ("LayerNormalization", "s norm norm", "t", {"axis": -1}),
        ("MatMul", "t query", "u", {}),
        ("Transpose", "t", "v", {"perm": [0, 2, 1]}),
        ("MatMul", "u v", "w", {}),
        ("Softmax", "w", "x", {"axis": -1}),
        ("MatMul", "x t", "y", {}),
        ("ReduceMean", "y", "z", {"axes": [1], "keepdims": 0}),
        ("MatMul", "z fc", "scores", {}),
    )
    nodes = [helper.make_node(kind, inputs.split(" "), [to], **settings)
             for kind, inputs, to, settings in table]  # fmt: skip
    rows = numpy_helper.from_array(np.array([0, -1, 4]))
    nodes.insert(0, helper.make_node("Constant", [], ["rows"], value=rows))
    return model_of(nodes, stored=stored)


def save(model: ModelProto, path: Path) -> Path:
    """Write a .onnx."""
    path.write_bytes(model.SerializeToString())
    return path


def save_external(model: ModelProto, path: Path) -> Path:
    """Write a .onnx with its weights in a file beside it."""
    onnx.save(
        model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0
    )
    return path


def convert(model: ModelProto, path: Path, *, half: bool = False) -> Path:
    """Write an .xml and its .bin by OpenVINO."""
    network = ov.Core().read_model(model.SerializeToString())
    ov.save_model(network, path, compress_to_fp16=half)
    return path


def scores_of(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the small network gives for float [N, 3, H, W], by NumPy."""
    values = weights()
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (2, 3))[:, :, ::2, ::2]
    maps = np.einsum("nchwij,ocij->nohw", windows, values["conv"])
    pooled = np.maximum(maps + values["conv_bias"][:, None, None], 0).mean((2, 3))
    return (pooled @ values["fc"].T + values["fc_bias"]).astype(np.float32)
