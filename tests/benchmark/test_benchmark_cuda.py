"""What only a GPU can show."""

import json
import time
from pathlib import Path

import pytest
import torch
import torchvision

from conftest import DEMO, SAMPLES, Run
from measuring import TOO_MANY
from resnet_cli.benchmark.workload import peak_gflops
from resnet_cli.runtimes import find_runtime
from resnet_cli.runtimes.torch_cuda import TorchCuda


@pytest.mark.cuda
def test_the_gpu_is_measured(run: Run) -> None:
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


@pytest.mark.cuda
def test_a_batch_beyond_the_gpu_is_told_by_its_own_allocator(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchCuda, "available_memory", lambda _: None)
    words = ("benchmark", "--device", "cuda", "--iters", 2, "-j", 2, "--images", SAMPLES)
    assert run(*words, "-b", "200000,8", "-o", "a.json").exit_code == 0
    rows = json.loads(Path("a.json").read_text())["rows"]
    assert [row["status"] == "out of memory" for row in rows] == [True, True, False, False]


@pytest.mark.cuda
def test_a_large_product_keeps_the_gpu_busy() -> None:
    device = torch.device("cuda")
    left = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        left @ left
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    expected = 2 * 8192**3 / min(seconds) / 1e9
    assert peak_gflops(find_runtime("cuda"), torch.bfloat16, 1) == pytest.approx(expected, rel=0.3)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_is_measured_by_its_own_clock(run: Run) -> None:
    torch.cuda.set_device(0)
    words = ("benchmark", "--device", "cuda:1", "-b", 32, "--iters", 5, "-o", "a.json")
    assert run(*words).exit_code == 0
    [row] = json.loads(Path("a.json").read_text())["rows"]
    expected = 1000 * 32 / row["images_per_second"]
    assert row["latency_ms"]["p50"] == pytest.approx(expected, rel=0.5)
    assert torch.cuda.current_device() == 0
