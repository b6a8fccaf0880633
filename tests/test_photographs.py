"""Real photographs and real checkpoints against the plain loop."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plain
from conftest import Run
from resnet_cli import Classifier, Prediction

CHECKPOINTS = {
    "resnet18_imagenet.pth": None,
    "ants_bees_resnet18_epoch14.pkl": ["ants", "bees"],
}

Expected = Callable[[str], Tensor]


@pytest.fixture(scope="module")
def photographs(data: Path) -> list[Path]:
    return sorted(
        path for path in (data / "photos").rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )


@pytest.fixture(scope="module")
def expected(data: Path, photographs: list[Path]) -> Expected:
    known: dict[str, Tensor] = {}

    def look_up(checkpoint: str) -> Tensor:
        if checkpoint not in known:
            network = plain.load_resnet18(data / "checkpoints" / checkpoint)
            known[checkpoint] = torch.stack(list(plain.probabilities(network, photographs)))
        return known[checkpoint]

    return look_up


def dense(predictions: list[Prediction]) -> Tensor:
    """Probabilities [N, classes] of predictions that kept every class."""
    table = torch.zeros(len(predictions), len(predictions[0].scores))
    for row, prediction in zip(table, predictions, strict=True):
        for score in prediction.scores:
            row[score.index] = score.prob
    return table


# both ways in one test, so that a checkpoint goes through the plain loop once
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_every_photograph_gets_the_label_of_the_plain_loop(
    data: Path, photographs: list[Path], expected: Expected, checkpoint: str
) -> None:
    plainly = expected(checkpoint)
    for exact, most, mean in ((False, 1e-2, 1e-3), (True, 1e-5, 1e-5)):
        classifier = Classifier.load(
            data / "checkpoints" / checkpoint,
            classes=CHECKPOINTS[checkpoint],
            device="cpu",
            exact=exact,
            upright=False,  # as the plain loop takes them
        )
        predictions = list(classifier.predict(photographs, topk=1000))
        difference = (dense(predictions) - plainly).abs()

        assert [p.index for p in predictions] == plainly.argmax(dim=1).tolist()
        assert difference.max() <= most
        assert difference.amax(dim=1).mean() <= mean


def test_ants_and_bees_are_told_apart(data: Path) -> None:
    classifier = Classifier.load(
        data / "checkpoints" / "ants_bees_resnet18_epoch14.pkl", classes="ants,bees", device="cpu"
    )
    right = [
        prediction.label == prediction.path.parent.name
        for prediction in classifier.predict(data / "photos" / "ants_bees")
    ]

    assert len(right) == 76
    assert sum(right) / len(right) >= 0.9


def test_imagenet_photographs_are_named(data: Path, run: Run) -> None:
    result = run(
        "predict", data / "photos" / "imagenet" / "n01532829_house_finch.JPEG",
        "-c", data / "checkpoints" / "resnet18_imagenet.pth", "--format", "csv", "-k", 1,
    )  # fmt: skip

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split(",")[1:4] == ["ok", "house finch", "12"]
