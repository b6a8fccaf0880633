"""Where a command starts: without a home, on odd streams, with arguments in each other's place."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch

from commands import SMALL
from conftest import Run, picture, trained
from measuring import a_row
from resnet_cli import Classifier, UserError
from resnet_cli.benchmark.report import compare_settings, peak_cell
from resnet_cli.benchmark.sweep import mark_doubtful
from resnet_cli.cli.process import EXISTING, keep_compiled, usable_environment
from resnet_cli.run.tally import Tally
from resnet_cli.summary import list_models
from resnet_cli.text import duration_words

UNKNOWN = """
import pwd, sys
def nobody(uid): raise KeyError(uid)
pwd.getpwuid = nobody  # as in a container that runs as a number
from resnet_cli.__main__ import main
sys.argv[0] = "resnet-cli"
main()
"""


def homeless(**given: str) -> dict[str, str]:
    """An environment without a home, a name or cache folders."""
    names = (
        "HOME", "USER", "LOGNAME", "TORCH_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "COLUMNS",
    )  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in names}
    kept.pop("TORCHINDUCTOR_CACHE_DIR", None)
    return kept | given


def program(
    arguments: Sequence[object], env: dict[str, str], shell: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run the program as an unknown user, its streams redirected as a shell would."""
    command = [sys.executable, "-c", UNKNOWN, *map(str, arguments)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(command, env=env, capture_output=True, timeout=300, check=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that root cannot write")
@pytest.mark.parametrize("home", [{}, {"HOME": "/proc"}], ids=["none", "unwritable"])
def test_a_picture_is_drawn_without_a_home(home: dict[str, str]) -> None:
    done = program(["summary", "--plot", "s.png"], homeless(**home))
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("s.png").stat().st_size > 0
    assert [path.name for path in Path().iterdir()] == ["s.png"]


def test_names_that_stdout_cannot_encode_are_escaped(checkpoint: Path) -> None:
    names = ["plain.png", "\u03b1.png", "ant \U0001f41c.png", os.fsdecode(b"\xff\x81.png")]
    for name in names:
        picture(Path("odd") / name, (40, 40))
    table, lines = (
        program(
            ["predict", "odd", "-c", checkpoint, *SMALL, "--format", form, "--progress", "on"],
            homeless(HOME="/", PYTHONIOENCODING="cp1252"),
            "2>/dev/full",  # and nothing of the run's own words can be written
        )
        for form in ("csv", "jsonl")
    )
    assert (table.returncode, lines.returncode) == (0, 0)
    rows = list(csv.DictReader(io.StringIO(table.stdout.decode("cp1252"))))
    escaped = {name.encode("cp1252", "backslashreplace").decode("cp1252") for name in names}
    assert {Path(row["path"]).name for row in rows} == escaped
    paths = [json.loads(line)["path"] for line in lines.stdout.decode("cp1252").splitlines()]
    assert {Path(path).name for path in paths} == set(names)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_help_needs_no_stream(streams: str) -> None:
    assert program(["--help"], homeless(), streams).returncode == 0


# where compiled code is kept


def compiling() -> str | None:
    with usable_environment():
        keep_compiled(click.Context(click.Command("x")), click.Option(["--compile"]), True)
        return os.environ.get("TORCHINDUCTOR_CACHE_DIR")


def test_compiled_code_is_kept_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert compiling() == str(Path(os.environ["TORCH_HOME"]) / "inductor")
    monkeypatch.setenv("TORCH_HOME", "/dev/null/torch")
    assert compiling() is None  # torch chooses a temporary folder
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/dev/null/compiled")
    assert compiling() is None
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path("mine").absolute()))
    assert compiling() == str(Path("mine").absolute())


def test_what_compiles_nothing_creates_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with usable_environment():
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == EXISTING
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert not Path(os.environ["TORCH_HOME"]).exists()


# wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        "predict d --device gpu",
        "predict d -c a.pth -c b.pth",
        "predict d -q",
        "predict d --model net.pt",
        "evaluate d --labels a.csv --labels b.csv",
        "evaluate d -q",
        "summary --plot x.bmp",
        "summary -o x.doc",
        "benchmark -o x.txt",
        "benchmark --device tpu",
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: str) -> None:
    picture(Path("d/a/1.jpg"), (40, 40))
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"model": "net.pth"}, {"background": "#zz"}, {"precision": "int3"}]
)
def test_in_python_wrong_usage_is_a_user_error(checkpoint: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(UserError):
        Classifier.load(checkpoint, **{"device": "cpu", **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["net.pkl", "weights of mine.ckpt", "last.safetensors"])
def test_a_checkpoint_in_the_wrong_place_is_named(
    run: Run, checkpoint: Path, name: str, tmp_path: Path
) -> None:
    picture(Path("d/a.jpg"), (40, 40))
    Path("d", name).write_bytes(checkpoint.read_bytes())
    Path("d/notes.pth").write_text("not a checkpoint")  # as it does not begin like one
    for arguments in ([f"d/{name}", "d"], ["d"]):
        result = run("predict", *arguments, "--device", "cpu")
        assert result.exit_code == 1
        assert f"d/{name} is a checkpoint" in result.stderr
        assert "use -c " in result.stderr
    both = run("predict", f"d/{name}", "d/a.jpg", "-c", checkpoint, *SMALL)
    assert both.exit_code == 3  # what is named outright is tried
    assert (
        f"resnet-cli predict INPUT -c {'' if ' ' not in name else chr(39)}d"
        in run(f"d/{name}").stderr
    )
    assert run("d").stderr.endswith("to classify it: resnet-cli predict d\n")


# what a run says of itself


def test_quiet_and_where_errors_are(run: Run, checkpoint: Path) -> None:
    picture(Path("d/a.jpg"), (40, 40))
    Path("d/b.jpg").write_text("broken")
    command = ("predict", "d", "-c", checkpoint, *SMALL)
    quiet = run(*command, "-q", "-o", "r.csv")
    assert (quiet.exit_code, quiet.stdout) == (3, "")
    assert "1 error: see the rows with status error in r.csv" in quiet.stderr
    assert "1 error: see the lines with ERROR on stdout" in run(*command).stderr
    failed = run(*command, "--on-error", "fail", "-o", "f.csv", "-o", "f.parquet")
    assert failed.exit_code == 1
    assert "f.csv holds 2 rows\nNote: f.parquet holds 2 rows\n" in failed.stderr


def test_a_dry_run_writes_nothing(run: Run, checkpoint: Path) -> None:
    for number in range(30):
        picture(Path(f"d/{number}.png"), (40, 40), seed=number)
    Path("old.csv").write_text("precious")
    command = ("predict", "d", "-c", checkpoint, *SMALL, "--dry-run")
    result = run(*command, "-o", "new.html", "-o", "old.csv", "--overwrite")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["images: 30", "tried: 20 images, 0 errors"]
    assert lines[2].startswith("time: about ")
    assert "writes: new.html (new)" in lines
    assert "writes: old.csv (replaced)" in lines
    assert sorted(path.name for path in Path().iterdir()) == ["d", "old.csv"]
    assert Path("old.csv").read_text() == "precious"


def test_names_of_folders_are_suggested(run: Run) -> None:
    network = trained(num_classes=2)
    torch.save(network.state_dict(), "two.pth")
    for name in ("wasp nest", "ant"):
        picture(Path("d", name, "1.jpg"), (40, 40))
    said = run("predict", "d", "-c", "two.pth", *SMALL).stderr
    assert "--classes 'ant,wasp nest' may fit (the names of the folders; check the order)" in said
    known = run("predict", "d", "-c", "two.pth", *SMALL, "--classes", "x,y").stderr
    assert "may fit" not in known
    converted = run("convert", "two.pth", "two.safetensors").stderr
    assert (
        "Warning: no class names in two.safetensors: labels will be class_0, class_1" in converted
    )


def test_a_narrow_table_says_what_it_leaves_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("summary", "resnet18", "--num-classes", "2")
    for title in ("input", "padding"):
        assert title not in narrow.stdout.splitlines()[2].split()
        assert title in narrow.stderr
    monkeypatch.setenv("COLUMNS", "200")
    assert run("summary", "resnet18", "--num-classes", "2").stderr == ""


# figures


def test_sizes_are_megabytes() -> None:
    [first] = [model for model in list_models(everything=False) if model.name == "resnet18"]
    assert first.weights[0].megabytes == pytest.approx(46.830571, abs=1e-2)  # bytes of its file


def test_a_narrower_sweep_is_one_difference() -> None:
    settings = {"batch_sizes": [1, 8], "precisions": ["fp32", "bf16"], "images": "d", "warmup": 3}
    earlier = {"environment": {}, "settings": settings, "rows": [{"model": "m"}]}
    narrower = settings | {"batch_sizes": [1], "precisions": ["fp32"], "images": None, "warmup": 1}
    warmup, sweep = compare_settings({"environment": {}, "settings": narrower}, "m", earlier)
    assert warmup == "warmup: 3 then, 1 now"
    assert sweep == (
        "batch_sizes: 1, 8 then, 1 now; images: d then, none now; precisions: fp32, bf16 then, "
        "fp32 now"
    )


def test_what_cannot_be_is_marked() -> None:
    row = a_row("end-to-end", 8, 110.0)
    assert mark_doubtful(row, 100.0).status == "noisy"
    assert mark_doubtful(row, 109.0).status == "ok"
    shares = [replace(row, peak_share=share) for share in (0.5, 1.52)]
    assert [peak_cell(row) for row in shares] == ["50%", "152%~"]


def test_the_pace_of_a_long_run() -> None:
    tally = Tally(workers=4, on_cpu=True)
    tally.everything.images = 2
    tally.everything.sums = {"decode": 12.0, "preprocess": 4.0, "forward": 900.0}
    assert tally.pace(32.0) == pytest.approx((8 + 32) / 4 / 1000)
    tally.on_cpu = False
    assert tally.pace(1.0) == pytest.approx(2 / 1000)
    assert [duration_words(s) for s in (0.1, 59, 200, 7500)] == [
        "1 s",
        "59 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
