"""A file is right and whole, or it is not there; what cannot be is refused in one line."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import network_files
from commands import error_line
from conftest import Run, picture, room_for, trained
from converting import resnet, saved
from exported import SIZES
from resnet_cli import ExportOptions, export_checkpoint
from resnet_cli.errors import OptionError, OutputError
from resnet_cli.graph.convert import Normalised
from resnet_cli.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

SMALL = ExportOptions(preprocess=Preprocess(resize_size=72, crop_size=64), verify=2)


def everything() -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


@pytest.fixture
def source() -> Path:
    return saved(resnet().state_dict())


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the conversion: the normalisation in the file is a little off."""
    right = Normalised.forward

    def forward(self: Normalised, images: Tensor) -> Tensor:
        return right(self, images.float() + 2)

    monkeypatch.setattr(Normalised, "forward", forward)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("output", ["out.onnx", "out.xml", "out.pt2"])
def test_a_file_that_computes_something_else_is_not_left(
    run: Run, source: Path, output: str
) -> None:
    Path(output).write_bytes(b"of yesterday")
    before = everything()
    result = run("export", source, output, *SIZES, "--overwrite")

    line = error_line(result)
    assert re.search(rf"cannot write {output}: a probability differs by \d\.\de-0[1-3] ", line)
    assert everything() == before


@pytest.mark.usefixtures("wrong")
def test_without_verification_nothing_is_run(run: Run, source: Path) -> None:
    result = run("export", source, "out.onnx", *SIZES, "--verify", 0)
    assert result.exit_code == 0
    assert "label of fp32" not in result.stderr
    assert Path("out.onnx").exists()


@pytest.mark.parametrize("output", ["out.onnx", "out.xml", "out.pt2"])
def test_a_full_disk_leaves_nothing(source: Path, output: str) -> None:
    before = everything()
    with (
        room_for(1 << 20),
        pytest.raises(OutputError, match=f"^cannot write {output}: "),
    ):
        export_checkpoint(source, output, SMALL)
    assert everything() == before


@pytest.mark.parametrize("output", ["out.onnx", "out.xml"])
def test_an_interruption_leaves_nothing(source: Path, output: str) -> None:
    def interrupt(done: int, total: int | None) -> None:
        assert list(Path().glob(".resnet-cli-*/network.*"))  # it is written, not yet in its place
        raise KeyboardInterrupt

    before = everything()
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(source, output, SMALL, progress=interrupt)
    assert everything() == before


def test_a_link_stays_and_what_it_points_to_is_replaced(source: Path) -> None:
    Path("versions").mkdir()
    Path("versions/1.onnx").write_bytes(b"of yesterday")
    Path("now.onnx").symlink_to("versions/1.onnx")
    done = export_checkpoint(
        source, "now.onnx", ExportOptions(preprocess=SMALL.preprocess, verify=0, overwrite=True)
    )
    assert Path("now.onnx").is_symlink()
    assert Path("versions/1.onnx").stat().st_size == done.bytes > 1e7


def test_progress_counts_what_is_loaded_and_computed(source: Path) -> None:
    picture(Path("photos/a.png"))
    picture(Path("photos/b.png"), seed=1)
    options = ExportOptions(preprocess=SMALL.preprocess, calibration="photos")
    calls: list[Any] = []
    done = export_checkpoint(
        source, "out.onnx", options, progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(2, 6), (4, 6), (6, 6)]
    assert done.agreement is not None
    assert (done.agreement.images, done.agreement.same) == (2, 2)


REFUSED = {
    "out.h5": (2, "the suffix must be one of .onnx, .xml, .pt2; .safetensors and .pth are"),
    "there.onnx": (1, "there.onnx: it already exists: use --overwrite"),
    "lonely.xml": (1, "lonely.bin: it already exists: use --overwrite"),
    "out.pt2 --precision int8 --calibration photos": (2, "use .onnx or .xml"),
    "out.xml --precision int8": (2, "name a folder with --calibration"),
    "out.xml --max-drop 0.1": (2, "--max-drop is for int8: add --precision int8"),
    "out.xml --labels t.csv": (2, "--labels is for int8: add --precision int8"),
    "out.xml --precision int8 --calibration empty": (1, "no images found"),
    "out.onnx --mean 0.5": (2, "cannot normalise with mean (0.5,)"),
    "missing/out.onnx": (1, "there is no folder missing"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.items())
def test_what_cannot_be_is_refused(
    run: Run, source: Path, arguments: str, expected: tuple[int, str]
) -> None:
    Path("there.onnx").write_bytes(b"precious")
    Path("lonely.bin").write_bytes(b"precious")
    Path("empty").mkdir()
    picture(Path("photos/a.png"))
    before = everything()
    status, words = expected

    assert words in error_line(run("export", source, *arguments.split()), status)
    assert everything() == before


def test_impossible_options_are_refused_at_the_call() -> None:
    for values, words in (
        ({"precision": "int4"}, "one of fp16, fp32, int8"),
        ({"input": "bytes"}, "one of pixels, normalized"),
        ({"batch": 0}, "1 or more"),
        ({"verify": -1}, "0 or more"),
        ({"precision": "int8", "calibration": "d", "max_drop": 2}, "max_drop must be a share"),
    ):
        with pytest.raises(OptionError, match=words):
            ExportOptions(**values)


NETWORK_FILES = {
    "small.onnx out.onnx": "in fp32 to out.onnx: it is in fp32 already",
    "small.onnx out.onnx --precision fp16": "it is in fp32 already",
    "small.onnx out.xml --precision int8 --calibration photos": "a .onnx becomes no .xml",
    "quantized.onnx out.onnx --precision int8 --calibration photos": "it is in int8 already",
    "small.onnx out.onnx --precision int8 --calibration photos --batch 1": "its input stays",
}


@pytest.mark.parametrize(("arguments", "words"), NETWORK_FILES.items())
def test_a_network_file_is_quantised_in_its_format_alone(
    run: Run, arguments: str, words: str
) -> None:
    network_files.save(network_files.small(), Path("small.onnx"))
    network_files.save(network_files.quantized(), Path("quantized.onnx"))
    picture(Path("photos/a.png"))
    before = everything()

    line = error_line(run("export", *arguments.split()))
    assert words in line
    assert "with --precision int8" in line
    assert everything() == before


def test_convert_and_export_name_each_other(run: Run, source: Path) -> None:
    network_files.save(network_files.small(), Path("small.onnx"))
    assert "use export" in error_line(run("convert", "small.onnx", "out.pth"))
    line = error_line(run("convert", source, "out.onnx"), status=2)
    assert line.endswith(".onnx, .xml and .pt2 are written by export")


def test_a_checkpoint_without_a_head_is_refused(run: Run) -> None:
    state = trained().state_dict()
    torch.save({key: value for key, value in state.items() if "fc" not in key}, "backbone.pth")
    assert "cannot load backbone.pth" in error_line(run("export", "backbone.pth", "out.onnx"))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_weights_that_are_too_small_for_fp16_stay_in_fp32(suffix: str) -> None:
    network = resnet()
    with torch.no_grad():
        network.fc.weight.mul_(1e-5)  # to some 1e-7, where fp16 has one digit at the most
        network.layer4[1].bn2.weight.mul_(1e5)
        network.layer4[1].bn2.bias.mul_(1e5)
        network.layer4[1].bn2.running_var.mul_(1e-2)
    options = ExportOptions(preprocess=SMALL.preprocess, verify=4, precision="fp16")
    done = export_checkpoint(saved(network.state_dict()), f"out{suffix}", options)

    assert done.agreement is not None
    assert done.agreement.largest_difference < 5e-3
    assert done.bytes < 30e6  # all but one or two tensors in half


MISSING = {
    ("openvino", "out.xml"): "writing .xml needs an extra: pip install 'resnet-cli[openvino]'",
    ("onnx", "out.onnx"): "writing .onnx needs an extra: pip install 'resnet-cli[onnx]'",
    ("onnxruntime", "out.onnx"): "running .onnx (--verify) needs an extra: pip install ",
    ("nncf", "out.xml --precision int8 --calibration photos"): "--precision int8 needs an extra",
}


@pytest.mark.parametrize(("missing", "words"), MISSING.items())
def test_what_is_missing_names_its_extra(
    run: Run,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, str],
    words: str,
) -> None:
    library, arguments = missing
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "resnet_cli.runtimes.onnx_runtime", raising=False)
    picture(Path("photos/a.png"))
    before = everything()

    assert words in error_line(run("export", source, *arguments.split(), *SIZES))
    assert everything() == before
