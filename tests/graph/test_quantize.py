"""Networks of int8, run by their runtimes and held against the network of fp32."""

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_cli.errors import ExtraError, OptionError, OutputError, ProcessError
from resnet_cli.graph import NORMALIZED, Description, Graph, read_graph
from resnet_cli.graph.accuracy_control import (
    COMMAND,
    JOB,
    AccuracyControl,
    Job,
    quantize_with_max_drop,
)
from resnet_cli.graph.convert import convert_network
from resnet_cli.graph.quantize import QuantizeOptions, quantize_graph, sums_overflow
from resnet_cli.preprocess import Preprocess

SUFFIXES = (".onnx", ".xml")
SIZE = 32
PREPROCESS = Preprocess(resize_size=SIZE, crop_size=SIZE)


class Residual(nn.Module):
    """A network with what a ResNet has, small enough to quantise in a second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64))
        self.conv = nn.Conv2d(64, 64, 3, 1, 1)
        self.fc = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.conv(x) + x).relu()
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def describe(**facts: Any) -> Description:
    return Description(
        model="resnet18",
        class_names=tuple("abcde"),
        classes_source="the test",
        preprocess=PREPROCESS.record(),
        preprocess_source="the test",
        **facts,
    )


def images_of(seed: int, count: int) -> NDArray[np.uint8]:
    """Soft blots of colour, [N, H, W, C]."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.integers(0, 256, (count, 3, 4, 4))).float()
    soft = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 255)
    return soft.byte().permute(0, 2, 3, 1).numpy()


CALIBRATION = images_of(0, 24)
OTHERS = images_of(1, 40)
POOR = [np.full((1, SIZE, SIZE, 3), 120, np.uint8)]  # of a single colour


def network() -> Residual:
    """A network that gives each of its classes to some of the images."""
    made = Residual().eval()
    values = torch.from_numpy(PREPROCESS.normalise(CALIBRATION).transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = made(values)
        made.fc.weight /= logits.std(0)[:, None]
        made.fc.bias.copy_((made.fc.bias - logits.mean(0)) / logits.std(0))
    return made


@pytest.fixture(params=SUFFIXES)
def graph(request: pytest.FixtureRequest) -> Graph:
    path = Path(f"fp32{request.param}")
    convert_network(network(), path, description=describe(calibration={"from": "a/"}))
    return read_graph(path)


def target(graph: Graph) -> Path:
    return Path(f"int8{graph.path.suffix}")


def outputs(path: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    """Run a file as a program without this one does."""
    given = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if path.suffix == ".onnx":
        import onnxruntime

        return np.asarray(onnxruntime.InferenceSession(path).run(None, {"image": given})[0])
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.asarray(openvino.Core().compile_model(path, "CPU", exact)(given)[0])


def files_of(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in read_graph(path).files]


def test_int8_is_a_quarter_as_large_and_says_so(graph: Graph) -> None:
    path = target(graph)
    description = graph.description
    assert description is not None
    told = quantize_graph(graph, [CALIBRATION], path, description=description)
    made = read_graph(path)
    assert (made.precision, made.input, made.batch) == ("int8", "image", None)
    assert made.description == told
    assert told.precision == "int8"
    assert told.calibration["from"] == "a/"
    assert told.calibration["images"] == 24
    before, after = outputs(graph.path, OTHERS), outputs(path, OTHERS)
    error = after - before
    assert set(before.argmax(1)) == set(range(5))
    assert 0 < np.sqrt((error**2).mean()) < 0.3 * before.std()
    assert (after.argmax(1) == before.argmax(1)).mean() >= 0.85


def test_the_same_images_give_the_same_file_however_they_are_batched(graph: Graph) -> None:
    path = target(graph)
    quantize_graph(graph, [CALIBRATION], path, description=describe())
    first = files_of(path)
    quantize_graph(graph, np.array_split(CALIBRATION, 5), path, description=describe())
    assert files_of(path) == first
    quantize_graph(graph, [CALIBRATION // 2], path, description=describe())
    assert files_of(path) != first


def test_a_fixed_number_of_images_and_normalised_values() -> None:
    for name, batch, facts in (("two", 2, {}), ("norm", None, {"input": NORMALIZED})):
        path = Path(f"{name}.xml")
        convert_network(network(), path, description=describe(**facts), batch=batch)
        graph = read_graph(path)
        given: Any = [CALIBRATION, CALIBRATION[:3]]
        if facts:
            given = [PREPROCESS.normalise(one) for one in given]
        told = quantize_graph(graph, given, Path("int8.xml"), description=describe(**facts))
        assert told.calibration["images"] == (26 if batch else 27)
        images: Any = OTHERS[:2] if batch else PREPROCESS.normalise(OTHERS)
        before, after = outputs(path, images), outputs(Path("int8.xml"), images)
        assert np.sqrt(((after - before) ** 2).mean()) < 0.3 * before.std()


@dataclass(frozen=True)
class Judge:
    """Judges outputs in another process, and notes in a file that it did."""

    labels: NDArray[np.int64]
    note: Path

    def __call__(self, values: NDArray[np.float32], number: int) -> float:
        with self.note.open("a") as file:
            file.write(f"{number}\n")
        return float(values.argmax() == self.labels[number])


class Crash(Judge):
    """Ends its process as a fault in a library does."""

    def __call__(self, *_: object) -> float:
        signal.raise_signal(signal.SIGSEGV)
        return 0.0


class Wait(Judge):
    """Notes its process, and does not come back."""

    def __call__(self, *_: object) -> float:
        self.note.write_text(f"{os.getpid()}\n")
        time.sleep(60)
        return 0.0


def limited(graph: Graph, kind: type[Judge] = Judge) -> Description:
    """Limit the drop where an image calibrates whose ranges fit no other."""
    judge = kind(outputs(graph.path, OTHERS).argmax(1), Path("note.txt").absolute())
    control = AccuracyControl(images=[OTHERS], score=judge, max_drop=0.05)
    return quantize_with_max_drop(
        graph, POOR, target(graph), control=control, description=describe()
    )


def test_layers_go_back_to_floating_point_until_enough_is_right(graph: Graph) -> None:
    without = Path(f"poor{graph.path.suffix}")
    quantize_graph(graph, POOR, without, description=describe())
    told = limited(graph)
    labels, poor, kept = (
        outputs(path, OTHERS).argmax(1) for path in (graph.path, without, target(graph))
    )
    assert (poor == labels).mean() < 0.5
    assert (kept == labels).mean() >= 0.95
    assert {*map(int, Path("note.txt").read_text().split())} == {*range(len(OTHERS))}
    assert (told.calibration["max_drop"], told.calibration["validation_images"]) == (0.05, 40)
    assert read_graph(target(graph)).description == told


ONNX = pytest.mark.parametrize("graph", [".onnx"], indirect=True)


@ONNX
def test_a_signal_that_ends_the_accuracy_control_is_one_sentence(graph: Graph) -> None:
    before = {*Path().iterdir()}
    with pytest.raises(ProcessError, match="accuracy control was ended by SIGSEGV: try it again"):
        limited(graph, Crash)
    assert {*Path().iterdir()} == before


@ONNX
def test_an_interruption_ends_the_accuracy_control(graph: Graph) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    found: list[int] = []

    def interrupt() -> None:
        while not found:
            with suppress(FileNotFoundError, IndexError):
                found.append(int(Path("note.txt").read_text().splitlines()[0]))
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        limited(graph, Wait)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)
    assert not target(graph).exists()


@ONNX
def test_what_cannot_be_written_by_the_accuracy_control_is_said(graph: Graph) -> None:
    target(graph).mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*int8.onnx: Is a directory"):
        limited(graph)


@ONNX
def test_the_accuracy_control_ends_with_its_parent(graph: Graph) -> None:
    judge = Wait(np.zeros(len(OTHERS), np.int64), Path("note.txt").absolute())
    job = Job(
        network=graph.path,
        batches=[CALIBRATION[:1]],
        path=target(graph),
        control=AccuracyControl(images=[OTHERS], score=judge, max_drop=0.05),
        description=describe(),
        options=QuantizeOptions(),
    )
    Path(JOB).write_bytes(pickle.dumps(job))
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "."],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        while not judge.note.exists():
            assert child.poll() is None
            time.sleep(0.02)
        assert child.stdin is not None
        child.stdin.close()  # as the system does for a parent that is killed
        assert child.wait(20) == 1


@pytest.mark.parametrize(
    ("machine", "instructions", "expected"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("x86_64", {"avx_vnni"}, False),
        ("aarch64", {"asimd"}, False),
    ],
)
def test_short_sums_are_those_of_older_x86(
    machine: str, instructions: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("resnet_cli.graph.quantize.cpu_instructions", lambda: instructions)
    assert sums_overflow() is expected


def test_half_the_range_is_used_where_sums_overflow(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = {}
    for overflow in (False, True):
        monkeypatch.setattr("resnet_cli.graph.quantize.sums_overflow", lambda o=overflow: o)
        quantize_graph(graph, [CALIBRATION], target(graph), description=describe())
        largest[overflow] = largest_weight(target(graph))
    assert largest == {False: 127, True: 64} or largest == {False: 127, True: 63}


def largest_weight(path: Path) -> int:
    """The largest magnitude among the weights of int8."""
    if path.suffix == ".onnx":
        import onnx

        tensors = [onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    else:
        import openvino

        model = openvino.Core().read_model(path)
        tensors = [one.data for one in model.get_ops() if one.get_type_name() == "Constant"]
    return max(int(abs(one.astype(int)).max()) for one in tensors if one.dtype == np.int8)


def test_nothing_is_printed(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    quantize_graph(graph, [CALIBRATION[:2]], target(graph), description=describe())
    assert capfd.readouterr() == ("", "")


def test_a_missing_library_is_named(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExtraError, match=r"--precision int8 needs .*resnet-cli\[openvino\]"):
        quantize_graph(graph, [CALIBRATION], target(graph), description=describe())


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(OptionError, match="cannot use preset 'fast': one of performance, mixed"):
        QuantizeOptions(preset="fast")
