"""What tests share: networks with the statistics of trained ones, pictures, and real data."""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from PIL import Image
from torchvision.models import ResNet

import against
import systems
from commands import SMALL
from measuring import PEAK
from resnet_cli.benchmark.settings import Setting
from resnet_cli.benchmark.sweep import Sweep
from resnet_cli.benchmark.timing import Timing
from resnet_cli.benchmark.workload import random_checkpoint
from resnet_cli.cli import cli
from resnet_cli.cli.process import ENDING
from resnet_cli.system import run_is_ending

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "checkpoints" / "ants_bees_resnet18.safetensors"
SAMPLES = REPOSITORY / "sample_images"

Run = Callable[..., Result]
Fix = Callable[[Callable[[int], Timing]], None]

filled_once = cache(random_checkpoint)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own, with no setting of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESNET_CLI_CHECKPOINT", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    monkeypatch.setenv("RESNET_CLI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photographs and checkpoints that RESNET_CLI_TEST_DATA names."""
    folder = os.environ.get("RESNET_CLI_TEST_DATA")
    if not folder:
        pytest.skip("RESNET_CLI_TEST_DATA names no folder of real photographs and checkpoints")
    return Path(folder)


@pytest.fixture
def run() -> Iterator[Run]:
    """Run the program in this process; an unexpected error keeps its traceback."""

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield invoke
    torch.set_num_threads(os.cpu_count() or 1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run on one thread, which is faster than several for small images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_large_files(tmp_path: Path) -> Iterator[None]:
    """Delete the files of a test, which would fill a small disk together."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size > 1_000_000:
            path.unlink()


@pytest.fixture
def three_images() -> Path:
    """A folder of three images."""
    for seed in range(3):
        picture(Path("images") / f"{seed}.png", (90 + 10 * seed, 100), seed=seed)
    return Path("images")


@pytest.fixture(scope="module")
def plain() -> ResNet:
    """A trained ResNet-18 of torchvision, with four classes."""
    return against.trained(systems.resnet())


@pytest.fixture(scope="module")
def other() -> ResNet:
    """The same with another head, as an average of weights differs from the last of them."""
    return against.turned(against.trained(systems.resnet()))


@pytest.fixture(scope="module")
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def no_first_values() -> Iterator[None]:
    """Networks without weights need no initialisation, which takes half the time of building."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "kaiming_normal_",
            "kaiming_uniform_",
            "trunc_normal_",
            "normal_",
            "ones_",
            "zeros_",
        ):
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    """A command that runs in this process leaves its own handlers of signals behind."""
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    usual = [signal.getsignal(number) for number in numbers]
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in zip(numbers, usual, strict=True):
        signal.signal(number, handler)
    run_is_ending.clear()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The compiler, if there is one for C++.

    What it keeps is shared by the tests: the headers alone take it ten seconds.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("no C++ compiler here")
    kept = tmp_path_factory.getbasetemp() / "inductor"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(kept))


@pytest.fixture
def known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the peak GFLOP/s of this machine, which takes seconds to measure; see no other work."""
    monkeypatch.setattr("resnet_cli.benchmark.sweep.peak_gflops", lambda *_: PEAK)
    monkeypatch.setattr("resnet_cli.benchmark.sweep.read_counts", lambda: None)


@pytest.fixture
def fix(monkeypatch: pytest.MonkeyPatch, known_peak: None) -> Fix:
    """Let every row of a batch size be measured alike, without a network."""

    def give(timing: Callable[[int], Timing]) -> None:
        def load_classifier(_: Sweep, setting: Setting) -> object:
            session = SimpleNamespace(limit=None, algorithms={})
            return SimpleNamespace(precision=setting.precision, session=session)

        monkeypatch.setattr(Sweep, "load_classifier", load_classifier)
        monkeypatch.setattr(Sweep, "time_row", lambda _, __, row: timing(row.batch_size))
        monkeypatch.setattr("resnet_cli.benchmark.workload.random_checkpoint", filled_once)

    return give


def trained(name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3) -> ResNet:
    """A seeded network whose batch norms have the statistics of a trained one."""
    torch.manual_seed(0)
    network: ResNet = torchvision.models.get_model(name, num_classes=num_classes)
    if in_channels != 3:
        network.conv1 = torch.nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    for key, buffer in network.named_buffers():
        if key.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    for key, weight in network.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.uniform_(weight, -0.1, 0.1)
    return network.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict of a resnet18 with three classes."""
    path = tmp_path_factory.mktemp("checkpoint") / "three.pth"
    torch.save(trained().state_dict(), path)
    return path


@pytest.fixture
def predict(run: Run, checkpoint: Path) -> Run:
    """Predict on the small side with the checkpoint of three classes."""

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return run("predict", "-c", checkpoint, *SMALL, *arguments, stdin=stdin)

    return invoke


@pytest.fixture
def evaluate(run: Run, checkpoint: Path) -> Run:
    """Evaluate on the small side, with three classes called a, b and c."""

    def invoke(*arguments: object) -> Result:
        return run("evaluate", *arguments, "-c", checkpoint, "--classes", "a,b,c", *SMALL)

    return invoke


def picture(path: Path, size: tuple[int, int] = (320, 260), seed: int = 0) -> Path:
    """Save a picture of soft coloured blots, whose format its suffix names."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of ten pictures in two subfolders, of several sizes and formats."""
    folder = tmp_path / "photos"
    for number in range(1, 11):
        suffix = ".png" if number % 4 == 0 else ".jpg"
        place = folder / ("a" if number < 6 else "b") / f"img{number}{suffix}"
        picture(place, (200 + 31 * number, 420 - 17 * number), seed=number)
    return folder


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file become larger, as on a disk that is full.

    For no longer than the work under test: what pytest prints may go to a file as well.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
