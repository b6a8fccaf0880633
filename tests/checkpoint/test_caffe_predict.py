"""Caffe's ResNet-50 through the whole program, against OpenCV's own reading of the same file."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from caffe_files import caffe_resnet
from conftest import SAMPLES, Run
from resnet_cli import Classifier
from resnet_cli.checkpoint.loading import Checkpoint, load_checkpoint
from resnet_cli.checkpoint.locate import Location
from resnet_cli.errors import CheckpointError

MEANS = (103.939, 116.779, 123.68)  # of blue, green, red on the scale 0 to 255

PICTURES = sorted(SAMPLES.glob("*/*_01.jpg"))


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.caffemodel, and its prototxt under a name that nothing looks at."""
    folder = tmp_path_factory.mktemp("caffe")
    text, data = caffe_resnet((3, 4, 6, 3), num_classes=1000, seed=3)
    (folder / "model.caffemodel").write_bytes(data)
    (folder / "net.txt").write_text(text)
    return folder


def prepared(path: Path) -> np.ndarray[Any, Any]:
    """BGR [1, 3, 224, 224] as Caffe's ResNets take pictures, by Pillow and NumPy."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    size = [int(256 * side / short) for side in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return (pixels[:, :, ::-1] - np.array(MEANS, np.float32)).transpose(2, 0, 1)[None]


def opencv(folder: Path, path: Path) -> np.ndarray[Any, Any]:
    """Probabilities that OpenCV gives for a picture."""
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.txt"), str(folder / "model.caffemodel"))
    net.setInput(prepared(path))
    return np.asarray(net.forward()).reshape(-1)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_probabilities_are_those_of_opencv(resnet50: Path, path: Path) -> None:
    classifier = Classifier.load(resnet50 / "model.caffemodel", exact=True)
    (row,) = classifier.predict(path, topk=1000)
    probs = np.zeros(1000)
    for score in row.scores:
        probs[score.index] = score.prob

    wanted = opencv(resnet50, path)

    assert np.abs(probs - wanted).max() < 1e-4
    assert wanted.max() > 2 / 1000  # not a network that says nothing
    assert isinstance(classifier.checkpoint, Checkpoint)
    assert classifier.checkpoint.layout == "caffe"
    assert classifier.preprocess.color == "bgr"


def test_strides_of_a_prototxt_beside_it_are_obeyed(resnet50: Path) -> None:
    deploy = resnet50 / "model.prototxt"
    text = (resnet50 / "net.txt").read_text()
    try:
        deploy.write_text(text)
        same = load_checkpoint(Location(resnet50 / "model.caffemodel", ""))
        deploy.write_text(text.replace("num_output: 1000", "num_output: 10"))

        with pytest.raises(CheckpointError, match="does not describe it"):
            load_checkpoint(Location(resnet50 / "model.caffemodel", ""))
    finally:
        deploy.unlink(missing_ok=True)

    assert same.variant.stride_in_1x1
    assert same.variant.ceil_pool


def test_a_converted_file_gives_the_same_probabilities(resnet50: Path, run: Run) -> None:
    original = resnet50 / "model.caffemodel"

    result = run("convert", original, "model.safetensors")

    assert "stride in their first 1x1 convolution" in result.stderr
    images = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(0))
    converted = load_checkpoint(Location(Path("model.safetensors"), ""))
    with torch.inference_mode():
        before = load_checkpoint(Location(original, "")).network()(images)
        after = converted.network()(images)
    assert torch.equal(before, after)
    assert converted.preprocess == load_checkpoint(Location(original, "")).preprocess
