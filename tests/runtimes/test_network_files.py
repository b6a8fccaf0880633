"""Network files by their own runtimes, against torchvision's network and the libraries alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from commands import SMALL, error_line, rows_of_csv
from conftest import DEMO, SAMPLES, Run, picture, trained
from plain import load_resnet18, probabilities
from resnet_cli import Classifier
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.errors import CheckpointError, DeviceError, OptionError
from resnet_cli.graph import Description, read_graph
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import RuntimeOptions, SessionOptions, find_runtime
from resnet_cli.runtimes.graph_session import best_classes, to_probabilities

LIBRARIES = {"openvino": ".xml", "onnxruntime": ".onnx"}

TINY = Preprocess(resize_size=40, crop_size=32)


def described(preprocess: Preprocess = TINY, **facts: object) -> Description:
    return Description(
        model="resnet18",
        class_names=("a", "b", "c"),
        classes_source="given",
        preprocess=preprocess.record(),
        preprocess_source="given",
        **facts,  # type: ignore[arg-type]
    )


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network of three classes for images of 32 pixels, in both formats."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"m{suffix}" for name, suffix in LIBRARIES.items()}
    for path in paths.values():
        convert_network(trained(), path, description=described())
    return paths


def test_rows_are_those_of_the_plain_loop(library: str, run: Run, data: Path) -> None:
    path = data / "checkpoints" / "ants_bees_resnet18_epoch14.pkl"
    photos = sorted((data / "photos" / "ants_bees").rglob("*.jpg"))[::40]
    result = run(
        "predict", *photos, "-c", path, "--exact", "--runtime", library, "-k", 2, "--format", "csv"
    )  # fmt: skip
    rows = rows_of_csv(result.stdout)

    expected = probabilities(load_resnet18(path), photos)
    assert [row["path"] for row in rows] == list(map(str, photos))
    for row, probs in zip(rows, expected, strict=True):
        assert row["index"] == str(int(probs.argmax()))
        assert float(row["prob"]) == pytest.approx(float(probs.max()), abs=1e-4)


def test_a_network_of_bgr_gets_its_colours_in_their_order(library: str) -> None:
    torch.manual_seed(0)
    images = [picture(Path(f"{seed}.png"), (60, 50), seed=seed) for seed in range(3)]
    torch.save(trained().state_dict(), "m.pth")
    settings = {"resize_size": 40, "crop_size": 32, "color": "bgr", "mean": (0.4, 0.5, 0.6)}
    both = [
        Classifier.load("m.pth", runtime=name, device="cpu", preprocess=Preprocess(**settings))  # type: ignore[arg-type]
        for name in ("torch", library)
    ]
    first, second = ([row.scores for row in one.predict(images, topk=3)] for one in both)
    for ours, theirs in zip(first, second, strict=True):
        assert [score.label for score in ours] == [score.label for score in theirs]
        assert [score.prob for score in ours] == pytest.approx([s.prob for s in theirs], abs=1e-4)


def test_order_and_error_rows_are_those_of_torch(
    library: str, files: dict[str, Path], run: Run
) -> None:
    for seed in range(11):
        picture(Path("images") / f"{seed}.png", (50, 60), seed=seed)
    Path("images/5.png").write_bytes(b"no image")
    torch.save(trained().state_dict(), "m.pth")
    by_torch = run("predict", "images", "-c", "m.pth", *SMALL, "--exact", "--format", "csv")
    result = run("predict", "images", "-c", files[library], "--format", "csv", "-b", 3)

    assert result.exit_code == by_torch.exit_code == 3
    ours, theirs = rows_of_csv(result.stdout), rows_of_csv(by_torch.stdout)
    assert [(row["path"], row["index"], row["error"]) for row in ours] == [
        (row["path"], row["index"], row["error"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        if not row["error"]:
            assert float(row["prob"]) == pytest.approx(float(other["prob"]), abs=1e-4)
    assert {row["batch_size"] for row in ours} == {"", "2", "3"}


def test_a_fixed_number_of_images_is_filled_up(library: str, tmp_path: Path) -> None:
    network = trained()
    pixels = np.random.default_rng(0).integers(256, size=(7, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / f"fixed{LIBRARIES[library]}"
    convert_network(network, path, description=described(), batch=3)
    session = find_runtime("cpu", library).load(read_graph(path), SessionOptions(preprocess=TINY))
    (wait,) = session.launch(pixels, 3)

    with torch.inference_mode():
        expected = network(normalised(pixels)).softmax(1)
    found = np.empty((7, 3), np.float32)
    np.put_along_axis(found, wait().indices, wait().probs, axis=1)
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_other_outputs_than_stated_are_refused(library: str, files: dict[str, Path]) -> None:
    graph = replace(read_graph(files[library]), num_classes=7)
    session = find_runtime("cpu", library).load(graph, SessionOptions(preprocess=TINY))
    with pytest.raises(CheckpointError, match=r"states 7 classes, and gives \[2, 3\]"):
        session.launch(np.zeros((2, 32, 32, 3), np.uint8), 3)


def test_what_a_runtime_cannot_load_is_named(library: str, files: dict[str, Path]) -> None:
    graph = replace(read_graph(files[library]), path=Path(f"gone{LIBRARIES[library]}"))
    with pytest.raises(CheckpointError, match="cannot load gone"):
        find_runtime("cpu", library).load(graph, SessionOptions(preprocess=TINY))


def test_pixels_may_lie_in_any_order(library: str, files: dict[str, Path]) -> None:
    graph, options = read_graph(files[library]), SessionOptions(preprocess=TINY)
    session = find_runtime("cpu", library).load(graph, options)
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3, 24), dtype=np.uint8)
    turned = pixels.transpose(3, 0, 1, 2)  # a copy that the runtime makes must live long enough

    ours, theirs = (session.launch(each, 3)[0]() for each in (turned, turned.copy()))
    assert (ours.indices == theirs.indices).all()
    assert ours.probs == pytest.approx(theirs.probs, abs=1e-6)


def normalised(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (TINY.mean, TINY.std))
    images: Tensor = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    return images


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_not_the_same(
    precision: str, files: dict[str, Path], three_images: Path
) -> None:
    if precision not in find_runtime("cpu", "openvino").precisions:
        pytest.skip(f"this processor has no units for {precision}")
    plain, half = (
        [
            row.prob
            for row in Classifier.load(files["openvino"], precision=name).predict(three_images)
        ]
        for name in ("fp32", precision)
    )
    assert half == pytest.approx(plain, abs=0.05)
    assert half != plain


def test_the_file_decides_the_runtime(files: dict[str, Path]) -> None:
    for library, path in files.items():
        loaded = Classifier.load(path)
        assert isinstance(loaded.checkpoint, ExportedCheckpoint)
        assert loaded.runtime is not None
        assert library.replace("runtime", "") in loaded.runtime.description.lower().replace(" ", "")
    assert (
        "OpenVINO" in Classifier.load(files["onnxruntime"], runtime="openvino").runtime.description
    )


def test_a_runtime_that_does_not_load_a_file_is_refused(files: dict[str, Path], run: Run) -> None:
    picture(Path("a.png"), (40, 40))
    for runtime in ("torch", "onnxruntime"):
        message = error_line(
            run("predict", "a.png", "-c", files["openvino"], "--runtime", runtime), status=2
        )
        assert f"by {runtime}: use --runtime openvino" in message


def test_settings_that_a_file_cannot_obey_are_refused(files: dict[str, Path], run: Run) -> None:
    picture(Path("a.png"), (40, 40))
    for options, words in (
        (("--mean", "0,0,0"), "normalises pixels by itself"),
        (("--img-size", "30"), "takes images of 32 x 32 alone"),
        (("--state-key", "model"), "it holds one network"),
    ):
        message = error_line(run("predict", "a.png", "-c", files["openvino"], *options), status=2)
        assert words in message


def test_other_devices_of_a_runtime_are_refused() -> None:
    with pytest.raises(DeviceError, match="by openvino: one of auto, cpu"):
        find_runtime("cuda", "openvino")


def test_torch_computes_no_int8() -> None:
    with pytest.raises(OptionError, match="use --runtime openvino"):
        RuntimeOptions(runtime="torch", precision="int8")


def test_a_conversion_is_kept_and_not_made_again(
    library: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("predict", SAMPLES / "ants" / "ant_01.jpg", "-c", DEMO, "--runtime", library)
    first = run(*arguments, "--format", "csv")
    assert len(list((tmp_path / "cache").iterdir())) == 1

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was converted again")

    monkeypatch.setattr("resnet_cli.conversion.convert_network", never)
    again = run(*arguments, "--format", "csv")
    (one,), (other,) = rows_of_csv(first.stdout), rows_of_csv(again.stdout)
    assert (one["prob"], one["label"]) == (other["prob"], other["label"]) == (one["prob"], "ants")
    with pytest.raises(AssertionError, match="converted again"):
        run(*arguments, "--no-cache")


def test_probabilities_are_those_of_torch() -> None:
    outputs = np.random.default_rng(0).normal(0, 30, (50, 7)).astype(np.float32)
    logits = torch.from_numpy(outputs)
    for name, expected in (
        ("softmax", logits.softmax(1)),
        ("sigmoid", logits.sigmoid()),
        ("identity", logits),
    ):
        probs = to_probabilities(outputs, name)
        assert probs == pytest.approx(expected.numpy(), abs=1e-6)
        values, indices = best_classes(probs, 3)
        best = torch.from_numpy(probs).topk(3)
        assert (values == best.values.numpy()).all()
        assert (np.take_along_axis(probs, indices, axis=1) == values).all()


def test_a_single_output_becomes_two_classes() -> None:
    logit = np.array([[2.0], [-90.0]], np.float32)
    expected = torch.from_numpy(logit).sigmoid().numpy()
    both = to_probabilities(logit, "sigmoid")
    assert both[:, 1:] == pytest.approx(expected, abs=1e-7)
    assert both.sum(axis=1) == pytest.approx([1, 1])
    assert to_probabilities(expected, "identity") == pytest.approx(both, abs=1e-6)
