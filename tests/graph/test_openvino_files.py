"""Files of OpenVINO as it and other programs write them, held against OpenVINO itself."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from onnx import ModelProto
from openvino import opset13
from openvino.preprocess import PrePostProcessor

from network_files import (
    CLASSES,
    FLOAT,
    SIDE,
    WEIGHTS,
    convert,
    of_maps,
    of_pixels,
    quantized,
    scores_of,
    small,
    with_softmax,
)
from resnet_cli.errors import CheckpointError
from resnet_cli.graph import Graph, examine, read_graph
from resnet_cli.graph.openvino_files import find_port

CORE = ov.Core()
SPELT = {"f32": "float32", "f16": "float16", "u8": "uint8"}
STORED = ("constant", "parameter", "result")


def run(graph: Graph, images: Any) -> Any:
    """What OpenVINO gives in the precision of its weights."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = CORE.compile_model(CORE.read_model(graph.path), "CPU", settings)
    return compiled([images])[0]


KINDS: dict[str, tuple[Callable[[], ModelProto], bool, dict[str, Any]]] = {
    "plain": (small, False, {}),
    "half": (small, True, {"precision": "fp16"}),
    "int8": (quantized, False, {"precision": "int8"}),
    "pixels": (of_pixels, False, {"dtype": "uint8"}),
    "maps": (of_maps, False, {"size": (SIDE, SIDE)}),
    "softmax in NHWC": (with_softmax, False, {"layout": "NHWC", "activation": "softmax"}),
    "free": (
        lambda: small(inputs=[("image", FLOAT, ("N", 3, "H", "W"))]), False, {"size": None},
    ),
    "fixed": (lambda: small(inputs=[("image", FLOAT, (2, 3, SIDE, SIDE))]), False, {"batch": 2}),
}  # fmt: skip
"""Networks, whether their weights are halved, and what is to be read that the small one lacks."""


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_openvino_does(kind: str, tmp_path: Path) -> None:
    build, half, differs = KINDS[kind]
    graph = read_graph(convert(build(), tmp_path / "m.xml", half=half))

    network = CORE.read_model(graph.path)
    assert graph.input in network.input().names
    assert graph.output in network.output().names
    assert graph.dtype == SPELT[network.input().element_type.get_type_name()]
    kinds = Counter(one.get_type_name().lower() for one in network.get_ops())
    computed = {kind: kinds[kind] for kind in kinds if kind not in STORED}
    assert {kind.lower(): count for kind, count in graph.operations.items()} == computed
    expected = {"layout": "NCHW", "dtype": "float32", "size": (SIDE, SIDE), "batch": None,
                "activation": None, "precision": "fp32"} | differs  # fmt: skip
    assert {name: getattr(graph, name) for name in expected} == expected
    assert graph.producer.startswith(f"OpenVINO {ov.get_version()}")
    assert graph.files == (graph.path, tmp_path / "m.bin")

    sizes = {"N": graph.batch or 3, "C": graph.channels, "H": SIDE, "W": SIDE}
    images = np.ones([sizes[axis] for axis in graph.layout], graph.dtype)
    scores = examine.scores_of(graph, run(graph, images), sizes["N"])
    assert scores.shape == (sizes["N"], CLASSES)
    if not differs:
        assert np.allclose(scores, scores_of(images), atol=1e-5)


@pytest.mark.parametrize("half", [True, False])
def test_parameters_are_the_numbers_in_the_weights(half: bool, tmp_path: Path) -> None:
    assert read_graph(convert(small(), tmp_path / "m.xml", half=half)).parameters == WEIGHTS


def test_a_stated_layout_counts_more_than_the_sizes(tmp_path: Path) -> None:
    network = CORE.read_model(
        small(inputs=[("image", FLOAT, ("N", 3, "H", 3))]).SerializeToString()
    )
    steps = PrePostProcessor(network)
    steps.input().tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.u8)
    steps.input().model().set_layout(ov.Layout("NCHW"))
    ov.save_model(steps.build(), tmp_path / "m.xml")

    graph = read_graph(tmp_path / "m.xml")

    assert (graph.layout, graph.channels, graph.size, graph.dtype) == ("NHWC", 3, (3, 3), "uint8")


def test_ranges_are_free_and_a_network_without_names_is_read(tmp_path: Path) -> None:
    image = opset13.parameter(ov.PartialShape("[1..8,3,8,8]"), np.float32, name="image")
    network = ov.Model([opset13.softmax(opset13.reduce_mean(image, [2, 3]), 1)], [image])
    ov.save_model(network, tmp_path / "m.xml")

    graph = read_graph(tmp_path / "m.xml")

    assert (graph.batch, graph.size, graph.num_classes) == (None, (8, 8), 3)
    assert graph.activation == "softmax"
    assert run(graph, np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 3)


def test_metadata_of_others_is_kept_with_tags_within_tags(tmp_path: Path) -> None:
    network = CORE.read_model(small(metadata={"names": "{0: 'a'}"}).SerializeToString())
    network.set_rt_info("a b c d", ["model_info", "labels"])
    network.set_rt_info("x < y & ü", ["a note"])
    ov.save_model(network, tmp_path / "m.xml")

    metadata = read_graph(tmp_path / "m.xml").metadata

    expected = {"names": "{0: 'a'}", "model_info labels": "a b c d", "a note": "x < y & ü"}
    assert {key: metadata.get(key) for key in expected} == expected


def test_several_outputs_of_which_one_scores(tmp_path: Path) -> None:
    image = opset13.parameter([-1, 3, SIDE, SIDE], np.float32, name="image")
    scores = opset13.reduce_mean(image, [2, 3])
    scores.output(0).set_names({"probabilities, of classes"})
    ov.save_model(ov.Model([opset13.relu(image), scores], [image]), tmp_path / "m.xml")

    graph = read_graph(tmp_path / "m.xml")

    compiled = CORE.compile_model(graph.path, "CPU")
    assert graph.output == "probabilities, of classes"
    assert find_port(compiled.outputs, graph.output).partial_shape[1] == 3


def test_an_output_without_a_name_is_the_only_one(tmp_path: Path) -> None:
    image = opset13.parameter([-1, 3, SIDE, SIDE], np.float32, name="image")
    scores = opset13.reduce_mean(image, [2, 3])
    ov.save_model(ov.Model([scores], [image]), tmp_path / "one.xml")
    ov.save_model(ov.Model([opset13.relu(image), scores], [image]), tmp_path / "two.xml")
    for path in tmp_path.glob("*.xml"):  # as what is converted from PyTorch
        path.write_text(re.sub(r' (output_)?names="Result_\d+"', "", path.read_text()))

    graph = read_graph(tmp_path / "one.xml")

    compiled = CORE.compile_model(graph.path, "CPU")
    assert find_port(compiled.outputs, graph.output) == compiled.output(0)
    assert find_port(compiled.inputs, graph.input) == compiled.input(0)
    with pytest.raises(CheckpointError, match="its outputs have no names to tell them apart"):
        read_graph(tmp_path / "two.xml")
