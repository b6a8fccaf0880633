"""The calls behind ``evaluate``: their figures against NumPy, what they refuse, what they write."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conftest import REPOSITORY, Run, trained
from docs_blocks import run_blocks
from resnet_cli import (
    Classifier,
    EvaluateOptions,
    OutputOptions,
    Preprocess,
    RowFiles,
    UserError,
    audit_preprocessing,
    compare_classifiers,
    evaluate_classifier,
    evaluate_predictions,
)
from resnet_cli.evaluate import audit as audit_module
from resnet_cli.evaluate.audit import Trial
from resnet_cli.sources import FindOptions

NAMES = ("a", "b", "c")


@pytest.fixture
def files(checkpoint: Path) -> tuple[Path, Path]:
    """Two checkpoints that name their classes, in different orders."""
    state = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": state, "classes": list(NAMES)}, "model.pth")
    torch.manual_seed(3)
    other = trained()
    torch.nn.init.normal_(other.fc.weight, std=0.2)
    torch.save({"state_dict": other.state_dict(), "classes": ["c", "a", "b"]}, "other.pth")
    return Path("model.pth"), Path("other.pth")


def loaded(file: Path) -> Classifier:
    return Classifier.load(file, device="cpu", preprocess=Preprocess(40, 32))


def probabilities(classifier: Classifier, folder: Path) -> NDArray[np.float64]:
    """Probabilities [images, a b c] in double precision, whatever the order of the classes."""
    rows = list(classifier.predict(folder, distribution=True))
    order = [classifier.class_names.index(name) for name in NAMES]
    return np.array([row.distribution for row in rows if row.distribution is not None], float)[
        :, order
    ]


TRUTHS = np.array([0] * 5 + [1] * 5)  # of the images of ``photos``, in natural order


def exact_p(first: int, second: int) -> float:
    """Two-sided binomial test, by counting."""
    n, few = first + second, min(first, second)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)


def test_the_figures_are_those_of_numpy(files: tuple[Path, Path], photos: Path) -> None:
    classifier = loaded(files[0])
    probs = probabilities(classifier, photos)
    steps: list[tuple[int, int | None]] = []

    result = evaluate_classifier(
        classifier, photos, progress=lambda done, total: steps.append((done, total))
    )

    labels = probs.argmax(1)
    assert steps == [(done, 10) for done in range(1, 11)]
    assert result.accuracy == (labels == TRUTHS).mean()
    assert result.loss == pytest.approx(-np.log(probs[range(10), TRUTHS]).mean(), rel=1e-5)
    for index, row in enumerate(result.per_class):
        is_class = np.equal(TRUTHS, index)
        right = ((labels == index) & is_class).sum()
        assert (row.label, row.support) == (NAMES[index], is_class.sum())
        assert (row.predicted, row.right) == ((labels == index).sum(), right)
        assert row.recall == (right / row.support if row.support else None)
    best = probs.max(1)
    bins = np.minimum((best * 15).astype(int), 14)
    gaps = [abs((best - (labels == TRUTHS))[bins == each].sum()) for each in range(15)]
    assert result.evaluation.ece == pytest.approx(sum(gaps) / 10, abs=1e-6)
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (TRUTHS, labels), 1)
    assert (result.evaluation.matrix == counts).all()
    assert result.run is not None
    assert result.run["counts"]["images"] == 10


def test_a_result_saves_what_it_holds(files: tuple[Path, Path], photos: Path) -> None:
    result = evaluate_classifier(loaded(files[0]), str(photos))

    result.save("m.json")
    result.save("m.csv")
    result.save_confusion("c.csv")
    result.save_confusion("c.png")
    result.save_calibration("k.csv")

    saved = json.loads(Path("m.json").read_text())
    assert saved == json.loads(json.dumps(result.record()))
    assert saved["run"]["checkpoint"]["path"] == "model.pth"
    with Path("m.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == list(NAMES)
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"cannot write m\.json: it already exists"):
        result.save("m.json")
    result.save("m.json", overwrite=True)
    with pytest.raises(UserError, match="the suffix must be one of"):
        result.save_confusion("c.html")


def test_rows_are_written_while_images_are_scored(files: tuple[Path, Path], photos: Path) -> None:
    classifier = loaded(files[0])
    wrong = [
        str(row.path) for row in classifier.predict(photos) if row.label != row.path.parent.name
    ]

    evaluate_classifier(
        classifier,
        photos,
        EvaluateOptions(topk=2),
        files=RowFiles(mistakes=[Path("w.csv")], report=Path("r.html"), grids=[Path("g.pdf")]),
    )

    with Path("w.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == wrong
    assert "img10.jpg" in Path("r.html").read_text(encoding="utf-8")
    assert Path("g.pdf").read_bytes().startswith(b"%PDF")


def test_a_threshold_keeps_the_images_that_reach_it(files: tuple[Path, Path], photos: Path) -> None:
    classifier = loaded(files[0])
    probs = probabilities(classifier, photos)
    threshold = float(np.median(probs.max(1)))

    kept = evaluate_classifier(
        classifier, photos, EvaluateOptions(threshold=threshold)
    ).evaluation.kept

    reach = probs.max(1) >= threshold
    assert kept is not None
    assert kept.images.right == reach.sum()
    assert kept.top1.right == (probs.argmax(1) == TRUTHS)[reach].sum()


def test_a_comparison_is_that_of_numpy(files: tuple[Path, Path], photos: Path) -> None:
    classifiers = [loaded(file) for file in files]
    labels = [probabilities(each, photos).argmax(1) for each in classifiers]
    steps: list[tuple[int, int | None]] = []

    found = compare_classifiers(
        classifiers,
        photos,
        files=RowFiles(report=Path("r.html")),
        progress=lambda done, total: steps.append((done, total)),
    )

    first, second = (each == TRUTHS for each in labels)
    assert steps == [(done, 10) for done in range(1, 11)]
    assert found.checkpoints == ("model.pth", "other.pth")
    assert [each.accuracy for each in found.evaluations] == [first.mean(), second.mean()]
    (pair,) = found.pairs
    assert pair.agree.right == (labels[0] == labels[1]).sum()
    only = (first & ~second).sum(), (second & ~first).sum()
    assert (pair.only_first, pair.only_second) == only
    assert pair.p == pytest.approx(exact_p(*map(int, only)))
    assert Path("r-1.html").is_file()
    assert Path("r-2.html").is_file()
    found.save("m.json")
    assert json.loads(Path("m.json").read_text()) == json.loads(json.dumps(found.record()))


def test_saved_rows_give_what_the_network_gives(
    files: tuple[Path, Path], photos: Path, run: Run
) -> None:
    small = ("--device", "cpu", "--resize-size", 40, "--img-size", 32)
    run("predict", photos, "-c", files[0], *small, "-k", 3, "-o", "p.csv")
    network = evaluate_classifier(loaded(files[0]), photos)
    steps: list[tuple[int, int | None]] = []

    saved = evaluate_predictions(
        "p.csv", photos, progress=lambda done, total: steps.append((done, total))
    )

    assert saved.accuracy == network.accuracy
    assert saved.loss == pytest.approx(network.loss, rel=1e-4)
    assert (saved.evaluation.matrix == network.evaluation.matrix).all()
    assert steps == [(done, None) for done in range(1, 11)]
    assert saved.run is not None
    Path("p.csv.run.json").unlink()
    again = evaluate_predictions("p.csv", photos, classes=NAMES)
    assert (again.accuracy, again.run) == (network.accuracy, None)


WRONG: list[dict[str, Any]] = [
    {"topk": 0}, {"threshold": 1.5}, {"batch_size": 0}, {"workers": -1}, {"on_error": "stop"},
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG)
def test_an_option_that_is_not_possible_raises_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        EvaluateOptions(**options)


def test_what_cannot_be_done_is_refused_before_any_image_is_read(
    files: tuple[Path, Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = loaded(files[0])
    monkeypatch.setattr(Classifier, "predict", None)
    bad = RowFiles(report=Path("r.pdf"))

    with pytest.raises(UserError, match="the suffix must be one of"):
        evaluate_classifier(classifier, photos, files=bad)
    with pytest.raises(UserError, match="the suffix must be one of"):
        evaluate_predictions("p.csv", photos, files=bad)
    with pytest.raises(UserError, match="cannot be resumed"):
        evaluate_classifier(classifier, photos, files=RowFiles(output=OutputOptions(resume=True)))
    with pytest.raises(UserError, match="at least 2 classifiers, got 1"):
        compare_classifiers([classifier], photos)
    with pytest.raises(UserError, match="only reports"):
        compare_classifiers([classifier] * 2, photos, files=RowFiles(grids=[Path("g.png")]))
    with pytest.raises(UserError, match="leave exclude and hidden out"):
        evaluate_predictions("p.csv", photos, EvaluateOptions(find=FindOptions(hidden=True)))
    with pytest.raises(UserError, match="images must be at least 1"):
        audit_preprocessing(classifier, photos, images=0)
    with pytest.raises(UserError, match="there is no such folder"):
        evaluate_classifier(classifier, "elsewhere")


def test_a_call_prints_nothing(
    files: tuple[Path, Path], photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "b" / "broken.jpg").touch()
    classifiers = [loaded(file) for file in files]
    capfd.readouterr()

    assert evaluate_classifier(classifiers[0], photos).evaluation.errors == 1
    compare_classifiers(classifiers, photos)

    assert capfd.readouterr().out == ""


IMPORTED_FIRST = (
    "",
    "import resnet_cli.evaluate",
    "from resnet_cli import evaluate",
    "import resnet_cli.evaluate.audit",
    "from resnet_cli.evaluate import evaluate_classifier",
)

LOOK = """
from resnet_cli import audit_preprocessing, compare_classifiers
from resnet_cli import evaluate_classifier, evaluate_predictions
for each in (audit_preprocessing, compare_classifiers, evaluate_classifier, evaluate_predictions):
    assert callable(each), each
import resnet_cli.evaluate
assert resnet_cli.evaluate.evaluate_classifier is evaluate_classifier
"""


def test_the_names_are_functions_whatever_is_imported_first() -> None:
    code = f"""
import os, torch, torchvision  # once for all: they take their time
for first in {IMPORTED_FIRST}:
    child = os.fork()
    if not child:
        exec(first + {LOOK!r})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, first
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def one_change(classifier: Classifier) -> list[Trial]:
    far = Preprocess(256, 224, mean=(30.0,) * 3)
    return [Trial("far", "--mean 30,30,30", far, upright=True)]


def test_the_page_for_python_can_be_followed(
    files: tuple[Path, Path], photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.rename("val")
    run("predict", "val", "-c", files[0], "--device", "cpu", "-o", "results.csv")
    monkeypatch.setattr(audit_module, "list_trials", one_change)  # the others take their time

    names = run_blocks(REPOSITORY / "docs" / "python.md", "Evaluate")

    assert names["saved"].accuracy == names["result"].accuracy
    written = ("metrics.json", "confusion.png", "calibration.svg", "wrong.csv", "look.html")
    assert all(Path(name).stat().st_size for name in written)
    assert len(json.loads(Path("comparison.json").read_text())["checkpoints"]) == 2
