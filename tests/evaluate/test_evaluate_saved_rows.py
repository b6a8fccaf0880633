"""``resnet-cli evaluate --predictions``: saved rows give the figures of their run."""

import json
from pathlib import Path

import pytest

from commands import SMALL
from conftest import Run
from scoring import approximately, figures, rows


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
