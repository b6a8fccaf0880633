import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import product
from math import inf
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch._dynamo
import torchvision
from click.testing import CliRunner, Result
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from conftest import DEMO, SAMPLES, Run
from resnet_cli import Classifier, benchmark
from resnet_cli.benchmark import Benchmark, Row
from resnet_cli.benchmark.memory import CLEAR, forget_peak, peak_bytes
from resnet_cli.benchmark.modes import time_end_to_end
from resnet_cli.benchmark.peak import best, peak_gflops
from resnet_cli.benchmark.plot import plot
from resnet_cli.benchmark.subject import random_checkpoint
from resnet_cli.benchmark.timing import Effort, Timing, time_streams
from resnet_cli.benchmark.verdict import verdict
from resnet_cli.cli import cli
from resnet_cli.inputs import Inputs
from resnet_cli.records import Prediction, Score

CPU = torch.device("cpu")

PEAK = 1000.0  # GFLOP/s that this machine is said to reach: to measure them takes seconds

COLUMNS = [
    "mode", "model", "device", "precision", "batch_size", "compiled", "images_per_second",
    "latency_ms", "gflops", "peak_share", "peak_memory_bytes", "iterations", "status", "error",
]  # fmt: skip

SMALL = ("benchmark", "--device", "cpu", "--img-size", "32", "-j", "1", "--iters", "1")

TOO_MANY = 10**9  # pictures of 224 pixels: 6e14 bytes, more than 47 bits can address

OPTIONS = [
    "--device", "-b", "--batch-size", "--precision", "--compile", "-j", "--workers", "--img-size",
    "--images", "--warmup", "--duration", "--iters", "--percentiles", "-o", "--output",
    "--overwrite", "--compare", "--progress", "--debug",
]  # fmt: skip

filled_once = cache(random_checkpoint)

TimeIt = Callable[[int], Timing]
Fix = Callable[[TimeIt], None]


@pytest.fixture(autouse=True, scope="module")
def _known_peak() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "peak_gflops", lambda *_, **__: PEAK)
        yield


@pytest.fixture
def _no_longer_than_20_seconds() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    usual = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, usual)


@pytest.fixture
def fix(monkeypatch: pytest.MonkeyPatch) -> Fix:
    """Let every row of a batch size be measured alike."""

    def give(timing: TimeIt) -> None:
        monkeypatch.setattr(benchmark, "ready", lambda *_, **__: None)
        monkeypatch.setattr("resnet_cli.benchmark.subject.random_checkpoint", filled_once)
        for name in ("time_forward", "time_end_to_end"):
            monkeypatch.setattr(benchmark, name, lambda *_, batch, **__: timing(batch))

    return give


def steady(batch: int, seconds: float = 0.1) -> Timing:
    """Four passes that each took the same."""
    return Timing(4 * batch, 4 * seconds, [1000 * seconds] * 4)


def table(result: Result) -> list[str]:
    """The lines of the table, from its header to its last row."""
    starts = ("mode ", "forward ", "end-to-end ")
    return [line for line in result.stdout.splitlines() if line.startswith(starts)]


def error_line(result: Result) -> str:
    """The one line that tells what went wrong, which is the last."""
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    *others, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert not [line for line in others if line.startswith("Error")]
    return last


# one sweep of everything, measured once


@dataclass(frozen=True)
class Sweep:
    result: Result
    record: dict[str, Any]
    rows_of_csv: list[dict[str, str]]
    png: Path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two precisions, two batch sizes and both modes, in three files."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = [
        *("benchmark", "resnet18", "--device", "cpu", "--img-size", 32, "-j", 2),
        *("-b", "1,3", "--precision", "fp32,bf16", "--images", SAMPLES),
        *("--warmup", 1, "--iters", 3, "--percentiles", "0,50,99.5"),
        *(word for suffix in ("json", "csv", "png") for word in ("-o", folder / f"a.{suffix}")),
    ]
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    text = (folder / "a.csv").read_text()
    return Sweep(
        result,
        json.loads((folder / "a.json").read_text()),
        list(csv.DictReader(io.StringIO(text))),
        folder / "a.png",
    )


def test_a_row_for_each_precision_batch_size_and_mode(sweep: Sweep) -> None:
    expected = list(product(("fp32", "bf16"), (1, 3), ("forward", "end-to-end")))
    rows = sweep.record["rows"]

    assert sweep.result.exit_code == 0
    assert [(row["precision"], row["batch_size"], row["mode"]) for row in rows] == expected
    shown = [line.split() for line in table(sweep.result)[1:]]
    assert [(line[1], int(line[2]), line[0]) for line in shown] == expected
    assert {row["status"] for row in rows} <= {"ok", "noisy"}
    assert {(row["model"], row["device"], row["compiled"], row["error"]) for row in rows} == {
        ("resnet18", "cpu", False, None)
    }


def test_json_has_the_keys_of_the_interface(sweep: Sweep) -> None:
    assert list(sweep.record) == ["environment", "settings", "rows", "verdict"]
    for row in sweep.record["rows"]:
        assert list(row) == COLUMNS
        assert list(row["latency_ms"]) == ["p0", "p50", "p99.5"]
        assert list(row["latency_ms"].values()) == sorted(row["latency_ms"].values())
        assert min(row["latency_ms"].values()) > 0
        assert row["peak_memory_bytes"] > 50e6  # more than the weights
    assert sweep.record["verdict"] == sweep.result.stdout.splitlines()[-1]


def test_the_environment_is_recorded(sweep: Sweep) -> None:
    environment = sweep.record["environment"]
    age = datetime.now(UTC) - datetime.fromisoformat(environment["date"])

    assert timedelta(minutes=-1) < age < timedelta(hours=1)
    assert environment["threads"] == 2
    assert environment["memory_format"] == "channels_last"
    assert environment["batch_norm"] == "folded"
    assert environment["device"]
    assert "driver" in environment
    assert torch.__version__.startswith(environment["torch"])
    assert torchvision.__version__.startswith(environment["torchvision"])
    assert sys.version.startswith(environment["python"])


def test_the_settings_are_recorded(sweep: Sweep) -> None:
    assert sweep.record["settings"] == {
        "device": "cpu", "batch_sizes": [1, 3], "precisions": ["fp32", "bf16"], "compiled": False,
        "workers": 2, "img_size": 32, "images": str(SAMPLES), "warmup": 1, "duration": 3.0,
        "iterations": 3, "percentiles": [0, 50, 99.5],
    }  # fmt: skip


def test_csv_says_what_json_says(sweep: Sweep) -> None:
    latencies = ["latency_ms_p0", "latency_ms_p50", "latency_ms_p99.5"]
    plain = [name for name in COLUMNS if name != "latency_ms"]

    assert list(sweep.rows_of_csv[0]) == plain + latencies
    assert len(sweep.rows_of_csv) == len(sweep.record["rows"])
    for cells, row in zip(sweep.rows_of_csv, sweep.record["rows"], strict=True):
        assert [cells[name] for name in plain] == [
            "" if row[name] is None else str(row[name]) for name in plain
        ]
        assert [float(cells[name]) for name in latencies] == list(row["latency_ms"].values())


def test_png_is_a_picture_with_something_on_it(sweep: Sweep) -> None:
    with Image.open(sweep.png) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100


def test_gflops_are_the_rate_times_the_cost_of_an_image(sweep: Sweep) -> None:
    network = torchvision.models.resnet18().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.randn(1, 3, 32, 32))
    gflop = counter.get_total_flops() / 1e9

    for row in sweep.record["rows"]:
        assert row["gflops"] == pytest.approx(gflop * row["images_per_second"])
        assert row["peak_share"] == pytest.approx(row["gflops"] / PEAK)


def test_the_table_shows_the_figures_of_the_json(sweep: Sweep) -> None:
    for line, row in zip(table(sweep.result)[1:], sweep.record["rows"], strict=True):
        shown = [float(cell) for cell in re.findall(r"[\d.]+", line.split(maxsplit=2)[2])]
        expected = [
            row["batch_size"], row["images_per_second"], *row["latency_ms"].values(),
            row["gflops"], 100 * row["peak_share"], row["peak_memory_bytes"] / 1e6,
        ]  # fmt: skip
        assert shown == pytest.approx(expected, abs=0.51)
        assert ("~" in line) is (row["status"] == "noisy")


# what is counted


def test_images_per_second_are_images_over_seconds(run: Run) -> None:
    options = ("--iters", 3, "-b", 2, "--percentiles", "0,50,100", "-o", "a.json")
    assert run(*SMALL, *options).exit_code == 0
    [row] = json.loads(Path("a.json").read_text())["rows"]

    seconds = sum(row["latency_ms"].values()) / 1000  # of one stream, all of its three passes
    assert row["iterations"] == 3
    assert row["images_per_second"] == pytest.approx(3 * 2 / seconds, rel=0.05)


def test_a_row_takes_as_long_as_asked(run: Run) -> None:
    words = ("benchmark", "--device", "cpu", "--img-size", 32, "-j", 1, "-b", 2, "--duration", 0.4)
    assert run(*words, "-o", "a.json").exit_code == 0
    [row] = json.loads(Path("a.json").read_text())["rows"]

    assert row["iterations"] >= 3
    assert row["iterations"] * 2 / row["images_per_second"] >= 0.4


@pytest.mark.parametrize("streams", [1, 3])
def test_warm_up_is_left_out(streams: int) -> None:
    calls: Counter[int] = Counter()
    lock = Lock()

    def network() -> None:
        with lock:
            calls[get_ident()] += 1
        time.sleep(0.3 if calls[get_ident()] <= 2 else 0.001)

    timing = time_streams(network, batch=7, streams=streams, effort=Effort(2, 9.0, 5))

    assert list(calls.values()) == [2 + 5] * streams
    assert len(timing.latencies_ms) == 5 * streams
    assert timing.images == 7 * 5 * streams
    assert min(timing.latencies_ms) >= 1
    assert timing.seconds < 0.3
    assert timing.images_per_second == timing.images / timing.seconds


def test_a_slow_network_is_measured_three_times() -> None:
    timing = time_streams(
        lambda: time.sleep(0.01), batch=1, streams=2, effort=Effort(0, seconds=1e-3)
    )
    assert len(timing.latencies_ms) == 3 * 2


@pytest.mark.usefixtures("_no_longer_than_20_seconds")
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_stream_that_fails_leaves_none_of_the_others_waiting(failing: int) -> None:
    calls, lock = iter(range(1, 100)), Lock()

    def network() -> None:
        with lock:
            number = next(calls)
        time.sleep(0.05)
        if number == failing:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        time_streams(network, batch=1, streams=3, effort=Effort(1, 1.0, 2))


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    latencies = np.random.default_rng(count).exponential(20, count)
    timing = Timing(1, 1.0, latencies.tolist())
    for percent in (0, 12.5, 50, 90, 99, 99.9, 100):
        assert timing.percentile(percent) == pytest.approx(np.percentile(latencies, percent))


def test_the_percentiles_that_are_asked_for_are_shown(run: Run, fix: Fix) -> None:
    latencies = [31.0, 20.0, 5.0, 80.0, 44.0]
    fix(lambda batch: Timing(5 * batch, 0.3, latencies))
    result = run(*SMALL, "-b", 4, "--percentiles", "99.9,25", "-o", "a.json")
    [row] = json.loads(Path("a.json").read_text())["rows"]

    assert row["latency_ms"] == {
        "p99.9": pytest.approx(np.percentile(latencies, 99.9)), "p25": pytest.approx(20),
    }  # fmt: skip
    assert row["images_per_second"] == pytest.approx(20 / 0.3)
    assert "p99.9" in table(result)[0]
    assert "p25" in table(result)[0]


class Camera:
    """Stands for a classifier: ten milliseconds a picture, of which it says what it likes."""

    def __init__(self, *, slow: int = 0, broken: frozenset[str] = frozenset()) -> None:
        self.slow = slow  # pictures at the start
        self.broken = broken
        self.classified = 0

    def predict(self, inputs: Inputs, **_: object) -> Iterator[Prediction]:
        for number, path in enumerate(inputs.paths):
            time.sleep(0.2 if number < self.slow else 0.01)
            if path in self.broken:
                yield Prediction(Path(path), error="the file is empty")
                continue
            self.classified += 1
            scores = (Score("ant", 0, 0.9),)
            yield Prediction(Path(path), scores, decode_ms=2, preprocess_ms=1, forward_ms=4)


def filmed(camera: Camera, *, batch: int, effort: Effort, paths: str = "abc") -> Timing:
    inputs = Inputs(list(paths), len(paths), 0)
    classifier = cast(Classifier, camera)
    return time_end_to_end(classifier, inputs, batch=batch, workers=1, effort=effort)


def test_end_to_end_goes_by_the_clock_without_warm_up() -> None:
    timing = filmed(Camera(slow=4), batch=2, effort=Effort(2, 9.0, 5))

    assert timing.images == 10
    assert timing.latencies_ms == [2 * (2 + 1 + 4)] * 5
    assert timing.decode_share == pytest.approx(3 / 7)
    assert 0.1 <= timing.seconds < 0.4


def broken_and_whole(broken: tuple[str, ...]) -> None:
    """A folder of pictures that cannot be read, and one that can."""
    Path("photos").mkdir()
    for name in broken:
        Path("photos", name).write_text("no picture")
    (Path("photos") / "c.jpg").write_bytes((SAMPLES / "bees" / "bee_01.jpg").read_bytes())


def test_the_speed_is_that_of_another_clock(run: Run) -> None:
    network = torchvision.models.resnet18().eval().to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 96, 96).to(memory_format=torch.channels_last)

    def quickest() -> float:
        """Milliseconds of the quickest of a few passes, which other processes disturb least."""
        torch.set_num_threads(1)
        fastest = inf
        with torch.inference_mode():
            for _ in range(6):
                begun = time.perf_counter()
                network(images)
                fastest = min(fastest, 1000 * (time.perf_counter() - begun))
        return fastest

    before = quickest()
    options = ("-b", 4, "-j", 1, "--iters", 8, "--percentiles", 0, "-o", "a.json")
    run("benchmark", "resnet18", "--device", "cpu", "--img-size", 96, *options)
    expected = min(before, quickest())
    [row] = json.loads(Path("a.json").read_text())["rows"]

    assert expected / 2 < row["latency_ms"]["p0"] < expected * 2
    assert row["images_per_second"] <= 4 / row["latency_ms"]["p0"] * 1000 * 1.001


# the cost of an image, the peak, the memory


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_gflops_are_those_that_torchvision_publishes(run: Run, fix: Fix, name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]  # multiply-adds
    fix(steady)
    run(*SMALL, name, "-b", 8, "--img-size", 224, "-o", "a.json")
    [row] = json.loads(Path("a.json").read_text())["rows"]

    assert row["model"] == name
    assert row["images_per_second"] == pytest.approx(80)
    assert row["gflops"] == pytest.approx(80 * 2 * published, rel=1e-3)


def test_the_peak_is_measured_once_a_precision(
    run: Run, fix: Fix, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def peak(*arguments: object) -> float:
        asked.append(arguments)
        return 10.0 * len(asked)

    monkeypatch.setattr(benchmark, "peak_gflops", peak)
    fix(steady)
    run(*SMALL, "-b", "1,2", "-j", 2, "--precision", "fp32,bf16", "-o", "a.json")

    assert asked == [(CPU, torch.float32, 2), (CPU, torch.bfloat16, 2)]
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert [row["gflops"] / row["peak_share"] for row in rows] == pytest.approx([10, 10, 20, 20])


@pytest.mark.parametrize(("of_product", "of_convolution"), [(3.0, 5.0), (5.0, 3.0)])
def test_the_peak_is_the_better_of_product_and_convolution(
    monkeypatch: pytest.MonkeyPatch, of_product: float, of_convolution: float
) -> None:
    threads: list[int] = []

    def measured(rate: float) -> float:
        threads.append(torch.get_num_threads())
        return rate

    place = "resnet_cli.benchmark.peak"
    monkeypatch.setattr(f"{place}.product", lambda *_: measured(of_product))
    monkeypatch.setattr(f"{place}.convolution", lambda *_: measured(of_convolution))
    torch.set_num_threads(2)

    assert peak_gflops(CPU, torch.float32, 3) == 5
    assert threads == [3, 3]
    assert torch.get_num_threads() == 2


def test_the_peak_goes_by_the_quickest_run() -> None:
    pauses = iter([0.2, 0.2, 0.02, 0.2, *[0.05] * 9])
    rate = best(lambda: time.sleep(next(pauses)), 10**9, CPU)
    assert 1 / 0.05 < rate <= 1 / 0.02


@pytest.mark.skipif(not os.access(CLEAR, os.W_OK), reason="the system keeps the peak for ever")
def test_peak_memory_is_that_of_the_row() -> None:
    forget_peak(CPU)
    before = peak_bytes(CPU)
    bytearray(b"x") * 200_000_000
    during = peak_bytes(CPU)
    forget_peak(CPU)

    assert 190e6 < during - before < 260e6
    assert peak_bytes(CPU) < during - 150e6


# out of memory


def test_out_of_memory_is_a_row_and_the_sweep_goes_on(run: Run) -> None:
    outputs = ("-o", "a.json", "-o", "a.csv", "-o", "a.png")
    result = run(*SMALL, "--img-size", 224, "--warmup", 0, "-b", f"{TOO_MANY},1", *outputs)
    failed, fine = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert (failed["status"], failed["iterations"]) == ("out of memory", 0)
    assert "memory" in failed["error"]
    assert len(failed["error"].splitlines()) == 1
    assert {failed[name] for name in ("images_per_second", "gflops", "peak_share")} == {None}
    assert fine["status"] in {"ok", "noisy"}
    assert fine["images_per_second"] > 0
    assert "out of memory" in table(result)[1]
    assert f"out of memory from --batch-size {TOO_MANY}" in result.stdout.splitlines()[-1]
    cells = next(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    assert (cells["status"], cells["images_per_second"]) == ("out of memory", "")
    assert cells["latency_ms_p50"] == ""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee the manual"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_every_allocator_is_understood(run: Run, fix: Fix, error: Exception) -> None:
    def little_room(batch: int) -> Timing:
        if batch > 2:
            raise error
        return steady(batch)

    fix(little_room)
    result = run(*SMALL, "-b", "4,2", "-o", "a.json")
    failed, fine = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert (failed["status"], fine["status"]) == ("out of memory", "ok")
    assert len(failed["error"].splitlines()) == 1


def test_another_error_is_no_lack_of_memory(run: Run, fix: Fix) -> None:
    def faulty(_: int) -> Timing:
        raise RuntimeError("a bug")

    fix(faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        run(*SMALL, "-b", 1)


# the table


def test_the_defaults_are_those_of_the_interface(run: Run, fix: Fix) -> None:
    fix(steady)
    result = run("benchmark", "--device", "cpu", "-o", "a.json")
    record = json.loads(Path("a.json").read_text())
    rows = record["rows"]

    assert result.exit_code == 0
    assert [(row["mode"], row["precision"], row["batch_size"]) for row in rows] == [
        ("forward", "fp32", size) for size in (1, 8, 32)
    ]
    assert {row["model"] for row in rows} == {"resnet18"}
    settings = record["settings"]
    assert (settings["warmup"], settings["duration"], settings["iterations"]) == (3, 3, None)
    assert (settings["img_size"], settings["images"]) == (224, None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert settings["workers"] == cores
    assert list(rows[0]["latency_ms"]) == ["p50", "p90", "p99"]


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_a_spread_too_wide_is_said(run: Run, fix: Fix, spread: float) -> None:
    fix(lambda batch: Timing(4 * batch, 0.1, [20.0, 20.0, 20.0 * spread, 20.0 * spread]))
    result = run(*SMALL, "-b", 1, "-o", "a.json")
    [row] = json.loads(Path("a.json").read_text())["rows"]

    assert (row["status"] == "noisy") is (spread > 1)
    assert ("~" in table(result)[1]) is (spread > 1)
    assert ("too noisy" in result.stdout.splitlines()[-1]) is (spread > 1)


def test_progress_is_drawn_on_stderr_when_asked(run: Run, fix: Fix) -> None:
    fix(steady)
    result = run(*SMALL, "-b", "1,2", "--progress", "on")
    assert "2/2 [" in result.stderr
    assert "2/2 [" not in result.stdout
    assert "2/2 [" not in run(*SMALL, "-b", "1,2", "--progress", "auto").stderr


@pytest.mark.parametrize("option", OPTIONS)
def test_help_has_the_options_of_the_interface(run: Run, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", run("benchmark", "--help").stdout)


# the verdict


def a_row(mode: str, batch: int, rate: float | None, **more: Any) -> Row:
    """A row; without a rate it ran out of memory."""
    settings: dict[str, Any] = {
        "device": "cpu", "precision": "fp32", "compiled": False, "model": "resnet18",
        "images_per_second": rate, "status": "out of memory" if rate is None else "ok",
    }  # fmt: skip
    return Row(mode=mode, batch_size=batch, **settings | more)


def said(*rows: Row, compiled: bool = False, workers: int = 2) -> str:
    return verdict(rows, compiled=compiled, workers=workers)


def test_a_cpu_that_decodes_most_of_the_time_is_decode_bound() -> None:
    alone = a_row("forward", 8, 100.0)
    decoding = said(alone, a_row("end-to-end", 8, 40.0, decode_share=0.6))
    computing = said(alone, a_row("end-to-end", 8, 40.0, decode_share=0.4))

    assert decoding.startswith("decode-bound: end-to-end in fp32 with --batch-size 8")
    assert "40.0 images/s" in decoding
    assert "cores" in decoding
    assert computing.startswith("compute-bound")


def test_a_gpu_that_waits_for_pictures_is_decode_bound() -> None:
    def on_gpu(rate: float) -> str:
        rows = a_row("forward", 64, 9000.0), a_row("end-to-end", 64, rate, decode_share=0.9)
        return said(*(with_device(one, "cuda:0") for one in rows), workers=12)

    assert on_gpu(2000.0).startswith("decode-bound: end-to-end in fp32 with --batch-size 64")
    assert "--workers 12" in on_gpu(2000.0)
    assert on_gpu(8500.0).startswith("compute-bound")


def with_device(one: Row, device: str) -> Row:
    return a_row(one.mode, one.batch_size, one.images_per_second, device=device)


def test_compute_bound_names_the_fastest_setting_and_what_to_try() -> None:
    rows = a_row("forward", 1, 50.0), a_row("forward", 8, 100.0), a_row("forward", 32, 90.0)

    assert said(*rows).startswith("compute-bound: forward in fp32 with --batch-size 8")
    assert "100.0 images/s" in said(*rows)
    assert "--compile" in said(*rows)
    assert "--precision bf16" in said(*rows)
    assert "--compile" not in said(*rows, compiled=True)
    assert "--precision" not in said(*rows, a_row("forward", 8, 150.0, precision="bf16"))


def test_noise_is_said() -> None:
    sentence = said(a_row("forward", 1, 50.0, status="noisy"), a_row("forward", 8, 100.0))
    assert "too noisy: 1 of 2 rows" in sentence
    assert "--duration" in sentence
    assert "noisy" not in said(a_row("forward", 8, 100.0))


def test_the_smallest_batch_without_room_is_named() -> None:
    sentence = said(
        a_row("forward", 8, 10.0), a_row("forward", 512, None), a_row("forward", 64, None)
    )
    assert sentence.startswith("compute-bound")
    assert "out of memory from --batch-size 64" in sentence


def test_nothing_measured_is_said() -> None:
    assert "nothing could be measured" in said(a_row("forward", 64, None))
    assert "--batch-size" in said(a_row("forward", 64, None))


# an earlier benchmark


@pytest.fixture
def compare(run: Run, fix: Fix) -> Callable[..., Result]:
    """Measure 1 and 8 images at 100 images/s, change the file, and compare 150 with it."""

    def invoke(change: Callable[[dict[str, Any]], None], *arguments: object) -> Result:
        fix(lambda batch: steady(batch, batch / 100))
        run(*SMALL, "-b", "1,8", "-o", "then.json")
        record = json.loads(Path("then.json").read_text())
        change(record)
        Path("then.json").write_text(json.dumps(record))
        fix(lambda batch: steady(batch, batch / 150))
        return run(*SMALL, "--compare", "then.json", *arguments)

    return invoke


def unchanged(record: dict[str, Any]) -> None:
    record["environment"]["date"] = "2001-02-03T04:05:06+00:00"


def warned(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("Warning")]


def test_each_row_has_its_ratio(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["rows"][1]["images_per_second"] = 600.0

    result = compare(change, "-b", "1,4,8")
    header, *lines = table(result)
    assert result.exit_code == 0
    assert header.endswith("ratio")
    assert lines[0].endswith(" 1.50")
    assert lines[2].endswith(" 0.25")
    assert len(lines[1].split()) == len(lines[0].split()) - 1  # four were not measured then


def test_what_is_the_same_is_not_warned_of(compare: Callable[..., Result]) -> None:
    assert warned(compare(unchanged, "-b", "1,8")) == []


def test_a_row_that_had_no_room_then_has_no_ratio(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["rows"][0] |= {"images_per_second": None, "status": "out of memory"}

    result = compare(change, "-b", "1,8")
    assert result.exit_code == 0
    assert [line.endswith("1.50") for line in table(result)[1:]] == [False, True]


def test_every_difference_is_named(compare: Callable[..., Result]) -> None:
    names: set[str] = set()

    def change(record: dict[str, Any]) -> None:
        for part in ("environment", "settings"):
            names.update(record[part])
            record[part] = dict.fromkeys(record[part], "something else")
        record["environment"]["gone"] = "something else"
        for row in record["rows"]:
            row["model"] = "something else"

    warnings = warned(compare(change, "-b", "1,8"))
    named = {name for name in names if [line for line in warnings if f" {name}:" in line]}

    assert names - named <= {"date", "batch_sizes", "precisions"}  # rows show the last two
    assert [line for line in warnings if " gone:" in line]
    assert [line for line in warnings if " model:" in line and "resnet18" in line]
    assert all("something else" in line for line in warnings)


def test_another_way_of_measuring_is_named(compare: Callable[..., Result]) -> None:
    warnings = warned(compare(unchanged, "-b", "1,8", "--iters", 7, "--percentiles", "50"))
    assert len(warnings) == 2
    assert [line for line in warnings if "iterations: 1 then, 7 now" in line]
    assert [line for line in warnings if "percentiles" in line]


ROW = {
    "mode": "forward", "model": "resnet18", "precision": "fp32", "batch_size": 1,
    "compiled": False, "images_per_second": 9.0,
}  # fmt: skip


def with_row(**changes: object) -> str:
    row = {key: value for key, value in (ROW | changes).items() if value != "left out"}
    return json.dumps({"environment": {}, "settings": {}, "rows": [row]})


NO_BENCHMARKS = {
    "nothing": b"",
    "text": b"weights",
    "bytes": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "half of one": with_row()[:90].encode(),
    "no rows": b'{"environment": {}, "settings": {}}',
    "a summary": b'{"model": "resnet18", "rows": [{"name": "conv1", "parameters": 9408}]}',
    "rows without a mode": with_row(mode="left out").encode(),
    "rows without a rate": with_row(images_per_second="left out").encode(),
    "rows without a model": with_row(model="left out").encode(),
    "a rate in words": with_row(images_per_second="fast").encode(),
    "a batch size of its own": with_row(batch_size=[1]).encode(),
    "an environment that is a list": with_row().replace("{}", '[["a", 1]]', 1).encode(),
}


# what is refused


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("resnet19", "resnet18"), ("resnt50", "resnet50"), ("wide_resnet50", "wide_resnet50_2"),
     ("resnext50_32x4", "resnext50_32x4d"), ("gone.pth", "resnet101"), ("alexnet", "resnet18")],
)  # fmt: skip
def test_an_unknown_model_names_the_nearest(run: Run, given: str, nearest: str) -> None:
    result = run(*SMALL, given)
    assert re.search(rf"{re.escape(repr(given))}: .*\b{nearest}\b", error_line(result))
    assert result.stdout == ""


UNWRITABLE = {
    "a.xls": "the suffix must be one of .json, .csv, .png",
    "a": "the suffix must be one of",
    "a.svg": "the suffix must be one of",
    "gone/a.json": "there is no folder gone",
    "there.json": "it is there already: add --overwrite",
    "there.png": "it is there already: add --overwrite",
    "folder.csv": "it is a folder",
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(
    run: Run, fix: Fix, name: str
) -> None:
    Path("folder.csv").mkdir()
    for there in (Path("there.json"), Path("there.png")):
        there.write_text("precious")
    fix(steady)
    result = run(*SMALL, "-b", 1, "-o", "fine.csv", "-o", name)

    assert f"cannot write {name}: {UNWRITABLE[name]}" in error_line(result)
    assert result.stdout == ""
    assert not Path("fine.csv").exists()
    assert Path("there.json").read_text() == Path("there.png").read_text() == "precious"


def test_overwrite_and_suffixes_in_capitals(run: Run, fix: Fix) -> None:
    fix(steady)
    names = ("A.JSON", "A.CSV", "A.PNG")
    for name in names:
        Path(name).write_text("old")
    outputs = [word for name in names for word in ("-o", name)]
    assert run(*SMALL, "-b", 1, "--overwrite", *outputs).exit_code == 0

    assert json.loads(Path("A.JSON").read_text())["rows"]
    assert Path("A.CSV").read_text().startswith("mode,")
    with Image.open("A.PNG") as image:
        assert image.format == "PNG"


# what is measured


@pytest.mark.parametrize("subject", [DEMO, "resnet34"])
def test_a_checkpoint_or_a_name_is_measured_and_nothing_is_downloaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, subject: object
) -> None:
    def unplugged(*_: object) -> None:
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", unplugged)
    result = run(*SMALL, subject, "-b", 2, "--images", SAMPLES / "bees", "-o", "a.json")
    rows = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert not Path(os.environ["TORCH_HOME"]).exists()
    assert {row["model"] for row in rows} == {"resnet18" if subject == DEMO else subject}
    assert [row["mode"] for row in rows] == ["forward", "end-to-end"]
    assert all(row["images_per_second"] > 0 for row in rows)


def test_a_file_that_is_no_checkpoint_is_told_in_one_line(run: Run) -> None:
    Path("a.pth").write_text("weights")
    assert "cannot load a.pth: it is a text file" in error_line(run(*SMALL, "a.pth"))


# the plot


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """The figure that is drawn for some rows."""

    def draw(*rows: Row, percentiles: tuple[float, ...] = (50, 90, 99)) -> Figure:
        kept: list[Figure] = []
        monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: kept.append(self))
        found = Benchmark({"device": "a machine"}, {"percentiles": percentiles}, rows, "")
        plot(found, Path("a.png"))
        [figure] = kept
        return figure

    return draw


def full(mode: str, precision: str, batch: int, rate: float | None) -> Row:
    times = {} if rate is None else {"p50": 9.0 * batch, "p90": 10.0 * batch, "p99": 30.0 * batch}
    return a_row(mode, batch, rate, precision=precision, latency_ms=times)


def test_words_tell_what_is_drawn(drawn: Callable[..., Figure]) -> None:
    pairs = list(product(("forward", "end-to-end"), ("fp32", "bf16", "fp16")))
    sizes = (1, 8, 32)
    rows = [
        full(*pair, size, 100.0 * size + 7 * number)
        for number, pair in enumerate(pairs)
        for size in sizes
    ]
    figure = drawn(*rows)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [
        text
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_text() and text.get_visible()
    ]
    words = {text.get_text() for text in texts}

    assert {f"{mode}, {precision}" for mode, precision in pairs} <= words
    assert {"resnet18 on a machine", "images/s", "batch size", "ms per batch"} <= words
    assert {str(size) for size in sizes} <= words
    assert {f"{one.images_per_second:.0f}" for one in rows} <= words
    assert "Latency: percentiles 50 to 99" in words
    page = Bbox.from_extents(*figure.bbox.extents)
    ticks = [  # some stand where nothing is drawn
        tick
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_ticklabels(which="both")
    ]
    for text in texts:
        box = text.get_window_extent(renderer)
        if text not in ticks:
            assert page.x0 <= box.x0 <= box.x1 <= page.x1, text.get_text()
            assert page.y0 <= box.y0 <= box.y1 <= page.y1, text.get_text()


def test_lines_are_the_figures(drawn: Callable[..., Figure]) -> None:
    rows = full("forward", "fp32", 8, 80.0), full("forward", "fp32", 1, 30.0)
    left, right = drawn(*rows, full("forward", "fp32", 64, None)).axes

    [line] = left.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1, 30], [8, 80]])
    [line] = right.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1, 9], [8, 72]])
    [band] = right.collections
    heights = {float(y) for path in band.get_paths() for _, y in np.asarray(path.vertices)}
    assert {9.0, 30.0, 72.0, 240.0} <= heights


# real processes

QUICK = """
import resnet_cli.benchmark
from resnet_cli.__main__ import main
resnet_cli.benchmark.peak_gflops = lambda *_, **__: 1000.0
main()
"""


def program(*arguments: object, known_peak: bool = False) -> "subprocess.Popen[str]":
    start = ["-c", QUICK] if known_peak else ["-m", "resnet_cli"]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that starts the tests in its background has them ignore SIGINT
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finished(process: "subprocess.Popen[str]", seconds: float) -> tuple[int, str, str]:
    """Status, stdout and stderr of a program that ends in time."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return process.returncode, stdout, stderr


# on a GPU


@pytest.mark.cuda
def test_the_gpu_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "peak_gflops", peak_gflops)
    sizes = f"1,8,{TOO_MANY}"
    result = run(
        *("benchmark", "resnet18", "--device", "cuda", "-j", 2, "--iters", 5, "--warmup", 2),
        *("-b", sizes, "--precision", "fp32,bf16", "-o", "a.json", "-o", "a.png"),
    )
    record = json.loads(Path("a.json").read_text())

    assert result.exit_code == 0
    assert record["environment"]["device"] == torch.cuda.get_device_name()
    assert record["environment"]["cuda"] == torch.version.cuda
    for row in record["rows"]:
        assert row["device"].startswith("cuda")
        if row["batch_size"] == TOO_MANY:
            assert (row["status"], row["images_per_second"]) == ("out of memory", None)
            continue
        assert row["iterations"] == 5
        assert 0 < row["peak_share"] < 1.2
        weights = 11_689_512 * (4 if row["precision"] == "fp32" else 2)
        assert weights < row["peak_memory_bytes"] < 4e9
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"] < 10_000


@pytest.mark.cuda
def test_the_gpu_is_waited_for(run: Run) -> None:
    network = torchvision.models.resnet50().eval().cuda().to(memory_format=torch.channels_last)
    images = torch.randn(64, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    options = ("-b", 64, "--iters", 10, "--percentiles", 50, "-o", "a.json")
    run("benchmark", "resnet50", "--device", "cuda", *options)
    [row] = json.loads(Path("a.json").read_text())["rows"]
    seconds = []
    with torch.inference_mode():
        for _ in range(8):
            begun = time.perf_counter()
            network(images).cpu()
            seconds.append(time.perf_counter() - begun)

    expected = 1000 * min(seconds)
    assert expected / 3 < row["latency_ms"]["p50"] < expected * 2
    assert row["images_per_second"] == pytest.approx(64_000 / row["latency_ms"]["p50"], rel=0.5)


@pytest.mark.cuda
def test_photographs_are_classified_on_the_gpu(run: Run) -> None:
    words = ("benchmark", DEMO, "--device", "cuda", "-b", 4, "-j", 4, "--iters", 3)
    assert run(*words, "--images", SAMPLES, "-o", "a.json").exit_code == 0
    forward, whole = json.loads(Path("a.json").read_text())["rows"]

    assert (forward["mode"], whole["mode"]) == ("forward", "end-to-end")
    assert forward["images_per_second"] > 0
    assert whole["images_per_second"] > 0
    assert whole["latency_ms"]["p50"] > 0
