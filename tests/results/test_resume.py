"""Runs that resume others: real files, cut by hand, and the program."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import REPOSITORY, Run, picture
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Prediction
from resnet_cli.results import open_writer
from resnet_cli.results.files.resume import saved_rows
from resnet_cli.results.options import WriterOptions
from resnet_cli.run.tally import Tally

NAMES = ("x.csv", "x.jsonl", "x.json", "x.parquet")
OUTPUTS = [word for name in NAMES for word in ("-o", name)]


def rows(name: str) -> list[tuple[str, str, int]]:
    """Path, status and index of each row, read by code that the program does not share."""
    path = Path(name)
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with path.open(newline="", errors="surrogateescape") as file:
            table = list(csv.DictReader(file))
    else:
        text = path.read_text()
        found = (
            json.loads(text)
            if path.suffix == ".json"
            else list(map(json.loads, text.split("\n")[:-1]))
        )
        table = [{**row, "index": row["predictions"][0]["index"]} for row in found]
    return [(row["path"], row["status"], int(row["index"])) for row in table]


def tear(path: Path, whole: int) -> None:
    """Keep ``whole`` lines and half of the next."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:whole]) + lines[whole][: len(lines[whole]) // 2])


@pytest.mark.parametrize("whole", [0, 1, 4, 9])
def test_a_file_with_an_incomplete_row_is_resumed(predict: Run, photos: Path, whole: int) -> None:
    assert predict(photos, *OUTPUTS).exit_code == 0
    expected = [rows(name) for name in NAMES]
    tear(Path("x.csv"), whole + 1 if whole else 0)
    shutil.copy("x.jsonl", "x.parquet.part.jsonl")  # as if it had not been finished
    tear(Path("x.parquet.part.jsonl"), whole)
    tear(Path("x.jsonl"), 9 - whole)
    result = predict(photos, *OUTPUTS, "--resume")
    assert result.exit_code == 0
    assert [rows(name) for name in NAMES] == expected
    assert not list(Path().glob("*.part*"))
    record = json.loads(Path("x.csv.run.json").read_text())
    assert record["status"] == "done"
    assert record["counts"]["images"] == 10


def test_zeros_at_the_end_are_replaced(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv")
    whole = Path("x.csv").read_bytes()
    end = len(b"".join(whole.splitlines(keepends=True)[:6]))
    Path("x.csv").write_bytes(whole[:end] + bytes(len(whole) - end))
    expected = [line.split(b",")[:4] for line in whole.splitlines()]
    assert predict(photos, "-o", "x.csv", "--resume").exit_code == 0
    assert [line.split(b",")[:4] for line in Path("x.csv").read_bytes().splitlines()] == expected


def test_the_next_list_appends_to_the_file_of_the_last(predict: Run) -> None:
    for name in ("a", "b"):
        picture(Path(f"{name}.jpg"), (60, 50))
        Path(f"{name}.txt").write_text(f"{name}.jpg\n")
        assert predict(f"@{name}.txt", "-o", "x.csv", "--resume").exit_code == 0
    assert [row[0] for row in rows("x.csv")] == ["a.jpg", "b.jpg"]


def test_resume_without_a_file_starts_from_the_beginning(predict: Run, photos: Path) -> None:
    assert predict(photos, *OUTPUTS, "--resume").exit_code == 0
    assert [len(rows(name)) for name in NAMES] == [10] * 4


def test_new_images_come_last_and_missing_ones_are_reported(predict: Run, photos: Path) -> None:
    predict(photos, *OUTPUTS)
    before = [row[0] for row in rows("x.csv")]
    picture(photos / "a" / "img0.jpg")
    Path(before[3]).unlink()
    result = predict(photos, *OUTPUTS, "--resume")
    assert "kept 1 row of earlier runs: 1 image no longer among the inputs" in result.stderr
    assert result.stdout.startswith("10/10  ")
    for name in NAMES:
        assert [row[0] for row in rows(name)] == [*before, str(photos / "a" / "img0.jpg")]


@pytest.mark.parametrize("given", ["@list.txt", "-"])
def test_a_path_that_is_listed_twice_or_untidily_keeps_its_rows(predict: Run, given: str) -> None:
    names = ["=1.jpg", "b,\u2028.jpg", "=1.jpg", './/q".jpg', "=1.jpg"]
    for name in names:
        picture(Path(name), (60, 50))
    listing = "\n".join(names)
    Path("list.txt").write_text(listing)
    predict(given, *OUTPUTS, stdin=listing)
    expected = [rows(name) for name in NAMES]
    tear(Path("x.csv"), 2)
    tear(Path("x.jsonl"), 3)
    assert predict(given, *OUTPUTS, "--resume", stdin=listing).exit_code == 0
    assert [rows(name) for name in NAMES] == expected


def test_error_rows_stay_and_count(predict: Run, photos: Path) -> None:
    (photos / "a" / "broken.jpg").write_bytes(b"none")
    assert predict(photos, "-o", "x.csv").exit_code == 3
    tear(Path("x.csv"), 9)
    assert predict(photos, "-o", "x.csv", "--resume").exit_code == 3
    assert json.loads(Path("x.csv.run.json").read_text())["counts"]["errors"] == 1


@pytest.mark.parametrize(
    ("outputs", "hint"),
    [
        ((), ""),
        (("-o", "x.csv", "-o", "x.jsonl"), ": to continue, run the same command with --resume"),
        (("-o", "x.html", "--grid", "x.png"), ""),  # which cannot be gone on with
        (
            ("-o", "x.csv", "-o", "x.html", "--grid", "x.png"),
            ": to continue, run the same command with --resume, without x.html, x.png",
        ),
        (
            ("-o", "x.csv", "--overwrite"),
            ": to continue, run the same command with --resume in place of --overwrite",
        ),
    ],
)
def test_an_interrupt_reports_how_many_images_are_done(
    predict: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, outputs: tuple[str, ...], hint: str
) -> None:
    add = Tally.add

    def interrupted(tally: Tally, prediction: Prediction) -> None:
        if tally.images == 7:
            raise KeyboardInterrupt
        add(tally, prediction)

    monkeypatch.setattr(Tally, "add", interrupted)
    result = predict(photos, *outputs)
    assert result.exit_code == 130
    assert f"Note: stopped after 7 of 10 images{hint}\nInterrupted\n" in result.stderr


def test_an_interrupted_run_counts_the_rows_of_earlier_runs(
    predict: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(photos, "-o", "x.csv")
    tear(Path("x.csv"), 7)  # a header and six rows

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", interrupted)
    result = predict(photos, "-o", "x.csv", "--resume")
    assert "Note: stopped after 6 of 10 images: " in result.stderr


def test_a_finished_run_reports_its_error_rows(predict: Run, photos: Path) -> None:
    (photos / "a" / "broken.jpg").write_bytes(b"none")
    predict(photos, "-o", "x.csv")
    result = predict(photos, "-o", "x.csv", "--resume")
    assert result.exit_code == 3
    assert "Note: x.csv holds 11 rows, 1 error among them\nNote: no images left\n" in (
        result.stderr
    )
    assert "per image" not in result.stderr
    assert result.stderr.endswith(
        "Note: 1 error row of earlier runs in the files\n"
        "Note: 1 error: see the rows with status error in x.csv\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-k", "2"], "topk 1 there, 2 now"),
        (["--threshold", "0.5"], "threshold nothing there, 0.5 now"),
        (["--exif", "ignore"], "exif apply there, ignore now"),
        (["--icc", "srgb"], "icc ignore there, srgb now"),
        (["--background", "white"], "background nothing there, white now"),
        (["--max-pixels", "5000"], "max_pixels 178956970 there, 5000 now"),
        (["--exact"], "exact False there, True now"),
        (["--mean", "0.5,0.5,0.5"], "preprocess.mean 0 0.485 there, 0.5 now"),
        (["--classes", "a,b,c"], "classes 0 class_0 there, a now"),
        (["--precision", "bf16"], "precision fp32 there, bf16 now"),
    ],
)
def test_rows_of_other_settings_are_refused(
    predict: Run, photos: Path, arguments: list[str], complaint: str
) -> None:
    predict(photos, "-o", "x.csv")
    before = Path("x.csv").read_bytes(), Path("x.csv.run.json").read_bytes()
    result = predict(photos, "-o", "x.csv", "--resume", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert (Path("x.csv").read_bytes(), Path("x.csv.run.json").read_bytes()) == before


def foreign() -> None:
    Path("x.csv").write_text("name;value\na;1\nb;2\n")


def without_record() -> None:
    Path("x.csv.run.json").unlink()


def damaged_early() -> None:
    lines = Path("x.csv").read_text().splitlines(keepends=True)
    Path("x.csv").write_text("".join([*lines[:3], "mine\n", *(lines[1:] * 200)]))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (foreign, "cannot resume x.csv: row 0 is not a whole row"),
        (
            without_record,
            "cannot resume x.csv: x.csv.run.json, which says what made it, is missing: replace it",
        ),
        (damaged_early, "cannot resume x.csv: row 3 is not a whole row of results"),
    ],
)
def test_files_of_other_programs_are_left_alone(
    predict: Run, photos: Path, spoil: Callable[[], None], complaint: str
) -> None:
    predict(photos, "-o", "x.csv")
    spoil()
    before = Path("x.csv").read_bytes()
    result = predict(photos, "-o", "x.csv", "--resume")
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert Path("x.csv").read_bytes() == before


def test_other_inputs_are_refused(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv")
    picture(Path("other.jpg"))
    result = predict("other.jpg", "-o", "x.csv", "--resume")
    assert result.exit_code == 1
    assert "none of its 10 rows is of these inputs" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--resume"], 2),
        (["--resume", "--overwrite", "-o", "x.csv"], 2),
        (["--resume", "--grid", "x.png", "-o", "x.csv"], 2),
        (["--resume", "-o", "x.html"], 2),
    ],
)
def test_what_cannot_be_resumed_is_refused(
    predict: Run, photos: Path, arguments: list[str], status: int
) -> None:
    result = predict(photos, *arguments)
    assert result.exit_code == status
    assert "--resume continues" in result.stderr


def test_two_runs_at_once_do_not_write_one_file(predict: Run, photos: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    predict(photos, "-o", "x.csv")
    before = Path("x.csv").read_bytes(), Path("x.csv.run.json").read_bytes()
    with Path("x.csv").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for how in ("--resume", "--overwrite"):
            result = predict(photos, "-o", "x.csv", how)
            assert result.exit_code == 1
            assert "cannot write x.csv: another run is writing it" in result.stderr
    assert (Path("x.csv").read_bytes(), Path("x.csv.run.json").read_bytes()) == before


def test_an_output_is_not_an_input(predict: Run, photos: Path) -> None:
    grid = photos / "grid.png"
    assert predict(photos, "--grid", grid).exit_code == 0
    before = grid.read_bytes()
    result = predict(photos, "--grid", grid, "--overwrite")
    assert result.exit_code == 1
    assert "grid.png is one of the images to classify" in result.stderr
    grid.rename(photos / "grid-3.png")  # a page that a longer run would write
    assert "grid-3.png is one of the images" in predict(photos, "--grid", grid).stderr
    assert (photos / "grid-3.png").read_bytes() == before


def test_a_finished_file_is_not_touched(predict: Run, photos: Path) -> None:
    predict(photos, *OUTPUTS)
    files = [Path(name) for name in NAMES]
    records = [Path(f"{name}.run.json").read_bytes() for name in NAMES]
    before = [(file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes()) for file in files]
    assert predict(photos, *OUTPUTS, "--resume").exit_code == 0
    assert before == [(f.stat().st_ino, f.stat().st_mtime_ns, f.read_bytes()) for f in files]
    # which say how long the rows took that are there
    assert [Path(f"{name}.run.json").read_bytes() for name in NAMES] == records

    picture(photos / "z.jpg")
    assert predict(photos, *OUTPUTS, "--resume").exit_code == 0
    record = json.loads(Path("x.parquet.run.json").read_text())
    assert (record["status"], record["counts"]["images"], record["resumed_after"]) == (
        "done", 11, 10,
    )  # fmt: skip


def test_a_run_that_was_cut_off_before_its_record_is_resumed(predict: Run, photos: Path) -> None:
    predict(photos, *OUTPUTS)
    expected = [rows(name) for name in NAMES]
    header = Path("x.csv").read_bytes().splitlines(keepends=True)[0]
    for path in [*Path().glob("x.*")]:
        path.unlink()
    Path("x.csv").write_bytes(header)
    for name in ("x.json.part.jsonl", "x.parquet.part.jsonl", "x.jsonl"):
        Path(name).touch()
    assert predict(photos, *OUTPUTS, "--resume").exit_code == 0
    assert [rows(name) for name in NAMES] == expected


def test_the_header_of_another_table_is_left_alone(predict: Run, photos: Path) -> None:
    Path("x.csv").write_text("species,count\n")
    result = predict(photos, "-o", "x.csv", "--resume")
    assert result.exit_code == 1
    assert Path("x.csv").read_text() == "species,count\n"


def test_a_record_that_is_not_of_a_finished_run_is_completed(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv")
    path = Path("x.csv.run.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"status": "running"}))  # as after kill -9
    assert predict(photos, "-o", "x.csv", "--resume").exit_code == 0
    record = json.loads(path.read_text())
    assert (record["status"], record["counts"]["images"], record["resumed_after"]) == (
        "done", 10, 10,
    )  # fmt: skip


def test_a_file_that_another_run_wrote_meanwhile_is_left_alone(predict: Run, photos: Path) -> None:
    predict(photos, *OUTPUTS)
    for name in ("x.jsonl", "x.parquet"):
        saved = saved_rows(Path(name))
        with Path(name).open("ab") as file:
            file.write(b"more")
        before = Path(name).read_bytes()
        with (
            pytest.raises(OutputError, match=f"cannot resume {name}: another run has written it"),
            open_writer(Path(name), WriterOptions(topk=1, saved=saved)) as write,
        ):
            write(Prediction(Item("a.jpg"), error="none"))
        assert Path(name).read_bytes() == before


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_a_file_that_is_removed_during_the_run_is_an_error(name: str) -> None:
    journal = "x.parquet.part.jsonl" if name == "x.parquet" else name
    writer = open_writer(Path(name), WriterOptions(topk=1))
    write = writer.__enter__()
    write(Prediction(Item("a.jpg"), error="none"))
    Path(journal).unlink()
    with pytest.raises(OutputError, match=f"cannot write {name}: it was removed while the run"):
        writer.__exit__(None, None, None)


def test_a_run_that_replaced_its_files_is_resumed(predict: Run, photos: Path) -> None:
    predict(photos / "a", *OUTPUTS, "-k", "2")
    assert predict(photos, *OUTPUTS, "--overwrite").exit_code == 0
    expected = [rows(name) for name in NAMES]
    tear(Path("x.csv"), 7)
    assert "topk 1 there, 2 now" in predict(photos, *OUTPUTS, "--resume", "-k", "2").stderr
    assert predict(photos, *OUTPUTS, "--resume").exit_code == 0
    assert [rows(name) for name in NAMES] == expected


def test_a_read_only_folder_is_refused(predict: Run, photos: Path) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no file system here that refuses new files")
    result = predict(photos, "-o", "/proc/x.csv")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: cannot write /proc/x.csv: ")
    assert "Traceback" not in result.stderr


def test_labels_and_errors_cannot_take_over_a_terminal(predict: Run, photos: Path) -> None:
    (photos / "a\x1b]0;mine\x07.jpg").write_bytes(b"none")
    labels = "red\x1b[31m,bell\x07,clear\x9b2J"
    result = predict(photos, "--classes", labels, "-k", "3", "-o", "x.csv")
    assert result.exit_code == 3
    assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n"))
    assert "red\\x1b[31m" in result.stdout
    result = predict(photos, "-o", "x.csv", "--resume", "-k", "3", "--classes", "\x1b[2J,b,c")
    assert result.exit_code == 1
    assert all(line.isprintable() for line in result.stderr.split("\n"))


def test_a_short_soak_loses_nothing() -> None:
    script = REPOSITORY / "tests" / "faults" / "soak.py"
    done = subprocess.run(
        [sys.executable, script, "--rounds", "1", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout
