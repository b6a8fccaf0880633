"""The program as a process: signals, closed and full streams, an interrupt at the start."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq
import pytest

from commands import LINE, SMALL, rows_of_csv, rows_of_jsonl
from conftest import Run, picture
from resnet_cli.__main__ import main
from resnet_cli.cli.process import discard


def heed_signals() -> None:
    """Undo what shells do to what they start in the background, and ``nohup`` to all."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def program(*arguments: object, **settings: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "resnet_cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,
        **settings,
    )  # fmt: skip


@pytest.fixture
def long_run(checkpoint: Path) -> tuple[object, ...]:
    """Arguments of a run that goes on for minutes."""
    picture(Path("a.jpg"), (60, 50))
    Path("list.txt").write_text("a.jpg\n" * 200_000)
    return "predict", "@list.txt", "-c", checkpoint, *SMALL, "-b", 4, "-j", 1


OUTPUTS = ("x.csv", "x.jsonl", "x.json", "x.parquet")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_cut_short_leaves_whole_rows(
    long_run: tuple[object, ...], number: signal.Signals, status: int
) -> None:
    outputs = [word for name in OUTPUTS for word in ("-o", name)]
    with program(*long_run, *outputs) as process:
        assert process.stdout is not None
        for _ in range(9):
            assert LINE.fullmatch(process.stdout.readline().rstrip("\n"))
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == status
    assert "Traceback" not in stderr
    assert "Error" not in stderr
    told = re.search(
        r"^Note: stopped after (\d+) of 200,000 images: "
        r"to continue, run the same command with --resume$",
        stderr,
        re.M,
    )
    assert told is not None
    assert all(LINE.fullmatch(line) for line in stdout.splitlines())
    rows = rows_of_csv(Path("x.csv").read_text())
    assert int(told[1]) == len(rows)
    paths = [
        [row["path"] for row in rows],
        [row["path"] for row in rows_of_jsonl(Path("x.jsonl").read_text())],
        [row["path"] for row in json.loads(Path("x.json").read_text())],
        pq.read_table("x.parquet")["path"].to_pylist(),
    ]
    assert paths == [["a.jpg"] * len(rows)] * 4
    assert len(rows) >= 9
    assert all(row["status"] == "ok" and row["batch_size"] == "4" for row in rows)
    record = json.loads(Path("x.csv.run.json").read_text())
    assert record["status"] == "stopped"
    assert record["counts"]["images"] == len(rows)


@pytest.mark.parametrize("later", [0.0, 0.02, 0.1])
def test_a_second_signal_ends_the_run_without_a_traceback(
    long_run: tuple[object, ...], later: float
) -> None:
    with program(*long_run, "-o", "x.csv") as process:
        assert process.stdout is not None
        assert LINE.fullmatch(process.stdout.readline().rstrip("\n"))
        process.send_signal(signal.SIGINT)
        time.sleep(later)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode in {130, -signal.SIGINT}
    assert [line for line in stderr.splitlines() if not line.startswith("Note: ")] in (
        [],
        ["Interrupted"],
    )
    assert rows_of_csv(Path("x.csv").read_text())


def test_a_closed_pipe_ends_quietly(long_run: tuple[object, ...]) -> None:
    with program(*long_run) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert LINE.fullmatch(process.stdout.readline().rstrip("\n"))
        process.stdout.close()
        stderr = process.stderr.read()

    assert process.returncode == 0
    assert [line for line in stderr.splitlines() if not line.startswith("Note: ")] == []


@pytest.mark.skipif(os.name == "nt", reason="there is no such shell")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_the_program_says_of_itself_may_go_unread(option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "resnet_cli", option]
    done = subprocess.run(words, check=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_version_that_cannot_be_written_is_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "resnet_cli", "--version"]
        done = subprocess.run(words, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write standard output: ")
    assert done.stderr.count("\n") == 1


def ended(words: Sequence[object], stdout: TextIO, monkeypatch: pytest.MonkeyPatch) -> object:
    """The status of the program, run in this process with another stdout."""
    monkeypatch.setattr("sys.argv", ["resnet-cli", *map(str, words)])
    monkeypatch.setattr("sys.stdout", stdout)
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize("stdout_format", ["lines", "csv"])  # which begins with a header
def test_files_are_completed_when_stdout_is_closed(
    long_run: tuple[object, ...],
    stdout_format: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("list.txt").write_text("a.jpg\n" * 300)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        words = [*long_run, "--format", stdout_format, "-o", "x.csv"]
        assert ended(words, stdout, monkeypatch) == 0
    stderr = capsys.readouterr().err
    assert "Note: stdout was closed; still writing the output files" in stderr
    assert "Error" not in stderr
    assert len(rows_of_csv(Path("x.csv").read_text())) == 300
    assert json.loads(Path("x.csv.run.json").read_text())["status"] == "done"


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_the_command_line_is_read_is_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_cli.cli.installed_versions", interrupted)
    result = run("--version")
    assert (result.exit_code, result.stderr) == (130, "Interrupted\n")


def test_an_interrupt_before_that_is_one_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resnet_cli.cli.cli", interrupted)
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (130, "Interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="there is no such shell")
def test_streams_that_are_closed_do_not_end_in_files(long_run: tuple[object, ...]) -> None:
    Path("list.txt").write_text("a.jpg\n" * 9)
    words = [sys.executable, "-m", "resnet_cli", *map(str, long_run), "-o", "x.csv"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=False)
    assert done.returncode == 0
    assert [row["path"] for row in rows_of_csv(Path("x.csv").read_text())] == ["a.jpg"] * 9


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("stdout_format", ["lines", "csv"])
def test_a_full_device_is_named(
    long_run: tuple[object, ...],
    stdout_format: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        words = ["predict", "a.jpg", *long_run[2:], "--format", stdout_format]
        assert ended(words, full, monkeypatch) == 1
        discard(full.fileno())  # for what is still in its buffer
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Error: cannot write standard output: No space left")


def test_show_without_a_display_is_a_plain_error(long_run: tuple[object, ...]) -> None:
    without = {"DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"}
    env = {name: value for name, value in os.environ.items() if name not in without}
    with program(*long_run, "--show", env=env) as process:
        stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert stdout == ""
    [line] = stderr.splitlines()
    assert line.startswith("Error: cannot open a window: there is no display")


def test_the_module_is_the_program() -> None:
    with program("--help") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stdout.startswith("Usage: resnet-cli ")
    assert stderr == ""


def test_what_is_compiled_is_kept_beside_torchs_weights(tmp_path: Path) -> None:
    script = (
        "import click, os; from resnet_cli.cli.process import keep_compiled;"
        "keep_compiled(click.Context(click.Command('x')), click.Option(['--x']), True);"
        "import torch; print(os.environ['TORCHINDUCTOR_CACHE_DIR'], torch.hub.get_dir(), sep='\\n')"
    )
    for given in ("TORCH_HOME", "XDG_CACHE_HOME"):
        kept = {key: value for key, value in os.environ.items() if "TORCH" not in key}
        answer = subprocess.check_output(
            [sys.executable, "-c", script], env=kept | {given: str(tmp_path)}, text=True
        )
        cache, hub = map(Path, answer.split())
        assert cache == hub.parent / "inductor"
        assert cache.is_relative_to(tmp_path)
