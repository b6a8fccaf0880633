"""CSV for spreadsheets of other locales: written, read by the csv module, resumed and scored."""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from commands import SMALL
from conftest import Run
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer, read_results
from resnet_cli.results.options import Dialect, WriterOptions

BOM = b"\xef\xbb\xbf"

ROWS = [
    Prediction(Item(name), (Score(label, 0, 0.75), Score("x;y", 1, 0.25)))
    for name, label in [
        ("a;b,c\td|e.jpg", "=1+1"), ("=a;.jpg", "a;=1+1"), ('q";uote.jpg', "'"),
        ("n\new;.jpg", "-1"), ("cr\r;.jpg", "\t=1"), (" s ", ";"),
    ]
] + [Prediction(Item("b.jpg"), error="=torn; at 3,5")]  # fmt: skip


@pytest.fixture
def with_names(run: Run, checkpoint: Path) -> Run:
    def invoke(command: str, *arguments: object) -> Result:
        return run(
            command, "-c", checkpoint, "--classes", "=a,b;c,d", *SMALL, "--progress", "off",
            *arguments,
        )  # fmt: skip

    return invoke


def cells(path: str, separator: str, *, bom: bool = False) -> list[list[str]]:
    data = Path(path).read_bytes()
    assert data.startswith(BOM) == bom
    text = data.decode("utf-8-sig")
    return list(csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "¦", "^"])
@pytest.mark.parametrize("bom", [False, True])
def test_what_was_written_is_read_back(separator: str, *, bom: bool) -> None:
    options = WriterOptions(topk=2, dialect=Dialect(separator=separator, bom=bom))
    with open_writer(Path("x.csv"), options) as write:
        for row in ROWS:
            write(row)
    table = cells("x.csv", separator, bom=bom)
    assert [row[0].removeprefix("./") for row in table[1:]] == [str(row.path) for row in ROWS]
    assert {len(row) for row in table} == {13}
    assert not [cell for row in table for cell in row if cell.startswith(("=", "\t", "\r"))]
    assert list(read_results(Path("x.csv"))) == ROWS


@pytest.mark.parametrize(("typed", "separator"), [(";", ";"), ("Tab", "\t"), (r"\t", "\t")])
def test_a_separator_as_it_is_typed(
    with_names: Run, photos: Path, typed: str, separator: str
) -> None:
    result = with_names(
        "predict", photos, "--format", "csv", "-o", "x.csv", "--csv-separator", typed, "--csv-bom"
    )
    assert result.exit_code == 0
    header, *rows = cells("x.csv", separator, bom=True)
    assert header[:3] == ["path", "status", "label"]
    assert len(rows) == 10
    assert result.stdout_bytes == Path("x.csv").read_bytes()
    record = json.loads(Path("x.csv.run.json").read_text())
    assert (record["csv_separator"], record["csv_bom"]) == (separator, True)


@pytest.mark.parametrize("typed", ["", ";;", "a", "1", '"', "'", ".", "-", "=", "_", "\n", " "])
def test_what_cannot_separate_columns_is_wrong_usage(
    with_names: Run, photos: Path, typed: str
) -> None:
    result = with_names("predict", photos, "-o", "x.csv", "--csv-separator", typed)
    assert result.exit_code == 2
    assert "cannot separate columns: use , or ; or | or tab" in result.stderr
    assert not Path("x.csv").exists()


def test_every_table_of_evaluate_is_spelt_so(with_names: Run, photos: Path) -> None:
    Path("labels.csv").write_text(
        "path,index\n" + "".join(f"{path},1\n" for path in sorted(photos.rglob("img*")))
    )
    names = ("m.csv", "w.csv", "c.csv", "k.csv")
    options = ("-o", "--mistakes", "--confusion", "--calibration")
    outputs = [word for pair in zip(options, names, strict=True) for word in pair]
    labels = ("--labels", "labels.csv")
    assert with_names("evaluate", ".", *labels, *outputs).exit_code == 0
    plain = [cells(name, ",") for name in names]
    spelt = (*outputs, "--csv-separator", ";", "--csv-bom", "--overwrite")
    assert with_names("evaluate", ".", *labels, *spelt).exit_code == 0
    for name, before in zip(names, plain, strict=True):
        again = cells(name, ";", bom=True)
        assert [len(row) for row in again] == [len(row) for row in before]
        assert again[0] == before[0]
    assert plain[2][0] == ["truth", "'=a", "b;c", "d"]


def test_a_run_in_another_dialect_is_resumed_in_its_own(with_names: Run, photos: Path) -> None:
    spelt = ("--csv-separator", ";", "--csv-bom")
    with_names("predict", photos, "-o", "x.csv", *spelt)
    expected = [row[:3] for row in cells("x.csv", ";", bom=True)]
    lines = Path("x.csv").read_bytes().splitlines(keepends=True)
    for kept in (6, 1, 0):
        Path("x.csv").write_bytes(b"".join(lines[:kept]) + lines[kept][:7])
        result = with_names("predict", photos, "-o", "x.csv", "--resume", *spelt)
        assert result.exit_code == 0, result.stderr
        assert [row[:3] for row in cells("x.csv", ";", bom=True)] == expected


def test_rows_of_another_dialect_are_refused_by_what_the_file_says(
    with_names: Run, photos: Path
) -> None:
    with_names("predict", photos, "-o", "x.csv", "-o", "y.jsonl")
    result = with_names(
        "predict", photos, "-o", "x.csv", "-o", "y.jsonl", "--resume", "--csv-separator", ";"
    )
    assert result.exit_code == 1
    assert "cannot resume x.csv: made with other settings: csv_separator , there, ; now" in (
        result.stderr
    )
    assert "y.jsonl" not in result.stderr.splitlines()[-1]  # which has no separators
    table = cells("x.csv", ",")
    with Path("x.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(table)
    before = Path("x.csv").read_bytes()
    result = with_names("predict", photos, "-o", "x.csv", "--resume")
    assert "csv_bom True there, False now; csv_separator ; there, , now" in result.stderr
    assert Path("x.csv").read_bytes() == before
    Path("x.csv").write_bytes(before[: len(before) // 2].rpartition(b"\n")[0] + b"\n")
    again = ("--csv-separator", ";", "--csv-bom")
    assert with_names("predict", photos, "-o", "x.csv", "--resume", *again).exit_code == 0
    assert [row[:3] for row in cells("x.csv", ";", bom=True)] == [row[:3] for row in table]


def test_saved_rows_are_scored_whatever_their_dialect(
    with_names: Run, run: Run, photos: Path
) -> None:
    found: list[Any] = []
    for number, spelt in enumerate([(), ("--csv-separator", "tab"), ("--csv-bom",)]):
        name = f"{number}.csv"
        with_names("predict", photos, "-k", 3, "-o", name, *spelt)
        paths = [str(row.path) for row in read_results(Path(name))]
        Path("l.csv").write_text("path,index\n" + "".join(f"{path},0\n" for path in paths))
        scored = ("--predictions", name, "--labels", "l.csv", "--format", "json")
        found.append(json.loads(run("evaluate", *scored).stdout)["top1"])
    assert found[0] == found[1] == found[2]


# what else FILE.run.json says


def pinned(paths: list[str]) -> dict[str, Any]:
    """What docs say the digest is."""
    states = [os.stat(path) for path in paths]  # noqa: PTH116
    lines = [
        f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"
        for path, state in zip(paths, states, strict=True)
    ]
    return {
        "files": len(paths),
        "bytes": sum(state.st_size for state in states),
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
    }


def test_a_record_pins_the_inputs(run: Run, checkpoint: Path, photos: Path) -> None:
    def recorded(*inputs: object, stdin: str | None = None) -> Any:
        run("predict", "-c", checkpoint, *SMALL, *inputs, "-o", "x.csv", "--resume", stdin=stdin)
        return json.loads(Path("x.csv.run.json").read_text())["inputs"]

    def named() -> list[str]:
        with Path("x.csv").open(newline="") as file:
            return [row["path"] for row in csv.DictReader(file)]

    first = recorded(photos / "a")
    assert first == pinned(named())
    os.utime(photos / "a" / "img1.jpg", (1, 1))
    both = recorded(photos / "a", photos / "b")
    assert both == pinned(named())
    assert both["sha256"] != first["sha256"]
    Path("x.csv").unlink()
    lines = "".join(f"{path}\n" for path in [*named_in(photos), "gone.jpg"])
    streamed = recorded("-", stdin=lines)
    assert (streamed["files"], streamed["bytes"]) == (11, both["bytes"])


def named_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("img*"))


def test_a_stream_that_is_cut_off_is_not_pinned(run: Run, checkpoint: Path, photos: Path) -> None:
    (photos / "a" / "broken.jpg").touch()
    paths = [str(photos / "a" / "broken.jpg"), *(named_in(photos) * 40)]
    run(
        "predict", "-", "-c", checkpoint, *SMALL, "-o", "x.csv", "--on-error", "fail", "-b", 1,
        stdin="\n".join(paths),
    )  # fmt: skip
    assert json.loads(Path("x.csv.run.json").read_text())["inputs"] is None


def test_a_refusal_names_every_file_and_every_setting(with_names: Run, photos: Path) -> None:
    with_names("predict", photos, "-o", "x.csv", "-o", "y.jsonl")
    with_names("predict", photos, "-o", "z.parquet", "-k", 2)
    Path("w.csv").write_text("species,count\n" * 3)
    outputs = [word for name in ("x.csv", "y.jsonl", "z.parquet", "w.csv") for word in ("-o", name)]
    result = with_names(
        "predict", photos, *outputs, "--resume", "-k", 2, "--threshold", 0.5, "--exact"
    )
    assert result.exit_code == 1
    message = result.stderr.splitlines()[-1]
    both, third, fourth = message.split("; cannot resume ")
    assert both.startswith("Error: cannot resume x.csv, y.jsonl: made with other settings: ")
    for words in ("exact False there", "threshold nothing there, 0.5 now", "topk 1 there, 2 now"):
        assert words in both
    assert third.startswith("z.parquet: ")
    assert "topk" not in third
    assert fourth.startswith("w.csv: row 0 is not a whole row")


def test_every_file_that_is_of_other_inputs_is_named(with_names: Run, photos: Path) -> None:
    outputs = ("-o", "x.csv", "-o", "y.parquet")
    with_names("predict", photos / "a", *outputs)
    result = with_names("predict", photos / "b", *outputs, "--resume")
    assert (
        "cannot resume x.csv: none of its 5 rows is of these inputs; y.parquet: none of its 5 rows"
        in result.stderr
    )
