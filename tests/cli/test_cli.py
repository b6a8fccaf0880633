import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from PIL import Image

from conftest import DEMO, REPOSITORY, SAMPLES, Run, picture, trained
from resnet_cli import Classifier
from resnet_cli.__main__ import main
from resnet_cli.cli import cli
from resnet_cli.cli.process import discard

SMALL = ("--device", "cpu", "--resize-size", "40", "--img-size", "32")  # quick: a few pixels do

LINE = re.compile(r"(\d+)/(\d+|\?)  (\S+)  (\S+) ([01]\.\d{3})  (\d+\.\d) ms")

OPTIONS_OF_PREDICT = [
    "-c",
    "--checkpoint",
    "-m",
    "--model",
    "--weights",
    "--classes",
    "-o",
    "--output",
    "--format",
    "-k",
    "--topk",
    "--threshold",
    "--device",
    "-b",
    "--batch-size",
    "-j",
    "--workers",
    "--precision",
    "--compile",
    "--no-compile",
    "--grid",
    "--grid-size",
    "--show",
    "--preset",
    "--resize-size",
    "--img-size",
    "--interpolation",
    "--mean",
    "--std",
    "--color",
    "--squash",
    "--no-squash",
    "--exact",
    "--exif",
    "--resume",
    "--overwrite",
    "--state-key",
    "--ema",
    "--no-ema",
    "--on-error",
    "--verify",
    "--progress",
    "--debug",
]


def rows_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rows_of_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def error_line(result: Result, status: int = 1) -> str:
    """The one line that tells what went wrong, which is the last."""
    assert result.exit_code == status
    assert "Traceback" not in result.stderr
    *others, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert not [line for line in others if line.startswith("Error")]
    return last


@pytest.fixture
def predict(run: Run, checkpoint: Path) -> Run:
    """Predict on the small side with the checkpoint of three classes."""

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return run("predict", "-c", checkpoint, *SMALL, *arguments, stdin=stdin)

    return invoke


# the commands and their help


def options() -> Iterator[tuple[str, click.Option]]:
    for name, command in cli.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter


@pytest.mark.parametrize("command", [(), *[(name,) for name in cli.commands]])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(run: Run, command: tuple[str, ...], flag: str) -> None:
    result = run(*command, flag)
    assert result.exit_code == 0
    assert re.search(r"Usage: \S+.*\n\n  [A-Z]", result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("command", "option"), [pytest.param(c, o, id=f"{c}-{o.name}") for c, o in options()]
)
def test_every_option_has_a_help_line_with_its_default(command: str, option: click.Option) -> None:
    context = click.Context(cli.commands[command], info_name=command, show_default=True)
    record = option.get_help_record(context)
    assert option.help
    assert option.help.endswith((".", "]"))
    assert record is not None
    assert option.is_flag or "default: " in record[1]


@pytest.mark.parametrize("option", OPTIONS_OF_PREDICT)
def test_predict_has_the_options_of_the_interface(run: Run, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", run("predict", "--help").stdout)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("predict", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "resnet_cli", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "resnet_cli.cli.predict" in imported
    for heavy in ("torch", "torchvision", "matplotlib", "pyarrow", "numpy", "PIL", "tqdm", "scipy"):
        assert heavy not in imported


def test_version_tells_those_of_torch_and_torchvision(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"resnet-cli \d+\.\d+\.\d+, torch \d+\.\S+, torchvision \d+\.\S+\n", result.stdout
    )


# what goes where


def test_stdout_has_a_line_for_each_image_and_nothing_else(
    predict: Run, photos: Path, checkpoint: Path
) -> None:
    result = predict(photos.name, "--classes", "ants,bees,wasps")
    matches = [LINE.fullmatch(line) for line in result.stdout.splitlines()]

    assert result.exit_code == 0
    assert all(matches)
    found = [match.groups() for match in matches if match]
    assert [(number, total) for number, total, *_ in found] == [
        (str(number), "10") for number in range(1, 11)
    ]
    assert [path for _, _, path, *_ in found] == [
        f"photos/{'a' if n < 6 else 'b'}/img{n}{'.png' if n % 4 == 0 else '.jpg'}"
        for n in range(1, 11)
    ]  # natural order: img10 is last
    assert {label for *_, label, _, _ in found} <= {"ants", "bees", "wasps"}
    assert all(float(milliseconds) > 0 for *_, milliseconds in found)


def test_lines_say_what_the_classifier_says(predict: Run, photos: Path, checkpoint: Path) -> None:
    result = predict(photos, "-k", 2)
    classifier = Classifier.load(
        checkpoint, device="cpu",
        preprocess=lambda recorded: type(recorded)(resize_size=40, crop_size=32),
    )  # fmt: skip
    lines = result.stdout.splitlines()
    for line, row in zip(lines, classifier.predict(photos, topk=2), strict=True):
        assert "  ".join(f"{s.label} {s.prob:.3f}" for s in row.scores) in line


def test_stderr_tells_what_was_taken_and_how_long_it_took(
    predict: Run, photos: Path, checkpoint: Path
) -> None:
    (photos / "notes.txt").touch()
    (photos / "broken.jpg").touch()
    result = predict(photos, "-j", 2)

    for note in (
        r"Note: skipped 1 file without an image extension",
        rf"Note: checkpoint {re.escape(str(checkpoint))} .*resnet18",
        r"Note: 3 classes: class_0, class_1, class_2 \(none found",
        r"Note: preprocessing: resize 40, crop 32, bilinear",
        r"cpu.*: 11 images, 1 error in \d+\.\d+ s: \d+\.\d images/s",
        r"decode \d+\.\d+ ms, preprocess \d+\.\d+ ms, forward \d+\.\d+ ms: limited by",
    ):
        assert re.search(note, result.stderr)
    assert "Note" not in result.stdout


def test_an_unreadable_image_has_an_error_line_and_the_status_is_3(
    predict: Run, photos: Path
) -> None:
    (photos / "a" / "img2b.jpg").write_text("no image")
    result = predict("photos")
    assert result.exit_code == 3
    third = result.stdout.splitlines()[2]
    assert re.fullmatch(r"3/11  photos/a/img2b\.jpg  ERROR .+", third)
    assert len(result.stdout.splitlines()) == 11


@pytest.mark.parametrize("topk", [1, 3])
def test_csv_on_stdout_is_what_the_file_holds(predict: Run, photos: Path, topk: int) -> None:
    (photos / "broken.jpg").touch()
    result = predict(photos, "--format", "csv", "-o", "x.csv", "-k", topk)
    rows = rows_of_csv(result.stdout)

    assert result.exit_code == 3
    assert result.stdout == Path("x.csv").read_text()
    assert [row["status"] for row in rows] == ["ok"] * 10 + ["error"]
    assert list(rows[0])[-5:-1] == ["decode_ms", "preprocess_ms", "forward_ms", "batch_size"]
    assert ("label_3" in rows[0]) is (topk == 3)


def test_jsonl_on_stdout_is_what_the_file_holds(predict: Run, photos: Path) -> None:
    result = predict(photos, "--format", "jsonl", "-o", "x.jsonl", "-k", 3)
    rows = rows_of_jsonl(result.stdout)

    assert result.exit_code == 0
    assert result.stdout == Path("x.jsonl").read_text()
    assert [row["status"] for row in rows] == ["ok"] * 10
    assert [len(row["predictions"]) for row in rows] == [3] * 10


def test_several_outputs_agree(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv", "-o", "x.jsonl", "-o", "x.json", "-o", "x.parquet")
    tables = [
        [(r["path"], r["label"], float(r["prob"])) for r in rows_of_csv(Path("x.csv").read_text())],
        *[
            [(r["path"], r["predictions"][0]["label"], r["predictions"][0]["prob"]) for r in rows]
            for rows in (
                rows_of_jsonl(Path("x.jsonl").read_text()),
                json.loads(Path("x.json").read_text()),
            )
        ],
        [(r["path"], r["label"], r["prob"]) for r in pq.read_table("x.parquet").to_pylist()],
    ]
    assert len(tables[0]) == 10
    assert tables[0] == tables[1] == tables[2] == tables[3]


def test_paths_on_stdin_are_read_as_they_come(predict: Run, photos: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("img1.*"))] * 3
    result = predict("-", stdin="\n".join(paths))
    assert result.exit_code == 0
    assert [line.split("  ")[:2] for line in result.stdout.splitlines()] == [
        [f"{number}/?", path] for number, path in enumerate(paths, start=1)
    ]


# errors that a user can mend


@pytest.fixture
def _mistakes(checkpoint: Path) -> None:
    picture(Path("a.jpg"), (60, 50))
    Path("text.pth").write_text("weights")
    Path("empty.pth").touch()
    Path("folder").mkdir()
    Path("there.csv").write_text("precious")
    Path("names.txt").write_text("one\ntwo\n")
    Path("three.pth").symlink_to(checkpoint)
    cache = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_text("half a download")


MISTAKES = {
    "a.jpg -c gone.pth": "cannot load gone.pth: there is no such file",
    "a.jpg -c text.pth": "cannot load text.pth: it is a text file, not a checkpoint",
    "a.jpg -c empty.pth": "cannot load empty.pth: the file is empty",
    "a.jpg -c folder": "cannot load folder: it is a folder",
    "a.jpg -c a.jpg": "cannot load a.jpg: it is an image (JPEG), not a checkpoint",
    "gone.jpg -c three.pth": "cannot find gone.jpg",
    "g*.jpg -c three.pth": "cannot find g*.jpg",
    "folder -c three.pth": "no images found: folder",
    "@gone.txt -c three.pth": "cannot read the list @gone.txt",
    "@folder -c three.pth": "folder",
    "- -c three.pth": "no images found: - is empty",
    "a.jpg -c three.pth --device cuda:99": "cannot use device 'cuda:99'",
    "a.jpg -c three.pth -o gone/x.csv": "cannot write gone/x.csv: there is no folder gone",
    "a.jpg -c three.pth -o there.csv": "cannot write there.csv: it already exists",
    "a.jpg -c three.pth --classes a,b": "2 class names (--classes) for a network of 3 outputs",
    "a.jpg -c three.pth --classes names.txt": "2 class names (names.txt) for a network of 3",
    "a.jpg -c three.pth --classes gone.txt": "gone.txt",
    "a.jpg -c three.pth -m resnet50": "cannot load three.pth as resnet50: it is a resnet18 of 3",
    "a.jpg -c three.pth --weights DEFAULT": "two sources of weights",
    "a.jpg": "resnet18-f37072fd.pth: its sha256 is not f37072fd",
    "a.jpg -c three.pth --state-key ema": "ema",
}

WRONG_USAGE = {  # whatever the files hold
    "a.jpg -c three.pth --device warp": "cannot use device 'warp'",
    "a.jpg -c three.pth -o x.xls": "cannot write x.xls: the suffix must be one of .csv",
    "a.jpg -c three.pth -o x.csv -o x.csv": "cannot write x.csv twice",
    "a.jpg -c three.pth -o x.png --grid x.png": "cannot write x.png twice",
    "a.jpg -c three.pth --grid x.gif": "cannot write x.gif: the suffix must be one of",
    "a.jpg -c three.pth --grid x.csv": "x.csv",
    "a.jpg -m resnet19": "cannot find the model 'resnet19'",
    "a.jpg --weights BEST": "cannot find the weights BEST of resnet18",
    "a.jpg -c three.pth --img-size 300": "cannot crop 300 pixels out of 256",
    "a.jpg -c three.pth --mean 0.5,0.5": "cannot normalise",
    "a.jpg -c three.pth --std 1,1,0": "cannot normalise",
}


@pytest.mark.usefixtures("_mistakes")
@pytest.mark.parametrize("arguments", MISTAKES | WRONG_USAGE)
def test_a_mistake_is_told_in_one_line(run: Run, arguments: str) -> None:
    result = run("predict", *arguments.split(), stdin="")
    status = 2 if arguments in WRONG_USAGE else 1
    assert (MISTAKES | WRONG_USAGE)[arguments] in error_line(result, status)
    assert result.stdout == ""
    assert Path("there.csv").read_text() == "precious"


@pytest.mark.usefixtures("_mistakes")
def test_debug_shows_the_traceback_as_well(run: Run) -> None:
    result = run("predict", "a.jpg", "-c", "text.pth", "--debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "CheckpointError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: cannot load text.pth")


def test_a_bug_keeps_its_traceback(
    predict: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(Classifier, "classify", faulty)
    with pytest.raises(KeyError, match="bug"):
        predict(photos)


@pytest.mark.parametrize(
    "arguments",
    [
        "predict",
        "predict --no-such-option a.jpg",
        "predict a.jpg -k 0",
        "predict a.jpg -k many",
        "predict a.jpg -b 0",
        "predict a.jpg -j 0",
        "predict a.jpg --threshold 1.5",
        "predict a.jpg --precision int8",
        "predict a.jpg --format xml",
        "predict a.jpg --grid-size 4",
        "predict a.jpg --grid-size 0x4",
        "predict a.jpg --grid-size axb",
        "predict a.jpg --mean 0.5,x,0.5",
        "predict a.jpg --verify -1",
        "predict a.jpg --on-error ask",
        "predikt a.jpg",
    ],
)
def test_wrong_usage_has_status_2(run: Run, arguments: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_with_on_error_fail_the_run_stops_at_the_first(predict: Run, photos: Path) -> None:
    (photos / "a" / "img2b.jpg").touch()
    result = predict("photos", "--on-error", "fail", "-b", 2, "-o", "x.csv")

    assert "photos/a/img2b.jpg: the file is empty" in error_line(result)
    rows = rows_of_csv(Path("x.csv").read_text())
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    assert len(result.stdout.splitlines()) == 3


def test_unreadable_things_have_error_rows(predict: Run, photos: Path) -> None:
    whole = photos / "a" / "img1.jpg"
    Path("torn.jpg").write_bytes(whole.read_bytes()[:600])
    Path("text.jpg").write_text("no image")
    Path("empty.jpg").touch()
    os.mkfifo("pipe.jpg")
    Path("dangling.jpg").symlink_to("nowhere")
    names = ["torn.jpg", "text.jpg", "empty.jpg", "pipe.jpg", "dangling.jpg"]
    result = predict(*names, whole, "--format", "jsonl")

    assert result.exit_code == 3
    rows = rows_of_jsonl(result.stdout)
    assert [row["path"] for row in rows] == [*names, str(whole)]
    assert [row["status"] for row in rows] == ["error"] * 5 + ["ok"]
    for row in rows[:5]:
        assert row["error"]
        assert len(row["error"].splitlines()) == 1
        assert row["predictions"] == []


def test_awkward_pictures_have_a_row_each(predict: Run, data: Path) -> None:
    result = predict(data / "awkward", "--format", "jsonl")
    rows = rows_of_jsonl(result.stdout)
    paths = [row["path"] for row in rows]
    passed_over = re.search(r"Note: skipped (\d+) files? without", result.stderr)
    everything = [path for path in (data / "awkward").rglob("*") if path.is_file()]

    assert result.exit_code == 3
    assert len(set(paths)) == len(paths)
    assert len(paths) + int(passed_over[1] if passed_over else 0) == len(everything)
    assert {row["status"] for row in rows} == {"ok", "error"}


# names that could take over a terminal


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        (b"red\x1b[31m.jpg", r"red\x1b[31m.jpg"),
        (b"new\nline.jpg", r"new\nline.jpg"),
        (b"caf\xe9.jpg", r"caf\udce9.jpg"),
        (b"bell\x07.jpg", r"bell\x07.jpg"),
        ("ümlaut 日本.jpg".encode(), "ümlaut 日本.jpg"),
    ],
)
def test_control_characters_are_spelt_out(predict: Run, name: bytes, spelt: str) -> None:
    folder = Path("folder")
    picture(Path("a.jpg"), (60, 50))
    folder.mkdir()
    Path("a.jpg").rename(folder / os.fsdecode(name))
    result = predict("folder")
    [line] = result.stdout.splitlines()
    assert line.startswith(f"1/1  folder/{spelt}  class_")


@pytest.mark.parametrize("name", ["bell\x07.jpg", "new\nline.jpg"])
@pytest.mark.parametrize("place", ["{}", "@{}", "@folder/{}"])
def test_control_characters_are_spelt_out_in_errors(predict: Run, name: str, place: str) -> None:
    (Path("folder") / name).mkdir(parents=True)  # a list that cannot be opened
    line = error_line(predict(place.format(name)))
    assert line.isprintable()


# files that are there, and files that are asked for


def test_an_existing_output_is_overwritten_when_asked(predict: Run, photos: Path) -> None:
    Path("x.csv").write_text("of yesterday")
    assert "or --overwrite to replace it" in error_line(predict(photos, "-o", "x.csv"))
    assert Path("x.csv").read_text() == "of yesterday"

    assert predict(photos, "-o", "x.csv", "--overwrite").exit_code == 0
    assert len(rows_of_csv(Path("x.csv").read_text())) == 10


def test_a_device_is_no_file_of_results(predict: Run, photos: Path) -> None:
    Path("x.csv").symlink_to("/dev/full")
    assert "x.csv: it is a pipe or a device" in error_line(predict(photos, "-o", "x.csv"))


def test_the_checkpoint_can_stand_in_the_environment(
    run: Run, photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", str(checkpoint))
    result = run("predict", photos, *SMALL)
    assert result.exit_code == 0
    assert f"checkpoint {checkpoint}" in result.stderr


@pytest.fixture
def folder_of_checkpoints(checkpoint: Path) -> Path:
    folder = Path("checkpoints")
    folder.mkdir()
    (folder / "model.pth").symlink_to(checkpoint)
    (folder / "train.py").touch()  # what is no checkpoint may stand beside it
    (folder / "README.md").touch()
    return folder


def test_the_only_checkpoint_in_the_folder_is_taken(
    run: Run, photos: Path, folder_of_checkpoints: Path
) -> None:
    result = run("predict", photos, *SMALL)
    assert result.exit_code == 0
    assert "checkpoint checkpoints/model.pth (the only checkpoint in ./" in result.stderr


def test_several_checkpoints_in_the_folder_are_named(
    run: Run, photos: Path, folder_of_checkpoints: Path
) -> None:
    (folder_of_checkpoints / "other.safetensors").touch()
    line = error_line(run("predict", photos, *SMALL))
    assert "model.pth" in line
    assert "other.safetensors" in line


@pytest.mark.usefixtures("_mistakes")
@pytest.mark.parametrize("option", [("-m", "resnet18"), ("--weights", "IMAGENET1K_V1")])
def test_the_folder_is_not_looked_at_when_a_model_or_weights_are_named(
    run: Run, folder_of_checkpoints: Path, option: tuple[str, str]
) -> None:
    line = error_line(run("predict", "a.jpg", *option))
    assert "resnet18-f37072fd.pth: its sha256 is not" in line  # it was looked for in the cache


def test_a_grid_is_drawn(predict: Run, photos: Path) -> None:
    (photos / "broken.jpg").touch()
    result = predict(photos, "--grid", "grid.png", "--grid-size", "2x3", "-o", "page.pdf")
    assert result.exit_code == 3
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == [
        "grid-1.png", "grid-2.png", "page.pdf", "page.pdf.run.json"
    ]  # fmt: skip
    with Image.open("grid-1.png") as page:
        assert page.width > page.height > 400
    assert Path("page.pdf").read_bytes().startswith(b"%PDF")
    assert "Note: grid.png has 2 pages: grid-1.png to grid-2.png" in result.stderr.splitlines()
    assert "page.pdf" not in result.stderr  # which is where it was asked for

    fewer = ("--grid", "grid.png", "--grid-size", "2x2", "--overwrite")
    assert "Warning" not in predict(photos, *fewer).stderr  # three pages
    warned = "Warning: grid-3.png to grid-3.png are of an earlier run, no pages of this one"
    lines = predict(photos, "--grid", "grid.png", "--grid-size", "2x3", "--overwrite").stderr
    assert warned in lines.splitlines()
    lines = predict(photos, "--grid", "grid.png", "--grid-size", "4x4", "--overwrite").stderr
    assert warned.replace("grid-3.png to", "grid-1.png to") in lines.splitlines()


def test_the_threshold_decides_and_leaves_the_label(predict: Run, photos: Path) -> None:
    plain = rows_of_csv(predict(photos, "--format", "csv").stdout)
    result = predict(photos, "--threshold", 1, "--format", "csv")
    rows = rows_of_csv(result.stdout)
    assert {row["decision"] for row in rows} == {"uncertain"}
    assert [row["label"] for row in rows] == [row["label"] for row in plain]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["index"] for row in rows} <= {"0", "1", "2"}


@pytest.mark.parametrize("from_stdin", [False, True])
def test_verify_tells_the_difference_and_goes_on(
    predict: Run, photos: Path, *, from_stdin: bool
) -> None:
    paths = sorted(str(path) for path in photos.rglob("img*"))
    source = ["-"] if from_stdin else paths
    result = predict(*source, "--verify", 3, stdin="\n".join(paths))
    assert result.exit_code == 0
    assert re.search(
        r"verified 3 images .* largest difference of probability \d\.\de-\d\d, 0 top-1 flips",
        result.stderr,
    )
    assert [line.split("  ")[1] for line in result.stdout.splitlines()] == paths


def test_verify_stops_when_a_flip_is_found(run: Run, photos: Path) -> None:
    network = trained()
    with torch.no_grad():  # classes that bf16 cannot tell apart
        network.fc.weight.copy_(network.fc.weight[:1].expand(3, -1))
        network.fc.bias.copy_(torch.tensor([1, 1 + 1e-5, 1]))
    torch.save(network.state_dict(), "tied.pth")
    result = run(
        "predict", photos, "-c", "tied.pth", "--precision", "bf16", "--verify", 4, *SMALL,
        "-o", "x.csv",
    )  # fmt: skip

    line = error_line(result)
    assert str(photos / "a" / "img1.jpg") in line
    assert "4 top-1 flips" in result.stderr
    assert result.stdout == ""
    assert not Path("x.csv").exists()


@pytest.mark.parametrize(("mode", "drawn"), [("on", True), ("off", False), ("auto", False)])
def test_progress_is_drawn_on_stderr_when_asked(
    predict: Run, photos: Path, mode: str, *, drawn: bool
) -> None:
    result = predict(photos, "--progress", mode)
    assert bool(re.search(r"\b10/10 \[.*img", result.stderr)) is drawn
    assert all(LINE.fullmatch(line) for line in result.stdout.splitlines())


# real processes


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
def test_a_second_signal_breaks_nothing_off_with_a_bang(
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
def test_files_are_completed_when_nobody_reads_stdout(
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
    monkeypatch.setattr("resnet_cli.cli.version", interrupted)
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


# the demonstration


def test_the_first_command_of_the_readme_labels_every_sample(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    result = run("predict", SAMPLES.name, "--format", "jsonl", "--device", "cpu")
    rows = rows_of_jsonl(result.stdout)

    assert result.exit_code == 0
    assert f"checkpoint {DEMO.relative_to(REPOSITORY)}" in result.stderr
    assert len(rows) == 16
    for row in rows:
        assert row["predictions"][0]["label"] == Path(row["path"]).parent.name


def test_the_demonstration_has_two_classes() -> None:
    classifier = Classifier.load(DEMO, device="cpu")
    assert sorted(classifier.class_names) == ["ants", "bees"]
    assert DEMO.stat().st_size < 50e6


@pytest.mark.parametrize("name", cli.commands)
def test_the_documentation_knows_every_command_and_option(name: str) -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    readme = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    unknown = [
        option.name
        for option in cli.commands[name].params
        if isinstance(option, click.Option)
        and not any(re.search(rf"[ `]{spelling}[^\w-]", readme) for spelling in option.opts)
    ]

    assert f"resnet-cli {name}" in readme
    assert unknown == []


def test_the_environments_checkpoint_is_named_as_such(
    run: Run, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", str(checkpoint))
    picture(Path("a.jpg"))

    assert "(from RESNET_CLI_CHECKPOINT)" in run("predict", "a.jpg", *SMALL).stderr
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", "gone.pth")
    line = (
        "cannot load gone.pth: there is no such file (the checkpoint is from RESNET_CLI_CHECKPOINT)"
    )
    assert error_line(run("predict", "a.jpg", *SMALL)) == f"Error: {line}"
    weights = run("predict", "a.jpg", "--weights", "IMAGENET1K_V9")
    assert "cannot find the weights IMAGENET1K_V9" in weights.stderr


def test_several_grids_are_all_drawn(run: Run, checkpoint: Path) -> None:
    picture(Path("a.jpg"))
    result = run("predict", "a.jpg", "-c", checkpoint, *SMALL, "--grid", "g.png", "--grid", "g.svg")

    assert result.exit_code == 0
    assert Path("g.png").stat().st_size > 0
    assert Path("g.svg").stat().st_size > 0


def test_an_overwritten_grid_leaves_other_pictures_alone(run: Run, checkpoint: Path) -> None:
    for name in ("a.jpg", "g-7.png", "g-2019.png"):
        picture(Path(name))
    before = Path("g-2019.png").read_bytes()
    for _ in range(2):
        result = run("predict", "a.jpg", "-c", checkpoint, *SMALL, "--grid", "g.png", "--overwrite")
        assert result.exit_code == 0

    assert Path("g-2019.png").read_bytes() == before
    assert Path("g-7.png").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_a_folder_that_may_not_be_read_has_a_row(run: Run, checkpoint: Path) -> None:
    picture(Path("d/a.jpg"))
    Path("d/closed").mkdir(mode=0)
    result = run("predict", "d", "-c", checkpoint, *SMALL)

    assert result.exit_code == 3
    assert "ERROR is a folder that may not be read" in result.stdout


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
