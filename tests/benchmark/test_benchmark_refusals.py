"""What is refused in one line, before anything is measured, and what happens to files."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from conftest import Fix, Run, room_for
from measuring import SMALL, broken_and_whole, error_line, steady


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("resnet19", "resnet18"), ("resnt50", "resnet50"), ("wide_resnet50", "wide_resnet50_2"),
     ("resnext50_32x4", "resnext50_32x4d"), ("resnext50", "resnext50_32x4d"),
     ("alexnet", "resnet18")],
)  # fmt: skip
def test_an_unknown_model_names_the_nearest(run: Run, given: str, nearest: str) -> None:
    result = run(*SMALL, given)
    assert re.search(rf"{re.escape(repr(given))}: .*\b{nearest}\b", error_line(result))
    assert result.stdout == ""


@pytest.mark.parametrize("given", ["gone.pth", "gone/resnet18", "./resnet18"])
def test_a_path_is_taken_for_a_file_and_for_no_name(run: Run, given: str) -> None:
    line = f"Error: cannot load {given}: there is no such file"
    assert error_line(run(*SMALL, given)) == error_line(run("summary", given)) == line


def test_an_empty_name_is_no_folder(run: Run) -> None:
    line = "Error: cannot use an empty name: give a model or a checkpoint file"
    assert error_line(run(*SMALL, "")) == error_line(run("summary", "")) == line


def test_images_that_are_not_there_are_refused_as_by_predict(run: Run, fix: Fix) -> None:
    fix(steady)
    line = error_line(run(*SMALL, "--images", "gone"))
    assert line == error_line(run("predict", "gone"))
    assert "cannot find gone" in line


UNWRITABLE = {
    "a.xls": "the suffix must be one of .json, .csv, .png",
    "a": "the suffix must be one of",
    "a.svg": "the suffix must be one of",
    "gone/a.json": "there is no folder gone",
    "there.json": "it already exists: use --overwrite to replace it",
    "there.png": "it already exists: use --overwrite to replace it",
    "folder.csv": "it is a folder",
    "./fine.csv": "name each output once",
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(
    run: Run, fix: Fix, name: str
) -> None:
    Path("folder.csv").mkdir()
    for there in (Path("there.json"), Path("there.png")):
        there.write_text("precious")
    fix(steady)
    result = run(*SMALL, "-b", 1, "-o", "fine.csv", "-o", name)

    why = UNWRITABLE[name]
    status = 2 if "suffix" in why or "once" in why else 1
    assert re.search(rf"cannot write {Path(name)}( twice)?: {why}", error_line(result, status))
    assert result.stdout == ""
    assert not Path("fine.csv").exists()
    assert Path("there.json").read_text() == Path("there.png").read_text() == "precious"


def test_pages_of_a_grid_are_not_in_the_way(run: Run, fix: Fix) -> None:
    Path("a-1.png").write_text("a page of something else")
    fix(steady)
    assert run(*SMALL, "-b", "1,2", "-o", "a.png").exit_code == 0
    assert Path("a-1.png").read_text() == "a page of something else"


WRONG = {
    "-b": ["", "0", "-1", "1,,2", "a", "1.5", "1e3", f"{10**9 + 1}", f"1,{10**18}", f"{10**30}",
           "9" * 5000],
    "--duration": ["0", "-1", "nan", "inf", "-inf", "abc"],
    "--iters": ["0", "-3", "x"],
    "--warmup": ["-1"],
    "--percentiles": ["", "101", "-1", "nan", "inf", "a", "50,,90"],
    "--precision": ["", "fp8", "fp32,", "FP32"],
    "--img-size": ["0", "31", "1000000"],
    "-j": ["0", "-1", "1000000"],
    "--compare": ["gone.json", "."],
}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"), [(o, v) for o, values in WRONG.items() for v in values]
)
def test_a_wrong_value_is_wrong_usage(run: Run, fix: Fix, option: str, value: str) -> None:
    fix(steady)
    result = run(*SMALL, option, value)
    last = result.stderr.splitlines()[-1]

    assert result.exit_code == 2
    assert last.startswith(f"Error: Invalid value for '{option}'")
    assert len(last) < 200
    assert result.stdout == ""


def test_percentiles_are_named_as_they_are_shown(run: Run, fix: Fix) -> None:
    fix(steady)
    run(*SMALL, "-b", 1, "--percentiles", "50,50.00000001,-0,99.90", "-o", "a.json")
    [row] = json.loads(Path("a.json").read_text())["rows"]
    assert list(row["latency_ms"]) == ["p50", "p0", "p99.9"]


@pytest.mark.parametrize("broken", [(), ("a.jpg", "b.png")])
def test_without_a_picture_nothing_is_measured(run: Run, fix: Fix, broken: tuple[str, ...]) -> None:
    broken_and_whole(*broken)
    Path("photos", "c.jpg").unlink()
    fix(steady)
    result = run(*SMALL, "--images", "photos")

    assert "photos" in error_line(result)
    assert result.stdout == ""


def test_overwrite_and_suffixes_in_capitals(run: Run, fix: Fix) -> None:
    fix(steady)
    names = ("A.JSON", "A.CSV", "A.PNG")
    for name in names:
        Path(name).write_text("old")
    outputs = [word for name in names for word in ("-o", name)]
    assert run(*SMALL, "-b", 1, "--overwrite", *outputs).exit_code == 0

    assert json.loads(Path("A.JSON").read_text())["rows"]
    assert Path("A.CSV").read_text().startswith("mode,")
    with Image.open("A.PNG") as image:
        assert image.format == "PNG"


def test_a_full_disk_is_told_and_leaves_what_was_there(run: Run, fix: Fix) -> None:
    Path("a.png").write_text("of yesterday")
    fix(steady)
    with room_for(4096):
        result = run(*SMALL, "-b", "1,2", "--overwrite", "-o", "a.png", "-o", "a.csv")

    said = "Error: cannot write a.png: File too large: make room, or write elsewhere"
    assert error_line(result) == said
    assert Path("a.png").read_text() == "of yesterday"
    assert len(Path("a.csv").read_text().splitlines()) == 1 + 2  # the other file is written
    assert {path.name for path in Path().iterdir()} == {"a.png", "a.csv"}


def test_a_link_stays_one(run: Run, fix: Fix) -> None:
    Path("real.json").write_text("old")
    Path("a.json").symlink_to("real.json")
    fix(steady)
    assert run(*SMALL, "-b", 1, "--overwrite", "-o", "a.json").exit_code == 0
    assert Path("a.json").is_symlink()
    assert json.loads(Path("real.json").read_text())["rows"]
