"""A run from Python: rows in files, resumed, counted, and refused before anything is written."""

import csv
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY, picture, trained
from docs_blocks import run_blocks
from items import items_of
from resnet_cli import Classifier, OutputOptions, PredictOptions, UserError, predict_to_files
from resnet_cli.errors import InputError, OptionError, OutputError
from resnet_cli.records import Item
from resnet_cli.results import read_results
from resnet_cli.run import Run, lay_out_results
from resnet_cli.run.manifest import Destinations
from resnet_cli.run.verify import forecast_run, sample_items, verify_classifier
from resnet_cli.sources import Inputs

PAGE = REPOSITORY / "docs" / "python.md"


@pytest.fixture
def classifier(checkpoint: Path) -> Classifier:
    return Classifier.load(checkpoint, device="cpu")


def rows_in(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def manifest_of(file: Path) -> dict[str, Any]:
    return dict(json.loads(Path(f"{file}.run.json").read_text(encoding="utf-8")))


def run_to(file: Path, classifier: Classifier, folder: Path) -> Run:
    predict = PredictOptions(workers=2, batch_size=1)
    inputs = Inputs.of(items_of(sorted(folder.rglob("*.*"))))
    options = lay_out_results(classifier, inputs, predict, OutputOptions())
    return Run(classifier, inputs, Destinations(options=options, files=(file,)), predict)


def test_files_hold_the_rows_of_predict(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    (photos / "b" / "broken.jpg").write_bytes(b"no image")
    file, seen = tmp_path / "r.csv", []
    result = predict_to_files(
        classifier,
        str(photos),
        [file],
        predict=PredictOptions(topk=2),
        progress=lambda done, total: seen.append((done, total)),
    )

    expected = list(classifier.predict(photos, topk=2))
    rows = rows_in(file)
    assert [row["path"] for row in rows] == [str(row.path) for row in expected]
    assert [row["label"] for row in rows] == [row.label or "" for row in expected]
    assert (result.images, result.errors, result.earlier) == (11, 1, 0)
    assert result.rows == {file: 11}
    assert seen == [(number, 11) for number in range(1, 12)]
    assert manifest_of(file)["status"] == "done"


def test_the_page_on_python_says_how(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(trained(num_classes=2).state_dict(), "model.pth")
    run_blocks(PAGE, "Classify")
    result = run_blocks(PAGE, "Into files")["result"]
    assert result.rows == {Path("results.csv"): 10, Path("results.parquet"): 10}


def test_a_file_that_was_cut_off_gets_the_rows_it_lacks(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    predict_to_files(classifier, str(photos), [file])
    whole = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(whole[:5]) + whole[5][:9], encoding="utf-8")

    seen: list[int] = []
    result = predict_to_files(
        classifier,
        str(photos),
        [file],
        output=OutputOptions(resume=True),
        progress=lambda done, _: seen.append(done),
    )
    assert (result.images, result.earlier, result.rows) == (6, 4, {file: 10})
    assert seen == [5, 6, 7, 8, 9, 10]
    paths = [row["path"] for row in rows_in(file)]
    assert paths == [str(row.path) for row in classifier.predict(photos)]


def test_a_run_that_is_closed_early_leaves_whole_rows(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    run = run_to(file, classifier, photos)
    with closing(run.rows()) as rows:
        next(rows)
        next(rows)
    assert len(rows_in(file)) == run.tally.images == 2
    assert manifest_of(file)["status"] == "stopped"


def pages(classifier: Classifier, numbers: Sequence[int], file: Path, *, resume: bool) -> Run:
    """A run over pages of a file, which stand for parts of any kind."""
    items = [
        Item("scan.tif", f"page={number}", content=np.full((40, 40, 3), 50 * number, np.uint8))
        for number in numbers
    ]
    inputs = Inputs(items, len(items), parts=True)
    predict, output = PredictOptions(), OutputOptions(resume=resume)
    options = lay_out_results(classifier, inputs, predict, output)
    destinations = Destinations(options=options, files=(file,), resume=resume)
    return Run(classifier, inputs, destinations, predict)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_parts_of_an_image_have_rows_of_their_own_and_resume_by_part(
    classifier: Classifier, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"r{suffix}"
    assert len(list(pages(classifier, [2, 3], file, resume=False).rows())) == 2
    run = pages(classifier, [1, 2, 3, 4], file, resume=True)
    assert [row.part for row in run.rows()] == ["page=1", "page=4"]

    rows = list(read_results(file))
    assert [row.item.identity for row in rows] == [
        ("scan.tif", f"page={number}") for number in (2, 3, 1, 4)
    ]
    assert list(manifest_of(file)["columns"])[:2] == ["path", "part"]


def test_rows_without_parts_are_not_continued_with_parts(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    list(run_to(file, classifier, photos).rows())
    with pytest.raises(OutputError, match="column part"):
        pages(classifier, [1, 2], file, resume=True)


def test_one_file_needs_no_list_and_none_is_refused(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    assert predict_to_files(classifier, str(photos), str(file)).rows == {file: 10}
    with pytest.raises(OutputError, match="no file to write to"):
        predict_to_files(classifier, str(photos), [])
    with pytest.raises(InputError, match="no images found: an empty list: name"):
        predict_to_files(classifier, [], [tmp_path / "none.csv"])


def test_nothing_is_written_before_everything_is_checked(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    with pytest.raises(OutputError, match="suffix must be one of"):
        predict_to_files(classifier, str(photos), [tmp_path / "r.txt"])
    with pytest.raises(InputError, match="cannot find"):
        predict_to_files(classifier, "none", [file])
    with pytest.raises(InputError, match="is one of the images"):
        predict_to_files(
            classifier,
            str(photos),
            [photos / "a" / "img4.png"],
            output=OutputOptions(overwrite=True),
        )
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("topk", 0), ("threshold", 1.5), ("batch_size", -1), ("workers", 0), ("on_error", "stop")],
)
def test_options_that_cannot_be_are_refused_at_once(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        PredictOptions(**{name: value})  # type: ignore[arg-type]


def test_a_file_is_resumed_or_replaced_but_not_both() -> None:
    with pytest.raises(UserError, match="both resume and overwrite"):
        OutputOptions(resume=True, overwrite=True)


def test_rows_of_other_inputs_are_not_resumed(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    predict_to_files(classifier, str(photos / "a"), [file])
    with pytest.raises(OutputError, match="none of its 5 rows is of these inputs"):
        predict_to_files(classifier, str(photos / "b"), [file], output=OutputOptions(resume=True))
    assert len(rows_in(file)) == 5


def test_images_in_memory_are_verified_too(classifier: Classifier, photos: Path) -> None:
    files = sorted(photos.rglob("*.*"))[:3]
    items = [Item(f"image-{n}", content=path.read_bytes()) for n, path in enumerate(files)]
    found = verify_classifier(classifier, items)
    assert (found.images, found.flips) == (3, ())


def test_a_forecast_writes_nothing_and_counts_what_is_left(
    classifier: Classifier, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    for number in range(43):
        picture(folder / f"{number}.png", (40, 30), seed=number)
    run = run_to(tmp_path / "r.csv", classifier, folder)
    seen: list[tuple[int, int | None]] = []
    forecast = forecast_run(run, progress=lambda done, total: seen.append((done, total)))

    assert (forecast.images, forecast.tried, forecast.errors) == (43, 20, 0)
    assert forecast.seconds > 0
    assert seen[-1] == (40, 40)
    assert not (tmp_path / "r.csv").exists()


def test_a_sample_is_of_everywhere_in_the_inputs() -> None:
    paths = [item.path for item in sample_items(Inputs.of(items_of(range(100))))]
    assert paths == [str(number) for number in range(0, 100, 5)]
