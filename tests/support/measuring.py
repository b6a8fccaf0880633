"""What the tests of benchmark share: rows as they might be measured, and the text that is shown."""

from pathlib import Path
from typing import Any

from click.testing import Result

from resnet_cli.benchmark.rows import BenchmarkRow
from resnet_cli.benchmark.timing import Stages, Timing
from resnet_cli.runtimes import find_runtime

CPU = find_runtime("cpu")

PEAK = 1000.0  # GFLOP/s that this machine is said to reach: to measure them takes seconds

SMALL = ("benchmark", "--device", "cpu", "--img-size", "32", "-j", "1", "--iters", "1")

SAMPLE = Path(__file__).parents[2] / "sample_images" / "bees" / "bee_01.jpg"

TOO_MANY = 10**9  # pictures of 224 pixels: 6e14 bytes, more than 47 bits can address


def steady(batch: int, seconds: float = 0.1) -> Timing:
    """Four passes that each took the same."""
    return Timing(4 * batch, 4 * seconds, [1000 * seconds] * 4)


def a_row(mode: str, batch: int, rate: float | None, **more: Any) -> BenchmarkRow:
    """A row; without a rate it ran out of memory."""
    settings: dict[str, Any] = {
        "device": "cpu", "runtime": "torch", "precision": "fp32", "compiled": False,
        "model": "resnet18", "images_per_second": rate,
        "status": "out of memory" if rate is None else "ok",
    }  # fmt: skip
    return BenchmarkRow(mode=mode, batch_size=batch, **settings | more)


def end_to_end(
    batch: int, rate: float, prepare_ms: float, forward_ms: float, **more: Any
) -> BenchmarkRow:
    """A row of photographs, and what one takes of a thread and of the network."""
    return a_row("end-to-end", batch, rate, stages=Stages(prepare_ms, forward_ms), **more)


def broken_and_whole(*broken: str) -> None:
    """Make a folder of pictures that cannot be read, and one that can."""
    Path("photos").mkdir()
    for name in broken:
        Path("photos", name).write_text("no image")
    Path("photos", "c.jpg").write_bytes(SAMPLE.read_bytes())


def table(result: Result) -> list[str]:
    """The lines of the table, from its header to its last row."""
    starts = ("mode ", "forward ", "end-to-end ")
    return [line for line in result.stdout.splitlines() if line.startswith(starts)]


def error_line(result: Result, status: int = 1) -> str:
    """The one line that tells what went wrong, which is the last."""
    assert result.exit_code == status
    assert "Traceback" not in result.stderr
    *others, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert not [line for line in others if line.startswith("Error")]
    return last
