"""Real processes: what a user does to a benchmark that runs."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

QUICK = """
import resnet_cli.benchmark.sweep
from resnet_cli.__main__ import main
resnet_cli.benchmark.sweep.peak_gflops = lambda *_: 1000.0
resnet_cli.benchmark.sweep.read_counts = lambda: None  # whatever else runs here
main()
"""

LONG = ("benchmark", "--device", "cpu", "--img-size", 32, "-j", 2, "--warmup", 1)


def program(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", QUICK, *map(str, arguments)],
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


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_signal_ends_the_row_at_once_and_what_is_done_is_written() -> None:
    outputs = ("-o", "a.json", "-o", "a.csv", "-o", "a.png")
    process = program(*LONG, "-b", "1,200", "--iters", 1000, *outputs)
    assert read_line(process).startswith("mode ")
    assert read_line(process).startswith("forward ")
    time.sleep(0.4)  # in the middle of the second row, which takes minutes
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finished(process, 60)

    assert code == 130
    assert "Traceback" not in stderr
    assert stdout == ""
    assert [line for line in stderr.splitlines() if line.startswith("Note: stopped after 1 of 2")]
    record = json.loads(Path("a.json").read_text())
    assert [row["batch_size"] for row in record["rows"]] == [1]
    assert record["verdict"].startswith("stopped after 1 of 2 rows")
    assert len(Path("a.csv").read_text().splitlines()) == 1 + 1
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path().iterdir()} == {"a.json", "a.csv", "a.png"}


def test_a_closed_pipe_ends_quietly() -> None:
    process = program(*LONG, "-b", "1,2", "--iters", 3, "-o", "a.json")
    assert read_line(process).startswith("mode ")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    assert process.wait(60) == 0
    assert not [line for line in stderr.splitlines() if not line.startswith("Note: ")]
    process.stderr.close()
