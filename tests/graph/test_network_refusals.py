"""Files that are no network, or none that classifies images: each is refused in one line."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper
from openvino import opset13

from network_files import (
    CLASSES,
    FLOAT,
    SIDE,
    convert,
    model_of,
    save,
    save_external,
    small,
    small_nodes,
    weights,
)
from resnet_cli.errors import CheckpointError
from resnet_cli.graph import read_graph

IMAGE = ("image", FLOAT, ("N", 3, SIDE, SIDE))
SCORES = ("scores", FLOAT, ("N", CLASSES))

INT64, INT32 = TensorProto.INT64, TensorProto.INT32


def refusal(path: Path) -> str:
    """Why a file is not read, without its name."""
    with pytest.raises(CheckpointError) as caught:
        read_graph(path)
    message = str(caught.value)
    assert message.startswith(f"cannot load {path}: ")
    assert message.isprintable()
    return message.removeprefix(f"cannot load {path}: ")


def giving(*outputs: tuple[str, int, tuple[Any, ...] | None]) -> Callable[[], ModelProto]:
    return lambda: small(outputs=outputs)


def taking(*inputs: tuple[str, int, tuple[Any, ...]]) -> Callable[[], ModelProto]:
    return lambda: small(inputs=inputs)


def ended_in(*kinds: str) -> ModelProto:
    nodes = small_nodes(scores="0")
    nodes += [
        helper.make_node(kind, [str(index)], [str(index + 1)]) for index, kind in enumerate(kinds)
    ]
    nodes[-1].output[0] = "scores"
    return model_of(nodes)


def with_custom_operation() -> ModelProto:
    return model_of(
        [*small_nodes(scores="s"), helper.make_node("Magic", ["s"], ["scores"], domain="my.own")]
    )


def a_backbone() -> ModelProto:
    nodes = small_nodes()[:-1]
    nodes[2:2] = [
        helper.make_node("Add", ["r", "c"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["rr"]),
    ]
    nodes[4].input[0], nodes[5].output[0] = "rr", "scores"
    stored = weights()
    del stored["fc"], stored["fc_bias"]
    return model_of(nodes, outputs=[("scores", FLOAT, ("N", 6))], stored=stored)


NETWORKS: tuple[tuple[str, Callable[[], ModelProto], str], ...] = (
    ("detector", giving(("boxes", FLOAT, ("N", 84, 100))), "gives boxes (float32 [?, 84, 100])"),
    ("segmenter", giving(("map", FLOAT, ("N", 21, SIDE, SIDE))), "gives map (float32 [?, 21, 8"),
    ("label alone", giving(("scores", INT64, ("N", 1))), "gives scores (int64 [?, 1]), no scores"),
    ("unknown number", giving(("scores", FLOAT, ("N", "C"))), "gives scores (float32 [?, ?]), no"),
    ("unknown shape", giving(("scores", FLOAT, None)), "gives scores (float32 of unknown"),
    ("two heads", giving(SCORES, ("more", FLOAT, ("N", 9))), "2 of its outputs look"),
    ("two inputs", taking(IMAGE, ("mask", FLOAT, ("N", 1))), "it has 2 inputs, image (f"),
    ("no input", taking(), "it has no input: name a network"),
    ("text", taking(("tokens", INT64, ("N", 128))), "takes no images"),
    ("integers", taking(("image", INT32, ("N", 3, 8, 8))), "is of a type that no image has"),
    ("free channels", taking(("image", FLOAT, ("N", "C", 8, 8))), "which axis holds the channels"),
    ("video", taking(("image", FLOAT, ("N", 3, 16, 8, 8))), "which have four axes"),
    ("custom", with_custom_operation, "custom operations (my.own.Magic): export"),
    ("backbone", a_backbone, "it ends in the pooling of a backbone"),
    ("logarithm", lambda: ended_in("Sigmoid", "Log"), "it ends in the logarithm of a sigmoid"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("build", "words"), [rest for _, *rest in NETWORKS], ids=[name for name, *_ in NETWORKS]
)
def test_a_network_that_does_not_classify_images(
    build: Callable[[], ModelProto], words: str, tmp_path: Path
) -> None:
    assert words in refusal(save(build(), tmp_path / "m.onnx"))


def zipped() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return stream.getvalue()


OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"", "the file is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "it is a git-lfs pointer"),
    (b"\n<!DOCTYPE html>\n<html>", "it is a web page, not a network"),
    (b'<?xml version="1.0"?>\n<!-- a -->\n<html xmlns="">', "it is a web page, not a network"),
    (zipped(), "it is a checkpoint of PyTorch or another zip archive"),
    (b"\xff\xd8\xff\xe0", "it is an image, not a network"),
    (b"\x89HDF\r\n\x1a\n", "it is a file of HDF5"),
)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(("data", "words"), OTHERS)
def test_a_file_of_another_kind(data: bytes, words: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(data)

    assert words in refusal(path)


@pytest.mark.parametrize(
    "data",
    [b"some words", b"\x08\x07", b"\x0a\x03abc", bytes(100), b"\xff" * 100, b"\x08\x07\x3a\x00"],
)
def test_bytes_that_are_no_network_in_onnx(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)

    assert refusal(tmp_path / "m.onnx").endswith("export it again")


def test_a_network_in_onnx_that_is_cut_off_anywhere(tmp_path: Path) -> None:
    model, first = small(), small()
    del first.graph.initializer[:]
    last = ModelProto(graph=GraphProto(initializer=model.graph.initializer))
    path = tmp_path / "m.onnx"
    # parts of a message may come in any order: here the weights are at the end too
    for data in (model.SerializeToString(), first.SerializeToString() + last.SerializeToString()):
        for length in range(1, len(data) - 1, 7):
            path.write_bytes(data[:length])
            assert refusal(path)


def test_networks_within_networks_without_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(200):
        for number in (6, 5, 1):  # the graph of an attribute, the attribute of a node, the node
            graph = wire_field(number, graph)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + wire_field(7, graph))

    assert refusal(tmp_path / "m.onnx").startswith("it is damaged")


def wire_field(number: int, data: bytes) -> bytes:
    """A field of a message, its length as a number of three parts."""
    length = len(data)
    parts = [length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]
    return bytes([number << 3 | 2, *parts]) + data


def test_a_constant_that_nothing_takes_is_no_damage(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], [], value_float=1.0), *small_nodes()]

    assert read_graph(save(model_of(nodes), tmp_path / "m.onnx")).num_classes == CLASSES


def located(location: str, folder: Path, **entries: str) -> Path:
    """The small network with external data at other places."""
    model = small()
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    return save(model, folder / "m.onnx")


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (tmp_path / "secret").write_bytes(bytes(10_000))
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "sub").symlink_to(tmp_path)
    for location in ("../secret", str(tmp_path / "secret"), "link", "sub/secret", "a/../../secret"):
        assert "outside its folder" in refusal(located(location, inside))


def test_weights_that_are_missing_or_cut_off(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "here").write_bytes(bytes(1000))
    (tmp_path / "folder").mkdir()
    for location in ("none", "x" * 5000, "circle", "here/none"):
        assert "its weights are missing" in refusal(located(location, tmp_path))
    for location, entries in (
        ("here", {"offset": "999", "length": "2"}),
        ("here", {"length": str(10**30)}),
        ("folder", {}),
    ):
        assert "are cut off" in refusal(located(location, tmp_path, **entries))
    for location, entries in (
        ("", {}),
        ("a\0b", {}),
        ("here", {"offset": "x"}),
        ("here", {"offset": "-1"}),
    ):
        assert "it is damaged" in refusal(located(location, tmp_path, **entries))


def test_weights_in_a_cache_of_links_are_read(tmp_path: Path) -> None:
    """As in the cache of the Hugging Face hub: links to files that lie beside each other."""
    for name in ("blobs", "snapshot"):
        (tmp_path / name).mkdir()
    path = save_external(small(), tmp_path / "blobs" / "m.onnx")
    for file in (path, path.with_name("m.onnx.data")):
        (tmp_path / "snapshot" / file.name).symlink_to(file)

    assert len(read_graph(tmp_path / "snapshot" / "m.onnx").files) == 2


XMLS: tuple[tuple[str, str], ...] = (
    ("<annotation><folder>VOC</folder></annotation>", "it is XML of another kind (<annotation>)"),
    ("<?xml version='1.0'?><r xmlns='x:y'/>", "it is XML of another kind (<{x:y}r>)"),
    ('<!DOCTYPE net [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><net>&b;</net>', "declares a document"),
    ('<net name="a" version="7"/>', "it is of version 7 of OpenVINO's format"),
    ('<net name="a"/>', "it is damaged, or not a network of OpenVINO"),
    ('<net name="a" version="11"><layers>', "it is damaged, or not a network of OpenVINO"),
    ("plain text", "it is damaged, or not a network of OpenVINO"),
    ('<net name="a" version="11"/>', "it has no input"),
    (f'<net version="11"><rt_info>{"<a>" * 90_000}{"</a>" * 90_000}</rt_info></net>', "damaged"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "words"), XMLS, ids=[words[:30] for _, words in XMLS])
def test_xml_that_is_no_network_of_openvino(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text(text)

    assert words in refusal(tmp_path / "m.xml")


def test_entities_in_another_encoding_are_not_expanded(tmp_path: Path) -> None:
    text = "<?xml version='1.0' encoding='{0}'?><!DOCTYPE net [<!ENTITY a 'aaa'>]><net>&a;</net>"
    for encoding in ("utf-16", "utf-16-be", "cp037"):
        (tmp_path / "m.xml").write_bytes(text.format(encoding).encode(encoding))
        assert "it is damaged, or not a network of OpenVINO" in refusal(tmp_path / "m.xml")


def test_a_network_of_openvino_without_all_of_its_weights(tmp_path: Path) -> None:
    path = convert(small(), tmp_path / "m.xml")
    weights = path.with_suffix(".bin")
    data = weights.read_bytes()

    weights.write_bytes(data[:-1])
    assert "its weights, m.bin, are cut off or of another network" in refusal(path)
    weights.unlink()
    assert "its weights, m.bin, are missing beside it" in refusal(path)


def test_a_network_of_openvino_with_other_operations(tmp_path: Path) -> None:
    path = convert(small(), tmp_path / "m.xml")
    text = path.read_text().replace(
        'type="ReLU" version="opset1"', 'type="Magic" version="extension"'
    )
    path.write_text(text)

    assert "it has custom operations (extension.Magic): convert it" in refusal(path)


def test_an_image_without_a_pixel(tmp_path: Path) -> None:
    path = convert(small(), tmp_path / "m.xml")
    path.write_text(path.read_text().replace('shape="?,3,8,8"', 'shape="0,3,8,8"'))

    assert "has no place for a pixel: is it damaged?" in refusal(path)


def test_a_network_of_openvino_that_does_not_classify(tmp_path: Path) -> None:
    image = opset13.parameter([-1, 3, SIDE, SIDE], np.float32, name="image")
    mask = opset13.parameter([-1, 1], np.float32, name="mask")
    pooled = opset13.reduce_mean(opset13.concat([image, image], 1), [2, 3])
    networks = (
        (ov.Model([opset13.relu(image)], [image]), "no scores of classes"),
        (ov.Model([opset13.relu(image), opset13.relu(mask)], [image, mask]), "it has 2 inputs"),
        (ov.Model([pooled], [image]), "it ends in the pooling of a backbone"),
        (
            ov.Model([opset13.log(opset13.sigmoid(opset13.reduce_max(image, [2, 3])))], [image]),
            "logarithm of",
        ),
    )
    for network, words in networks:
        ov.save_model(network, tmp_path / "m.xml")
        assert words in refusal(tmp_path / "m.xml")
