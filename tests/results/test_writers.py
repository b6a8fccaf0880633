"""Tables of predictions: columns, unusual names, stopped runs, full disks, run records."""

import csv
import errno
import gc
import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import Run, room_for
from resnet_cli.errors import OutputError
from resnet_cli.records import Score
from resnet_cli.results import check_outputs, open_writer
from resnet_cli.results.files.manifest import write_manifest
from resnet_cli.results.formats import FORMATS
from resnet_cli.results.options import WriterOptions
from writing import broken, is_png, labelled, ok, paths_in, read_csv, read_jsonl, write

TABLES = [".csv", ".jsonl", ".json", ".parquet"]

COLUMNS_OF_1 = [
    "path", "status", "label", "index", "prob",
    "decode_ms", "preprocess_ms", "forward_ms", "batch_size", "error",
]  # fmt: skip

COLUMNS_OF_3 = [
    "path", "status", "label", "index", "prob", "label_2", "index_2", "prob_2",
    "label_3", "index_3", "prob_3",
    "decode_ms", "preprocess_ms", "forward_ms", "batch_size", "error",
]  # fmt: skip

ROWS = (ok(classes=3), broken(), ok("photos/ünïcode 日本.png", classes=3))


@pytest.mark.parametrize(("topk", "columns"), [(1, COLUMNS_OF_1), (3, COLUMNS_OF_3)])
def test_a_csv_has_exactly_these_columns(topk: int, columns: list[str]) -> None:
    path = write(Path("x.csv"), ok(classes=topk), broken(), topk=topk)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == columns
    assert {len(row) for row in rows} == {len(columns)}


@pytest.mark.parametrize(("topk", "columns"), [(1, COLUMNS_OF_1), (3, COLUMNS_OF_3)])
def test_a_parquet_file_has_exactly_these_columns(topk: int, columns: list[str]) -> None:
    path = write(Path("x.parquet"), ok(classes=topk), broken(), topk=topk)
    assert pq.read_schema(path).names == columns


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_has_exactly_these_keys(suffix: str) -> None:
    path = write(Path("x").with_suffix(suffix), ok(classes=3), broken(), topk=3)
    rows = read_jsonl(path) if suffix == ".jsonl" else json.loads(path.read_text())
    keys = [
        "path", "status", "predictions", "decode_ms", "preprocess_ms", "forward_ms", "batch_size",
        "error",
    ]  # fmt: skip
    assert [list(row) for row in rows] == [keys, keys]
    assert [list(score) for score in rows[0]["predictions"]] == [["label", "index", "prob"]] * 3


def test_csv_rows_are_read_back_by_the_csv_module() -> None:
    first, error, third = read_csv(write(Path("x.csv"), *ROWS, topk=3))
    assert first == {
        "path": "photos/a.jpg", "status": "ok",
        "label": "ants", "index": "2", "prob": "0.75",
        "label_2": "bees", "index_2": "1", "prob_2": "0.2",
        "label_3": "wasps, and kin", "index_3": "0", "prob_3": "0.05",
        "decode_ms": "1.25", "preprocess_ms": "0.5", "forward_ms": "12.345", "batch_size": "16",
        "error": "",
    }  # fmt: skip
    assert error == dict.fromkeys(COLUMNS_OF_3, "") | {
        "path": "photos/b.jpg", "status": "error", "error": "truncated JPEG"
    }  # fmt: skip
    assert third["path"] == "photos/ünïcode 日本.png"


def test_parquet_rows_are_read_back_by_arrow() -> None:
    table = pq.read_table(write(Path("x.parquet"), *ROWS, topk=3))
    first, error, third = table.to_pylist()
    assert first == {
        "path": "photos/a.jpg", "status": "ok", "label": "ants", "index": 2, "prob": 0.75,
        "label_2": "bees", "index_2": 1, "prob_2": 0.2,
        "label_3": "wasps, and kin", "index_3": 0, "prob_3": 0.05,
        "decode_ms": 1.25, "preprocess_ms": 0.5, "forward_ms": 12.345, "batch_size": 16,
        "error": None,
    }  # fmt: skip
    assert error == dict.fromkeys(COLUMNS_OF_3) | {
        "path": "photos/b.jpg", "status": "error", "error": "truncated JPEG"
    }  # fmt: skip
    assert third["path"] == "photos/ünïcode 日本.png"
    assert {str(table.schema.field(name).type) for name in ("index", "index_3")} == {"int32"}
    assert {str(table.schema.field(name).type) for name in ("prob", "decode_ms")} == {"double"}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_rows_are_read_back_by_the_json_module(suffix: str) -> None:
    path = write(Path("x").with_suffix(suffix), *ROWS, topk=3)
    rows = read_jsonl(path) if suffix == ".jsonl" else json.loads(path.read_text("utf-8"))
    assert rows[0] == {
        "path": "photos/a.jpg",
        "status": "ok",
        "predictions": [
            {"label": "ants", "index": 2, "prob": 0.75},
            {"label": "bees", "index": 1, "prob": 0.2},
            {"label": "wasps, and kin", "index": 0, "prob": 0.05},
        ],
        "decode_ms": 1.25,
        "preprocess_ms": 0.5,
        "forward_ms": 12.345,
        "batch_size": 16,
        "error": None,
    }
    assert rows[1] == {
        "path": "photos/b.jpg", "status": "error", "predictions": [], "decode_ms": None,
        "preprocess_ms": None, "forward_ms": None, "batch_size": None, "error": "truncated JPEG",
    }  # fmt: skip
    assert rows[2]["path"] == "photos/ünïcode 日本.png"


def test_many_rows_keep_their_order_in_parquet() -> None:
    predictions = [ok(f"{number}.jpg") for number in range(10_003)]  # a group, and three of one
    assert paths_in(write(Path("x.parquet"), *predictions)) == [str(p.path) for p in predictions]


@pytest.mark.parametrize("suffix", TABLES)
def test_no_rows_are_a_valid_file(suffix: str) -> None:
    path = write(Path("x").with_suffix(suffix))
    assert paths_in(path) == []
    if suffix == ".csv":
        assert path.read_text() == ",".join(COLUMNS_OF_1) + "\n"
    if suffix == ".parquet":
        assert pq.read_schema(path).names == COLUMNS_OF_1


def test_no_rows_are_no_page() -> None:
    write(Path("grid.png"))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize(
    "name",
    [
        "new\nline.jpg",
        'quote".jpg',
        "a,b.jpg",
        "cr\r.jpg",
        "cr\rlf\r\n.jpg",
        "tab\t.jpg",
        " space ",
    ],
)
def test_unusual_names_come_back(suffix: str, name: str) -> None:
    path = write(Path("x").with_suffix(suffix), ok(name), broken(name))
    assert paths_in(path) == [name, name]


def test_a_name_that_is_not_utf8_keeps_its_bytes_in_csv_and_json() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    table = write(Path("x.csv"), ok(name))
    assert b"\ncaf\xe9.jpg," in table.read_bytes()
    for suffix in (".json", ".jsonl"):
        [path] = paths_in(write(Path("x").with_suffix(suffix), ok(name)))
        assert os.fsencode(path) == b"caf\xe9.jpg"


def test_a_name_that_is_not_utf8_is_spelt_out_in_parquet() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert paths_in(write(Path("x.parquet"), ok(name))) == [r"caf\xe9.jpg"]


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg", "\ta.jpg", "\ra.jpg"])
def test_a_path_that_would_be_a_formula_gets_a_dot_and_still_opens(name: str) -> None:
    Path(name).touch()
    [written] = paths_in(write(Path("x.csv"), ok(name)))
    assert written == f"./{name}"
    assert Path(written).exists()


@pytest.mark.parametrize("label", ["=cmd()", "+x", "-x", "@x", "\tx", "\rx", "-", "=1", "+1+1"])
def test_a_label_that_would_be_a_formula_gets_a_quote(label: str) -> None:
    path = write(Path("x.csv"), labelled(label))
    assert [row["label"] for row in read_csv(path)] == [f"'{label}"]


@pytest.mark.parametrize("label", ["-1", "+1.5", "-2e3", "ants", "it's", "a=b", "", "3"])
def test_a_number_or_a_plain_label_stays_as_it_is(label: str) -> None:
    path = write(Path("x.csv"), labelled(label))
    assert [row["label"] for row in read_csv(path)] == [label]


@pytest.mark.parametrize("label", ["-inf", "+nan", "-infinity"])
def test_a_word_that_python_takes_for_a_number_is_a_formula_to_a_spreadsheet(label: str) -> None:
    path = write(Path("x.csv"), labelled(label))
    assert [row["label"] for row in read_csv(path)] == [f"'{label}"]


def test_second_labels_and_errors_are_disarmed_as_well() -> None:
    scores = (Score("ants", 0, 0.9), Score("=bees", 1, 0.1))
    path = write(Path("x.csv"), ok(scores=scores), broken(error="=evil()"), topk=2)
    first, second = read_csv(path)
    assert first["label_2"] == "'=bees"
    assert second["error"] == "'=evil()"


def test_other_formats_leave_labels_alone() -> None:
    path = write(Path("x.jsonl"), labelled("=ants", "=a.jpg"))
    [row] = read_jsonl(path)
    assert (row["path"], row["predictions"][0]["label"]) == ("=a.jpg", "=ants")


class StopError(Exception):
    pass


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("rows", [0, 1, 5, 1003])
def test_a_run_that_stops_leaves_whole_rows(suffix: str, rows: int) -> None:
    path = Path("x").with_suffix(suffix)

    def stopped() -> None:
        with open_writer(path, WriterOptions(topk=1)) as write_row:
            for number in range(rows):
                write_row(ok(f"{number}.jpg"))
            raise StopError

    with pytest.raises(StopError):
        stopped()
    assert paths_in(path) == [f"{number}.jpg" for number in range(rows)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_are_in_the_file_as_soon_as_they_are_written(suffix: str) -> None:
    path = Path("x").with_suffix(suffix)
    with open_writer(path, WriterOptions(topk=1)) as write_row:
        for number in range(3):
            write_row(ok(f"{number}.jpg"))
            assert len(paths_in(path)) == number + 1


def test_a_run_that_stops_leaves_the_page_it_was_at() -> None:
    def stopped() -> None:
        with open_writer(
            Path("grid.png"), WriterOptions(topk=1, grid_rows=2, grid_columns=2)
        ) as write_row:
            write_row(ok())
            raise StopError

    with pytest.raises(StopError):
        stopped()
    assert is_png(Path("grid.png"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".pdf", ".png", ".html"])
def test_a_full_disk_is_an_error_that_names_the_file(suffix: str) -> None:
    path = Path("x").with_suffix(suffix)

    sentence = f"cannot write x{suffix}: File too large.*make room"
    with room_for(2000), pytest.raises(OutputError, match=sentence):
        write(path, *[ok(f"{number}.jpg") for number in range(300)])
    gc.collect()  # a file that was left open is told of here, not in another test
    left = {place.name for place in Path().iterdir()}
    assert left <= {path.name, f"x{suffix}.part.jsonl"}
    if suffix in TABLES:
        [grown] = left
        assert Path(grown).read_bytes().endswith(b"\n")  # no half row


@pytest.mark.parametrize("suffix", TABLES)
def test_a_folder_that_went_away_is_an_error_that_names_the_file(suffix: str) -> None:
    path = Path("gone/x").with_suffix(suffix)
    with pytest.raises(OutputError, match=f"cannot write gone/x{suffix}: .*No such file"):
        write(path, ok())


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".png", ".pdf"])
def test_an_error_of_the_callers_is_not_blamed_on_the_file(suffix: str) -> None:
    theirs = OSError(errno.EIO, "the network drive of the photographs", "photos")

    def failing() -> None:
        with open_writer(Path("x").with_suffix(suffix), WriterOptions(topk=1)):
            raise theirs

    with pytest.raises(OSError, match="network drive") as caught:
        failing()
    assert caught.value is theirs


def test_what_can_be_written_is_let_through() -> None:
    assert check_outputs([Path(f"x{suffix}") for suffix in FORMATS], overwrite=False) is None  # type: ignore[func-returns-value]
    check_outputs([Path("X.CSV")], overwrite=False)


@pytest.mark.parametrize(
    ("names", "overwrite", "complaint"),
    [
        (["x.xls"], False, "cannot write x.xls: the suffix must be one of .csv, .jsonl"),
        (["x"], False, "cannot write x: the suffix must be one of"),
        (["new/x.csv"], False, "cannot write new/x.csv: there is no folder new"),
        (["x.csv", "y.csv", "x.csv"], True, "cannot write x.csv twice"),
        (["x.csv", "./x.csv"], True, "cannot write x.csv twice"),
        (["x.csv", "there/../x.csv"], True, "twice"),
        (["there.csv"], False, "cannot write there.csv: it already exists: use --resume"),
        (["x.csv", "there.csv"], False, "cannot write there.csv: it already exists"),
        (["dir.csv"], True, "cannot write dir.csv"),
    ],
)
def test_what_cannot_be_written_is_refused_beforehand(
    names: list[str], complaint: str, *, overwrite: bool
) -> None:
    Path("there.csv").write_text("precious")
    Path("there").mkdir()
    Path("dir.csv").mkdir()
    with pytest.raises(OutputError, match=re.escape(complaint)):
        check_outputs([Path(name) for name in names], overwrite=overwrite)
    assert Path("there.csv").read_text() == "precious"


def test_an_existing_file_may_be_overwritten() -> None:
    Path("there.csv").touch()
    check_outputs([Path("there.csv")], overwrite=True)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pages_of_an_earlier_run_are_refused(suffix: str) -> None:
    grid = Path("grid").with_suffix(suffix)
    write(grid, ok(), ok(), grid_rows=1, grid_columns=1)
    assert not grid.exists()
    with pytest.raises(OutputError, match=rf"cannot write grid-[12]\{suffix}: it already exists"):
        check_outputs([grid], overwrite=False)


def test_the_record_of_a_run_is_written_whole_beside_its_file() -> None:
    for status in ("running", "done"):
        write_manifest(Path("x.csv"), {"status": status, "path": os.fsdecode(b"caf\xe9 \xc3\xbc")})
        record = json.loads(Path("x.csv.run.json").read_text(encoding="utf-8"))
        assert record["status"] == status
        assert os.fsencode(record["path"]) == b"caf\xe9 \xc3\xbc"
    assert [path.name for path in Path().iterdir()] == ["x.csv.run.json"]


def test_run_json_holds_what_made_the_results(
    run: Run, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["resnet-cli", "predict", "photos", "-o", "a b.csv"]
    monkeypatch.setattr("sys.argv", command)
    (photos / "broken.jpg").touch()
    result = run(
        "predict", photos, "-c", checkpoint, "--classes", "ant,bee,cat", "-o", "a b.csv",
        "-o", "b.jsonl", "--resize-size", 64, "--img-size", 48, "--device", "cpu", "--exact",
    )  # fmt: skip
    record = json.loads(Path("a b.csv.run.json").read_text())

    assert result.exit_code == 3
    assert json.loads(Path("b.jsonl.run.json").read_text()) == record
    assert record["status"] == "done"
    assert record["command"] == "resnet-cli predict photos -o 'a b.csv'"
    assert record["checkpoint"]["path"] == str(checkpoint)
    assert re.fullmatch(r"[0-9a-f]{64}", record["checkpoint"]["sha256"])
    assert record["model"] == "resnet18"
    assert record["classes"] == ["ant", "bee", "cat"]
    assert record["classes_source"] == "--classes"
    assert record["preprocess"] == {
        "resize_size": 64, "crop_size": 48, "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "color": "rgb",
        "squash": False, "floor_crop": False,
    }  # fmt: skip
    assert (record["device"], record["precision"], record["exact"]) == ("cpu", "fp32", True)
    assert {"python", "torch", "torchvision", "resnet-cli"} <= record["versions"].keys()
    assert record["counts"] == {"images": 11, "ok": 10, "errors": 1}
    assert record["times"]["wall_s"] > 0
    assert record["started"] <= record["finished"]


def test_run_json_of_a_run_that_stopped_says_so(run: Run, checkpoint: Path, photos: Path) -> None:
    (photos / "a" / "img2b.jpg").touch()
    result = run(
        "predict", photos, "-c", checkpoint, "-o", "x.csv", "--on-error", "fail", "-b", 1,
        "--resize-size", 64, "--img-size", 48,
    )  # fmt: skip
    record = json.loads(Path("x.csv.run.json").read_text())

    assert result.exit_code == 1
    assert record["status"] == "stopped"
    assert record["counts"] == {"images": 3, "ok": 2, "errors": 1}
    assert len(read_csv(Path("x.csv"))) == 3
