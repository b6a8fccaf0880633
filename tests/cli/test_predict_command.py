"""What ``resnet-cli predict`` prints and writes: stdout, stderr, tables and grids."""

import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from commands import LINE, SMALL, error_line, rows_of_csv, rows_of_jsonl
from conftest import Run, picture, trained
from resnet_cli import Classifier


def test_stdout_has_a_line_for_each_image_and_nothing_else(
    predict: Run, photos: Path, checkpoint: Path
) -> None:
    result = predict(photos.name, "--classes", "ants,bees,wasps")
    matches = [LINE.fullmatch(line) for line in result.stdout.splitlines()]

    assert result.exit_code == 0
    assert all(matches)
    found = [match.groups() for match in matches if match]
    assert [(number, total) for number, total, *_ in found] == [
        (str(number), "10") for number in range(1, 11)
    ]
    assert [path for _, _, path, *_ in found] == [
        f"photos/{'a' if n < 6 else 'b'}/img{n}{'.png' if n % 4 == 0 else '.jpg'}"
        for n in range(1, 11)
    ]  # natural order: img10 is last
    assert {label for *_, label, _, _ in found} <= {"ants", "bees", "wasps"}
    assert all(float(milliseconds) > 0 for *_, milliseconds in found)


def test_lines_say_what_the_classifier_says(predict: Run, photos: Path, checkpoint: Path) -> None:
    result = predict(photos, "-k", 2)
    classifier = Classifier.load(
        checkpoint, device="cpu",
        preprocess=lambda recorded: type(recorded)(resize_size=40, crop_size=32),
    )  # fmt: skip
    lines = result.stdout.splitlines()
    for line, row in zip(lines, classifier.predict(photos, topk=2), strict=True):
        assert "  ".join(f"{s.label} {s.prob:.3f}" for s in row.scores) in line


def test_stderr_reports_what_was_taken_and_how_long_it_took(
    predict: Run, photos: Path, checkpoint: Path
) -> None:
    (photos / "notes.txt").touch()
    (photos / "broken.jpg").touch()
    result = predict(photos, "-j", 2)

    for note in (
        r"Note: skipped 1 file without an image extension",
        rf"Note: checkpoint {re.escape(str(checkpoint))} .*resnet18",
        r"Note: 3 classes: class_0, class_1, class_2 \(none found",
        r"Note: preprocessing: resize 40, crop 32, bilinear",
        r"cpu.*: 11 images, 1 error in \d+\.\d+ s: \d+\.\d images/s",
        r"decode \d+\.\d+ ms, preprocess \d+\.\d+ ms, forward \d+\.\d+ ms: limited by",
    ):
        assert re.search(note, result.stderr)
    assert "Note" not in result.stdout


@pytest.mark.parametrize("topk", [1, 3])
def test_csv_on_stdout_is_what_the_file_holds(predict: Run, photos: Path, topk: int) -> None:
    (photos / "broken.jpg").touch()
    result = predict(photos, "--format", "csv", "-o", "x.csv", "-k", topk)
    rows = rows_of_csv(result.stdout)

    assert result.exit_code == 3
    assert result.stdout == Path("x.csv").read_text()
    assert [row["status"] for row in rows] == ["ok"] * 10 + ["error"]
    assert list(rows[0])[-5:-1] == ["decode_ms", "preprocess_ms", "forward_ms", "batch_size"]
    assert ("label_3" in rows[0]) is (topk == 3)


def test_jsonl_on_stdout_is_what_the_file_holds(predict: Run, photos: Path) -> None:
    result = predict(photos, "--format", "jsonl", "-o", "x.jsonl", "-k", 3)
    rows = rows_of_jsonl(result.stdout)

    assert result.exit_code == 0
    assert result.stdout == Path("x.jsonl").read_text()
    assert [row["status"] for row in rows] == ["ok"] * 10
    assert [len(row["predictions"]) for row in rows] == [3] * 10


def test_several_outputs_agree(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv", "-o", "x.jsonl", "-o", "x.json", "-o", "x.parquet")
    tables = [
        [(r["path"], r["label"], float(r["prob"])) for r in rows_of_csv(Path("x.csv").read_text())],
        *[
            [(r["path"], r["predictions"][0]["label"], r["predictions"][0]["prob"]) for r in rows]
            for rows in (
                rows_of_jsonl(Path("x.jsonl").read_text()),
                json.loads(Path("x.json").read_text()),
            )
        ],
        [(r["path"], r["label"], r["prob"]) for r in pq.read_table("x.parquet").to_pylist()],
    ]
    assert len(tables[0]) == 10
    assert tables[0] == tables[1] == tables[2] == tables[3]


def test_paths_on_stdin_are_read_as_they_come(predict: Run, photos: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("img1.*"))] * 3
    result = predict("-", stdin="\n".join(paths))
    assert result.exit_code == 0
    assert [line.split("  ")[:2] for line in result.stdout.splitlines()] == [
        [f"{number}/?", path] for number, path in enumerate(paths, start=1)
    ]


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        (b"red\x1b[31m.jpg", r"red\x1b[31m.jpg"),
        (b"new\nline.jpg", r"new\nline.jpg"),
        (b"caf\xe9.jpg", r"caf\udce9.jpg"),
        (b"bell\x07.jpg", r"bell\x07.jpg"),
        ("ümlaut 日本.jpg".encode(), "ümlaut 日本.jpg"),
    ],
)
def test_control_characters_are_spelt_out(predict: Run, name: bytes, spelt: str) -> None:
    folder = Path("folder")
    picture(Path("a.jpg"), (60, 50))
    folder.mkdir()
    Path("a.jpg").rename(folder / os.fsdecode(name))
    result = predict("folder")
    [line] = result.stdout.splitlines()
    assert line.startswith(f"1/1  folder/{spelt}  class_")


def test_a_grid_is_drawn(predict: Run, photos: Path) -> None:
    (photos / "broken.jpg").touch()
    result = predict(photos, "--grid", "grid.png", "--grid-size", "2x3", "-o", "page.pdf")
    assert result.exit_code == 3
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == [
        "grid-1.png", "grid-2.png", "page.pdf", "page.pdf.run.json"
    ]  # fmt: skip
    with Image.open("grid-1.png") as page:
        assert page.width > page.height > 400
    assert Path("page.pdf").read_bytes().startswith(b"%PDF")
    assert "Note: grid.png has 2 pages: grid-1.png to grid-2.png" in result.stderr.splitlines()
    assert "page.pdf" not in result.stderr  # which is where it was asked for

    fewer = ("--grid", "grid.png", "--grid-size", "2x2", "--overwrite")
    assert "Warning" not in predict(photos, *fewer).stderr  # three pages
    warned = "Warning: grid-3.png to grid-3.png are of an earlier run, no pages of this one"
    lines = predict(photos, "--grid", "grid.png", "--grid-size", "2x3", "--overwrite").stderr
    assert warned in lines.splitlines()
    lines = predict(photos, "--grid", "grid.png", "--grid-size", "4x4", "--overwrite").stderr
    assert warned.replace("grid-3.png to", "grid-1.png to") in lines.splitlines()


def test_the_threshold_decides_and_leaves_the_label(predict: Run, photos: Path) -> None:
    plain = rows_of_csv(predict(photos, "--format", "csv").stdout)
    result = predict(photos, "--threshold", 1, "--format", "csv")
    rows = rows_of_csv(result.stdout)
    assert {row["decision"] for row in rows} == {"uncertain"}
    assert [row["label"] for row in rows] == [row["label"] for row in plain]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["index"] for row in rows} <= {"0", "1", "2"}


@pytest.mark.parametrize("from_stdin", [False, True])
def test_verify_reports_the_difference_and_continues(
    predict: Run, photos: Path, *, from_stdin: bool
) -> None:
    paths = sorted(str(path) for path in photos.rglob("img*"))
    source = ["-"] if from_stdin else paths
    result = predict(*source, "--verify", 3, stdin="\n".join(paths))
    assert result.exit_code == 0
    assert re.search(
        r"verified 3 images .* largest difference of probability \d\.\de-\d\d, 0 top-1 flips",
        result.stderr,
    )
    assert [line.split("  ")[1] for line in result.stdout.splitlines()] == paths


def test_verify_stops_when_a_flip_is_found(run: Run, photos: Path) -> None:
    network = trained()
    with torch.no_grad():  # classes that bf16 cannot tell apart
        network.fc.weight.copy_(network.fc.weight[:1].expand(3, -1))
        network.fc.bias.copy_(torch.tensor([1, 1 + 1e-5, 1]))
    torch.save(network.state_dict(), "tied.pth")
    result = run(
        "predict", photos, "-c", "tied.pth", "--precision", "bf16", "--verify", 4, *SMALL,
        "-o", "x.csv",
    )  # fmt: skip

    line = error_line(result)
    assert str(photos / "a" / "img1.jpg") in line
    assert "4 top-1 flips" in result.stderr
    assert result.stdout == ""
    assert not Path("x.csv").exists()


@pytest.mark.parametrize(("mode", "drawn"), [("on", True), ("off", False), ("auto", False)])
def test_progress_is_drawn_on_stderr_when_asked(
    predict: Run, photos: Path, mode: str, *, drawn: bool
) -> None:
    result = predict(photos, "--progress", mode)
    assert bool(re.search(r"\b10/10 \[.*img", result.stderr)) is drawn
    assert all(LINE.fullmatch(line) for line in result.stdout.splitlines())


def test_several_grids_are_all_drawn(run: Run, checkpoint: Path) -> None:
    picture(Path("a.jpg"))
    result = run("predict", "a.jpg", "-c", checkpoint, *SMALL, "--grid", "g.png", "--grid", "g.svg")

    assert result.exit_code == 0
    assert Path("g.png").stat().st_size > 0
    assert Path("g.svg").stat().st_size > 0


def test_an_overwritten_grid_leaves_other_images_alone(run: Run, checkpoint: Path) -> None:
    for name in ("a.jpg", "g-7.png", "g-2019.png"):
        picture(Path(name))
    before = Path("g-2019.png").read_bytes()
    for _ in range(2):
        result = run("predict", "a.jpg", "-c", checkpoint, *SMALL, "--grid", "g.png", "--overwrite")
        assert result.exit_code == 0

    assert Path("g-2019.png").read_bytes() == before
    assert Path("g-7.png").exists()
