"""A signal ends a run between two rows, never inside one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import Run, picture
from resnet_cli.cli.process import ENDING, catch_signals, leave_process, unbroken
from resnet_cli.records import Prediction
from resnet_cli.results.files.manifest import Output
from resnet_cli.system import run_is_ending

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such signals there")

ENDS = [
    (signal.SIGINT, KeyboardInterrupt, ()),
    (signal.SIGTERM, SystemExit, (143,)),
    (signal.SIGHUP, SystemExit, (129,)),
]


@pytest.fixture(autouse=True)
def _as_in_a_shell() -> None:
    for name in ENDING:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.parametrize(("number", "end", "arguments"), ENDS)
def test_a_signal_waits_for_what_is_not_to_be_broken(
    number: int, end: type[BaseException], arguments: tuple[int, ...]
) -> None:
    catch_signals()
    done: list[str] = []

    def work() -> None:
        with unbroken():
            signal.raise_signal(number)
            done.append("inside")
        done.append("behind")

    with pytest.raises(end) as raised:
        work()
    assert raised.value.args == arguments
    assert done == ["inside"]
    assert run_is_ending.is_set()  # for what takes long
    catch_signals()
    assert not run_is_ending.is_set()


@pytest.mark.parametrize(("number", "end", "arguments"), ENDS)
def test_it_does_not_wait_elsewhere(
    number: int, end: type[BaseException], arguments: tuple[int, ...]
) -> None:
    catch_signals()
    with unbroken():
        pass
    with pytest.raises(end) as raised:
        signal.raise_signal(number)
    assert raised.value.args == arguments


def test_a_second_signal_does_not_wait() -> None:
    catch_signals()
    done: list[str] = []

    def work() -> None:
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            done.append("once")
            signal.raise_signal(signal.SIGINT)
            done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["once"]
    catch_signals()
    with unbroken():  # of another run
        pass


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    catch_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    leave_process(0)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_python_loses_ends_the_run_at_its_next_row(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            done.append("lost")

    done: list[str] = []
    catch_signals()
    Deaf()  # whatever is raised while it is cleared away goes no further
    done.append("goes on")

    def row() -> None:
        with unbroken():
            done.append("row")

    with pytest.raises(SystemExit) as raised:
        row()
    assert raised.value.code == 143
    assert done == ["goes on", "row"]
    assert capfd.readouterr().err == ""


def test_whatever_else_is_lost_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Faulty:
        def __del__(self) -> None:
            raise ValueError

    catch_signals()
    Faulty()
    assert "ValueError" in capfd.readouterr().err


PATIENT = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))  # while Python ends
sys.argv = ["resnet-cli", "models"]
from resnet_cli.__main__ import main
main()
"""


def test_a_signal_at_the_very_end_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PATIENT], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
    assert "resnet18" in done.stdout


def test_a_signal_between_two_files_of_a_row_leaves_them_alike(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(Path("a.jpg"), (60, 50))
    Path("list.txt").write_text("a.jpg\n" * 50)
    add = Output.add

    def interrupted(output: Output, prediction: Prediction) -> None:
        add(output, prediction)
        if output.path.suffix == ".csv" and output.rows == 7:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Output, "add", interrupted)
    outputs = [word for name in ("x.csv", "x.jsonl", "x.parquet") for word in ("-o", name)]
    result = run(
        "predict", "@list.txt", "-c", checkpoint, "--device", "cpu", "--img-size", 32, *outputs
    )

    assert result.exit_code == 143
    assert "Note: stopped after 7 of 50 images" in result.stderr
    assert len(Path("x.csv").read_text().splitlines()) == 1 + 7
    assert len(Path("x.jsonl").read_text().splitlines()) == 7
    assert pq.read_table("x.parquet").num_rows == 7
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        counts = json.loads(Path(f"{name}.run.json").read_text())["counts"]
        assert counts == {"images": 7, "ok": 7, "errors": 0}
