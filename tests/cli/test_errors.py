"""Errors and exit statuses of ``resnet-cli predict``: one line each, and a row for each image."""

import os
import re
from pathlib import Path

import pytest

from commands import SMALL, download_half, error_line, rows_of_csv, rows_of_jsonl
from conftest import Run, picture
from resnet_cli import Classifier


def test_an_unreadable_image_has_an_error_line_and_the_status_is_3(
    predict: Run, photos: Path
) -> None:
    (photos / "a" / "img2b.jpg").write_text("no image")
    result = predict("photos")
    assert result.exit_code == 3
    third = result.stdout.splitlines()[2]
    assert re.fullmatch(r"3/11  photos/a/img2b\.jpg  ERROR .+", third)
    assert len(result.stdout.splitlines()) == 11


@pytest.fixture
def _mistakes(checkpoint: Path) -> None:
    picture(Path("a.jpg"), (60, 50))
    Path("text.pth").write_text("weights")
    Path("empty.pth").touch()
    Path("folder").mkdir()
    Path("there.csv").write_text("precious")
    Path("names.txt").write_text("one\ntwo\n")
    Path("three.pth").symlink_to(checkpoint)
    download_half()


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
def test_a_mistake_is_reported_in_one_line(run: Run, arguments: str) -> None:
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
        "predict a.jpg --precision int4",
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


def test_awkward_images_have_a_row_each(predict: Run, data: Path) -> None:
    result = predict(data / "awkward", "--format", "jsonl")
    rows = rows_of_jsonl(result.stdout)
    paths = [row["path"] for row in rows]
    passed_over = re.search(r"Note: skipped (\d+) files? without", result.stderr)
    everything = [path for path in (data / "awkward").rglob("*") if path.is_file()]

    assert result.exit_code == 3
    assert len(set(paths)) == len(paths)
    assert len(paths) + int(passed_over[1] if passed_over else 0) == len(everything)
    assert {row["status"] for row in rows} == {"ok", "error"}


@pytest.mark.parametrize("name", ["bell\x07.jpg", "new\nline.jpg"])
@pytest.mark.parametrize("place", ["{}", "@{}", "@folder/{}"])
def test_control_characters_are_spelt_out_in_errors(predict: Run, name: str, place: str) -> None:
    (Path("folder") / name).mkdir(parents=True)  # a list that cannot be opened
    line = error_line(predict(place.format(name)))
    assert line.isprintable()


def test_an_existing_output_is_overwritten_when_asked(predict: Run, photos: Path) -> None:
    Path("x.csv").write_text("of yesterday")
    assert "or --overwrite to replace it" in error_line(predict(photos, "-o", "x.csv"))
    assert Path("x.csv").read_text() == "of yesterday"

    assert predict(photos, "-o", "x.csv", "--overwrite").exit_code == 0
    assert len(rows_of_csv(Path("x.csv").read_text())) == 10


def test_a_device_is_no_file_of_results(predict: Run, photos: Path) -> None:
    Path("x.csv").symlink_to("/dev/full")
    assert "x.csv: it is a pipe or a device" in error_line(predict(photos, "-o", "x.csv"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_a_folder_that_may_not_be_read_has_a_row(run: Run, checkpoint: Path) -> None:
    picture(Path("d/a.jpg"))
    Path("d/closed").mkdir(mode=0)
    result = run("predict", "d", "-c", checkpoint, *SMALL)

    assert result.exit_code == 3
    assert "ERROR is a folder that may not be read" in result.stdout
