"""inspect_checkpoint and convert_checkpoint from Python: they return, and print nothing."""

from pathlib import Path

import pytest
import torch

from conftest import trained
from docs_blocks import run_blocks
from resnet_cli import Conversion, Inspection, convert_checkpoint, inspect_checkpoint
from resnet_cli.errors import CheckpointError, OutputError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_shows_how_to_inspect_and_convert() -> None:
    torch.save(trained(num_classes=2).state_dict(), "model.pth")
    names = run_blocks(PAGE, "Inspect and convert")
    found, done = names["found"], names["done"]

    assert isinstance(found, Inspection)
    assert isinstance(done, Conversion)
    assert (found.model, found.num_classes, found.error) == ("resnet18", 2, None)
    assert (done.model, done.classes, done.warnings) == ("resnet18", ("ants", "bees"), ())
    assert done.bytes == Path("model.safetensors").stat().st_size
    assert inspect_checkpoint("model.safetensors").dtype == "float16, float32"


def test_a_conversion_without_class_names_warns(capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(trained().state_dict(), "model.pth")
    done = convert_checkpoint("model.pth", "out.pth")

    assert done.classes is None
    assert done.warnings == (
        "no class names in out.pth: labels will be class_0, class_1, class_2: give --classes",
    )
    assert capfd.readouterr() == ("", "")


def test_an_output_is_refused_before_anything_is_read() -> None:
    Path("there.pth").write_text("precious")
    with pytest.raises(OutputError, match=r"there.pth: it already exists"):
        convert_checkpoint("missing.pth", "there.pth")
    with pytest.raises(OutputError, match=r"out.onnx: the suffix must be one of"):
        convert_checkpoint("missing.pth", "out.onnx")
    with pytest.raises((CheckpointError, OSError), match=r"missing\.pth"):
        convert_checkpoint("missing.pth", "out.pth")
