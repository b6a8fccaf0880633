"""Files of Caffe's weights against OpenCV, which reads them itself."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_files import (
    CaffeLayer,
    bytes_field,
    caffe_resnet,
    encode,
    encode_blob,
    number_field,
    string,
    varint,
)
from caffe_opencv import Files, Floats, read, saved, thin_resnet
from resnet_cli.checkpoint.formats.caffe import apply_prototxt, is_caffemodel, read_caffemodel
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError
from resnet_cli.summary.caffe import network_from_prototxt


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return thin_resnet(tmp_path_factory.mktemp("thin"))


def one_layer(kind: str, *blobs: bytes, name: str = "only") -> bytes:
    """A caffemodel of one layer with blobs that are bytes already."""
    layer = string(1, name) + string(2, kind) + b"".join(bytes_field(7, blob) for blob in blobs)
    return string(1, "net") + bytes_field(100, layer)


def blob(*values: float) -> bytes:
    return encode_blob(np.array(values, np.float32))


# the tensors of a caffemodel


def opencv_blobs(net: cv2.dnn.Net, layer: str) -> list[Floats]:
    return [np.asarray(blob, np.float32) for blob in net.getLayer(layer).blobs]


@pytest.mark.parametrize("bottleneck", [True, False])
def test_tensors_are_those_that_opencv_reads(bottleneck: bool, tmp_path: Path) -> None:
    text, data = caffe_resnet(
        (1, 2, 2, 1), num_classes=5, seed=1, width=4, bottleneck=bottleneck, side=64
    )
    files = saved(tmp_path, text, data)
    net, state = files.opencv(), read_caffemodel(files.caffemodel)
    seen = set()
    for name in net.getLayerNames():
        blobs = opencv_blobs(net, name)
        keys = ["weight", "bias"]
        if name.startswith("bn"):
            mean, variance, factor = blobs
            blobs, keys = [mean / factor, variance / factor], ["running_mean", "running_var"]
        for key, expected in zip(keys, blobs, strict=False):
            tensor = state[f"{name}.{key}"]
            assert tensor.dtype == torch.float32
            np.testing.assert_allclose(tensor.numpy().ravel(), expected.ravel(), rtol=1e-6)
            seen.add(f"{name}.{key}")

    assert seen == set(state)
    assert state["conv1.weight"].shape == (4, 3, 7, 7)
    assert state["conv1.bias"].shape == state["bn_conv1.running_var"].shape == (4,)
    assert state["fc1000.weight"].shape == (5, 128 if bottleneck else 32)
    assert state["fc1000.bias"].shape == (5,)


def test_only_the_small_network_of_the_authors_has_a_bias_in_front() -> None:
    assert "conv1.bias" in read(caffe_resnet((1, 1, 1, 1), num_classes=2, seed=0, width=2)[1])
    deep = read(caffe_resnet((1, 2, 7, 1), num_classes=2, seed=0, width=2)[1])

    assert "conv1.bias" not in deep
    assert {"res3b1_branch2a.weight", "res4b6_branch2c.weight", "res5a_branch1.weight"} <= set(deep)


def test_all_ways_to_write_a_blob_give_the_same_tensors(thin: Files) -> None:
    plain = read_caffemodel(thin.caffemodel)
    legacy = read(
        caffe_resnet((3, 4, 6, 3), num_classes=7, seed=0, width=8, side=96, legacy=True)[1]
    )

    assert list(legacy) == list(plain)
    assert all(torch.equal(legacy[name], plain[name]) for name in plain)
    assert all(legacy[name].shape == plain[name].shape for name in plain)
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    double = read(one_layer("InnerProduct", encode_blob(values, double=True)))
    np.testing.assert_array_equal(double["only.weight"].numpy(), values.astype(np.float32))
    # protobuf lets a writer part a packed field, and put the shape first
    low, high = values.astype("<f4").tobytes()[:16], values.astype("<f4").tobytes()[16:]
    parted = bytes_field(7, bytes_field(1, varint(3) + varint(4)))
    parted += bytes_field(5, low) + bytes_field(5, high)
    assert torch.equal(
        read(one_layer("InnerProduct", parted))["only.weight"], double["only.weight"]
    )


def test_a_row_of_numbers_has_one_axis_in_any_shape() -> None:
    column = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)
    state = read(one_layer("Scale", encode_blob(column), encode_blob(column, legacy=True)))

    assert state["only.weight"].tolist() == state["only.bias"].tolist() == [0, 1, 2]


def test_old_files_whose_types_are_numbers_are_read(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    old = string(2, "data") + string(3, "conv1") + string(4, "conv1") + number_field(5, 4)
    old += bytes_field(6, encode_blob(weight, legacy=True))
    old += bytes_field(10, number_field(1, 2) + number_field(6, 3))
    text = 'input: "data" input_dim: [1, 3, 8, 8] layers { name: "conv1" type: CONVOLUTION '
    text += 'bottom: "data" top: "conv1" convolution_param { num_output: 2 kernel_size: 1 '
    text += "bias_term: false stride: 3 } blobs_lr: 1 }"
    files = saved(tmp_path, text, string(1, "old") + bytes_field(2, old))
    state = read_caffemodel(files.caffemodel)

    assert state["conv1.weight"].tolist() == opencv_blobs(files.opencv(), "conv1")[0].tolist()
    assert state.parts["conv1"].kind == "Convolution"
    assert state.parts["conv1"].settings["stride"] == (3, 3)
    assert is_caffemodel(files.data)
    assert network_from_prototxt(files.prototxt).get_submodule("conv1").stride == (3, 3)
    unknown = string(2, "data") + string(4, "lrn") + number_field(5, 15)
    assert read(files.data + bytes_field(2, unknown)).parts["lrn"] == Part("LRN")


def test_statistics_that_were_never_gathered_are_zeros() -> None:
    state = read(one_layer("BatchNorm", blob(1, 2), blob(3, 4), blob(0)))

    assert state["only.running_mean"].tolist() == state["only.running_var"].tolist() == [0, 0]


def test_a_transposed_linear_layer_is_turned_round() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    layer = string(1, "fc") + string(2, "InnerProduct") + bytes_field(7, encode_blob(weight))
    layer += bytes_field(117, number_field(1, 2) + number_field(6, 1))

    assert read(bytes_field(100, layer))["fc.weight"].tolist() == weight.T.tolist()


def test_blobs_of_other_layers_are_not_lost() -> None:
    state = read(one_layer("PReLU", blob(0.25)))

    assert state["only.blob0"].tolist() == [0.25]
    assert read(one_layer("Scale", blob(1), blob(2), blob(3)))["only.blob2"].tolist() == [3]


# what a caffemodel says of its layers


def test_settings_are_those_of_the_file(thin: Files) -> None:
    parts = read_caffemodel(thin.caffemodel).parts

    assert list(parts)[:5] == ["conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1"]
    assert parts["conv1"] == Part(
        "Convolution",
        {
            "num_output": 8, "bias_term": True, "kernel_size": (7, 7), "stride": (2, 2),
            "pad": (3, 3), "dilation": (1, 1), "group": 1,
        },
    )  # fmt: skip
    assert parts["pool1"] == Part(
        "Pooling",
        {
            "pool": "MAX", "kernel_size": (3, 3), "stride": (2, 2), "pad": (0, 0),
            "global_pooling": False, "ceil_mode": True,
        },
    )  # fmt: skip
    assert parts["pool5"].settings["pool"] == "AVE"
    assert parts["bn_conv1"] == Part("BatchNorm", {"use_global_stats": True, "eps": 1e-5})
    assert parts["fc1000"].settings["num_output"] == 7
    assert parts["res2a_branch1"].settings["bias_term"] is False
    for stage, stride in ((2, (1, 1)), (3, (2, 2)), (4, (2, 2)), (5, (2, 2))):
        for branch in ("1", "2a"):
            assert parts[f"res{stage}a_branch{branch}"].settings["stride"] == stride
        assert parts[f"res{stage}a_branch2b"].settings["stride"] == (1, 1)


def test_an_epsilon_is_the_decimal_that_was_meant() -> None:
    def eps(settings: bytes) -> float:
        layer = string(1, "bn") + string(2, "BatchNorm") + bytes_field(7, blob(1))
        layer += (bytes_field(7, blob(1)) * 2) + settings
        return read(bytes_field(100, layer)).parts["bn"].settings["eps"]

    assert eps(b"") == 1e-5
    assert eps(bytes_field(139, varint(3 << 3 | 5) + np.float32(0.001).tobytes())) == 0.001


def test_a_pool_with_ambiguous_rounding_has_no_ceil_mode() -> None:
    # number 13 is ceil_mode to one Caffe and round_mode to another
    def pool(settings: bytes) -> Part:
        layer = string(1, "pool") + string(2, "Pooling") + bytes_field(121, settings)
        return read(one_layer("Scale", blob(1)) + bytes_field(100, layer)).parts["pool"]

    assert pool(number_field(2, 3)).settings["ceil_mode"] is True
    assert "ceil_mode" not in pool(number_field(2, 3) + number_field(13, 1)).settings


def test_a_caffemodel_of_blobs_alone_is_completed_by_its_prototxt(thin: Files) -> None:
    whole = read_caffemodel(thin.caffemodel)
    bare = read(
        caffe_resnet((3, 4, 6, 3), num_classes=7, seed=0, width=8, side=96, parameters=False)[1]
    )

    assert bare.parts["conv1"] == Part("Convolution")
    assert bare.parts["bn_conv1"].settings == {"eps": 1e-5}
    completed = apply_prototxt(bare, thin.text)
    assert completed.parts == whole.parts
    assert completed.keys() == whole.keys()
    assert all(completed[name] is bare[name] for name in bare)


def test_the_prototxt_wins_and_leaves_the_rest() -> None:
    weight = encode_blob(np.zeros((2, 3, 1, 1)))
    settings = bytes_field(106, number_field(1, 2) + number_field(4, 1) + number_field(6, 1))
    layer = string(1, "a") + string(2, "Convolution") + bytes_field(7, weight) + settings
    state = read(bytes_field(100, layer) + one_layer("Scale", blob(1), name="b"))
    text = 'layer { name: "a" type: "Convolution" convolution_param { num_output: 2 '
    completed = apply_prototxt(state, text + "kernel_size: 1 stride: 2 } }")

    assert completed.parts["a"].settings["stride"] == (2, 2)
    assert completed.parts["b"] == state.parts["b"]
    assert state.parts["a"].settings["stride"] == (1, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('layer { name: "other" type: "Convolution" }', "names none of the layers"),
        ("num_output: 3", "of another network: only has"),
        ("num_output: 2 kernel_size: 3", "of another network: only has"),
        ("num_output: 2 kernel_size: ", "not a prototxt"),
    ],
)
def test_a_prototxt_of_another_network_is_refused(text: str, complaint: str) -> None:
    state = read(one_layer("Convolution", encode_blob(np.zeros((2, 3, 1, 1)))))
    if text.startswith("num_output"):
        text = f'layer {{ name: "only" type: "Convolution" convolution_param {{ {text} }} }}'

    with pytest.raises(CheckpointError, match=complaint):
        apply_prototxt(state, text)


# inconsistent files


def test_a_file_that_is_cut_off_says_so(thin: Files) -> None:
    whole = read_caffemodel(thin.caffemodel)
    refused = 0
    for end in range(1, len(thin.data), 9973):
        try:
            part = read(thin.data[:end])
        except CheckpointError as error:
            refused += "copy or download it again" in str(error)
        else:  # cut between two layers, of which a file does not say how many there are
            assert len(part) < len(whole)

    assert refused > 30


HUGE = 1 << 60

MINUS = varint(-1)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "none of its layers holds weights"),
        (string(1, "net") + bytes_field(100, string(1, "a")), "none of its layers holds weights"),
        (b"\x0a\x03net\xa2\x06" + varint(HUGE) + b"\x0a\x01a", "damaged"),
        (b"\x00" * 64, "damaged"),
        (
            one_layer("Scale", bytes_field(5, b"\0" * 8) + bytes_field(7, bytes_field(1, b"\3"))),
            r"only.weight has 2 numbers for a shape of \[3\]",
        ),
        (
            one_layer("Convolution", bytes_field(7, bytes_field(1, varint(HUGE) * 4))),
            "only.weight has 0 numbers",
        ),
        (
            one_layer("Scale", bytes_field(5, bytes(4)) + bytes_field(7, bytes_field(1, MINUS))),
            r"1 numbers for a shape of \[-1\]",
        ),
        (
            one_layer(
                "Scale", bytes_field(5, bytes(4)) + bytes_field(7, bytes_field(1, MINUS * 2))
            ),
            r"1 numbers for a shape of \[-1, -1\]",
        ),
        (
            one_layer("Scale", bytes_field(5, bytes(6)) + bytes_field(7, bytes_field(1, b"\1"))),
            "only.weight has 1 numbers",
        ),
        (
            one_layer(
                "Scale", bytes_field(5, bytes(4)) + bytes_field(7, bytes_field(1, b"\1" * 100))
            ),
            "only.weight has 1 numbers",
        ),
        (one_layer("Scale", bytes_field(5, bytes(8))), "only.weight has 2 numbers"),
        (one_layer("BatchNorm", *[blob(1)] * 5), "NVIDIA"),
        (one_layer("BatchNorm", *[blob(1)] * 2), "holds 2 blobs"),
        (one_layer("BatchNorm", blob(1), blob(1), blob(1, 1)), "holds 3 blobs"),
        (one_layer("Scale", blob(1)) * 2, "two of its layers hold weights under only.weight"),
    ],
)
def test_an_inconsistent_file_is_refused_in_one_line(data: bytes, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read(data)

    assert "\n" not in str(caught.value)


def test_any_change_of_a_byte_is_read_or_refused() -> None:
    data = caffe_resnet((1, 1, 1, 1), num_classes=2, seed=0, width=2)[1]
    random = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 8):
            broken[place] = random.integers(256)
        complaints = ""
        try:
            read(bytes(broken))
        except CheckpointError as error:
            complaints = str(error)
        assert "\n" not in complaints


# how a caffemodel is recognised

ONNX = number_field(1, 8) + string(2, "pytorch") + bytes_field(7, string(2, "node"))

TENSORFLOW = bytes_field(1, string(1, "input") + string(2, "Placeholder"))

PLAIN = encode(CaffeLayer("conv1", "Convolution", ("data",), "conv1"))

CAFFE2 = string(1, "net") + bytes_field(
    2, string(1, "data") + string(2, "conv") + string(4, "Conv")
)

CAFFE2_START = string(1, "net") + bytes_field(
    2, string(2, "conv1_w") + string(4, "GivenTensorFill")
)


def test_a_caffemodel_is_known_by_its_first_bytes(thin: Files) -> None:
    inputs = string(3, "data") + b"".join(number_field(4, side) for side in (1, 3, 224, 224))
    shape = string(3, "data") + bytes_field(8, bytes_field(1, b"\1\3\x08\x08"))

    for start in (thin.data[:512], PLAIN, string(1, "") + PLAIN):
        assert is_caffemodel(start)
    for before in (inputs, shape, bytes_field(6, number_field(1, 1)), number_field(7, 0)):
        assert is_caffemodel(string(1, "net") + before + PLAIN)
    assert is_caffemodel(string(1, "Netz für Bilder") + PLAIN)


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\n", b"\x80\x02}q\x00", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"{}", b"(dp0\n",
        b"\n\nname: net\n", ONNX, ONNX[2:], TENSORFLOW, CAFFE2, CAFFE2_START,
        string(1, "net"), string(1, "net\n") + PLAIN, string(9, "a") + PLAIN,
        bytes_field(1, b"\xff"), string(1, "net") + b"\xa2",
        string(1, "net") + b"\xa2\x06\x7f\x0a\x01a", bytes_field(100, string(2, "a") * 2),
        bytes_field(100, string(1, "conv1") + string(2, "no word")),
        bytes_field(100, string(1, "conv1") + bytes_field(2, b"\0")), bytes_field(100, b"\1" * 9),
        bytes_field(100, number_field(1, 1) + number_field(2, 1)), number_field(100, 1),
        bytes_field(2, string(4, "a") + number_field(5, 99)), bytes_field(2, string(9, "a")),
        bytes_field(2, string(4, "a")), bytes_field(9, b"a"), number_field(3, 1), b"\x80" * 20,
        number_field(0, 0), b"\x0b" * 9,
    ],
)  # fmt: skip
def test_other_files_are_not_a_caffemodel(head: bytes) -> None:
    assert not is_caffemodel(head)


def test_neither_a_prototxt_nor_noise_is_a_caffemodel(thin: Files) -> None:
    random = np.random.default_rng(0)

    assert not is_caffemodel(thin.text.encode()[:512])
    assert not any(is_caffemodel(random.bytes(512)) for _ in range(1000))
    assert not any(is_caffemodel(b"\x0a\x03net\xa2\x06" + random.bytes(500)) for _ in range(1000))
