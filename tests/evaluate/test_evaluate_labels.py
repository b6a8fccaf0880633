"""The class of each image: folders, tables of labels, and options that do not go together."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from commands import SMALL
from conftest import Run, picture, trained
from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import (
    label_by_folder,
    label_by_table,
)
from scoring import rows


def test_folders_are_matched_by_name(evaluate: Run, photos: Path) -> None:
    (photos / "a").rename(photos / "A ")
    (photos / "loose.jpg").write_bytes((photos / "b" / "img6.jpg").read_bytes())
    (photos / "notes.txt").touch()
    (photos / "empty").mkdir()
    picture(photos / "b" / "deeper" / "still.jpg")
    result = evaluate(photos)
    assert result.stdout.startswith("11 images")
    for note in (
        "'A ' is taken for the class 'a'",
        "1 image without a class left out",
        "skipped 1 file without an image extension",
        "2 of 3 classes have a folder; without images: c",
    ):
        assert f"Note: {note}" in result.stderr


LABELS = {
    "path,label\nimg1.jpg,zebra\n": "cannot match l.csv to the classes by name: zebra is not a",
    "path,index\nimg1.jpg,3\n": "l.csv, line 2: index 3: there are 3 classes, 0 to 2",
    "path,label\n": "no images to evaluate on: l.csv lists none",
}


@pytest.mark.parametrize("text", LABELS)
def test_labels_that_fit_no_class(evaluate: Run, photos: Path, text: str) -> None:
    Path("l.csv").write_text(text)
    result = evaluate(photos / "a", "--labels", "l.csv")
    assert result.exit_code == 1
    assert LABELS[text] in result.stderr.splitlines()[-1]


def test_labels_from_a_table(photos: Path) -> None:
    Path("l.csv").write_text("path,label\na/img2.jpg,B\nphotos/b/img6.jpg,c\na/gone.jpg,a\n")
    found = label_by_table(Path("l.csv"), "photos", ["a", "b", "c"])
    assert list(found.paths) == ["photos/a/img2.jpg", "photos/b/img6.jpg", "photos/a/gone.jpg"]
    assert list(found.truths) == [1, 2, 0]
    assert "8 images without a class left out" in found.notes


def test_folders_that_name_no_class_are_an_error_that_lists_both_sides(
    evaluate: Run, photos: Path
) -> None:
    (photos / "b").rename(photos / "zebra")
    result = evaluate(photos)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: cannot match {photos} to the classes by name: zebra is not a class of the "
        "checkpoint; 2 of its 3 classes have no label: b, c: rename the folders, or give "
        "--classes"
    )


def test_a_folder_too_many_is_held_against_all_classes(evaluate: Run, photos: Path) -> None:
    for name in ("c", "zebra"):
        (photos / name).mkdir()
        shutil.copy(photos / "a" / "img1.jpg", photos / name)
    assert (
        "zebra is not a class of the checkpoint; it has 3 classes: a, b, c: rename the folders"
        in (evaluate(photos).stderr.splitlines()[-1])
    )


def test_some_folders_of_imagenet_are_told_apart(photos: Path) -> None:
    (photos / "a").rename(photos / "n01440764")
    (photos / "b").rename(photos / "n01498041")
    assert label_by_folder(str(photos), ["stingray", "tench"]).truths == (1,) * 5 + (0,) * 5
    with pytest.raises(InputError, match=r"WordNet numbers match only the 1,000 classes of Image"):
        label_by_folder(str(photos), ["carp", "ray"])


def test_folders_of_a_checkpoint_without_names_may_be_its_names(run: Run, photos: Path) -> None:
    torch.save(trained(num_classes=2).state_dict(), "two.pth")
    result = run("evaluate", photos, "-c", "two.pth", *SMALL)
    assert result.exit_code == 1
    assert result.stderr.endswith("or give --classes a,b (the order of most trainings)\n")
    assert run("evaluate", photos, "-c", "two.pth", *SMALL, "--classes", "a,b").exit_code == 0


def test_of_many_classes_the_worst_are_shown(run: Run, photos: Path) -> None:
    torch.save(trained(num_classes=40).state_dict(), "many.pth")
    names = [f"class {number}" for number in range(40)]
    for number, path in enumerate(sorted(photos.rglob("*.*")) * 4):
        folder = photos / f"Class_{number}"
        folder.mkdir()
        shutil.copy(path, folder)
    shutil.rmtree(photos / "a")
    shutil.rmtree(photos / "b")
    result = run(
        "evaluate", photos, "-c", "many.pth", "--classes", ",".join(names), *SMALL,
        "-o", "all.csv", "--confusion", "c.pdf", "--calibration", "k.png",
    )  # fmt: skip
    lines = result.stdout.splitlines()
    start = lines.index("the 20 worst of 40 classes with images, by F1 (-o FILE has all)")
    assert lines[start + 22] == ""
    assert len(rows("all.csv")) == 40
    assert lines[2].startswith("top-5  ")
    assert max(map(len, lines)) <= 80
    assert Path("c.pdf").read_bytes().startswith(b"%PDF")


def test_two_outputs_of_one_name_need_indices(photos: Path) -> None:
    (photos / "b").rename(photos / "crane")
    with pytest.raises(Exception, match="it is the name of the outputs 1, 2: give --labels"):
        label_by_folder(str(photos), ["a", "crane", "crane"])


def test_two_folders_of_one_class_are_said(photos: Path) -> None:
    (photos / "b").rename(photos / "A")
    found = label_by_folder(str(photos), ["a", "b"])
    assert set(found.truths) == {0}
    assert "several folders of one class: a" in found.notes


def test_the_folders_of_imagenet_are_in_its_order() -> None:
    for number in range(1000):
        folder = Path(f"val/n{10_000_000 + 7 * number:08}")
        folder.mkdir(parents=True)
        (folder / "x.jpg").touch()
    names = [f"class {number}" for number in range(1000)]
    assert list(label_by_folder("val", names).truths) == list(range(1000))


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("gone", "cannot evaluate on gone: there is no such folder: name one"),
        ("photos/a", "no images to evaluate on: photos/a"),
        ("photos/a/img1.jpg", "cannot evaluate on photos/a/img1.jpg: it is not a folder: name one"),
    ],
)
def test_what_holds_no_folders_is_refused(
    evaluate: Run, photos: Path, folder: str, complaint: str
) -> None:
    result = evaluate(folder)
    assert result.exit_code == 1
    assert complaint in result.stderr.splitlines()[-1]


MISTAKES = {
    "-o m.xls": "cannot write m.xls: the suffix must be one of .json, .csv",
    "--confusion c.json": "cannot write c.json: the suffix must be one of .png",
    "--report r.pdf": "cannot write r.pdf: the suffix must be one of .html",
    "--mistakes gone/w.csv": "cannot write gone/w.csv: there is no folder gone",
    "-o x.csv --mistakes x.csv": "cannot write x.csv twice",
    "-o there.json": "cannot write there.json: it already exists",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_what_cannot_be_written_is_said_at_once(
    evaluate: Run, photos: Path, arguments: str
) -> None:
    Path("there.json").write_text("precious")
    result = evaluate(photos, *arguments.split())
    assert result.exit_code == (2 if re.search("suffix|twice", MISTAKES[arguments]) else 1)
    assert MISTAKES[arguments] in result.stderr.splitlines()[-1]
    assert Path("there.json").read_text() == "precious"


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate",
        "evaluate photos -c a.pth -c b.pth --classes a,b --classes c,d --classes e,f",
        "evaluate --predictions p.csv -c a.pth",
        "evaluate --predictions p.csv --audit",
        "evaluate --predictions p.csv --hidden",
        "evaluate --predictions p.csv --exclude x",
        "evaluate --predictions p.csv --verify 3",
        "evaluate --predictions p.csv --classes a --classes b",
    ],
)
def test_options_that_do_not_go_together(run: Run, arguments: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
