"""Reports of saved rows, and of several checkpoints; what ``images`` counts."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import SMALL
from conftest import Run, picture, trained


def entries(report: str) -> list[dict[str, Any]]:
    """The rows that a report holds, as JSON in its own script elements."""
    text = Path(report).read_text(encoding="utf-8")
    return [json.loads(found) for found in re.findall(r'\{"n":.*?\}(?=\s*[<,\]])', text)]


def numbers(entry: dict[str, Any]) -> list[float]:
    """Indices and probabilities of an image, best first; none of one that was not read."""
    return [number for score in entry.get("scores", ()) for number in score]


def thumbnails(report: str) -> int:
    return Path(report).read_text(encoding="utf-8").count("/9j/")  # how a JPEG begins in base64


@pytest.fixture
def saved(run: Run, photos: Path, checkpoint: Path) -> Path:
    """Rows of ten images and a broken one, with all three classes."""
    (photos / "b" / "broken.jpg").touch()
    run("predict", "photos", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-k", 3, "-o", "p.csv")
    return Path("p.csv")


def test_a_report_of_saved_rows_shows_their_images(
    run: Run, saved: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("evaluate", "photos", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "--report", "0.html")
    result = run("evaluate", "photos", "--predictions", saved, "--report", "1.html")
    assert result.exit_code == 3
    first, again = entries("0.html"), entries("1.html")
    assert len(again) == 11
    for one, other in zip(first, again, strict=True):
        for key in ("path", "href", "truth", "right"):
            assert one.get(key) == other.get(key)
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-4)
    assert thumbnails("1.html") == thumbnails("0.html") == 10
    Path("elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(
        "evaluate",
        "../photos",
        "--predictions",
        f"../{saved}",
        "--report",
        "2.html",
        "--grid",
        "g.png",
    )
    assert thumbnails("2.html") == 10
    assert [Path(row["href"]).is_file() for row in entries("2.html")] == [True] * 11
    assert list(Path().glob("g*.png"))


def test_images_that_are_missing_are_counted(run: Run, saved: Path) -> None:
    Path("photos/a/img1.jpg").unlink()
    Path("photos/a/img2.jpg").write_bytes(b"")
    result = run("evaluate", "photos", "--predictions", saved, "--report", "r.html")
    assert thumbnails("r.html") == 8
    assert "Warning: 2 images not shown: missing by now, or unreadable\n" in result.stderr
    without = run("evaluate", "photos", "--predictions", saved)
    assert "not shown" not in without.stderr


def test_rows_without_a_record_have_a_report_too(run: Run, saved: Path) -> None:
    Path("p.csv.run.json").unlink()
    result = run(
        "evaluate", "photos", "--predictions", saved, "--classes", "a,b,c", "--report", "r.html"
    )
    assert result.exit_code == 3
    assert "top-1 " in Path("r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--audit", "--hidden", "--exclude=x"])
def test_what_needs_the_images_themselves_is_refused(run: Run, saved: Path, option: str) -> None:
    result = run("evaluate", "photos", "--predictions", saved, option)
    assert result.exit_code == 2
    assert f"--predictions scores the rows of a file: leave {option[:9]} out" in result.stderr


def test_each_of_several_checkpoints_has_a_report(run: Run, photos: Path, checkpoint: Path) -> None:
    (photos / "b" / "broken.jpg").touch()
    other = trained()
    torch.nn.init.normal_(other.fc.weight, std=0.3)
    torch.save({"state_dict": other.state_dict(), "classes": ["c", "b", "a"]}, "other.pth")
    shutil.copy(checkpoint, "first.pth")
    Path("first.classes.txt").write_text("a\nb\nc\n")
    both = ("-c", "first.pth", "-c", "other.pth", "--report", "r.html")
    assert run("evaluate", "photos", *both, *SMALL).exit_code == 3
    for number, name in enumerate(("first.pth", "other.pth"), start=1):
        run("evaluate", "photos", "-c", name, *SMALL, "--report", f"alone-{number}.html")
        found, alone = entries(f"r-{number}.html"), entries(f"alone-{number}.html")
        assert len(found) == 11
        for one, each in zip(found, alone, strict=True):
            assert [one.get(k) for k in ("path", "truth", "right", "error")] == [
                each.get(k) for k in ("path", "truth", "right", "error")
            ]
            assert numbers(one) == pytest.approx(numbers(each), rel=1e-4)
        assert thumbnails(f"r-{number}.html") == 10
    assert not Path("r.html").exists()
    refused = run("evaluate", "photos", *both, *SMALL)
    assert refused.exit_code == 1
    assert "r-1.html" in refused.stderr.splitlines()[-1]


def test_images_counts_those_that_were_scored(run: Run, photos: Path, checkpoint: Path) -> None:
    (photos / "b" / "broken.jpg").touch()
    picture(photos / "loose.jpg")
    run("evaluate", "photos", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-o", "m.json")
    figures = json.loads(Path("m.json").read_text())
    assert (figures["images"], figures["errors"]) == (10, 1)
    assert figures["run"]["counts"] == {"images": 10, "ok": 10, "errors": 1}
