"""A signal ends a run between two rows, never inside one."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import Run, picture
from resnet_cli.cli.signals import ENDING, catch_signals, unbroken
from resnet_cli.ending import ending
from resnet_cli.records import Prediction
from resnet_cli.writers.durable.outputs import Output

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such signals there")

ENDS = [
    (signal.SIGINT, KeyboardInterrupt, ()),
    (signal.SIGTERM, SystemExit, (143,)),
    (signal.SIGHUP, SystemExit, (129,)),
]


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    numbers = [getattr(signal, name) for name in ENDING]
    usual = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in zip(numbers, usual, strict=True):
        signal.signal(number, handler)
    ending.clear()


@pytest.mark.parametrize(("number", "end", "arguments"), ENDS)
def test_a_signal_waits_for_what_is_not_to_be_broken(
    number: int, end: type[BaseException], arguments: tuple[int, ...]
) -> None:
    catch_signals()
    done: list[str] = []

    def work() -> None:
        with unbroken():
            os.kill(os.getpid(), number)
            done.append("inside")
        done.append("behind")

    with pytest.raises(end) as raised:
        work()
    assert raised.value.args == arguments
    assert done == ["inside"]
    assert ending.is_set()  # for what takes long
    catch_signals()
    assert not ending.is_set()


@pytest.mark.parametrize(("number", "end", "arguments"), ENDS)
def test_it_does_not_wait_elsewhere(
    number: int, end: type[BaseException], arguments: tuple[int, ...]
) -> None:
    catch_signals()
    with unbroken():
        pass
    with pytest.raises(end) as raised:
        os.kill(os.getpid(), number)
    assert raised.value.args == arguments


def test_a_second_signal_does_not_wait() -> None:
    catch_signals()
    done: list[str] = []

    def work() -> None:
        with unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("once")
            os.kill(os.getpid(), signal.SIGINT)
            done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["once"]
    with unbroken():  # and nothing of it is left
        done.append("later")


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    catch_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_signal_between_two_files_of_a_row_leaves_them_alike(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(Path("a.jpg"), (60, 50))
    Path("list.txt").write_text("a.jpg\n" * 50)
    add = Output.add

    def interrupted(output: Output, prediction: Prediction) -> None:
        add(output, prediction)
        if output.path.suffix == ".csv" and output.rows == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Output, "add", interrupted)
    outputs = [word for name in ("x.csv", "x.jsonl", "x.parquet") for word in ("-o", name)]
    result = run(
        "predict", "@list.txt", "-c", checkpoint, "--device", "cpu", "--img-size", 32, *outputs
    )

    assert result.exit_code == 143
    assert "Note: stopped after 7 of 50 pictures" in result.stderr
    assert len(Path("x.csv").read_text().splitlines()) == 1 + 7
    assert len(Path("x.jsonl").read_text().splitlines()) == 7
    assert pq.read_table("x.parquet").num_rows == 7
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        counts = json.loads(Path(f"{name}.run.json").read_text())["counts"]
        assert counts == {"images": 7, "ok": 7, "errors": 0}
