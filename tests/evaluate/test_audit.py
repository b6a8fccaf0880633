"""The audit: changes that are plainly worse are dropped, and the others judged as before."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from conftest import DEMO, SAMPLES, Run
from resnet_cli.classifier import Classifier
from resnet_cli.evaluate import audit as audit_module
from resnet_cli.evaluate.audit import (
    LOOKS,
    SamplePredictions,
    Trial,
    audit_preprocessing,
    compare_trial,
    list_trials,
    plan_looks,
)
from resnet_cli.evaluate.dataset import Dataset
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item


def answers(right: list[bool], probs: list[float]) -> SamplePredictions:
    labels = [int(not each) for each in right]
    zeros = np.zeros(len(right), np.int64)
    return SamplePredictions(
        zeros, np.array(labels, np.int64), np.array(right), np.array(probs, np.float32)
    )


CHANGE = Trial("a change", "--flag", Preprocess(), upright=True)


@pytest.mark.parametrize("gained", [0, 1, 3])
@pytest.mark.parametrize("lost", [0, 2, 8, 12, 20])
def test_worse_is_what_loses_images_beyond_luck(gained: int, lost: int) -> None:
    now = answers([True] * 30 + [False] * 10, [0.9] * 30 + [0.2] * 10)
    right = [False] * lost + [True] * (30 - lost + gained) + [False] * (10 - gained)
    probs = [0.3] * lost + [0.9] * (30 - lost) + [0.6] * gained + [0.2] * (10 - gained)
    then = answers(right, probs)
    found = compare_trial(CHANGE, now, then, tried=1)
    p = binomtest(gained, max(gained + lost, 1)).pvalue if gained + lost else 1.0
    assert found.plainly_worse == (lost > gained and p < 0.01)


def test_a_change_that_is_less_sure_and_loses_nothing_stays() -> None:
    """On far too large a scale of pixels every answer is sure: on the right one it is less so."""
    now, then = answers([True] * 60, [1.0] * 60), answers([True] * 60, [0.95] * 60)
    assert not compare_trial(CHANGE, now, then, tried=1).plainly_worse


def test_each_look_is_at_all_classes_alike_and_nothing_is_looked_at_twice() -> None:
    truths = sorted([0] * 90 + [1] * 60 + [2] * 50)
    parts = plan_looks(truths)
    assert sorted(place for part in parts for place in part) == list(range(200))
    so_far: list[int] = []
    for part, size in zip(parts, LOOKS, strict=False):
        so_far += part
        assert len(so_far) == size
        counts = np.bincount([truths[place] for place in so_far])
        assert counts.max() - counts.min() <= 1
    assert plan_looks([0, 1]) == [[0, 1]]


@pytest.fixture
def copies() -> Path:
    """Each sample five times."""
    for sample in SAMPLES.rglob("*.*"):
        for number in range(5):
            place = Path("copies", sample.parent.name, f"{number}-{sample.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample, place)
    return Path("copies")


def two_changes(classifier: Classifier) -> list[Trial]:
    """Another interpolation, and pixels far from those of training."""
    now = classifier.preprocess
    far = replace(now, mean=(30.0,) * 3)
    return [
        *(trial for trial in list_trials(classifier) if trial.name == "bicubic"),
        Trial("far", "--mean 30,30,30", far, upright=True),
    ]


def test_what_is_plainly_worse_is_left_early(
    run: Run, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "list_trials", two_changes)  # the others take their time
    result = run("evaluate", copies, "-c", DEMO, "--audit", "-o", "m.json", "--progress", "on")
    assert result.exit_code == 0
    now, same, worse = json.loads(Path("m.json").read_text())["audit"]
    assert (now["dropped"], same["dropped"], worse["dropped"]) == (False, False, True)
    assert now["top1"]["images"] == same["top1"]["images"] == 80
    assert worse["top1"]["images"] in LOOKS
    images, right = worse["top1"]["images"], worse["top1"]["right"]
    assert re.search(
        rf"^far: plainly worse after {images} images \(top-1 {100 * right / images:.1f} %",
        result.stdout,
        re.MULTILINE,
    )
    assert "corrected for 2 comparisons" in result.stdout
    assert "no alternative is clearly better" in result.stdout
    seconds = re.search(
        r"([\d.]+) s in all: audit ([\d.]+) s, evaluation ([\d.]+) s", result.stderr
    )
    assert seconds is not None
    whole, *parts = map(float, seconds.groups())
    assert whole == pytest.approx(sum(parts), abs=0.02)
    assert re.search(r"audit: 100%.*240/240", result.stderr)  # the bar counts what is left out too


def test_a_figure_is_that_of_the_images_it_was_taken_on(copies: Path) -> None:
    classifier = Classifier.load(DEMO, device="cpu")
    paths = sorted(map(str, copies.rglob("*.*")))[::9]
    truths = [classifier.class_names.index(Path(path).parent.name) for path in paths]
    items = [Item(path, truth=truth) for path, truth in zip(paths, truths, strict=True)]
    shown: list[tuple[int, int | None]] = []
    findings = audit_preprocessing(
        classifier,
        Dataset("copies", items),
        progress=lambda done, total: shown.append((done, total)),
    )
    count = len(paths) * len(findings)
    assert shown == [(done, count) for done in range(1, count + 1)]
    assert all(found.top1.images == len(paths) for found in findings)  # too few for any look
