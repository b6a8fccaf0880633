"""The figures of an evaluation, against scikit-learn, torchmetrics and SciPy."""

import csv
import warnings
from collections.abc import Sequence
from io import StringIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from resnet_cli.evaluate import metrics
from resnet_cli.evaluate.metrics import mcnemar_test, wilson_share
from resnet_cli.evaluate.outputs import evaluation_csv, matrix_csv
from resnet_cli.evaluate.plots import MOST_CONFUSED, classes_shown, matrix_title
from resnet_cli.evaluate.scorecard import MOST, Evaluation, Scorecard
from resnet_cli.records import Item, Prediction, Score

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def logits_of(
    classes: int, images: int, *, skill: float = 2.0, seed: int = 0
) -> tuple[Floats, Ints]:
    """Logits [images, classes] of a network that is right more often than not, and the truths."""
    random = np.random.default_rng(seed)
    truths = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), truths] += skill
    logits[np.arange(images), (truths + 1) % classes] += skill / 2
    return 2 * logits, truths


def predictions_of(
    probs: Floats, names: Sequence[str], *, topk: int = 5, whole: bool = True
) -> list[Prediction]:
    """What the classifier would say, given probabilities [images, classes]."""
    rows = []
    for number, row in enumerate(probs):
        best = np.argsort(-row, kind="stable")[:topk]
        scores = tuple(Score(names[i], int(i), float(f"{row[i]:.8g}")) for i in best)
        rows.append(Prediction(Item(f"{number}.jpg"), scores, distribution=row if whole else None))
    return rows


def softmax(logits: Floats) -> Floats:
    probs: Floats = torch.from_numpy(logits).softmax(1).numpy()
    return probs


def precise(probs: Floats) -> NDArray[np.float64]:
    """Probabilities that add up to one in float64 too."""
    return probs / probs.sum(1, keepdims=True, dtype=np.float64)


def evaluated(
    probs: Floats, truths: Ints, *, topk: int = 5, whole: bool = True, threshold: float = 0.0
) -> Evaluation:
    names = [f"class {index}" for index in range(probs.shape[1])]
    return named(names, probs, truths, topk=topk, whole=whole, threshold=threshold)


def named(
    names: Sequence[str],
    probs: Floats,
    truths: Ints,
    *,
    topk: int = 5,
    whole: bool = True,
    threshold: float = 0.0,
) -> Evaluation:
    scorecard = Scorecard(names, threshold=threshold)
    rows = predictions_of(probs, names, topk=topk, whole=whole)
    for row, truth in zip(rows, truths.tolist(), strict=True):
        scorecard.add(row, truth)
    return scorecard.evaluation()


def test_no_cell_of_a_table_starts_a_formula() -> None:
    found = named(["=1+1", "-3", "@x"], np.eye(3, dtype=np.float32), np.arange(3))
    matrix, classes = (
        list(csv.reader(StringIO(text))) for text in (matrix_csv(found), evaluation_csv(found))
    )

    assert matrix[0] == ["truth", "'=1+1", "-3", "'@x"]  # a number is no formula
    assert [row[0] for row in matrix[1:]] == ["'=1+1", "-3", "'@x"]
    assert {"'=1+1", "-3", "'@x"} <= {cell for row in classes for cell in row}
    assert not {"=1+1", "@x"} & {cell for row in classes for cell in row}


SIZES = [(2, 300), (3, 500), (10, 800), (60, 200), (1000, 400)]


@pytest.mark.parametrize(("classes", "images"), SIZES)
def test_every_figure_is_that_of_scikit_learn(classes: int, images: int) -> None:
    logits, truths = logits_of(classes, images)
    probs = softmax(logits)
    labels = probs.argmax(1)
    found = evaluated(probs, truths)
    every = np.arange(classes)
    present = np.unique(truths)

    assert found.top1.right == (labels == truths).sum()
    assert found.top1.value == pytest.approx((labels == truths).mean())
    assert (found.matrix == confusion_matrix(truths, labels, labels=every)).all()
    assert found.loss == pytest.approx(log_loss(truths, precise(probs), labels=every), rel=1e-5)
    columns = precision_recall_fscore_support(truths, labels, labels=every, zero_division=np.nan)
    for row, expected in zip(found.classes, np.transpose(columns), strict=True):
        figures = [row.precision, row.recall, row.f1, row.support]
        known = [np.nan if figure is None else figure for figure in figures]
        assert known == pytest.approx(expected, nan_ok=True)
    macro = precision_recall_fscore_support(
        truths, labels, labels=present, average="macro", zero_division=0
    )
    assert found.means is not None
    assert (found.means.precision, found.means.recall, found.means.f1) == pytest.approx(macro[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and never true
        assert found.means.recall == pytest.approx(balanced_accuracy_score(truths, labels))
    if classes > 5:
        assert found.top5 is not None
        assert found.top5.value == pytest.approx(
            top_k_accuracy_score(truths, probs, k=5, labels=every)
        )
    else:
        assert found.top5 is None


@pytest.mark.parametrize(("classes", "images"), SIZES)
def test_every_figure_is_that_of_torchmetrics(classes: int, images: int) -> None:
    logits, truths = logits_of(classes, images, seed=1)
    probs = softmax(logits)
    found = evaluated(probs, truths)
    p, t = torch.from_numpy(probs), torch.from_numpy(truths)

    assert probs.max() < 1  # torchmetrics gives 1 a bin of its own
    assert found.ece == pytest.approx(
        float(multiclass_calibration_error(p, t, num_classes=classes, n_bins=15, norm="l1")),
        abs=1e-6,
    )
    for top, k in ((found.top1, 1), (found.top5, 5)):
        if top is not None:
            expected = multiclass_accuracy(p, t, num_classes=classes, average="micro", top_k=k)
            assert top.value == pytest.approx(float(expected))
    if classes < 60:  # every class occurs: the means are over the same classes
        assert found.means is not None
        expected = multiclass_f1_score(p, t, num_classes=classes, average="macro")
        assert found.means.f1 == pytest.approx(float(expected))


def test_certainty_is_in_the_last_bin() -> None:
    found = evaluated(np.array([[1, 0], [0.95, 0.05]], np.float32), np.array([0, 1]))
    assert [each.images for each in found.bins] == [0] * 14 + [2]
    assert found.bins[-1].confidence == pytest.approx(0.975)
    assert found.bins[-1].accuracy == 0.5
    assert found.bins[0].confidence is None
    assert found.ece == pytest.approx(0.475)


@pytest.mark.parametrize(
    ("right", "images"), [(0, 1), (1, 1), (71, 76), (0, 50), (50, 50), (499, 1000)]
)
def test_the_interval_is_wilsons(right: int, images: int) -> None:
    found = wilson_share(right, images)
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_of_no_images_there_is_no_share() -> None:
    assert wilson_share(0, 0).value is wilson_share(0, 0).low is wilson_share(0, 0).high is None


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 1), (5, 1), (8, 2), (29, 4), (30, 30), (5000, 5200), (0, 90)]
)
def test_the_p_is_that_of_the_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_test(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_test(lost, gained) == mcnemar_test(gained, lost)


@pytest.mark.parametrize(
    ("classes", "scale"), [(2, 1.0), (2, 3.0), (10, 0.4), (10, 2.0), (200, 1.0)]
)
def test_the_temperature_is_that_of_the_least_loss(classes: int, scale: float) -> None:
    logits, truths = logits_of(classes, 400)
    logits *= scale

    def loss(temperature: float) -> float:
        scaled = torch.from_numpy(logits).double() / temperature
        return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(truths)))

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-7})
    found = evaluated(softmax(logits), truths).temperature
    assert found is not None
    assert found.value == pytest.approx(best.x, rel=1e-3)
    assert found.loss_after == pytest.approx(best.fun, rel=1e-6)
    assert found.loss_before == pytest.approx(loss(1.0), rel=1e-5)
    calibrated = torch.from_numpy(logits / np.float32(found.value)).softmax(1)
    assert found.ece_after == pytest.approx(
        float(
            multiclass_calibration_error(
                calibrated, torch.from_numpy(truths), num_classes=classes, n_bins=15
            )
        ),
        abs=0.01,
    )
    assert not found.at_bound


def test_a_temperature_beyond_all_that_were_looked_at_is_marked() -> None:
    always = np.array([[0.8, 0.2], [0.2, 0.8]] * 5, np.float32)
    for truths, value in (([0, 1] * 5, 0.05), ([1, 0] * 5, 20.0)):
        found = evaluated(always, np.array(truths)).temperature
        assert found is not None
        assert found.at_bound
        assert found.value == pytest.approx(value)


def test_the_temperature_of_very_many_images_is_that_of_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, truths = logits_of(10, 2000)
    all_of_them = evaluated(softmax(logits), truths).temperature
    monkeypatch.setattr(metrics, "KEPT_VALUES", 5000)
    some = evaluated(softmax(logits), truths).temperature
    assert all_of_them is not None
    assert some is not None
    assert (all_of_them.images, some.images) == (2000, 500)
    assert some.value == pytest.approx(all_of_them.value, rel=0.15)
    assert some.loss_before == pytest.approx(all_of_them.loss_before, rel=0.15)


def test_an_impossible_truth_costs_much_but_not_everything() -> None:
    found = evaluated(np.array([[1, 0], [0.25, 0.75]], np.float32), np.array([1, 1]))
    assert found.loss == pytest.approx((87.336545 - np.log(0.75)) / 2)


def test_unreadable_images_are_counted_apart() -> None:
    scorecard = Scorecard(["a", "b"])
    scorecard.add(Prediction(Item("x.jpg"), error="the file is empty"), 0)
    nothing = scorecard.evaluation()
    assert (nothing.images, nothing.errors) == (0, 1)
    unknown = [nothing.top1.value, nothing.loss, nothing.ece, nothing.means, nothing.temperature]
    assert [*unknown, nothing.order] == [None] * 6
    scorecard.add(predictions_of(np.array([[0.9, 0.1]], np.float32), ["a", "b"])[0], 0)
    assert (scorecard.evaluation().images, scorecard.evaluation().errors) == (1, 1)


def test_what_a_threshold_keeps() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]], np.float32)
    found = evaluated(probs, np.array([0, 1, 1, 1]), threshold=0.65)
    assert found.kept is not None
    assert (found.kept.images.right, found.kept.images.images) == (3, 4)
    assert (found.kept.top1.right, found.kept.top1.images) == (2, 3)
    assert evaluated(probs, np.array([0, 1, 1, 1])).kept is None


def test_rows_that_hold_the_best_class_alone_tell_less() -> None:
    logits, truths = logits_of(10, 50)
    found = evaluated(softmax(logits), truths, topk=1, whole=False)
    full = evaluated(softmax(logits), truths)
    assert [found.loss, found.top5, found.temperature] == [None] * 3
    assert (found.top1, found.ece, found.means) == (full.top1, full.ece, full.means)
    assert all(each.truth_prob is None for each in found.mistakes)


def test_the_most_confident_mistakes_come_first() -> None:
    logits, truths = logits_of(4, 400, skill=1.0)
    probs = softmax(logits)
    found = evaluated(probs, truths)
    wrong = np.flatnonzero(probs.argmax(1) != truths)
    expected = sorted(wrong, key=lambda i: -probs[i].max())[:MOST]
    assert [each.path for each in found.mistakes] == [f"{i}.jpg" for i in expected]
    first, place = found.mistakes[0], expected[0]
    assert first.truth == f"class {truths[place]}"
    assert first.label == f"class {probs[place].argmax()}"
    assert first.prob == pytest.approx(probs[place].max())
    assert first.truth_prob == pytest.approx(probs[place, truths[place]])


def test_the_most_confused_pairs_come_first() -> None:
    logits, truths = logits_of(12, 900, skill=1.5)
    probs = softmax(logits)
    found = evaluated(probs, truths)
    matrix = confusion_matrix(truths, probs.argmax(1))
    np.fill_diagonal(matrix, 0)
    assert [pair.images for pair in found.confused] == sorted(matrix.ravel().tolist())[::-1][:MOST]
    for pair in found.confused:
        true, label = (int(name.removeprefix("class ")) for name in (pair.truth, pair.label))
        assert pair.images == matrix[true, label]
        assert pair.share == pytest.approx(pair.images / (truths == true).sum())


def test_the_record_is_plain_data() -> None:
    logits, truths = logits_of(3, 30)
    record = evaluated(softmax(logits), truths).record()
    assert list(record) == [
        "images", "errors", "top1", "top5", "subset", "loss", "means", "ece", "temperature", "kept",
        "order", "classes", "confused", "mistakes", "bins",
    ]  # fmt: skip
    assert list(record["classes"][0]) == [
        "label", "index", "precision", "recall", "f1", "support", "predicted", "right",
    ]  # fmt: skip


def test_the_picture_of_many_classes_is_of_those_with_images_or_mistakes() -> None:
    probs, truths = np.eye(1000, dtype=np.float32)[[3, 700, 700, 998]], np.array([3, 700, 5, 998])
    evaluation = evaluated(probs, truths)
    assert classes_shown(evaluation) == [3, 5, 700, 998]
    assert matrix_title(evaluation, 4).startswith(
        "The 4 of 1,000 classes with images or predictions; "
    )


def test_the_picture_of_many_images_is_of_the_most_confused() -> None:
    probs, truths = np.eye(200, dtype=np.float32), np.arange(200)
    probs[10:40] = probs[40:70]  # sixty classes with a mistake, of which ten have two
    probs[40:50] = probs[50:60]
    shown = classes_shown(evaluated(probs, truths))
    wrong = {10 + number for number in range(60)}
    assert len(shown) == MOST_CONFUSED
    assert set(shown) <= wrong
    assert {*range(40, 50)} <= set(shown)
