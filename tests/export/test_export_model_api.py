"""Intel's Model API reads class names and normalisation out of exported files."""

from pathlib import Path

import cv2
import pytest
import torch
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model
from PIL import Image
from torchvision import transforms

from conftest import Run, picture
from converting import AS_IMAGENET, SIDE, resnet, saved

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

NAMES = ["ants", "bees", "no one"]


@pytest.mark.parametrize("takes", ["pixels", "normalized"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_model_api_gives_the_labels_of_torchvision(run: Run, suffix: str, takes: str) -> None:
    # square images of the size of the crop: Model API cannot crop out of a resized one
    paths = [picture(Path("images") / f"{seed}.png", (SIDE, SIDE), seed=seed) for seed in range(4)]
    network, prepare = resnet(), transforms.Compose(AS_IMAGENET.transforms[1:])
    with torch.inference_mode():
        images = torch.stack([prepare(Image.open(path)) for path in paths])
        logits = network(images)
        scale = 2 / logits.std(dim=0).mean()  # logits around 0, so that labels differ
        network.fc.bias.sub_(logits.mean(dim=0)).mul_(scale)
        network.fc.weight.mul_(scale)
        expected = network(images).softmax(dim=1)
    result = run(
        "export", saved(network.state_dict()), f"out{suffix}", "--classes", ",".join(NAMES),
        "--resize-size", SIDE, "--img-size", SIDE, "--verify", 2, "--input", takes,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    adapter = OpenvinoAdapter(create_core(), f"out{suffix}", device="CPU", plugin_config=settings)
    model = Model.create_model(adapter)
    found = [model(cv2.imread(str(path))) for path in paths]
    labels = [NAMES[index].replace(" ", "_") for index in expected.argmax(dim=1).tolist()]
    assert [one.top_labels[0].name for one in found] == labels
    assert len(set(labels)) > 1
    scores = torch.stack([torch.from_numpy(one.raw_scores) for one in found])
    assert torch.allclose(scores, expected, atol=1e-3)
