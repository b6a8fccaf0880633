"""What the pages say of export is what happens, for a reader who types it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.functional import normalize

from conftest import picture, trained
from converting import resnet
from docs_blocks import run_blocks
from resnet_cli import Export, ExportOptions, LoadOptions, export_checkpoint

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")


def test_the_page_on_python_shows_how_to_export(capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(trained(num_classes=2).state_dict(), "model.pth")
    done = run_blocks(DOCS / "python.md", "Export")["done"]

    assert isinstance(done, Export)
    assert done.files == (Path("model.onnx"),)
    assert done.bytes == Path("model.onnx").stat().st_size < 24e6
    assert done.description.class_names == ("ants", "bees")
    assert (done.warnings, done.accuracy) == ((), None)
    assert "16 of 16" in capfd.readouterr().out


def test_the_page_on_export_runs_each_file() -> None:
    network = resnet()
    torch.save(network.state_dict(), "model.pth")
    options = ExportOptions(load=LoadOptions(classes=["a", "b", "c"]), verify=0)
    for name in ("model.onnx", "model.xml", "model.pt2"):
        export_checkpoint("model.pth", name, options)
    photo = picture(Path("photo.jpg"))

    image = ImageOps.fit(Image.open(photo).convert("RGB"), (224, 224))
    pixels = torch.from_numpy(np.asarray(image) / np.float32(255)).permute(2, 0, 1)
    with torch.inference_mode():
        [expected] = network(normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None])
    best = "abc"[int(expected.argmax())]
    names = run_blocks(DOCS / "export.md", "Run it")
    assert names["result"].top_labels[0].name == best
    assert names["record"]["class_names"][names["logits"].argmax()] == best
    np.testing.assert_allclose(names["logits"][0].detach(), expected, atol=1e-3)


def test_nothing_is_printed_and_missing_names_are_warned_of(
    capfd: pytest.CaptureFixture[str],
) -> None:
    torch.save(resnet().state_dict(), "model.pth")
    done = export_checkpoint("model.pth", "out.onnx", ExportOptions(verify=1))

    assert done.warnings == (
        "no class names in out.onnx: labels will be class_0, class_1, class_2: give --classes",
    )
    assert done.agreement is not None
    assert done.agreement.images == 1
    assert capfd.readouterr() == ("", "")
