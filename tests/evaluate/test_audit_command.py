"""``resnet-cli evaluate --audit``: the preprocessing that a checkpoint was trained with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import SMALL
from conftest import DEMO, SAMPLES, Run, trained
from resnet_cli import Classifier
from resnet_cli.evaluate import audit as audit_module
from resnet_cli.evaluate.audit import audit_preprocessing, list_trials
from resnet_cli.evaluate.dataset import (
    label_by_folder,
    sample_places,
    spread_evenly,
)
from scoring import figures


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
