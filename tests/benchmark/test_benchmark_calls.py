"""run_benchmark from Python: it returns, prints nothing, and refuses bad values at the call."""

from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, Fix
from docs_blocks import run_blocks
from measuring import steady
from resnet_cli import BenchmarkOptions, BenchmarkResult, run_benchmark
from resnet_cli.errors import OptionError, SettingError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"

REFUSED: dict[str, dict[str, Any]] = {
    "batch_sizes must be 1 to 1,000,000,000, got 0": {"batch_sizes": [0]},
    "batch_sizes must be 1 to": {"batch_sizes": [1, 10**10]},
    "percentiles must not be empty": {"percentiles": ()},
    "runtimes must not be empty": {"runtimes": ()},
    "cannot use runtime 'tensorrt': one of torch, openvino": {"runtimes": ["tensorrt"]},
    "cannot use precision 'fp8': one of fp32, bf16, fp16": {"precisions": ["fp8"]},
    "percentiles must be 0 to 100, got 101": {"percentiles": [50, 101]},
    "percentiles must be 0 to 100, got nan": {"percentiles": [float("nan")]},
    "img_size must be 32 to 16,384, got 31": {"img_size": 31},
    "workers must be 1 to 1,024, got -1": {"workers": -1},
    "workers must be 1 to 1,024, got 0": {"workers": 0},
    "warmup must be 0 to 1,000,000,000, got -1": {"warmup": -1},
    "iterations must be 1 to 1,000,000,000, got 0": {"iterations": 0},
    "duration must be a number of seconds above 0, got inf": {"duration": float("inf")},
}


def test_the_page_shows_a_benchmark(fix: Fix, capsys: pytest.CaptureFixture[str]) -> None:
    fix(steady)
    result = run_blocks(PAGE, "Benchmark")["result"]

    assert isinstance(result, BenchmarkResult)
    assert [(row.precision, row.batch_size) for row in result.rows] == [("fp32", 1), ("fp32", 8)]
    assert result.best == result.rows[1]
    assert result.verdict.startswith("compute-bound")
    assert result.record()["settings"]["duration"] == 1.0
    assert "2 of 2 rows" in capsys.readouterr().out


def test_a_benchmark_prints_nothing(fix: Fix, capfd: pytest.CaptureFixture[str]) -> None:
    fix(steady)
    done: list[tuple[int, int | None]] = []
    options = BenchmarkOptions(device="cpu", batch_sizes=(2,), images=str(SAMPLES))
    result = run_benchmark(options=options, progress=lambda *counts: done.append(counts))

    assert done == [(1, 2), (2, 2)]
    assert [row.mode for row in result.rows] == ["forward", "end-to-end"]
    assert result.best == result.rows[1]
    assert result.rows[0].model == "resnet18"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("message", REFUSED)
def test_a_value_that_cannot_be_measured_is_refused_by_the_options(message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BenchmarkOptions(**REFUSED[message])


def test_an_unknown_model_is_refused_at_the_call() -> None:
    with pytest.raises(SettingError, match=r"'resnet19': .*resnet18"):
        run_benchmark("resnet19", BenchmarkOptions(device="cpu"))
