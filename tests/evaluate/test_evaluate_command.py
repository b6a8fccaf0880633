"""``resnet-cli evaluate`` as people meet it: what it prints, writes, refuses."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from matplotlib import rc_context
from PIL import Image
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

import plain
from conftest import DEMO, SAMPLES, Run, picture, trained
from items import items_of
from resnet_cli import Classifier
from resnet_cli.errors import InputError
from resnet_cli.evaluate import audit as audit_module
from resnet_cli.evaluate.audit import audit_preprocessing, list_trials
from resnet_cli.evaluate.compare import Ledger, common_numbers
from resnet_cli.evaluate.dataset import (
    label_by_folder,
    label_by_table,
    sample_places,
    spread_evenly,
)
from resnet_cli.evaluate.scorecard import Scorecard
from resnet_cli.evaluate.shared_decoding import predict_all
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.sources import Inputs

SMALL = ("--device", "cpu", "--resize-size", "40", "--img-size", "32")  # quick: a few pixels do


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def figures(path: str = "m.json") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def evaluate(run: Run, checkpoint: Path) -> Run:
    """Evaluate on the small side, with three classes called a, b and c."""

    def invoke(*arguments: object) -> Result:
        return run("evaluate", *arguments, "-c", checkpoint, "--classes", "a,b,c", *SMALL)

    return invoke


# figures


def test_each_picture_that_is_asked_for_is_written(evaluate: Run) -> None:
    picture(Path("d/a/1.png"))
    files = ["c.png", "c.csv", "k.svg", "k.csv"]
    options = ["--confusion", "--confusion", "--calibration", "--calibration"]
    result = evaluate("d", *(word for pair in zip(options, files, strict=True) for word in pair))
    assert result.exit_code == 0
    assert all(Path(file).stat().st_size for file in files)
    svg = Path("k.svg").read_text(encoding="utf-8")
    assert "too confident by" in svg
    assert "too modest by" in svg


def test_pages_of_the_grid_say_which_pictures_are_right(evaluate: Run, photos: Path) -> None:
    count = sum(path.is_file() for path in photos.rglob("*"))
    with rc_context({"svg.fonttype": "none"}):
        result = evaluate(photos, "--grid", "g.svg", "--grid-size", "1x2", "-o", "m.json")
    assert result.exit_code == 0
    pages = sorted(Path().glob("g*.svg"))
    assert len(pages) == -(-count // 2)
    drawn = "".join(page.read_text(encoding="utf-8") for page in pages)
    right = figures()["top1"]["right"]
    assert (drawn.count("✓"), drawn.count("✗")) == (right, figures()["images"] - right)
    assert evaluate(photos, "--grid", "g.svg").exit_code == 1  # its pages are there


@pytest.mark.parametrize("several", [False, True])
def test_a_run_stops_at_the_first_error_if_asked(
    evaluate: Run, photos: Path, checkpoint: Path, *, several: bool
) -> None:
    broken = next(path for path in sorted(photos.rglob("*")) if path.is_file())
    broken.write_bytes(b"")
    more = ["-c", checkpoint] if several else []
    result = evaluate(photos, "--on-error", "fail", "-o", "m.json", *more)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: stopped at {broken}: ")
    assert not Path("m.json").exists()


@pytest.mark.parametrize("checkpoints", [1, 2])
def test_figures_can_be_held_against_plain_fp32_first(
    evaluate: Run, photos: Path, checkpoint: Path, checkpoints: int
) -> None:
    result = evaluate(photos, "--verify", "3", *["-c", checkpoint] * (checkpoints - 1))
    assert result.exit_code == 0
    assert result.stderr.count("verified 3 images against plain fp32 on the CPU") == checkpoints


@pytest.mark.parametrize(
    ("command", "checkpoints"), [("predict", 1), ("evaluate", 1), ("evaluate", 2)]
)
def test_a_run_holds_no_weights_beside_those_that_compute(
    run: Run,
    photos: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    checkpoints: int,
) -> None:
    held: list[int] = []
    launch = Classifier.launch

    def looked(classifier: Classifier, *arguments: Any, **settings: Any) -> Any:
        held.append(len(classifier.checkpoint.state))
        return launch(classifier, *arguments, **settings)

    monkeypatch.setattr(Classifier, "launch", looked)
    which = ["-c", checkpoint] * checkpoints
    assert run(command, photos, *which, "--classes", "a,b,c", *SMALL).exit_code == 0
    assert held
    assert set(held) == {0}


def test_an_evaluation_that_is_interrupted_says_how_far_it_came(
    evaluate: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Prediction] = []

    def interrupted(_: Scorecard, prediction: Prediction, __: int) -> None:
        seen.append(prediction)
        if len(seen) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Scorecard, "add", interrupted)
    result = evaluate(photos, "--mistakes", "w.csv", "-o", "m.json")
    assert result.exit_code == 130
    said = "Note: stopped after 4 of 10 images: w.csv has the mistakes among them"
    assert result.stderr.splitlines()[-2:] == [said, "Interrupted"]
    assert [path.name for path in Path().glob("*.*")] == ["w.csv"]


def test_the_demonstration(run: Run) -> None:
    result = run(
        "evaluate", SAMPLES, "-c", DEMO, "-o", "m.json", "-o", "classes.csv", "--mistakes", "w.csv",
        "--confusion", "c.png", "--calibration", "k.svg", "--report", "r.html", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        "16 images of 2 classes",
        "top-1        100.0 %  (16 of 16; 95 % interval 80.6 % to 100.0 %)",
    ]
    assert "Note: 2 classes: ants, bees" in result.stderr
    assert "16 images, 0 errors" in result.stderr
    found = figures()
    assert found["top1"] == {
        "right": 16, "images": 16, "value": 1.0, "low": pytest.approx(0.8063923), "high": 1.0,
    }  # fmt: skip
    assert found["run"]["checkpoint"]["path"] == str(DEMO)
    assert found["run"]["status"] == "done"
    assert [row["label"] for row in rows("classes.csv")] == ["ants", "bees"]
    assert rows("w.csv") == []
    with Image.open("c.png") as image:
        assert image.format == "PNG"
    assert Path("k.svg").read_text().lstrip().startswith("<?xml")
    assert "ant_01.jpg" in Path("r.html").read_text()


def test_a_wrong_order_is_found_by_name(run: Run) -> None:
    result = run(
        "evaluate", SAMPLES, "-c", DEMO, "--classes", "bees,ants", "-o", "m.json", "--device", "cpu"
    )
    assert result.exit_code == 0
    assert "the class names seem to be in the wrong order" in result.stdout
    assert result.stdout.splitlines()[-1] == "  fix: --classes ants,bees"
    assert figures()["order"]["classes"] == ["ants", "bees"]


def test_every_figure_follows_from_the_rows_of_predict(
    evaluate: Run, run: Run, photos: Path, checkpoint: Path
) -> None:
    evaluate(
        photos,
        "-o",
        "m.json",
        "--mistakes",
        "w.csv",
        "--confusion",
        "c.csv",
        "--calibration",
        "k.csv",
    )
    run("predict", photos, "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-k", 3, "-o", "p.jsonl")
    saved = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    truths = ["abc".index(Path(row["path"]).parent.name) for row in saved]
    probs = np.zeros((10, 3))
    for number, row in enumerate(saved):
        for score in row["predictions"]:
            probs[number, score["index"]] = score["prob"]
    labels = probs.argmax(1)
    found = figures()

    assert found["top1"]["right"] == (labels == truths).sum()
    probs64 = probs / probs.sum(1, keepdims=True)
    assert found["loss"] == pytest.approx(log_loss(truths, probs64, labels=[0, 1, 2]), rel=1e-5)
    ece = multiclass_calibration_error(
        torch.from_numpy(probs).float(), torch.tensor(truths), num_classes=3, n_bins=15
    )
    assert found["ece"] == pytest.approx(float(ece), abs=1e-6)
    wrong = [
        (row["path"], row["predictions"][0]["label"])
        for row, t, p in zip(saved, truths, labels, strict=True)
        if t != p
    ]
    assert [(row["path"], row["label"]) for row in rows("w.csv")] == wrong
    for row in rows("w.csv"):
        place = [each["path"] for each in saved].index(row["path"])
        assert float(row["truth_prob"]) == pytest.approx(probs[place, truths[place]], rel=1e-6)
        assert row["truth_index"] == str(truths[place])
    matrix = [[int(row[name]) for name in "abc"] for row in rows("c.csv")]
    assert sum(map(sum, matrix)) == 10
    assert sum(int(row["images"]) for row in rows("k.csv")) == 10


def test_json_on_stdout_is_what_the_file_holds(evaluate: Run, photos: Path) -> None:
    result = evaluate(photos, "--format", "json", "-o", "m.json")
    printed, written = json.loads(result.stdout), figures()
    for record in (printed, written):
        del record["run"]
    assert printed == written


def test_unreadable_images_are_counted_apart(evaluate: Run, photos: Path) -> None:
    (photos / "b" / "broken.jpg").write_text("no image")
    result = evaluate(photos, "-o", "m.json", "--mistakes", "w.csv")
    assert result.exit_code == 3
    assert result.stdout.startswith("10 images of 3 classes; 1 could not be read\n")
    told = f"Warning: could not read {photos / 'b' / 'broken.jpg'}: is a text, not an image"
    assert told in result.stderr
    assert (figures()["images"], figures()["errors"]) == (10, 1)
    assert "broken" not in Path("w.csv").read_text()


def test_nothing_but_unreadable_images(evaluate: Run) -> None:
    Path("d/a").mkdir(parents=True)
    Path("d/a/x.jpg").write_text("no image")
    result = evaluate("d", "-o", "m.json", "--confusion", "c.png")
    assert result.exit_code == 3
    assert result.stdout == "0 images of 3 classes; 1 could not be read\n"
    assert figures()["top1"]["value"] is None
    assert not Path("c.png").exists()


def test_a_threshold_says_what_it_keeps(evaluate: Run, photos: Path) -> None:
    result = evaluate(photos, "--threshold", 0.4, "-o", "m.json")
    kept = figures()["kept"]
    assert kept["images"]["images"] == 10
    assert f"threshold    {kept['images']['right']} images" in result.stdout


def test_a_single_output_tells_two_classes_apart(run: Run, photos: Path) -> None:
    torch.save(trained(num_classes=1).state_dict(), "one.pth")
    result = run("evaluate", photos, "-c", "one.pth", "--classes", "a,b", *SMALL, "-o", "m.json")
    classifier = Classifier.load(
        "one.pth", classes="a,b", device="cpu",
        preprocess=lambda p: type(p)(resize_size=40, crop_size=32),
    )  # fmt: skip
    right = [row.label == row.path.parent.name for row in classifier.predict(photos)]
    assert result.exit_code == 0
    assert figures()["top1"]["right"] == sum(right)


# which images, and of which class


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


# saved rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "json"])
def test_saved_rows_give_the_same_figures(
    evaluate: Run,
    run: Run,
    photos: Path,
    checkpoint: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (photos / "b" / "broken.jpg").touch()
    evaluate("photos", "-o", "m.json", "--mistakes", "w.csv")
    run(
        "predict",
        "photos",
        "-c",
        checkpoint,
        "--classes",
        "a,b,c",
        *SMALL,
        "-k",
        3,
        "-o",
        f"p.{suffix}",
    )
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for extra in ([], ["../photos"]):
        result = run(
            "evaluate",
            *extra,
            "--predictions",
            f"../p.{suffix}",
            "-o",
            "m.json",
            "--mistakes",
            "w.csv",
            "--overwrite",
        )
        assert result.exit_code == 3
        network, again = figures("../m.json"), figures()
        for record in (network, again):
            del record["run"]
        assert again == approximately(network)
        assert [list(row.values())[1:5] for row in rows("w.csv")] == [
            list(row.values())[1:5] for row in rows("../w.csv")
        ]


def approximately(value: Any) -> Any:
    """The same structure, whose numbers need not be equal to the last digit."""
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, rel=1e-4) if isinstance(value, float) else value


def test_rows_of_the_best_class_alone_tell_what_they_can(
    evaluate: Run, run: Run, photos: Path, checkpoint: Path
) -> None:
    evaluate("photos", "-o", "m.json")
    run(
        "predict",
        "photos",
        "-c",
        checkpoint,
        "--classes",
        "a,b,c",
        *SMALL,
        "-o",
        "p.csv",
        "--threshold",
        0.99,
    )
    Path("l.csv").write_text("path,label\nphotos/a/img1.jpg,a\nphotos/b/img6.jpg,b\n")
    result = run("evaluate", "--predictions", "p.csv", "-o", "all.json")
    assert "no loss, no temperature" in result.stderr
    again = figures("all.json")
    assert again["top1"] == figures()["top1"]
    assert again["ece"] == pytest.approx(figures()["ece"], rel=1e-4)
    assert again["loss"] is again["temperature"] is None
    result = run("evaluate", "--predictions", "p.csv", "--labels", "l.csv", "--format", "json")
    assert json.loads(result.stdout)["images"] == 2
    assert "8 rows without a class are left out" in result.stderr


def test_saved_rows_need_the_names_of_their_classes(
    run: Run, photos: Path, checkpoint: Path
) -> None:
    run("predict", "photos", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-o", "p.csv")
    Path("p.csv.run.json").unlink()
    result = run("evaluate", "--predictions", "p.csv")
    assert "p.csv.run.json is missing or has no classes: give --classes" in result.stderr
    assert run("evaluate", "--predictions", "p.csv", "--classes", "a,b,c").exit_code == 0
    result = run("evaluate", "--predictions", "p.csv", "--classes", "a,b")
    assert result.exit_code == 1 or "2" not in {row["index"] for row in rows("p.csv")}
    Path("p.csv.run.json").write_text("{")
    assert (
        "p.csv.run.json: it is not valid JSON" in run("evaluate", "--predictions", "p.csv").stderr
    )
    Path("p.csv.run.json").unlink()
    result = run("evaluate", "nowhere", "--predictions", "p.csv", "--classes", "a,b,c")
    assert "none of its images is in a folder in" in result.stderr


# the preprocessing detective


def test_an_audit_tries_one_change_at_a_time(evaluate: Run, photos: Path) -> None:
    result = evaluate(photos, "--audit", "--audit-images", 4, "-o", "m.json")
    found = figures()["audit"]
    assert result.stdout.startswith("preprocessing audit on 4 images, one change at a time\n")
    assert "no alternative is clearly better" in result.stdout
    assert found[0]["name"] == "as it is"
    names = [each["name"] for each in found]
    assert len(names) == len(set(names)) == 13
    for words in ("v1", "v2", "squash", "bicubic", "0 to 1", "BGR", "EXIF"):
        assert any(words in name for name in names)
    assert not any(each["better"] for each in found)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_flags_of_a_trial_do_what_it_did(run: Run, photos: Path, in_channels: int) -> None:
    torch.save(trained(in_channels=in_channels).state_dict(), "x.pth")
    classifier = Classifier.load(
        "x.pth",
        classes="a,b,c",
        device="cpu",
        preprocess=lambda p: type(p)(resize_size=40, crop_size=32, mean=p.mean, std=p.std),
    )
    data = label_by_folder("photos", "abc")
    for found in audit_preprocessing(classifier, data.select(range(3)))[3:]:
        result = run(
            "evaluate", "photos", "-c", "x.pth", "--classes", "a,b,c", *SMALL, *found.flags.split(),
            "--labels", labels_of(data.paths[:3], data.truths[:3]), "--format", "json",
        )  # fmt: skip
        assert json.loads(result.stdout)["loss"] == pytest.approx(found.loss, rel=1e-3)


def labels_of(paths: Any, truths: Any) -> str:
    lines = (f"{path},{truth}\n" for path, truth in zip(paths, truths, strict=True))
    Path("l.csv").write_text("path,index\n" + "".join(lines))
    return "l.csv"


def test_a_trial_that_changes_nothing_is_left_out() -> None:
    classifier = Classifier.load(DEMO, device="cpu")
    assert all(
        (trial.preprocess, trial.upright) != (classifier.preprocess, True)
        for trial in list_trials(classifier)
    )
    assert not any(trial.name.startswith("v1") for trial in list_trials(classifier))


def test_an_audit_minds_the_order_of_the_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = Classifier.load(DEMO, classes="bees,ants", device="cpu")
    folder = label_by_folder(str(SAMPLES), classifier.class_names)
    monkeypatch.setattr(audit_module, "list_trials", lambda _: [])
    [now] = audit_preprocessing(classifier, folder)
    assert now.top1.value == 1
    assert now.loss is not None
    assert now.loss < 0.1
    assert "the class names seem to be in the wrong order" in caplog.text


def test_a_sample_takes_the_same_number_from_each_class() -> None:
    truths = [0] * 100 + [1] * 50 + [2] * 2
    chosen = [truths[place] for place in sample_places(truths, 22)]
    assert [chosen.count(index) for index in range(3)] == [10, 10, 2]
    assert sample_places(truths, 1000) == list(range(152))
    assert sorted(spread_evenly(range(100))[-8:]) == pytest.approx(
        [0, 16, 32, 48, 64, 80, 96, 8], abs=90
    )
    assert sorted(spread_evenly(range(100))) == list(range(100))


# several checkpoints


def test_several_checkpoints_are_compared_on_the_same_images(
    run: Run, photos: Path, checkpoint: Path
) -> None:
    torch.manual_seed(3)
    other = trained()
    torch.nn.init.normal_(other.fc.weight, std=0.2)
    torch.save({"state_dict": other.state_dict(), "classes": ["C", "b", "a"]}, "other.pth")
    shutil.copy(checkpoint, "first.pth")
    Path("first.classes.txt").write_text("a\nb\nc\n")
    result = run("evaluate", "photos", "-c", "first.pth", "-c", "other.pth", *SMALL, "-o", "m.json")
    assert result.exit_code == 0
    found = figures()
    said = []
    for name, each in zip(("first.pth", "other.pth"), found["checkpoints"], strict=True):
        alone = json.loads(run("evaluate", "photos", "-c", name, *SMALL, "--format", "json").stdout)
        for key in ("run", "audit"):
            del alone[key]
        assert {k: v for k, v in each.items() if k != "checkpoint"} == approximately(alone)
        run("predict", "photos", "-c", name, *SMALL, "-o", f"{name}.csv")
        said.append([row["label"].lower() for row in rows(f"{name}.csv")])
    (pair,) = found["pairs"]
    truths = [Path(row["path"]).parent.name for row in rows("first.pth.csv")]
    agree = sum(a == b for a, b in zip(*said, strict=True))
    only = [
        sum(a == t != b for a, b, t in zip(*order, truths, strict=True))
        for order in (said, said[::-1])
    ]
    assert pair["agree"]["right"] == agree
    assert [pair["only_first"], pair["only_second"]] == only
    assert "1, 2" in result.stdout


def test_each_image_is_decoded_once_for_all(
    photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "broken.jpg").touch()
    decoded: list[Path] = []
    classifiers = [
        Classifier.load(checkpoint, device="cpu", preprocess=Preprocess(size, 32))
        for size in (40, 48)
    ]
    decode = type(classifiers[0].decoder).__call__

    def counted(self: Any, path: Path, *rest: Any) -> Any:
        decoded.append(path)
        return decode(self, path, *rest)

    monkeypatch.setattr(type(classifiers[0].decoder), "__call__", counted)
    paths = sorted(map(str, photos.rglob("*.*")))
    found = list(predict_all(classifiers, Inputs.of(items_of(paths)), workers=2, batch_size=3))
    assert sorted(map(str, decoded)) == paths
    for place, classifier in enumerate(classifiers):
        for row, alone in zip(found, classifier.predict(paths), strict=True):
            assert row[place].path == alone.path
            assert row[place].index == alone.index
            assert row[place].error == alone.error


def test_who_is_right_alone_is_counted(checkpoint: Path) -> None:
    classifier = Classifier.load(checkpoint, classes="a,b,c", device="cpu")
    other = Classifier.load(checkpoint, classes="c,b,a", device="cpu")
    ledger = Ledger(["x", "y"], [Scorecard(each.class_names) for each in (classifier, other)])

    def says(index: int) -> Prediction:
        return Prediction(Item("x.jpg"), (Score("", index, 0.9),))

    #        a is the truth, index 0 of the first list and 2 of the second
    for first, second, times in ((0, 2, 7), (0, 1, 3), (1, 2, 2), (1, 1, 4), (2, 0, 1), (2, 1, 1)):
        for _ in range(times):
            ledger.add([says(first), says(second)], [0, 2])
    ledger.add([Prediction(Item("x.jpg"), error="broken")] * 2, [0, 2])
    [pair] = ledger.comparison().pairs
    assert (pair.agree.right, pair.agree.images) == (7 + 4 + 1, 18)
    assert (pair.only_first, pair.only_second) == (3, 2)
    assert pair.p == 1.0


def test_classes_are_the_same_by_name() -> None:
    assert common_numbers([["a", "b"], ["B", "a"], ["x", "b", "b"]]) == [[0, 1], [1, 0], [2, 1, 3]]


def test_what_is_of_one_checkpoint_is_refused_for_several(
    run: Run, checkpoint: Path, photos: Path
) -> None:
    result = run(
        "evaluate",
        photos,
        "-c",
        checkpoint,
        "-c",
        checkpoint,
        "--classes",
        "a,b,c",
        "--audit",
        "--confusion",
        "c.png",
        "--grid",
        "g.png",
    )
    assert result.exit_code == 2
    assert "--confusion, --grid, --audit: for one checkpoint at a time" in result.stderr


# real photographs


def test_ants_and_bees_against_the_plain_loop(run: Run, data: Path) -> None:
    file = data / "checkpoints" / "ants_bees_resnet18_epoch14.pkl"
    folder = data / "photos" / "ants_bees"
    result = run(
        "evaluate", folder, "-c", file, "--classes", "bees,ants", "--exact", "--exif", "ignore",
        "--device", "cpu", "-o", "m.json",
    )  # fmt: skip
    paths = sorted(folder.rglob("*.jpg"))
    probs = torch.stack(list(plain.probabilities(plain.load_resnet18(file), paths))).double()
    truths = torch.tensor([["bees", "ants"].index(path.parent.name) for path in paths])
    found = figures()
    assert found["top1"]["right"] == int((probs.argmax(1) == truths).sum())
    assert found["loss"] == pytest.approx(float(-probs[range(76), truths].log().mean()), rel=1e-4)
    assert found["order"]["classes"] == ["ants", "bees"]
    assert "output 0, called bees, means ants" in result.stdout


def test_bgr_is_found_on_ants_and_bees(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.load(data / "checkpoints" / "ants_bees_resnet18_epoch14.pkl", weights_only=True)
    weights = state["model_state_dict"]
    weights["conv1.weight"] = weights["conv1.weight"].flip(1).contiguous()
    torch.save(weights, "bgr.pth")
    classifier = Classifier.load("bgr.pth", classes="ants,bees", device="cpu")
    folder = label_by_folder(str(data / "photos" / "ants_bees"), classifier.class_names)
    every = list_trials(classifier)
    few = [trial for trial in every if trial.name == "BGR" or "v2" in trial.name]
    monkeypatch.setattr(audit_module, "list_trials", lambda _: few)  # the others take their time
    now, v2, bgr = audit_preprocessing(classifier, folder)
    assert bgr.better
    assert bgr.loss_p * len(every) / len(few) < 0.05  # with all of them tried it is found as well
    assert bgr.flags == "--color bgr"
    assert bgr.top1.right > now.top1.right
    assert not v2.better
