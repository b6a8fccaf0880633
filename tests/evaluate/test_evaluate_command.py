"""``resnet-cli evaluate``: figures, files and images that it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import rc_context
from PIL import Image
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

import plain
from commands import SMALL
from conftest import DEMO, SAMPLES, Run, picture, trained
from resnet_cli import Classifier
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.evaluate.scorecard import Scorecard
from resnet_cli.records import Prediction
from scoring import figures, rows


def test_each_plot_that_is_asked_for_is_written(evaluate: Run) -> None:
    picture(Path("d/a/1.png"))
    files = ["c.png", "c.csv", "k.svg", "k.csv"]
    options = ["--confusion", "--confusion", "--calibration", "--calibration"]
    result = evaluate("d", *(word for pair in zip(options, files, strict=True) for word in pair))
    assert result.exit_code == 0
    assert all(Path(file).stat().st_size for file in files)
    svg = Path("k.svg").read_text(encoding="utf-8")
    assert "too confident by" in svg
    assert "too modest by" in svg


def test_pages_of_the_grid_say_which_images_are_right(evaluate: Run, photos: Path) -> None:
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
        assert isinstance(classifier.checkpoint, Checkpoint)
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
