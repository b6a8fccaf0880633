"""Runtimes beside torch, int8, and network files: which rows there are, and what they say."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import DEMO, SAMPLES, Fix, Run
from measuring import CPU, PEAK, error_line, steady, table
from network_files import (
    FLOAT,
    SIDE,
    convert,
    model_of,
    quantized,
    save,
    small,
    small_nodes,
    weights,
)  # fmt: skip
from resnet_cli import Classifier
from resnet_cli.benchmark import sweep as sweeping
from resnet_cli.benchmark.agreement import choose_images, measure_agreement
from resnet_cli.benchmark.load import split_images
from resnet_cli.benchmark.settings import Setting
from resnet_cli.benchmark.workload import EndlessImages
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import Location
from resnet_cli.cli import cli
from resnet_cli.graph import read_graph
from resnet_cli.graph.cost import count_macs

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

MACS = 9 * 6 * 27 + 6 * 4  # 3x3 pixels, 6 channels of 27 products, and a linear layer


@dataclass(frozen=True)
class Measured:
    result: Result
    record: dict[str, Any]
    rows_of_csv: list[dict[str, str]]
    folder: Path


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """All runtimes and three precisions, with images and a trained checkpoint."""
    folder = tmp_path_factory.mktemp("crossed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "peak_gflops", lambda *_: PEAK)
        patch.setattr(sweeping, "read_counts", lambda: None)
        patch.setattr("resnet_cli.runtimes.host.UNITS", {"bf16": (), "fp16": ()})
        arguments = [
            *("benchmark", DEMO, "--device", "cpu", "--img-size", 32, "-j", 2, "-b", "2"),
            *("--runtime", "torch,openvino,onnxruntime", "--precision", "fp32,int8"),
            *("--images", SAMPLES, "--warmup", 0, "--iters", 2, "--percentiles", 50),
            *(word for end in ("json", "csv", "png") for word in ("-o", folder / f"a.{end}")),
        ]
        environment = {"RESNET_CLI_CACHE": str(folder / "cache"), "COLUMNS": "120"}
        result = CliRunner(env=environment).invoke(cli, [*map(str, arguments)])
    rows = csv.DictReader(io.StringIO((folder / "a.csv").read_text()))
    return Measured(result, json.loads((folder / "a.json").read_text()), list(rows), folder)


KINDS = [
    ("torch", "fp32"), ("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
]  # fmt: skip


def test_each_runtime_has_rows_in_each_precision_that_it_computes(crossed: Measured) -> None:
    expected = [(*kind, mode) for kind in KINDS for mode in ("forward", "end-to-end")]
    rows = crossed.record["rows"]

    assert crossed.result.exit_code == 0
    assert [(row["runtime"], row["precision"], row["mode"]) for row in rows] == expected
    assert all(row["images_per_second"] > 0 and row["error"] is None for row in rows)
    assert {row["device"] for row in rows} == {"cpu"}
    shown = [line.split() for line in table(crossed.result)]
    assert shown[0][:3] == ["mode", "runtime", "prec"]
    assert [(line[1], line[2], line[0]) for line in shown[1:]] == expected
    assert [(row["runtime"], row["precision"], row["mode"]) for row in crossed.rows_of_csv] == (
        expected
    )
    assert "left out: torch computes no int8" in crossed.result.stderr
    with Image.open(crossed.folder / "a.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100


def test_a_share_of_the_peak_is_said_where_it_is_known(crossed: Measured) -> None:
    for row in crossed.record["rows"]:
        known = row["precision"] != "int8"
        assert (row["peak_share"] is not None) is known
        assert row["gflops"] > 0


def test_what_computed_is_recorded(crossed: Measured) -> None:
    environment = crossed.record["environment"]
    assert {"torch", "openvino", "nncf", "onnxruntime", "onnx"} <= environment.keys()
    assert crossed.record["settings"]["runtimes"] == ["torch", "openvino", "onnxruntime"]
    found = environment["convolutions"]
    assert set(found) == {
        f"{name} batch 2" for name in ("torch fp32", "openvino fp32", "openvino int8")
    }
    for text in found.values():  # as many as a ResNet-18 has
        assert sum(int(part.rpartition(" ")[2]) for part in text.split(", ")) == 20


def test_the_verdict_says_what_the_fastest_gains_and_costs(crossed: Measured) -> None:
    verdict = crossed.record["verdict"]
    rows = [row for row in crossed.record["rows"] if row["mode"] == "end-to-end"]
    best = max(rows, key=lambda row: row["images_per_second"])
    [plain] = [row for row in rows if row["runtime"] == "torch"]

    if best is plain:
        assert "times torch" not in verdict
    else:
        ratio = best["images_per_second"] / plain["images_per_second"]
        assert f"end-to-end in {best['precision']} by {best['runtime']}" in verdict
        assert f"{ratio:.2f} times torch in fp32" in verdict
        assert "its label is that of torch fp32 on " in verdict


# combinations that are not possible


def test_what_a_runtime_lacks_is_left_out(run: Run, fix: Fix) -> None:
    fix(steady)
    words = ("benchmark", "--device", "cpu", "-b", 1, "--precision", "fp32,int8")
    result = run(*words, "--runtime", "torch,onnxruntime", "-o", "a.json")
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert [(row["runtime"], row["precision"]) for row in rows] == [
        ("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"),
    ]  # fmt: skip
    assert result.stderr.count("left out: ") == 1


def test_int8_without_what_makes_it_names_the_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_cli.benchmark.settings.find_spec", lambda _: None)
    result = run("benchmark", "--device", "cpu", "--precision", "int8")
    line = "--precision int8 needs an extra: pip install 'resnet-cli[openvino]'"
    assert line in error_line(result)


def test_int8_without_a_runtime_is_that_of_openvino(run: Run, fix: Fix) -> None:
    fix(steady)
    run("benchmark", "--device", "cpu", "-b", 1, "--precision", "fp32,int8", "-o", "a.json")
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert [(row["runtime"], row["precision"]) for row in rows] == [
        ("torch", "fp32"), ("openvino", "int8"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--runtime", "torch", "--precision", "int8"), 2, "torch computes no int8"),
        (("--runtime", "tensorrt"), 2, "'tensorrt' is not some of torch, openvino, onnxruntime"),
        (("--precision", "int4"), 2, "'int4' is not some of fp32, bf16, fp16, int8"),
    ],
)
def test_nothing_to_measure_is_told_in_one_line(
    run: Run, words: tuple[str, ...], status: int, message: str
) -> None:
    result = run("benchmark", "--device", "cpu", *words)
    assert message in result.stderr.splitlines()[-1]
    assert result.exit_code == status
    assert result.stdout == ""


# network files


def test_a_network_file_is_measured_by_its_own_runtime(run: Run, fix: Fix) -> None:
    for name, file in (("onnxruntime", save(small(), Path("a.onnx"))),
                       ("openvino", convert(small(), Path("a.xml")))):  # fmt: skip
        fix(steady)
        result = run("benchmark", file, "-b", 4, "-o", f"{name}.json")
        record = json.loads(Path(f"{name}.json").read_text())
        [row] = record["rows"]
        assert result.exit_code == 0
        assert (row["runtime"], row["precision"]) == (name, "fp32")
        assert row["model"] == file.name
        assert row["gflops"] == pytest.approx(2 * MACS / 1e9 * 40)
        assert record["settings"]["img_size"] == SIDE


@pytest.mark.usefixtures("known_peak")
def test_a_network_file_really_runs(run: Run) -> None:
    save(quantized(), Path("a.onnx"))
    words = ("-b", "1,3", "--iters", 2, "-j", 1, "--images", SAMPLES / "bees", "-o", "a.json")
    result = run("benchmark", "a.onnx", *words)
    rows = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert [row["images_per_second"] > 0 for row in rows] == [True] * 4
    assert {(row["runtime"], row["precision"]) for row in rows} == {("onnxruntime", "int8")}
    assert "its agreement with fp32 is unknown: the file holds int8 alone" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--img-size", 64), "it takes images of 8 x 8 alone"),
        (("--runtime", "torch"), "cannot run a.onnx by torch"),
    ],
)
def test_what_a_file_does_not_take_is_refused_before_anything_is_measured(
    run: Run, words: tuple[object, ...], message: str
) -> None:
    save(small(), Path("a.onnx"))
    result = run("benchmark", "a.onnx", *words)
    assert message in error_line(result, 2)
    assert result.stdout == ""


@pytest.mark.parametrize("groups", [1, 3])
def test_multiplications_are_those_counted_by_hand(groups: int) -> None:
    stored = weights()
    stored["conv"] = stored["conv"][:, : 3 // groups]
    nodes = small_nodes()
    nodes[0].attribute.append(helper.make_attribute("group", groups))
    model = model_of(nodes, stored=stored, inputs=[("image", FLOAT, ("N", 3, "H", "W"))])
    onnx.checker.check_model(model)
    graph = read_graph(save(model, Path("a.onnx")))
    assert count_macs(graph, 8) == 9 * 6 * 27 // groups + 24
    assert count_macs(graph, 16) == 49 * 6 * 27 // groups + 24


def test_a_batch_that_is_fixed_counts_each_image_once() -> None:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert count_macs(read_graph(save(model, Path("a.onnx"))), SIDE) == MACS


# agreement


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration with its two classes exchanged."""
    tensors = load_file(DEMO)
    for name in ("fc.weight", "fc.bias"):
        tensors[name] = tensors[name].flip(0).contiguous()
    path = tmp_path_factory.mktemp("swapped") / "swapped.safetensors"
    save_file(tensors, path)
    return path


def test_agreement_is_counted_image_by_image(swapped: Path) -> None:
    checkpoint = load_checkpoint(Location(DEMO, "given"))
    setting = Setting("torch", CPU, "bf16", compiled=False)

    def said(path: Path) -> str | None:
        tiny = partial(replace, resize_size=40, crop_size=32)
        classifiers = {
            name: Classifier.load(file, device="cpu", preprocess=tiny)
            for name, file in (("fp32", DEMO), ("bf16", path))
        }
        load: Callable[[Setting], Classifier] = lambda one: classifiers[one.precision]  # noqa: E731
        return measure_agreement(checkpoint, setting, load, EndlessImages(SAMPLES / "bees"))

    count = len(EndlessImages(SAMPLES / "bees").items)
    assert said(DEMO) == f"its label is that of torch fp32 on {count} of {count} images (100.0%)"
    assert said(swapped) == f"its label is that of torch fp32 on 0 of {count} images (0.0%)"
    plain = replace(setting, precision="fp32")
    assert measure_agreement(checkpoint, plain, lambda _: None, EndlessImages(SAMPLES)) is None  # type: ignore[arg-type, return-value]


def test_int8_is_compared_on_images_that_did_not_calibrate_it() -> None:
    images = EndlessImages(SAMPLES)
    calibrating, _ = split_images(images)
    setting = Setting("openvino", CPU, "int8", compiled=False)
    compared = choose_images(images, setting)

    assert compared
    assert not {item.path for item in compared} & {item.path for item in calibrating}
    assert len(compared) + len(calibrating) == len(images.items)
    everything = choose_images(images, replace(setting, precision="bf16"))
    assert {item.path for item in everything} == {item.path for item in images.items}
