"""Networks of a prototxt against OpenCV, which runs them itself, and their summaries."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from caffe_files import (
    CaffeLayer,
    encode,
    resnet_prototxt,
    string,
)
from caffe_opencv import Files, Floats, described, saved, thin_resnet
from conftest import Run
from resnet_cli.checkpoint.formats.caffe import read_caffemodel
from resnet_cli.checkpoint.formats.prototxt import read_prototxt
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.summary import summarize, summarize_network
from resnet_cli.summary.caffe import network_from_prototxt
from resnet_cli.summary.networks import SummaryOptions, find_subject

DATA = 'input: "data" '


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return thin_resnet(tmp_path_factory.mktemp("thin"))


@pytest.mark.parametrize(
    ("start", "inputs"),
    [
        (DATA + "input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9", {"data": (1, 3, 8, 9)}),
        (DATA + "input_shape { dim: 1 dim: 3 dim: 8 dim: 9 }", {"data": (1, 3, 8, 9)}),
        (DATA + 'input: "b" input_dim: [1, 2, 3, 4, 5, 6]', {"data": (1, 2, 3, 4), "b": (5, 6)}),
        (DATA, {"data": ()}),
        ("", {}),
    ],
)
def test_inputs_are_read_in_every_style(start: str, inputs: dict[str, Any]) -> None:
    assert read_prototxt(start).inputs == inputs


def test_layers_for_training_alone_are_left_out() -> None:
    rules = {
        "a": "", "b": "include { phase: TEST }", "c": "include { phase: TRAIN }",
        "d": "exclude { phase: TRAIN }", "e": "exclude { phase: TEST }",
        "f": 'include { phase: TEST stage: "val" }', "g": "include { min_level: 0 }",
    }  # fmt: skip
    text = "".join(f'layer {{ name: "{name}" {rule} }}' for name, rule in rules.items())

    assert [layer.name for layer in read_prototxt(text).layers] == ["a", "b", "d", "g"]


def test_a_prototxt_may_have_unknown_fields(thin: Files) -> None:
    text = """
        # a comment
        name: 'net' force_backward: true state { phase: TEST }
        layer { name: "c" type: "Convolution" param { lr_mult: 1 } bottom: "x" top: "y"
          convolution_param { num_output: 2 kernel_h: 3 kernel_w: 5 pad: 1 pad: 2 dilation: 2
            weight_filler { type: "xavier" } engine: CUDNN new_thing { deep { er: [1, 2] } } } }
    """
    (layer,) = read_prototxt(text).layers

    assert layer.part.settings == {
        "num_output": 2, "bias_term": True, "kernel_size": (3, 5), "pad": (1, 2),
        "stride": (1, 1), "dilation": (2, 2), "group": 1,
    }  # fmt: skip
    assert (layer.bottoms, layer.tops) == (("x",), ("y",))


@pytest.mark.parametrize(
    ("setting", "rounds_up"),
    [("", True), ("ceil_mode: false", False), ("ceil_mode: true", True),
     ("round_mode: FLOOR", False), ("round_mode: CEIL", True)],
)  # fmt: skip
def test_pools_round_up_unless_the_prototxt_says_otherwise(setting: str, rounds_up: bool) -> None:
    pool = f'layer {{ name: "pool" type: "Pooling" pooling_param {{ kernel_size: 3 {setting} }} }}'

    assert read_prototxt(pool).layers[0].part.settings["ceil_mode"] is rounds_up


@pytest.mark.parametrize(
    "text", ["layer {", "layer { name: 3 }", "\x00\x01", "a" * 9, "a{" * 20_000, "layer { pool"]
)
def test_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CheckpointError, match="it is not a prototxt") as caught:
        read_prototxt(text)

    assert "\n" not in str(caught.value)


# the network of a prototxt


def with_weights(files: Files) -> nn.Module:
    network = network_from_prototxt(files.prototxt).to_empty(device="cpu")
    missing, unexpected = network.load_state_dict(read_caffemodel(files.caffemodel), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


def outputs(network: nn.Module, images: Floats) -> dict[str, Floats]:
    """What each layer gives, read when the whole network has run: layers in place are done."""
    seen: dict[str, Floats] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            seen[name] = output.numpy().copy()

        return hook

    for name, module in network.named_children():
        module.register_forward_hook(keep(name))
    with torch.inference_mode():
        network(torch.from_numpy(images))
    return seen


def opencv_outputs(files: Files, images: Floats, names: list[str]) -> dict[str, Floats]:
    net = files.opencv()
    net.setInput(images)
    given: Any = net.forward(names)
    return dict(zip(names, given, strict=True))


def test_a_whole_network_computes_what_opencv_computes(thin: Files) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 96, 96), np.float32)
    names = ["pool1", "res2a_relu", "res3a_relu", "res5c_relu", "fc1000", "prob"]
    ours = outputs(with_weights(thin), images)

    assert list(ours)[:6] == [
        "conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1", "res2a_branch1",
    ]  # fmt: skip
    assert list(ours) == list(re.findall(r'\tname: "(\w+)"', thin.text))
    for name, expected in opencv_outputs(thin, images, names).items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-4, atol=2e-4, err_msg=name)
    assert np.ptp(ours["fc1000"]) > 1


@pytest.mark.parametrize("side", [61, 64, 97])
def test_sizes_round_as_in_opencv(side: int, thin: Files, tmp_path: Path) -> None:
    cut = thin.text.index('layer {\n\tbottom: "res3a"\n\ttop: "res3b_')
    text = thin.text[:cut].replace("input_dim: 96", f"input_dim: {side}")
    files = saved(tmp_path, text, thin.data)
    images = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    ours = outputs(with_weights_of(files, text), images)

    for name, expected in opencv_outputs(files, images, ["pool1", "res3a_relu"]).items():
        assert ours[name].shape == expected.shape
        np.testing.assert_allclose(ours[name], expected, rtol=2e-4, atol=2e-4)


def with_weights_of(files: Files, text: str) -> nn.Module:
    """The network of a part of a prototxt, with its part of the weights."""
    network = described(text).to_empty(device="cpu")
    network.load_state_dict(
        {
            name: tensor
            for name, tensor in read_caffemodel(files.caffemodel).items()
            if name in network.state_dict()
        },
        strict=False,
    )
    return network


VARIED = """
input: "data"  input_shape { dim: 1 dim: 4 dim: 13 dim: 17 }
layer { name: "conv/3x5.a" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 stride: 1 group: 2 } }
layer { name: "leaky" type: "ReLU" bottom: "c" top: "r" relu_param { negative_slope: 0.1 } }
layer { name: "drop" type: "Dropout" bottom: "r" top: "r" }
layer { name: "dilated" type: "Convolution" bottom: "r" top: "dilated"
  convolution_param { num_output: 6 kernel_size: 3 pad: 2 dilation: 2 bias_term: false } }
layer { name: "half" type: "Eltwise" bottom: "dilated" bottom: "r" bottom: "c" top: "e"
  eltwise_param { operation: SUM coeff: 0.5 coeff: -2 coeff: 1 } }
layer { name: "average" type: "Pooling" bottom: "e" top: "a"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "largest" type: "Pooling" bottom: "a" top: "m"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 ceil_mode: false } }
layer { name: "scale" type: "Scale" bottom: "m" top: "s" }
layer { name: "all" type: "Pooling" bottom: "s" top: "g"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "most" type: "Pooling" bottom: "s" top: "h"
  pooling_param { pool: MAX global_pooling: true } }
layer { name: "sum" type: "Eltwise" bottom: "g" bottom: "h" top: "z" }
layer { name: "fc" type: "InnerProduct" bottom: "z" top: "fc"
  inner_product_param { num_output: 3 bias_term: false } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_settings_mean_what_they_mean_to_opencv(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[str, list[tuple[int, ...]]]] = {
        "conv/3x5.a": ("Convolution", [(6, 2, 3, 5), (6,)]),
        "dilated": ("Convolution", [(6, 6, 3, 3)]),
        "scale": ("Scale", [(6,)]),
        "fc": ("InnerProduct", [(3, 6)]),
    }
    data = b"".join(
        encode(
            CaffeLayer(
                name, kind, (), "", {}, tuple(random.standard_normal(s, np.float32) for s in sizes)
            )
        )
        for name, (kind, sizes) in shapes.items()
    )
    files = saved(tmp_path, VARIED, string(1, "varied") + data)
    images = random.standard_normal((1, 4, 13, 17), np.float32)
    state = read_caffemodel(files.caffemodel)
    network = network_from_prototxt(files.prototxt).to_empty(device="cpu")
    network.load_state_dict({name.replace("5.a", "5_a"): t for name, t in state.items()})
    ours = outputs(network, images)
    names = ["leaky", "dilated", "half", "average", "largest", "scale", "sum", "fc", "prob"]

    assert list(ours) == [
        "conv/3x5_a", "leaky", "drop", "dilated", "half_", "average", "largest", "scale", "all",
        "most", "sum", "fc", "prob",
    ]  # fmt: skip
    for name, expected in opencv_outputs(files, images, names).items():
        got = ours["half_" if name == "half" else name]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def layer(kind: str, *bottoms: str, settings: str = "", top: str = 'top: "new"') -> str:
    """A layer called as its type."""
    blobs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{kind}" type: "{kind}" {blobs} {top} {settings} }} '


def conv(settings: str = "num_output: 2 kernel_size: 1", bottom: str = "data") -> str:
    return layer("Convolution", bottom, settings=f"convolution_param {{ {settings} }}")


IMAGES = DATA + "input_dim: [1, 3, 8, 8] "


def test_an_input_layer_gives_the_images() -> None:
    shape = "input_param { shape { dim: [1, 5, 8, 8] } }"
    network = described(layer("Input", settings=shape, top='top: "data"') + conv())

    assert [type(module).__name__ for module in network.children()] == ["Input", "Conv2d"]
    assert network(torch.empty(3, 5, 9, 9, device="meta")).shape == (3, 2, 9, 9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (IMAGES + layer("LRN") + layer("PReLU"), r"unknown types: LRN \(LRN\), PReLU \(PReLU\): "),
        (IMAGES, "it has no layers"),
        (conv(), "its inputs are none"),
        (DATA + conv(), r"its inputs are data \[\]"),
        ('input: "a" ' + IMAGES + conv(), r"its inputs are a \[1, 3, 8, 8\], data \[\]"),
        (DATA + "input_dim: [1, 3, 0, 8]" + conv(), "its inputs are"),
        (layer("Input", top='top: "data"') + conv(), r"its inputs are data \[\]"),
        (IMAGES + conv(bottom="x"), r"Convolution \(Convolution\).*reads x, which no layer"),
        (IMAGES + conv("kernel_size: 1"), r"does not fit \(KeyError: 'num_output'\)"),
        (IMAGES + conv("num_output: 2 kernel_size: 99"), "does not fit"),
        (IMAGES + conv("num_output: 2 kernel_size: 1 group: 7"), "does not fit"),
        (IMAGES + layer("ReLU", "data", top=""), "does not fit"),
        (IMAGES + conv() + layer("Eltwise", "data", "new"), "does not fit .*adds shapes"),
        (
            IMAGES + layer("Eltwise", "data", settings="eltwise_param { operation: PROD }"),
            "an operation PROD, only SUM",
        ),
        (
            IMAGES + layer("Pooling", "data", settings="pooling_param { pool: STOCHASTIC }"),
            "a pool of kind STOCHASTIC",
        ),
        (
            IMAGES + layer("Scale", "data", settings="scale_param { axis: 0 }"),
            "axis 0 and 1 axes",
        ),
    ],
)
def test_a_network_that_cannot_be_built_says_why(text: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=f"cannot build some.prototxt: .*{complaint}"):
        described(text)


def test_a_batch_norm_may_stand_behind_a_linear_layer() -> None:
    text = (
        IMAGES
        + """
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 5 } }
        layer { name: "bn" type: "BatchNorm" bottom: "fc" top: "fc" }
        layer { name: "scale" type: "Scale" bottom: "fc" top: "fc" scale_param { bias_term: true } }
    """
    )

    assert described(text)(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 5)


def test_a_blob_lives_until_its_last_reader() -> None:
    text = IMAGES + "".join(
        layer("ReLU", f"blob{number}" if number else "data", top=f'top: "blob{number + 1}"')
        for number in range(5)
    )
    seen = summary_of(text).totals.peak_activation_bytes

    assert (
        seen == 2 * 3 * 8 * 8 * 4 + 3 * 8 * 8 * 4
    )  # the pictures, which the caller keeps, and two


# summaries


def summary_of(text: str, **settings: Any) -> Any:
    Path("deploy.prototxt").write_text(text)
    return summarize("deploy.prototxt", SummaryOptions(**settings))


@pytest.mark.parametrize(
    ("depths", "name", "gmacs"),
    [
        # the figures of the ResNet paper's table 1: https://arxiv.org/abs/1512.03385
        ((3, 4, 6, 3), "resnet50", 3.8),
        ((3, 4, 23, 3), "resnet101", 7.6),
        ((3, 8, 36, 3), "resnet152", 11.3),
    ],
)
def test_a_whole_resnet_has_blocks_and_stages(
    depths: tuple[int, int, int, int], name: str, gmacs: float
) -> None:
    Path("deploy.prototxt").write_text(resnet_prototxt(depths))
    subject = find_subject("deploy.prototxt", SummaryOptions())
    blocks, stages = (
        summarize_network(subject, SummaryOptions(view=view)) for view in ("blocks", "stages")
    )
    assert subject.written is not None
    count = sum(parameter.numel() for parameter in subject.written.parameters())

    assert blocks.model == name
    assert len(blocks.rows) == sum(depths)
    assert [row["repeats"] for row in stages.rows[2:6]] == list(depths)
    assert [row["output_size"] for row in stages.rows] == [
        [112, 112], [56, 56], [56, 56], [28, 28], [14, 14], [7, 7], [1, 1], [1, 1],
    ]  # fmt: skip
    assert blocks.totals.gmacs == pytest.approx(gmacs, rel=0.03)
    assert blocks.totals.parameters == count
    assert any("stride in their first 1×1 convolution" in note for note in blocks.notes)


def test_the_layers_of_a_whole_resnet_keep_their_own_names_beside() -> None:
    Path("deploy.prototxt").write_text(resnet_prototxt((3, 4, 6, 3), num_classes=10, side=256))
    subject = find_subject("deploy.prototxt", SummaryOptions())

    assert subject.is_resnet
    assert (subject.img_size, subject.num_classes, subject.in_channels) == ((256, 256), 10, 3)
    assert subject.written is not None
    strides = {
        name: module.stride
        for name, module in subject.written.named_children()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    }
    assert list(strides) == [
        "conv1", "res3a_branch1", "res3a_branch2a", "res4a_branch1", "res4a_branch2a",
        "res5a_branch1", "res5a_branch2a",
    ]  # fmt: skip


def test_strides_and_pools_of_a_resnet_are_read_not_guessed() -> None:
    text = resnet_prototxt((3, 4, 6, 3))
    for number in (3, 4, 5):  # as torchvision has them
        for branch, stride in (("2a", 1), ("2b", 2)):
            start = text.index(f'name: "res{number}a_branch{branch}"')
            place = text.index("stride: ", start) + len("stride: ")
            text = text[:place] + str(stride) + text[place + 1 :]
    subject_of = summary_of(text, view="blocks")

    assert any("stride in their 3×3 convolution" in note for note in subject_of.notes)
    other = text.replace("stride: 2\n\t\tbias_term", "stride: 3\n\t\tbias_term")
    with pytest.raises(SettingError, match="not a ResNet"):
        summary_of(
            other.replace("kernel_size: 7\n\t\tstride: 1", "kernel_size: 1\n\t\tstride: 1"),
            view="blocks",
        )


def test_a_whole_resnet_takes_changes_and_other_networks_do_not(thin: Files) -> None:
    Path("deploy.prototxt").write_text(resnet_prototxt((3, 4, 6, 3), num_classes=10))
    options = SummaryOptions(view="stages", num_classes=3, in_channels=1, dilated=True)
    changed = find_subject("deploy.prototxt", options)
    last = summarize_network(changed, options).rows[5]

    assert (changed.num_classes, changed.in_channels) == (3, 1)
    assert last["output_size"] == [28, 28]
    assert changed.written is None
    with pytest.raises(SettingError, match="cannot change"):
        find_subject(str(thin.prototxt), SummaryOptions(num_classes=3))


def test_the_first_block_alone_is_summarised(run: Run) -> None:
    text = resnet_prototxt((3, 4, 6, 3))
    Path("first.prototxt").write_text(
        text[: text.index('layer {\n\tbottom: "res2a"\n\ttop: "res2b')]
    )
    result = run("summary", "first.prototxt")

    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "ResNet-50 (first.prototxt): 1×3×224×224 → no head"
    names = [line.split()[0] for line in lines[4:25]]
    assert names[:5] == ["conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1"]
    assert names[-2:] == ["res2a", "res2a_relu"]
    # 7·7·3·64 + 64 in front, 64·256 + 64·64 + 9·64·64 + 64·256 in the block, and the scales
    assert "84,608" in next(line for line in lines if line.startswith("parameters"))
    assert "it has no classes: res2a_relu gives [1, 256, 56, 56]" in result.output
    refused = run("summary", "first.prototxt", "--view", "blocks")
    assert refused.exit_code == 1


def test_a_file_that_is_not_a_prototxt_is_refused_by_name(run: Run) -> None:
    Path("bad.prototxt").write_text("layer {")
    result = run("summary", "bad.prototxt")

    assert result.exit_code == 1
    assert "cannot load bad.prototxt: it is not a prototxt" in result.output
    assert run("summary", "missing.prototxt").exit_code == 1
