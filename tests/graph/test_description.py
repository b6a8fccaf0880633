"""What this program writes of a network into its file, and what Intel's Model API makes of it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from model_api.models import Model
from onnx import helper
from scipy.special import softmax

from network_files import CLASSES, SIDE, convert, of_pixels, save, scores_of, small
from resnet_cli.errors import CheckpointError
from resnet_cli.graph import NORMALIZED, Description, read_graph
from resnet_cli.graph.description import as_properties, as_rt_info, description_from
from resnet_cli.preprocess import Preprocess

NAMES = ("red fox", "bär\u202e", 'O\'Neill, "Q" <&>', "d\n\t e")
ONE_WORD = ["red_fox", "bär", 'O\'Neill,_"Q"_<&>', "d_e"]

OURS = Description(
    model="resnet18",
    class_names=NAMES,
    classes_source="of the checkpoint",
    preprocess=MappingProxyType(Preprocess(SIDE, SIDE).record()),
    preprocess_source="recorded",
    precision="int8",
    source="a.pth",
    sha256="0" * 64,
    notes=("assumed",),
    calibration={"images": 300, "agreement": 0.99},
)
SHARED = replace(OURS, preprocess=dict(OURS.preprocess))  # equal to what is read


def written(model: onnx.ModelProto, description: Description, path: Path) -> Path:
    """Write a network with a description, as a .onnx or an .xml."""
    if path.suffix == ".onnx":
        helper.set_model_props(model, as_properties(description))
        return save(model, path)
    network = ov.Core().read_model(model.SerializeToString())
    for keys, value in as_rt_info(description).items():
        network.set_rt_info(value, [*keys])
    ov.save_model(network, path, compress_to_fp16=False)
    return path


def record(**changes: Any) -> dict[str, str]:
    """What a file carries, with other fields in the record; None leaves one out."""
    changed = json.loads(as_properties(OURS)["resnet_cli"]) | changes
    kept = {key: value for key, value in changed.items() if value is not None}
    return {"resnet_cli": json.dumps(kept)}


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_a_file_says_what_was_written_into_it_and_nothing_else(name: str, tmp_path: Path) -> None:
    path = written(of_pixels(metadata={}), OURS, tmp_path / name)

    graph = read_graph(path)

    assert graph.description == SHARED
    assert graph.takes_pixels
    assert [key for key in graph.metadata if "resnet_cli" in key or "model_info" in key] == []


def test_what_openvino_makes_of_our_onnx_is_still_described(tmp_path: Path) -> None:
    model = of_pixels(metadata=as_properties(OURS))

    assert read_graph(convert(model, tmp_path / "m.xml")).description == SHARED


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
@pytest.mark.parametrize("network", ["pixels", NORMALIZED])
@pytest.mark.filterwarnings("ignore")
def test_model_api_gives_the_same_labels_and_probabilities(
    name: str, network: str, tmp_path: Path
) -> None:
    preprocess = Preprocess(SIDE, SIDE, mean=(0.5, 0.2, 0.4), std=(0.3, 0.5, 0.2))
    description = replace(OURS, preprocess=preprocess.record(), input=network)
    model = of_pixels() if network == "pixels" else small()
    path = written(model, description, tmp_path / name)
    images = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)

    wrapper = Model.create_model(str(path), device="CPU")

    for image in images:
        values = image / np.float32(255) if network == "pixels" else preprocess.normalise(image)
        expected = softmax(scores_of(values.transpose(2, 0, 1)[None])[0])
        result = wrapper(image[:, :, ::-1])  # BGR
        assert np.abs(result.raw_scores - expected).max() < 0.01  # the CPU may compute in bf16
        assert result.top_labels[0].name == ONE_WORD[expected.argmax()]


@pytest.mark.parametrize(
    ("description", "names"),
    [
        (replace(OURS, activation="sigmoid"), {"multilabel": "True"}),
        (OURS, {"multilabel": "False", "reverse_input_channels": "True", "resize_type": "crop"}),
        (
            replace(
                OURS, preprocess=Preprocess(8, 8, "bicubic", color="bgr", squash=True).record()
            ),
            {
                "reverse_input_channels": "False",
                "resize_type": "standard",
                "interpolation_mode": "CUBIC",
            },
        ),
    ],
)
def test_settings_of_model_api(description: Description, names: dict[str, str]) -> None:
    properties = as_properties(description)

    assert {key: properties[f"model_info {key}"] for key in names} == names
    assert "model_info mean_values" not in properties  # such a network normalises by itself


def test_model_api_has_no_setting_for_a_single_output() -> None:
    assert [*as_properties(replace(OURS, class_names=("a",)))] == ["resnet_cli"]


def test_fields_of_a_newer_version_are_ignored() -> None:
    assert description_from(record(version=2, colour_of_cover="red")) == SHARED
    assert description_from({"labels": "a b"}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2, "input": "yuv"}, "a newer version of resnet-cli wrote it: upgrade"),
        ({"version": 2, "class_names": {"a": 1}}, "a newer version of resnet-cli wrote it"),
        ({"version": 0}, "is damaged: export the file again"),
        ({"version": True}, "is damaged"),
        ({"input": "yuv"}, "is damaged"),
        ({"input": ["pixels"]}, "is damaged"),
        ({"class_names": "abcd"}, "is damaged"),
        ({"class_names": []}, "is damaged"),
        ({"class_names": ["a", 1]}, "is damaged"),
        ({"made_up": 1}, "is damaged"),
        ({"model": None}, "is damaged"),
        ({"preprocess": []}, "is damaged"),
        ({"preprocess": {"gamma": 2}}, "cannot obey the recorded preprocessing: unknown gamma"),
        ({"preprocess": {"crop_size": 900}}, "cannot crop 900 pixels out of 256"),
    ],
)
def test_a_record_that_cannot_be_obeyed_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        description_from(record(**changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"version": 1}'])
def test_a_torn_record_is_refused(text: str) -> None:
    with pytest.raises(
        CheckpointError, match="the record that resnet-cli wrote into it is damaged"
    ):
        description_from({"resnet_cli": text})


@pytest.mark.parametrize(
    "description",
    [
        replace(OURS, class_names=NAMES[:3]),
        replace(OURS, input=NORMALIZED),
        replace(OURS, preprocess=Preprocess(mean=(0.4,), std=(0.2,)).record()),
    ],
)
def test_a_record_of_another_network_is_refused(description: Description, tmp_path: Path) -> None:
    path = written(of_pixels(), description, tmp_path / "m.onnx")

    with pytest.raises(CheckpointError, match="does not fit it: export the file again"):
        read_graph(path)


def test_a_single_output_has_one_name_or_two(tmp_path: Path) -> None:
    model = of_pixels()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    for names in (("yes",), ("no", "yes")):
        path = written(model, replace(OURS, class_names=names), tmp_path / "m.onnx")
        described = read_graph(path).description
        assert described is not None
        assert described.class_names == names


def test_reading_imports_neither_torch_nor_what_runs_networks(tmp_path: Path) -> None:
    paths = [written(of_pixels(), OURS, tmp_path / name) for name in ("m.onnx", "m.xml")]
    program = (
        "import sys; from pathlib import Path; from resnet_cli.graph import read_graph\n"
        f"for path in {[str(path) for path in paths]}: print(read_graph(Path(path)).num_classes)\n"
        "print([one for one in ('torch', 'torchvision', 'onnxruntime', 'openvino', 'onnx.helper')"
        " if one in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.splitlines() == [str(CLASSES), str(CLASSES), "[]"], done.stderr
