"""Networks as files of ONNX and OpenVINO, run by these and held against torch."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from conftest import room_for
from heads import HEADS
from resnet_cli.checkpoint.network.architectures import ConcatPool, GeneralisedMean
from resnet_cli.errors import ExtraError, OutputError, OutputNameError
from resnet_cli.graph import NORMALIZED, Description, read_graph
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess

SUFFIXES = (".onnx", ".xml")
SIZE = 32
PREPROCESS = Preprocess(
    resize_size=SIZE, crop_size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)
)


def shallow(
    fc: nn.Module | None = None, *, channels: int = 3, pool: nn.Module | None = None
) -> ResNet:
    """A ResNet with a block a stage, whose norms have statistics of their own."""
    torch.manual_seed(0)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    network.fc = fc or network.fc
    network.avgpool = pool or network.avgpool
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return settled(network)


def settled(network: ResNet) -> ResNet:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def dilated() -> ResNet:
    network = ResNet(
        Bottleneck, [1, 1, 1, 2], num_classes=4, replace_stride_with_dilation=[False, True, True]
    )
    return settled(network)


def powers() -> nn.Module:
    pool = GeneralisedMean(1)
    pool.p.data.fill_(3)
    return pool


NETWORKS: dict[str, Callable[[], ResNet]] = {
    "dilated": dilated,
    "dropout": lambda: shallow(HEADS["dropout everywhere"](512, 4)),
    "two layers and a norm": lambda: shallow(HEADS["norm before the activation"](512, 4)),
    "one output": lambda: shallow(nn.Linear(512, 1)),
    "concat pool": lambda: shallow(nn.Linear(1024, 4), pool=ConcatPool()),
    "mean of powers": lambda: shallow(pool=powers()),
    "grey": lambda: shallow(channels=1),
    "four bands": lambda: shallow(channels=4),
}


def describe(preprocess: Preprocess = PREPROCESS, classes: int = 4, **facts: Any) -> Description:
    return Description(
        model="resnet18",
        class_names=tuple("abcd"[:classes]),
        classes_source="the test",
        preprocess=preprocess.record(),
        preprocess_source="the test",
        **facts,
    )


def pixels(count: int, channels: int = 3) -> NDArray[np.uint8]:
    """RGB images of noise, [N, C, H, W]."""
    random = np.random.default_rng(count)
    return random.integers(0, 256, (count, channels, SIZE, SIZE), dtype=np.uint8)


def load_file(path: Path) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Load a file as a program without this one does, and return what runs it."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: np.asarray(session.run(["logits"], {"image": images})[0])
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    return lambda images: np.asarray(compiled({"image": images})["logits"])


def run_file(path: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    return load_file(path)(images)


def by_torch(
    network: nn.Module, images: NDArray[np.uint8], preprocess: Preprocess = PREPROCESS
) -> NDArray[np.float32]:
    """Normalise images of the network's own order of channels, and run it."""
    mean, std = (np.reshape(one, (1, -1, 1, 1)) for one in (preprocess.mean, preprocess.std))
    values = (images / 255 - mean) / std
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(values.astype(np.float32))))


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if logits.shape[1] == 1:
        return np.asarray(torch.from_numpy(logits).sigmoid())
    return np.asarray(torch.from_numpy(logits).softmax(1))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_gives_what_torch_gives_for_any_number_of_images(name: str, suffix: str) -> None:
    network = NETWORKS[name]()
    channels = network.conv1.in_channels
    numbers = {1: ((0.4,), (0.2,)), 4: ((0.1, 0.2, 0.3, 0.4), (0.2,) * 4)}
    mean, std = numbers.get(channels, (PREPROCESS.mean, PREPROCESS.std))
    preprocess = replace(PREPROCESS, mean=mean, std=std)
    path = Path(f"network{suffix}")
    classes = 1 if name == "one output" else 4
    convert_network(network, path, description=describe(preprocess, classes))
    run = load_file(path)
    for count in (1, 3, 8):
        images = pixels(count, channels)
        expected = by_torch(network, images, preprocess)
        assert expected.shape == (count, classes)
        assert abs(expected).max() > 0.01
        made = run(images)
        assert abs(probabilities(made) - probabilities(expected)).max() < 1e-5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_says_what_it_is(suffix: str) -> None:
    path = Path(f"network{suffix}")
    description = describe(source="three.pth", sha256="ab" * 32, notes=("assumed",))
    convert_network(shallow(), path, description=description)
    graph = read_graph(path)
    assert graph.description == description
    assert (graph.input, graph.output, graph.layout) == ("image", "logits", "NCHW")
    assert (graph.dtype, graph.size, graph.batch) == ("uint8", (SIZE, SIZE), None)
    assert (graph.precision, graph.activation, graph.num_classes) == ("fp32", None, 4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("takes", ["pixels", NORMALIZED])
def test_a_network_of_bgr_becomes_a_file_of_rgb(takes: str, suffix: str) -> None:
    bgr = replace(PREPROCESS, color="bgr")
    network, path, images = shallow(), Path(f"network{suffix}"), pixels(3)
    convert_network(network, path, description=describe(bgr, input=takes))
    told = Preprocess.from_record(read_graph(path).description.preprocess)  # type: ignore[union-attr]
    assert (told.color, told.mean, told.std) == ("rgb", bgr.mean[::-1], bgr.std[::-1])
    given = images
    if takes == NORMALIZED:
        given = told.normalise(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # type: ignore[assignment]
    made = run_file(path, np.ascontiguousarray(given))
    expected = by_torch(network, images[:, ::-1], bgr)
    assert abs(made - expected).max() < 1e-4
    assert abs(by_torch(network, images, bgr) - expected).max() > 0.01


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_normalised_values_in_the_place_of_pixels(suffix: str) -> None:
    network, path, images = shallow(), Path(f"network{suffix}"), pixels(2)
    convert_network(network, path, description=describe(input=NORMALIZED))
    values = PREPROCESS.normalise(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert read_graph(path).dtype == "float32"
    made = run_file(path, np.ascontiguousarray(values))
    assert abs(made - by_torch(network, images)).max() < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fp16_is_half_as_large_and_nearly_as_exact(suffix: str) -> None:
    network, images = shallow(), pixels(8)
    sizes = {}
    for precision in ("fp32", "fp16"):
        path = Path(f"{precision}{suffix}")
        convert_network(network, path, description=describe(precision=precision))
        graph = read_graph(path)
        assert graph.precision == precision
        sizes[precision] = sum(file.stat().st_size for file in graph.files)
    assert sizes["fp16"] < 0.52 * sizes["fp32"]
    difference = probabilities(run_file(path, images)) - probabilities(by_torch(network, images))
    assert 0 < abs(difference).max() < 2e-3


def test_a_weight_beyond_fp16_does_not_overflow() -> None:
    network, images = shallow(), pixels(2)
    network.layer4[0].conv2.weight.data *= 1e7
    network.layer4[0].bn2.running_var *= 1e14
    network.fc.weight.data *= 1e7
    network.layer4[0].bn2.weight.data *= 1e-7
    convert_network(network, Path("network.onnx"), description=describe(precision="fp16"))
    expected = by_torch(network, images)
    assert abs(network.fc.weight).max() > 65504
    assert abs(run_file(Path("network.onnx"), images) / expected - 1).max() < 0.05


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_fixed_number_of_images(suffix: str) -> None:
    network, path, images = shallow(), Path(f"network{suffix}"), pixels(2)
    convert_network(network, path, description=describe(), batch=2)
    assert read_graph(path).batch == 2
    assert abs(run_file(path, images) - by_torch(network, images)).max() < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_network_is_the_same_file(suffix: str) -> None:
    for name in ("a", "b"):
        convert_network(shallow(), Path(f"{name}{suffix}"), description=describe())
    for ending in {suffix, ".bin"} if suffix == ".xml" else {suffix}:
        assert Path(f"a{ending}").read_bytes() == Path(f"b{ending}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_earlier_file(suffix: str) -> None:
    path = Path(f"network{suffix}")
    for file in (path, path.with_suffix(".bin")):
        file.write_text("earlier")
    with (
        room_for(1_000_000),
        pytest.raises(OutputError, match=r"cannot write network\.(onnx|xml): .*"),
    ):
        convert_network(shallow(), path, description=describe())
    assert {file.name for file in Path().iterdir()} == {path.name, "network.bin"}
    assert {file.read_text() for file in Path().iterdir()} == {"earlier"}


def test_a_file_is_replaced_whole() -> None:
    path, network, images = Path("network.xml"), shallow(), pixels(1)
    for file in (path, path.with_suffix(".bin")):
        file.write_text("earlier")
    convert_network(network, path, description=describe())
    assert abs(run_file(path, images) - by_torch(network, images)).max() < 1e-4
    assert {file.name for file in Path().iterdir()} == {"network.xml", "network.bin"}


def test_another_suffix_is_refused() -> None:
    with pytest.raises(OutputNameError, match=r"the suffix must be one of \.onnx, \.xml"):
        convert_network(shallow(), Path("network.pb"), description=describe())


@pytest.mark.parametrize(
    ("suffix", "library", "extra"), [(".onnx", "onnx", "onnx"), (".xml", "openvino", "openvino")]
)
def test_a_missing_library_is_named(
    suffix: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraError, match=rf"writing {suffix} needs .*resnet-cli\[{extra}\]"):
        convert_network(shallow(), Path(f"network{suffix}"), description=describe())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_printed(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    convert_network(shallow(), Path(f"network{suffix}"), description=describe())
    assert capfd.readouterr() == ("", "")


def test_openvino_reports_nothing_and_writes_nothing_into_the_home() -> None:
    home = Path("home")
    home.mkdir()
    code = (
        "import sys, resnet_cli.graph, openvino;"
        "print(sys.modules['openvino_telemetry'], bool(openvino.convert_model))"
    )
    environment = os.environ | {"HOME": str(home.absolute())}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "None True\n"
    assert list(home.iterdir()) == []
