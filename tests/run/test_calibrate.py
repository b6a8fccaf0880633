"""int8 in predict and evaluate: calibrated on some images of the run, checked on others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import SMALL, error_line, rows_of_csv
from conftest import Run, picture, trained
from resnet_cli import Classifier, OutputOptions, predict_to_files
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Item
from resnet_cli.run.calibrate import (
    Agreement,
    calibrate_classifier,
    calibrate_for_run,
    choose_items,
    report_agreement,
    split_items,
)
from resnet_cli.sources import Inputs, find_inputs

TINY = Preprocess(resize_size=40, crop_size=32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(9):
        picture(folder / "abc"[seed % 3] / f"{seed}.png", (50, 60), seed=seed)
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "three.pth"
    torch.save(trained().state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _one_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for all tests of this module, since a calibration takes seconds."""
    folder = tmp_path_factory.getbasetemp() / "calibrated"
    monkeypatch.setenv("RESNET_CLI_CACHE", str(folder))


def loaded(file: Path, **options: object) -> Classifier:
    return Classifier.load(file, device="cpu", precision="int8", preprocess=TINY, **options)  # type: ignore[arg-type]


def test_labels_are_those_of_fp32_and_numbers_are_not(run: Run, file: Path, photos: Path) -> None:
    plain = run("predict", photos, "-c", file, *SMALL, "--format", "csv")
    result = run("predict", photos, "-c", file, *SMALL, "--format", "csv", "--precision", "int8",
                 "-o", "r.csv")  # fmt: skip

    assert result.exit_code == 0
    assert "int8: the label of fp32 on 3 of 3 other images" in result.stderr
    ours, theirs = rows_of_csv(result.stdout), rows_of_csv(plain.stdout)
    assert [row["index"] for row in ours] == [row["index"] for row in theirs]
    probs, expected = ([float(row["prob"]) for row in rows] for rows in (ours, theirs))
    assert probs == pytest.approx(expected, abs=0.1)
    assert probs != pytest.approx(expected, abs=1e-5)
    settings = json.loads(Path("r.csv.run.json").read_text())
    assert (settings["precision"], len(settings["quantized"])) == ("int8", 64)


def test_the_same_images_give_the_same_weights(
    file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = calibrate_for_run(loaded(file), find_inputs([str(photos)]))
    monkeypatch.setenv("RESNET_CLI_CACHE", str(tmp_path / "another"))
    second, _ = calibrate_for_run(loaded(file), find_inputs([str(photos)]))
    assert first.quantized == second.quantized is not None


def test_a_second_run_takes_the_network_from_the_cache(
    run: Run, file: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("predict", photos, "-c", file, *SMALL, "--precision", "int8", "--format", "csv")
    first = run(*arguments)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was calibrated again")

    monkeypatch.setattr("resnet_cli.run.calibrate.quantize_graph", never)
    again = run(*arguments)
    assert "int8: the label of fp32 on 3 of 3 other images" in again.stderr
    assert [row["prob"] for row in rows_of_csv(again.stdout)] == [
        row["prob"] for row in rows_of_csv(first.stdout)
    ]


def test_files_of_other_weights_are_not_continued(run: Run, file: Path, photos: Path) -> None:
    arguments = ("-c", file, *SMALL, "--precision", "int8", "-o", "r.csv")
    assert run("predict", photos / "a", photos / "b", *arguments).exit_code == 0
    assert run("predict", photos / "a", photos / "b", *arguments, "--resume").exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_CLI_CACHE", str(Path("empty").absolute()))
        more = error_line(run("predict", photos, *arguments, "--resume"))
    assert "quantized" in more
    assert "no longer in the cache: name the first images with --calibration DIR" in more
    named = ("--calibration", photos / "a", "--calibration", photos / "b")
    assert run("predict", photos, *arguments, *named, "--resume").exit_code == 0
    assert len(rows_of_csv(Path("r.csv").read_text())) == 9
    fp32 = run("predict", photos, "-c", file, *SMALL, "-o", "r.csv", "--resume")
    assert "precision" in error_line(fp32)


def test_images_that_were_added_are_done_by_the_first_network(
    run: Run, file: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("-c", file, *SMALL, "--precision", "int8")
    given = (photos / "a", photos / "b")
    assert run("predict", *given, *arguments, "-o", "r.csv").exit_code == 0
    first = rows_of_csv(Path("r.csv").read_text())
    settings = json.loads(Path("r.csv.run.json").read_text())
    assert run("predict", photos, *arguments, "-o", "other.csv").exit_code == 0  # its own network

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was calibrated again")

    monkeypatch.setattr("resnet_cli.run.calibrate.quantize_graph", never)
    more = run("predict", photos, *arguments, "-o", "r.csv", "--resume")
    assert more.exit_code == 0, more.stderr
    assert "int8: the network that made the earlier rows, from the cache" in more.stderr
    rows = rows_of_csv(Path("r.csv").read_text())
    assert (rows[: len(first)], len(rows)) == (first, 9)
    again = json.loads(Path("r.csv.run.json").read_text())
    assert again["quantized"] == settings["quantized"]

    # those of the first network, when it is calibrated on the first images alone
    named = [word for folder in given for word in ("--calibration", folder)]
    run("predict", photos / "c", *arguments, *named, "-o", "c.csv")
    expected = {row["path"]: row["prob"] for row in rows_of_csv(Path("c.csv").read_text())}
    assert {row["path"]: row["prob"] for row in rows if row["path"] in expected} == expected

    resumed = OutputOptions(resume=True)
    Path("r.csv").write_text("".join(Path("r.csv").read_text().splitlines(keepends=True)[:-1]))
    result = predict_to_files(loaded(file), str(photos), "r.csv", output=resumed)
    assert (result.images, result.earlier) == (1, 8)


def test_images_on_stdin_are_held_back_and_all_classified(
    run: Run, file: Path, photos: Path
) -> None:
    paths = sorted(map(str, photos.rglob("*.png")))
    result = run("predict", "-", "-c", file, *SMALL, "--precision", "int8", "--format", "csv",
                 stdin="\n".join(paths))  # fmt: skip
    assert "the first 300 images are held back" in result.stderr
    assert [row["path"] for row in rows_of_csv(result.stdout)] == paths


def test_other_images_may_calibrate(run: Run, file: Path, photos: Path) -> None:
    result = run("predict", photos / "a", "-c", file, *SMALL, "--precision", "int8",
                 "--calibration", photos, "--format", "csv")  # fmt: skip
    assert "of 3 other images" in result.stderr
    assert len(rows_of_csv(result.stdout)) == 3


def test_evaluate_calibrates_too(run: Run, file: Path, photos: Path) -> None:
    result = run("evaluate", photos, "-c", file, "--classes", "a,b,c", *SMALL,
                 "--precision", "int8", "--format", "json")  # fmt: skip
    assert result.exit_code == 0
    assert "int8: the label of fp32" in result.stderr
    assert json.loads(result.stdout)["images"] == 9


def test_from_python_files_are_written_and_a_stream_is_refused(
    file: Path, photos: Path, tmp_path: Path
) -> None:
    classifier = loaded(file)
    assert predict_to_files(classifier, str(photos), tmp_path / "r.csv").images == 9
    with pytest.raises(SettingError, match="int8 is calibrated on images"):
        list(classifier.predict(str(photos)))
    ready = calibrate_classifier(classifier, str(photos))
    assert len(list(ready.predict(str(photos)))) == 9
    plain = Classifier.load(file, device="cpu", preprocess=TINY)
    assert calibrate_classifier(plain, str(photos)) is plain


def test_unreadable_images_are_left_out_of_the_calibration(
    run: Run, file: Path, photos: Path
) -> None:
    Path("broken.png").write_bytes(b"no image")
    result = run("predict", "broken.png", *sorted((photos / "a").iterdir()), "-c", file, *SMALL,
                 "--precision", "int8", "--format", "csv")  # fmt: skip
    assert result.exit_code == 3
    assert [bool(row["error"]) for row in rows_of_csv(result.stdout)] == [True, False, False, False]
    alone = run("predict", "broken.png", "-c", file, *SMALL, "--precision", "int8")
    assert "none of 1 image can be read" in error_line(alone)


@pytest.mark.parametrize(
    ("known", "calibrating", "checking"),
    [(1, 1, 0), (2, 2, 0), (3, 2, 1), (76, 51, 25), (400, 267, 133), (500, 300, 200)],
)
def test_images_that_check_do_not_calibrate(known: int, calibrating: int, checking: int) -> None:
    items = [Item(f"{number}.png") for number in range(known)]
    chosen, _ = choose_items(Inputs.of(items))
    first, second = split_items(chosen)
    assert (len(first), len(second)) == (calibrating, checking)
    assert len({*first, *second}) == known


def test_images_are_chosen_from_everywhere_and_always_the_same() -> None:
    items = [Item(f"{number}.png") for number in range(10_000)]
    chosen, inputs = choose_items(Inputs.of(items))
    assert len(chosen) == len(set(chosen)) == 500
    assert np.mean([int(item.path[:-4]) for item in chosen]) == pytest.approx(5000, abs=500)
    assert choose_items(inputs)[0] == chosen


def test_little_agreement_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    report_agreement(Agreement(200, 190, 0.1))
    assert not caplog.records or "export" not in caplog.text
    report_agreement(Agreement(200, 189, 0.1))
    assert "resnet-cli export --precision int8 --max-drop" in caplog.text
