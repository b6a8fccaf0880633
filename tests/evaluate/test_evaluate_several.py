"""Several checkpoints are evaluated on the same images and compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import SMALL
from conftest import Run, trained
from items import items_of
from resnet_cli import Classifier
from resnet_cli.evaluate.compare import Ledger, common_numbers
from resnet_cli.evaluate.scorecard import Scorecard
from resnet_cli.evaluate.shared_decoding import predict_all
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.sources import Inputs
from scoring import approximately, figures, rows


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
