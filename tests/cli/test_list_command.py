"""``predict --list``: what would be classified, without a network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import error_line, rows_of_csv
from conftest import Run
from tables import images_below, write_bytes

PROGRAM = [sys.executable, "-m", "resnet_cli", "predict"]

NO_TORCH = """
import sys
sys.argv = ["resnet-cli", "predict", "photos", "x.parquet", "--list", "-c", "gone.pth"]
from resnet_cli.__main__ import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


def test_paths_parts_and_bytes_are_listed(run: Run, photos: Path) -> None:
    images = images_below(photos)
    write_bytes("x.parquet", images[:2])
    sizes = [str(path.stat().st_size) for path in images]
    names = [str(path.relative_to(Path.cwd())) for path in images]
    expected = [(name, "", size) for name, size in zip(names, sizes, strict=True)]
    expected += [("x.parquet", "row=0", ""), ("x.parquet", "row=1", "")]
    found = rows_of_csv(run("predict", "photos", "x.parquet", "--list", "--format", "csv").stdout)
    assert [(row["path"], row["part"], row["bytes"]) for row in found] == expected
    objects = run("predict", "photos", "x.parquet", "--list", "--format", "jsonl").stdout
    read = [json.loads(line) for line in objects.splitlines()]
    assert [(row["path"], row["part"], str(row["bytes"] or "")) for row in read] == expected
    lines = run("predict", "photos", "x.parquet", "--list").stdout.splitlines()
    assert lines[0] == f"{names[0]}  {int(sizes[0]):,} bytes"
    assert lines[-1] == "x.parquet  row=1"
    assert len(lines) == 12


def test_neither_torch_nor_the_checkpoint_is_loaded(photos: Path) -> None:
    write_bytes("x.parquet", images_below(photos)[:1])
    command = [sys.executable, "-c", NO_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 11


def test_a_list_is_printed_as_its_lines_come() -> None:
    command = [*PROGRAM, "-", "--list", "--format", "jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for name in ("a.jpg", "b.jpg"):
            program.stdin.write(f"{name}\n".encode())
            program.stdin.flush()
            assert json.loads(program.stdout.readline()) == {
                "path": name, "part": "", "bytes": None,
            }  # fmt: skip
        program.stdin.close()
        assert program.wait() == 0


def test_a_closed_pipe_ends_quietly() -> None:
    Path("l.txt").write_text("x.jpg\n" * 200_000)
    with subprocess.Popen(
        [*PROGRAM, "@l.txt", "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait() == 0


def test_names_neither_command_a_terminal_nor_start_a_formula(run: Run) -> None:
    Path("=d").mkdir()
    for name in ("\x1b[2J.jpg", "=1.jpg"):
        Path("=d", name).touch()
    listed = run("predict", "=d", "--list")
    assert "\x1b" not in listed.stdout
    assert "\\x1b[2J.jpg" in listed.stdout
    rows = rows_of_csv(run("predict", "=d", "--list", "--format", "csv").stdout)
    assert {row["path"] for row in rows} == {"./=d/\x1b[2J.jpg", "./=d/=1.jpg"}
    separated = run(
        "predict", "=d", "--list", "--format", "csv", "--csv-separator", ";", "--csv-bom"
    )
    assert separated.stdout.startswith("\ufeffpath;part;bytes\n")


@pytest.mark.parametrize("option", [("-o", "x.csv"), ("-q",), ("--dry-run",), ("--grid", "g.png")])
def test_options_of_predictions_are_refused(run: Run, photos: Path, option: list[str]) -> None:
    line = error_line(run("predict", "photos", "--list", *option), 2)
    assert line.startswith("Error: --list classifies nothing: leave --")


def test_what_is_left_out_is_said(run: Run, photos: Path) -> None:
    (photos / "notes.txt").touch()
    result = run("predict", "photos", "--list", "--exclude", "b")
    assert len(result.stdout.splitlines()) == 5
    assert "Note: skipped 1 file without an image extension" in result.stderr
    assert "Note: excluded 1 folder (--exclude)" in result.stderr
    assert error_line(run("predict", "gone", "--list")).startswith("Error: cannot find gone: ")


def test_what_cannot_be_read_is_listed_with_a_note(run: Run, photos: Path) -> None:
    Path("cut.zip").write_bytes(b"PK\3\4 and no more")
    image = str(images_below(photos)[0])
    result = run("predict", image, "cut.zip", "--list", "--format", "csv")

    paths = [row["path"] for row in rows_of_csv(result.stdout)]
    assert paths == [image, "cut.zip"]
    assert "Note: could not read cut.zip: " in result.stderr
