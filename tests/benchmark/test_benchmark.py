import csv
import io
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
import torchvision
from click.testing import CliRunner, Result
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from conftest import DEMO, SAMPLES, Fix, Run
from measuring import PEAK, SMALL, TOO_MANY, broken_and_whole, error_line, steady, table
from resnet_cli.benchmark import sweep as sweeping
from resnet_cli.benchmark.timing import Timing
from resnet_cli.cli import cli
from resnet_cli.records import Pixels
from resnet_cli.runtimes import PRECISIONS, Runtime, Top, host, torch_runtime
from resnet_cli.runtimes.torch_runtime import TorchCpu, TorchSession

pytestmark = pytest.mark.usefixtures("known_peak")

COLUMNS = [
    "mode", "model", "device", "runtime", "precision", "batch_size", "compiled",
    "images_per_second", "latency_ms", "gflops", "peak_share", "peak_memory_bytes", "iterations",
    "status", "error", "other_work",
]  # fmt: skip

OPTIONS = [
    "--device", "--runtime", "-b", "--batch-size", "--precision", "--compile", "-j", "--workers",
    "--img-size", "--images", "--warmup", "--duration", "--iters", "--percentiles", "-o",
    "--output", "--overwrite", "--compare", "--progress", "--debug",
]  # fmt: skip

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "peak_gflops", lambda *_: PEAK)
        return measured_into(folder)


def measured_into(folder: Path) -> Sweep:
    arguments = [
        *("benchmark", "resnet18", "--device", "cpu", "--img-size", 32, "-j", 2),
        *("-b", "1,3", "--precision", "fp32,bf16", "--images", SAMPLES),
        *("--warmup", 1, "--iters", 3, "--percentiles", "0,50,99.5"),
        *(word for suffix in ("json", "csv", "png") for word in ("-o", folder / f"a.{suffix}")),
    ]
    wide = CliRunner(env={"COLUMNS": "100"})
    result = wide.invoke(cli, list(map(str, arguments)), catch_exceptions=False)
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
    assert {row["status"] for row in rows} <= {"ok", "noisy", "disturbed"}
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
        "device": "cpu", "batch_sizes": [1, 3], "runtimes": ["torch"],
        "precisions": ["fp32", "bf16"], "compiled": False, "workers": 2,
        "img_size": 32, "images": str(SAMPLES), "warmup": 1, "duration": 3.0, "iterations": 3,
        "percentiles": [0, 50, 99.5],
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
        assert ("~" in line) is (row["status"] in {"noisy", "disturbed"})


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


@pytest.mark.parametrize("batch", [1, 2])
def test_a_picture_that_cannot_be_read_is_left_out(run: Run, batch: int) -> None:
    broken_and_whole("a.jpg", "b.jpg", "d.jpg")
    options = ("-b", batch, "--images", "photos", "--warmup", 0, "--iters", 4, "-o", "a.json")
    result = run(*SMALL, *options)
    _, whole = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert (whole["mode"], whole["iterations"]) == ("end-to-end", 4)
    assert whole["images_per_second"] > 0
    for name in ("a.jpg", "b.jpg", "d.jpg"):  # each once, however often its turn comes
        assert result.stderr.count(f"photos/{name}") == 1
    assert "c.jpg" not in result.stderr


def test_passes_are_those_of_each_stream(run: Run) -> None:
    options = ("-j", 2, "-b", 1, "--images", SAMPLES, "--iters", 3, "-o", "a.json")
    assert run(*SMALL, *options).exit_code == 0
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert {row["mode"]: row["iterations"] for row in rows} == {"forward": 6, "end-to-end": 6}


def test_every_batch_size_is_compiled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(torch.compile, backend="eager")  # all of torch.compile but its code
    monkeypatch.setattr(torch, "compile", quick)
    monkeypatch.delattr("torch._inductor.standalone_compile")  # as a whole, that is
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        result = run(*SMALL, "--compile", "-b", "1,2,3,4", "--warmup", 0, "-o", "a.json")
    rows = json.loads(Path("a.json").read_text())["rows"]

    assert result.exit_code == 0
    assert [row["compiled"] for row in rows] == [True] * 4
    assert all(row["images_per_second"] > 0 for row in rows)


def test_the_speed_is_that_of_another_clock(run: Run) -> None:
    """Other work on the machine delays passes, but takes no CPU time of this thread."""
    network = torchvision.models.resnet18().eval().to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 96, 96).to(memory_format=torch.channels_last)
    torch.set_num_threads(1)
    computing = []
    with torch.inference_mode():
        for _ in range(6):
            begun = time.thread_time()
            network(images)
            computing.append(1000 * (time.thread_time() - begun))
    least = min(computing)

    begun = time.perf_counter()
    options = ("-b", 4, "-j", 1, "--iters", 8, "--percentiles", 0, "-o", "a.json")
    run("benchmark", "resnet18", "--device", "cpu", "--img-size", 96, *options)
    elapsed = 1000 * (time.perf_counter() - begun)
    [row] = json.loads(Path("a.json").read_text())["rows"]
    quickest = row["latency_ms"]["p0"]

    assert least / 3 < quickest < 15 * least  # a batch, not an image; milliseconds, not seconds
    assert 8 * quickest < elapsed
    assert row["images_per_second"] <= 4 / quickest * 1000 * 1.001
    assert row["images_per_second"] >= 8 * 4 / elapsed * 1000


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
    asked: list[tuple[str, object, int]] = []

    def peak(runtime: Runtime, dtype: object, threads: int) -> float:
        asked.append((runtime.device, dtype, threads))
        return 10.0 * len(asked)

    fix(steady)
    monkeypatch.setattr(sweeping, "peak_gflops", peak)
    monkeypatch.setattr(sweeping, "available_cores", lambda: 2)
    run(*SMALL, "-b", "1,2", "-j", 8, "--precision", "fp32,bf16", "-o", "a.json")

    assert asked == [("cpu", torch.float32, 2), ("cpu", torch.bfloat16, 2)]
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert [row["gflops"] / row["peak_share"] for row in rows] == pytest.approx([10, 10, 20, 20])


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
    def faulty(batch: int) -> Timing:
        if batch == 2:
            raise RuntimeError("a bug")
        return steady(batch)

    fix(faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        run(*SMALL, "-b", "1,2,4", "-o", "a.json")
    record = json.loads(Path("a.json").read_text())
    assert [row["batch_size"] for row in record["rows"]] == [1]  # what was measured is not lost
    assert record["verdict"].startswith("stopped after 1 of 3 rows; compute-bound")


def test_what_does_not_fit_alone_is_not_tried_with_photographs(run: Run) -> None:
    options = ("-b", TOO_MANY, "--images", SAMPLES, "-o", "a.json")
    begun = time.perf_counter()
    assert run(*SMALL, *options).exit_code == 0
    rows = json.loads(Path("a.json").read_text())["rows"]

    assert [(row["mode"], row["status"]) for row in rows] == [
        ("forward", "out of memory"), ("end-to-end", "out of memory"),
    ]  # fmt: skip
    assert rows[0]["error"] == rows[1]["error"]
    assert time.perf_counter() - begun < 20  # to decode so many would take days


def test_more_than_the_machine_has_is_not_tried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with FlopCounterMode(display=False), torch.inference_mode():
        first = torchvision.models.resnet18().conv1(torch.randn(1, 3, 224, 224))
    least = 2 * 4 * first.numel()  # the first activations, and what their ReLU makes of them

    def rates(free: int) -> list[bool]:
        monkeypatch.setattr(TorchCpu, "available_memory", lambda _: free)
        words = (*SMALL, "--img-size", 224, "-j", 2, "--warmup", 0, "-b", "1,4")
        run(*words, "--overwrite", "-o", "a.json")
        rows = json.loads(Path("a.json").read_text())["rows"]
        return [row["images_per_second"] is not None for row in rows]

    assert rates(2 * 4 * least - 1) == [True, False]  # two streams of four images
    assert rates(3 * 2 * 4 * least) == [True, True]


def test_a_batch_that_had_to_be_cut_did_not_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TorchSession.start

    def little_room(self: TorchSession, pixels: Pixels, k: int) -> Callable[[], Top]:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, pixels, k)

    monkeypatch.setattr(TorchSession, "start", little_room)  # which only predict calls
    assert run(*SMALL, "-b", "2,4", "--images", SAMPLES, "-o", "a.json").exit_code == 0
    rows = json.loads(Path("a.json").read_text())["rows"]

    assert [row["status"] == "out of memory" for row in rows] == [False, False, False, True]
    assert "passes of 2" in rows[3]["error"]


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


@pytest.mark.parametrize("compared", [False, True])
def test_the_table_fits_a_terminal(
    run: Run, fix: Fix, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    slow, sizes = 98765.4, "1,8,10000"
    fix(lambda batch: Timing(batch, batch / 98765.4, [slow, 2 * slow, 3 * slow]))
    run(*SMALL, "-b", sizes, "-o", "then.json")
    more = ("--compare", "then.json") if compared else ()
    result = run(*SMALL, "-b", sizes, "--images", SAMPLES, "--precision", "fp32,bf16", *more)

    lines = table(result)
    assert len(lines) == 1 + 2 * 2 * 3
    assert max(map(len, lines)) <= 80
    assert [lines[0].endswith("ratio"), "GFLOP/s" in lines[0]] == [compared, not compared]
    ends = [match.end() for match in re.finditer(r"\S+( ms)?", lines[0])]
    for line in lines[1:]:  # figures stand under their titles
        assert {match.end() for match in re.finditer(r"\S+", line)} >= set(
            ends[2 : -compared or 99]
        )


def test_progress_is_drawn_on_stderr_when_asked(run: Run, fix: Fix) -> None:
    fix(steady)
    result = run(*SMALL, "-b", "1,2", "--progress", "on")
    assert "2/2 [" in result.stderr
    assert "2/2 [" not in result.stdout
    assert "2/2 [" not in run(*SMALL, "-b", "1,2", "--progress", "auto").stderr


@pytest.mark.parametrize("option", OPTIONS)
def test_help_has_the_options_of_the_interface(run: Run, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", run("benchmark", "--help").stdout)


# what is measured


@pytest.mark.parametrize(
    ("wanted", "measured", "emulated"),
    [("fp32,bf16", ["fp32"], 1), ("bf16,fp32,fp16", ["fp32"], 2), ("bf16", ["fp32"], 1),
     ("fp32", ["fp32"], 0)],
)  # fmt: skip
def test_what_would_be_emulated_is_measured_in_fp32_and_once(
    run: Run, fix: Fix, monkeypatch: pytest.MonkeyPatch, wanted: str, measured: list[str],
    emulated: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(host, "UNITS", {"bf16": (), "fp16": ()})  # of an older processor
    fix(steady)
    result = run(*SMALL, "-b", "1,2", "--precision", wanted, "-o", "a.json", "--progress", "on")
    record = json.loads(Path("a.json").read_text())

    assert [row["precision"] for row in record["rows"]] == [p for p in measured for _ in (1, 2)]
    assert record["settings"]["precisions"] == measured
    assert not record["verdict"].startswith("stopped")
    assert "2/2 [" in result.stderr
    notes = [line for line in result.stderr.splitlines() if "using fp32" in line]
    assert len(notes) == emulated
    assert all("has no fast" in line for line in notes)
    assert "--precision bf16" not in result.stdout  # which would be no faster


@pytest.mark.parametrize(
    ("saved", "fused", "advised"),
    [(True, True, True), (False, True, False), (False, False, True)],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compile_is_advised_where_it_has_something_to_add(
    run: Run,
    fix: Fix,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    saved: bool,
    fused: bool,
    advised: bool,
) -> None:
    monkeypatch.setattr(torch_runtime, "has_fused_operators", lambda _: fused)
    monkeypatch.setattr(torch_runtime, "saves_time", lambda *_, **__: saved)
    monkeypatch.setattr(TorchCpu, "precisions", frozenset(PRECISIONS))
    fix(steady)
    assert ("--compile" in run(*SMALL, "-b", 1, "--precision", precision).stdout) is advised


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
