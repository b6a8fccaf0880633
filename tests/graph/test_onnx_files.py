"""Files of ONNX as other programs write them, held against ONNX Runtime and onnx itself."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import ModelProto, NodeProto, helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from network_files import (
    CLASSES,
    FLOAT,
    SIDE,
    WEIGHTS,
    in_half,
    model_of,
    of_maps,
    of_pixels,
    quantized,
    save,
    save_external,
    scores_of,
    small,
    small_nodes,
    weights,
    with_softmax,
)
from resnet_cli.errors import CheckpointError
from resnet_cli.graph import Graph, examine, read_graph
from resnet_cli.graph.wire import without_numbers

SPELT = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
SHAPE = {"shape": np.array([-1, CLASSES])}


def run(graph: Graph, images: Any) -> Any:
    """What ONNX Runtime gives at the output that was chosen."""
    session = onnxruntime.InferenceSession(graph.path)
    return session.run([graph.output], {graph.input: images})[0]


def node(kind: str, *inputs: str, to: str = "scores") -> NodeProto:
    return helper.make_node(kind, inputs, [to])


def ended_in(*nodes: NodeProto, stored: dict[str, Any] | None = None) -> ModelProto:
    """The small network with other operations behind its logits."""
    return model_of([*small_nodes(scores="logits"), *nodes], stored=weights() | (stored or {}))


def of_fixed_batch() -> ModelProto:
    sizes = {"inputs": (2, 3, SIDE, SIDE), "outputs": (2, CLASSES)}
    names = {"inputs": "image", "outputs": "scores"}
    return small(**{key: [(names[key], FLOAT, size)] for key, size in sizes.items()})


def rounded() -> ModelProto:
    """One whose values are those of int8, and whose weights are stored as floats."""
    nodes = [
        node("QuantizeLinear", "image", "step", to="q"),
        node("DequantizeLinear", "q", "step", to="dq"),
        *small_nodes("dq"),
    ]
    return model_of(nodes, stored=weights() | {"step": np.array(0.1, np.float32)})


def with_weights_among_the_inputs() -> ModelProto:
    """As exporters before 2019 listed them."""
    model = small()
    for name, array in weights().items():
        value = helper.make_tensor_value_info(name, FLOAT, array.shape)
        model.graph.input.append(value)
    return model


def with_auxiliary_output() -> ModelProto:
    model = small()
    model.graph.output.insert(0, helper.make_tensor_value_info("r", FLOAT, ("N", 6, 3, 3)))
    return model


KINDS: dict[str, tuple[Callable[[], ModelProto], dict[str, Any]]] = {
    "plain": (small, {}),
    "old": (lambda: small(opset=11), {}),
    "softmax in NHWC": (with_softmax, {"layout": "NHWC", "activation": "softmax"}),
    "pixels": (of_pixels, {"dtype": "uint8"}),
    "half": (in_half, {"dtype": "float16", "precision": "fp16"}),
    "int8": (quantized, {"precision": "int8"}),
    "weights among the inputs": (with_weights_among_the_inputs, {}),
    "rounded": (rounded, {"precision": "int8"}),
    "fixed batch": (of_fixed_batch, {"batch": 2}),
    "free": (lambda: small(inputs=[("image", FLOAT, ("N", 3, "H", "W"))]), {"size": None}),
    "one side": (lambda: small(inputs=[("image", FLOAT, ("N", 3, SIDE, None))]), {}),
    "auxiliary": (with_auxiliary_output, {}),
    "maps": (of_maps, {}),
    "sigmoid": (lambda: ended_in(node("Sigmoid", "logits")), {"activation": "sigmoid"}),
    "logarithm": (lambda: ended_in(node("LogSoftmax", "logits")), {}),
    "two steps": (lambda: ended_in(node("Softmax", "logits", to="soft"), node("Log", "soft")), {}),
    "passed on": (
        lambda: ended_in(
            node("Softmax", "logits", to="soft"), node("Reshape", "soft", "shape"), stored=SHAPE
        ),
        {"activation": "softmax"},
    ),
    "not at the end": (
        lambda: ended_in(node("Sigmoid", "logits", to="soft"), node("Add", "soft", "logits")), {},
    ),
}  # fmt: skip
"""Networks, and what is to be read where it differs from the small one."""


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_onnx_runtime_does(kind: str, tmp_path: Path) -> None:
    build, differs = KINDS[kind]
    model = build()
    graph = read_graph(save(model, tmp_path / "m.onnx"))

    image = onnxruntime.InferenceSession(graph.path).get_inputs()[0]
    assert (graph.input, graph.dtype) == (image.name, SPELT[image.type])
    expected = {"layout": "NCHW", "dtype": "float32", "size": (SIDE, SIDE), "batch": None,
                "activation": None, "precision": "fp32", "producer": "test"} | differs  # fmt: skip
    assert {name: getattr(graph, name) for name in expected} == expected
    assert graph.operations == Counter(one.op_type for one in model.graph.node)

    sizes = {"N": graph.batch or 3, "C": graph.channels, "H": SIDE, "W": SIDE}
    images = np.ones([sizes[axis] for axis in graph.layout], graph.dtype)
    scores = examine.scores_of(graph, run(graph, images), sizes["N"])
    assert scores.shape == (sizes["N"], graph.num_classes) == (sizes["N"], CLASSES)
    assert scores.dtype == np.float32


def test_an_activation_is_found_where_there_is_one(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    graph = read_graph(save(with_softmax(), tmp_path / "m.onnx"))

    probabilities = run(graph, images)

    logits = scores_of(images.transpose(0, 3, 1, 2))
    exponentials = np.exp(logits)
    assert np.allclose(probabilities, exponentials / exponentials.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("build", [small, in_half, of_pixels, quantized])
def test_parameters_are_the_numbers_in_the_weights(
    build: Callable[[], ModelProto], tmp_path: Path
) -> None:
    assert read_graph(save(build(), tmp_path / "m.onnx")).parameters == WEIGHTS


def test_metadata_of_others_is_kept_as_it_is(tmp_path: Path) -> None:
    metadata = {"names": "{0: 'a', 1: 'b'}", "task": "classify", "labels": '["a", "b"]'}

    assert read_graph(save(small(metadata=metadata), tmp_path / "m.onnx")).metadata == metadata


def test_branches_are_looked_into(tmp_path: Path) -> None:
    model = branching()

    graph = read_graph(save(model, tmp_path / "m.onnx"))

    assert graph.operations["Neg"] == 1
    assert run(graph, np.ones((1, 3, SIDE, SIDE), np.float32)).shape == (1, CLASSES)


def branching() -> ModelProto:
    """The small network, and a branch behind it."""
    scores = helper.make_tensor_value_info("s", FLOAT, ("N", CLASSES))
    branches: dict[str, Any] = {
        name: helper.make_graph([node(kind, "logits", to="s")], name, [], [scores])
        for name, kind in (("then_branch", "Neg"), ("else_branch", "Identity"))
    }
    ending = [
        helper.make_node("ReduceMax", ["logits"], ["most"], keepdims=0),
        node("Greater", "most", "nought", to="yes"),
        helper.make_node("If", ["yes"], ["scores"], **branches),
    ]
    return ended_in(*ending, stored={"nought": np.float32(0)})


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """A few images for ONNX Runtime's quantisation."""

    def __init__(self, name: str, side: int) -> None:
        random = np.random.default_rng(0)
        batches = [random.normal(size=(1, 3, side, side)).astype(np.float32) for _ in range(2)]
        self.batches: Iterator[dict[str, Any]] = iter({name: batch} for batch in batches)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """A ResNet of one block a stage."""
    torch.manual_seed(0)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)  # zeros would be left out
    return network


@pytest.fixture(scope="module")
def exported(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as ``torch.onnx.export`` writes it by tracing."""
    path = tmp_path_factory.mktemp("exported") / "traced.onnx"
    export(resnet, path, dynamo=False)
    return path


def export(network: nn.Module, path: Path, **options: Any) -> None:
    with warnings.catch_warnings(action="ignore"):  # of torch, about its own exporter
        torch.onnx.export(network, (torch.zeros(1, 3, 32, 32),), path, verbose=False, **options)


def computes_the_same(graph: Graph, network: nn.Module, most: float = 1e-4) -> bool:
    images = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(graph.dtype)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images.astype(np.float32))).numpy()
    scores = examine.scores_of(graph, run(graph, images), 1)
    return float(np.abs(scores - expected).max()) < most


def test_what_torch_exports(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export(resnet, path, dynamo=True)

    graph = read_graph(path)

    assert (graph.num_classes, graph.size, graph.batch) == (7, (32, 32), 1)
    assert [file.name for file in graph.files] == ["m.onnx", "m.onnx.data"]
    layers = [module for module in resnet.modules() if isinstance(module, nn.Conv2d)]
    folded = sum(layer.weight.numel() + layer.out_channels for layer in layers)
    assert graph.parameters == folded + 7 * 512 + 7
    assert graph.producer.startswith("pytorch 2.")
    assert graph.operations["Conv"] == 1 + 8 + 3
    assert computes_the_same(graph, resnet)


def test_what_torch_exports_by_tracing(resnet: nn.Module, exported: Path) -> None:
    graph = read_graph(exported)

    assert (graph.num_classes, graph.size, graph.batch) == (7, (32, 32), 1)
    assert computes_the_same(graph, resnet)


def test_what_onnx_runtime_quantises(resnet: nn.Module, exported: Path, tmp_path: Path) -> None:
    image = read_graph(exported).input
    quantize_static(exported, tmp_path / "m.onnx", Calibration(image, 32))

    graph = read_graph(tmp_path / "m.onnx")

    assert (graph.precision, graph.num_classes) == ("int8", 7)
    assert computes_the_same(graph, resnet, 1.0)


def test_what_is_converted_to_half_precision(
    resnet: nn.Module, exported: Path, tmp_path: Path
) -> None:
    model = convert_float_to_float16(onnx.load(exported), keep_io_types=False)

    graph = read_graph(save(model, tmp_path / "m.onnx"))

    assert (graph.precision, graph.dtype) == ("fp16", "float16")
    assert computes_the_same(graph, resnet, 0.05)


def test_networks_of_other_kinds_are_read(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=5, img_size=32).eval()
    export(network, tmp_path / "m.onnx", dynamo=False)

    graph = read_graph(tmp_path / "m.onnx")

    assert (graph.num_classes, graph.activation) == (5, None)
    assert computes_the_same(graph, network)


def test_a_backbone_gives_features(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=0).eval()
    export(network, tmp_path / "m.onnx", dynamo=False)

    with pytest.raises(CheckpointError, match="it ends in the pooling of a backbone"):
        read_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_weights_are_left_out_and_nothing_else(kind: str) -> None:
    model = KINDS[kind][0]()
    model.graph.initializer.append(helper.make_tensor("floats", FLOAT, [300], [1.5] * 300))
    data = model.SerializeToString()

    parsed = ModelProto.FromString(without_numbers(memoryview(data)))

    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    assert parsed == model


def test_external_data_is_found_and_not_opened(tmp_path: Path) -> None:
    path = save_external(small(), tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").chmod(0)

    graph = read_graph(path)

    assert graph.files == (path, tmp_path / "m.onnx.data")
    assert graph.parameters == WEIGHTS
