"""Other work on the machine: counted by Linux, and told apart from our own."""

import json
import multiprocessing as mp
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from conftest import Run
from measuring import PEAK, table
from resnet_cli.benchmark import interference
from resnet_cli.benchmark.interference import compare_counts, read_counts
from resnet_cli.system import available_cores

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux counts")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Processes that compute all the while, one a core and one more."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CORES + 1)
    ]
    time.sleep(0.3)
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy_cores")
def test_a_busy_machine_is_taken() -> None:
    before = read_counts()
    time.sleep(0.6)
    found = compare_counts(before, workers=available_cores())

    assert found is not None
    assert 0.9 < found.taken <= 1
    assert found.disturbs
    assert found.pressure is None or found.pressure > 0.5


@pytest.mark.usefixtures("busy_cores")
def test_a_figure_that_other_work_disturbs_is_marked_and_no_limit_is_claimed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_cli.benchmark.sweep.peak_gflops", lambda *_: PEAK)
    words = ("benchmark", "--device", "cpu", "--img-size", 32, "-b", "1,2", "--duration", 0.5)
    result = run(*words, "-o", "a.json")
    record = json.loads(Path("a.json").read_text())

    assert [row["status"] for row in record["rows"]] == ["disturbed"] * 2
    assert all(0.1 < row["other_work"] <= 1 for row in record["rows"])
    assert record["environment"]["other_work"]["taken"] > 0.1
    assert all("~" in line for line in table(result)[1:])
    assert result.stderr.count("other work took") == 1
    assert record["verdict"].startswith("disturbed: other work took up to ")
    assert "bound" not in record["verdict"]


def compute_until(ended: Event, ready: Event) -> None:
    """Use the processor for 0.3 s, and stay."""
    while time.process_time() < 0.3:
        pass
    ready.set()
    ended.wait(60)


def test_our_own_work_and_that_of_our_workers_is_not_that_of_others() -> None:
    context = mp.get_context("spawn")
    ended, ready = context.Event(), context.Event()
    before = read_counts()
    begun = time.process_time()
    worker = context.Process(target=compute_until, args=(ended, ready))
    worker.start()
    assert ready.wait(60)
    while time.process_time() - begun < 0.3:
        pass
    after = read_counts()
    ended.set()
    worker.join()

    assert before is not None
    assert after is not None
    assert after.own - before.own > 0.55  # each is counted to a hundredth
    assert after.busy - before.busy > 0.5


def fake_counts(folder: Path, cores: int, busy: int, stolen: int) -> None:
    """Write what Linux would have counted, in hundredths of a second of each core."""
    lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
    lines += [f"cpu{core} {busy} 0 0 1000 500 0 0 {stolen} 0 0" for core in range(cores)]
    (folder / "stat").write_text("\n".join([*lines, "intr 5"]))


@pytest.mark.parametrize(
    ("workers", "busy", "stolen", "taken"),
    [(4, 0, 0, 0), (4, 50, 0, 0.5), (4, 25, 25, 0.5), (2, 50, 0, 0), (2, 75, 0, 0.5),
     (3, 100, 0, 1), (8, 50, 0, 0.5), (1, 200, 0, 1)],
)  # fmt: skip
def test_cores_that_are_not_needed_are_free_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int, busy: int, stolen: int,
    taken: float,
) -> None:  # fmt: skip
    monkeypatch.setattr(interference, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    fake_counts(tmp_path, 6, 0, 0)  # the other two are not ours
    before = read_counts()
    assert before is not None
    fake_counts(tmp_path, 6, busy + 10, stolen)
    after = read_counts()
    assert after is not None
    a_second_ago = replace(before, clock=after.clock - 1, own=after.own - 4 * 0.1)
    monkeypatch.setattr(interference, "read_counts", lambda: after)
    found = compare_counts(a_second_ago, workers)

    assert found is not None
    assert found.taken == pytest.approx(taken)
    assert found.stolen == pytest.approx(stolen / 100)
    assert found.pressure is None  # such a kernel does not count it
    assert found.disturbs is (taken > 0.1)


def test_too_short_a_time_tells_nothing() -> None:
    assert compare_counts(read_counts(), 1) is None


def test_where_the_system_counts_nothing_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(interference, "PROC", tmp_path)
    assert read_counts() is None
    assert compare_counts(None, 1) is None
