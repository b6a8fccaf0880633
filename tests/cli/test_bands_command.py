"""``--bands`` from the command line: networks of other inputs, and what a later run must repeat."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from conftest import Run, trained

tifffile = pytest.importorskip("tifffile")

NUMBERS = ("--mean", "0.5,0.4,0.3,0.2", "--std", "0.2,0.2,0.3,0.3")


@pytest.fixture
def four() -> Path:
    torch.save(trained(in_channels=4).state_dict(), "four.pth")
    return Path("four.pth")


def bands_of(path: Path, count: int, kind: str = "u1", **options: Any) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(count).integers(0, 256, (count, 256, 256)).astype(kind)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate", **options)
    return values


def plainly(checkpoint: Path, values: np.ndarray[Any, Any]) -> list[float]:
    """The plain loop for 256 x 256 pixels, whose resizing changes nothing."""
    network = trained(in_channels=4)
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    pixels = functional.center_crop(torch.from_numpy(values.astype(np.float32)) / 255, [224])
    numbers = [[float(part) for part in NUMBERS[place].split(",")] for place in (1, 3)]
    with torch.inference_mode():
        logits = network(functional.normalize(pixels, *numbers).unsqueeze(0))
    probabilities: list[float] = logits.softmax(1)[0].tolist()
    return probabilities


@pytest.mark.parametrize(("given", "taken"), [
    (("--bands", "4,3,2,6"), [3, 2, 1, 5]), ((), [0, 1, 2, 3]),
    (("--interpolation", "bicubic"), [0, 1, 2, 3]),
])  # fmt: skip
def test_a_network_of_four_inputs_is_fed_by_four_bands(
    run: Run, four: Path, given: tuple[str, ...], taken: list[int]
) -> None:
    values = bands_of(Path("a.tif"), 6, "u2")
    result = run("predict", "a.tif", "-c", four, *NUMBERS, *given, "-k", 3, "--format", "csv")
    (row,) = csv.DictReader(result.stdout.splitlines())
    expected = plainly(four, (values[taken] >> 8).astype(np.uint8))

    assert float(row["prob"]) == pytest.approx(max(expected), abs=1e-4)
    assert int(row["index"]) == int(np.argmax(expected))
    said = "" if "--bands" in given else "warning: has 6 bands, of which 1, 2, 3, 4 were used"
    assert row["error"].startswith(said)
    assert bool(row["error"]) == bool(said)


def test_without_numbers_of_its_own_it_is_refused_and_still_shown(run: Run, four: Path) -> None:
    bands_of(Path("a.tif"), 4)
    refused = run("predict", "a.tif", "-c", four)

    assert refused.exit_code == 1
    assert "give mean and std of 4 numbers each (--mean, --std)" in refused.stderr
    assert '"in_channels": 4' in run("inspect", four, "--format", "json").stdout
    assert '"in_channels": 4' in run("summary", four, "--format", "json").stdout


def test_a_network_that_records_its_numbers_needs_none(run: Run) -> None:
    torch.save(
        {
            "state_dict": trained(in_channels=4).state_dict(),
            "mean": [0.5, 0.4, 0.3, 0.2],
            "std": [0.2, 0.2, 0.3, 0.3],
        },
        "recorded.pth",
    )
    torch.save(trained(in_channels=4).state_dict(), "four.pth")
    values = bands_of(Path("a.tif"), 4)
    result = run("predict", "a.tif", "-c", "recorded.pth", "--format", "csv")
    (row,) = csv.DictReader(result.stdout.splitlines())

    expected = max(plainly(Path("four.pth"), values.astype(np.uint8)))
    assert float(row["prob"]) == pytest.approx(expected, abs=1e-4)


def test_other_bands_are_another_run(run: Run, checkpoint: Path) -> None:
    bands_of(Path("a.tif"), 5)
    shared = ("predict", "a.tif", "-c", checkpoint, "-o", "x.csv")
    assert run(*shared, "--bands", "3,2,1").exit_code == 0
    assert run(*shared, "--bands", "3,2,1", "--resume").exit_code == 0
    other = run(*shared, "--bands", "5,2,1", "--resume")

    assert other.exit_code == 1
    assert "bands" in other.stderr


@pytest.mark.parametrize(("bands", "status", "words"), [
    ("3,2", 1, "cannot feed 3 input channels with 2 bands (3, 2)"),
    ("0,1,2", 2, "is not like 4,3,2"), ("red", 2, "is not like 4,3,2"),
    ("9,1,2", 3, "has 5 bands, but band 9 was asked for (--bands)"),
])  # fmt: skip
def test_bands_that_cannot_be_are_refused(
    run: Run, checkpoint: Path, bands: str, status: int, words: str
) -> None:
    bands_of(Path("a.tif"), 5)
    result = run("predict", "a.tif", "-c", checkpoint, "--bands", bands)

    assert result.exit_code == status
    assert words in result.stdout + result.stderr
