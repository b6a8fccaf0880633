"""Exported files, run by the libraries they are for, give what torchvision's network gives."""

import hashlib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet

from commands import error_line
from conftest import Run, trained
from converting import AS_IMAGENET, calm, close, expected, predicted, resnet, saved
from exported import SIZES, SUFFIXES, logits_of, pixels_of, record_in

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files", "three_images")

NAMES = ("--classes", "ants,bees,no one")


def exported(run: Run, source: Path, output: str, *options: object) -> Path:
    """Export, and see that nothing stands on stdout or beside the output."""
    before = set(Path().iterdir())
    result = run("export", source, output, *SIZES, *options)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    path = Path(output)
    files = {path, path.with_suffix(".bin")} if path.suffix == ".xml" else {path}
    assert set(Path().iterdir()) == before | files
    return path


def probabilities(path: Path, images: Any) -> Tensor:
    return logits_of(path, images).softmax(dim=1)


CASES = [(".onnx", "fp32"), (".onnx", "fp16"), (".xml", "fp32"), (".xml", "fp16"), (".pt2", "fp16")]


@pytest.mark.parametrize(("suffix", "precision"), CASES)
def test_a_file_computes_what_torchvisions_network_does(
    run: Run, suffix: str, precision: str
) -> None:
    network = resnet()
    source = saved({"state_dict": network.state_dict(), "classes": ["ants", "bees", "no one"]})
    path = exported(run, source, f"out{suffix}", "--precision", precision)

    found = probabilities(path, pixels_of())
    limit = {"fp32": 1e-5, "fp16": 5e-3}[precision]
    assert close(found, expected(network), limit)
    assert (precision == "fp32") == close(found, expected(network), 1e-5)
    weights = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.exists())
    assert weights < {"fp32": 46e6, "fp16": 24e6}[precision]

    record = record_in(path)
    assert record["class_names"] == ["ants", "bees", "no one"]
    assert (record["model"], record["precision"]) == ("resnet18", precision)
    assert record["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["preprocess"]["crop_size"] == 64
    agreement = record["agreement"]
    assert (agreement["images"], agreement["compared"]) == (3, "random images")
    assert 0 < agreement["largest_difference"] < limit


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_a_checkpoint_like_any_other(run: Run, suffix: str) -> None:
    network = resnet()
    source = saved(network.state_dict())
    path = exported(run, source, f"out{suffix}", *NAMES)

    found, labels = predicted(run, path)
    assert close(found, expected(network), 1e-5)
    best = expected(network).argmax(dim=1).tolist()
    assert labels == [["ants", "bees", "no one"][index] for index in best]
    assert close(found, predicted(run, source, *NAMES)[0], 1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_network_of_bgr_with_a_fixed_batch_and_normalised_input(run: Run, suffix: str) -> None:
    network, turned = resnet(), resnet()
    turned.conv1.weight.data = network.conv1.weight.data.flip(1)
    mean, std = "0.406,0.456,0.485", "0.225,0.224,0.229"  # in the order of its channels
    path = exported(
        run, saved(turned.state_dict()), f"out{suffix}", "--batch", 2, "--input", "normalized",
        "--color", "bgr", "--mean", mean, "--std", std,
    )  # fmt: skip

    mean_of_rgb, std_of_rgb = (
        np.array(numbers, np.float32).reshape(3, 1, 1)
        for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    images = ((pixels_of() / np.float32(255) - mean_of_rgb) / std_of_rgb).astype(np.float32)
    assert close(probabilities(path, images[1:]), expected(network)[1:], 1e-5)
    record = record_in(path)["preprocess"]  # of what the file takes
    assert (record["color"], record["mean"]) == ("rgb", [0.485, 0.456, 0.406])
    with pytest.raises(Exception, match=r"(?i)dimension|incompatible|size\(\)\[0\]"):
        logits_of(path, images)
    assert close(predicted(run, path)[0], expected(network), 1e-5)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_grey_images_and_a_single_output(run: Run, suffix: str) -> None:
    network = resnet(num_classes=1, in_channels=1)
    path = exported(run, saved(network.state_dict()), f"out{suffix}", "--classes", "no,yes")

    pixels = pixels_of(mode="L")
    with torch.inference_mode():
        logits = network((torch.from_numpy(pixels) / 255 - 0.449) / 0.226)
    assert close(logits_of(path, pixels), logits, 1e-4)
    yes = logits.sigmoid()
    assert close(predicted(run, path)[0], torch.cat([1 - yes, yes], dim=1), 1e-5)


def two_layers() -> ResNet:
    network = trained()
    torch.manual_seed(0)
    network.fc = nn.Sequential(
        nn.Dropout(), nn.Linear(512, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 3)
    )
    network.eval()
    calm(network, network.fc[4])
    return network


def test_what_tensors_do_not_show_is_in_a_pt2(run: Run) -> None:
    network = two_layers()
    path = exported(run, saved(network), "out.pt2")

    assert close(probabilities(path, pixels_of()), expected(network), 1e-5)
    assert close(predicted(run, path)[0], expected(network), 1e-5)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_several_labels_at_once(run: Run, suffix: str) -> None:
    network = resnet()
    with torch.inference_mode():
        paths = sorted(Path("images").iterdir())
        logits = network(torch.stack([AS_IMAGENET(Image.open(path)) for path in paths]))
    network.fc = nn.Sequential(network.fc, nn.Sigmoid())
    path = exported(run, saved(network), f"out{suffix}")

    assert close(logits_of(path, pixels_of()), logits, 1e-4)  # without the sigmoid
    assert close(predicted(run, path)[0], logits.sigmoid(), 1e-5)


def test_a_damaged_record_in_a_pt2_is_named(run: Run) -> None:
    path = exported(run, saved(resnet().state_dict()), "out.pt2", "--verify", 0)
    for number, record in enumerate(("{", "[]", '{"version": 1}', '{"version": 99}')):
        damaged = Path(f"{number}.pt2")
        with ZipFile(path) as old, ZipFile(damaged, "w") as new:
            for name in old.namelist():
                new.writestr(name, record if name.endswith("extra/resnet_cli") else old.read(name))
        line = error_line(run("predict", "images", "-c", damaged))
        assert "export the file again" in line
        assert line.startswith(f"Error: cannot load {damaged}: ")
