"""Result files read back, whichever program wrote them."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnet_cli.errors import InputError
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer, read_results
from resnet_cli.results.options import WriterOptions

SUFFIXES = [".csv", ".jsonl", ".json", ".parquet"]

NAMES = [
    "photos/a.jpg", "new\nline.jpg", "cr\rlf\r\n.jpg", 'quote".jpg', "a,b.jpg", "=1+1.jpg",
    "ünïcode 日本\u2028.png", " space ", "tab\t.jpg",
]  # fmt: skip


def row(path: str, *scores: Score) -> Prediction:
    return Prediction(Item(path), scores, 1.25, 0.5, 12.345, 16)


ROWS = [
    *(row(name, Score("ants", 2, 0.75), Score("-1", 0, 1e-9)) for name in NAMES),
    row("labels", Score("=cmd()", 0, 1.0), Score("it's", 1, 0.1 + 0.2)),
    row("one class of two", Score("", 0, 1 / 3)),
    Prediction(Item("b.jpg"), error="=cannot\nopen"),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read_back(suffix: str) -> None:
    path = Path("x").with_suffix(suffix)
    with open_writer(path, WriterOptions(topk=2)) as write:
        for prediction in ROWS:
            write(prediction)
    assert list(read_results(path)) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_name_that_is_not_utf8_is_read_back(suffix: str) -> None:
    path = Path("x").with_suffix(suffix)
    with open_writer(path, WriterOptions(topk=1)) as write:
        write(row(os.fsdecode(b"caf\xe9.jpg"), Score("ants", 0, 0.5)))
    [prediction] = read_results(path)
    assert os.fsencode(prediction.path) == b"caf\xe9.jpg"


PLAIN: list[dict[str, Any]] = [
    {"path": "a.jpg", "status": "ok", "label": "ants", "index": 0, "prob": 0.5, "error": None},
    {"path": "b\n.jpg", "status": "error", "label": None, "index": None, "prob": None,
     "error": "torn"},
]  # fmt: skip
EXPECTED = [
    Prediction(Item("a.jpg"), (Score("ants", 0, 0.5),)),
    Prediction(Item("b\n.jpg"), error="torn"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_that_another_program_saved_again_is_read(
    encoding: str, quoting: Any, end: str
) -> None:
    with Path("x.csv").open("w", encoding=encoding, newline="") as file:
        table = csv.DictWriter(file, list(PLAIN[0]), quoting=quoting, lineterminator=end)
        table.writeheader()
        table.writerows(PLAIN)
    assert list(read_results(Path("x.csv"))) == EXPECTED


def test_a_parquet_file_that_another_program_wrote_is_read() -> None:
    pq.write_table(pa.Table.from_pylist(PLAIN), "x.parquet")
    assert list(read_results(Path("x.parquet"))) == EXPECTED


HEADER = "path,status,label,index,prob\n"
GOOD = {"path": "a", "status": "ok", "predictions": [{"label": "b", "index": 0, "prob": 1}]}


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("x.txt", "", "the suffix must be one of .csv, .jsonl, .json, .parquet"),
        ("x.csv", "path,label\n", "no column index, prob, status"),
        ("x.csv", HEADER + "a,ok,b,0,1\nc,ok,b,0\n", "row 2 is not a whole row"),
        ("x.csv", HEADER + "a,ok,b,0,1", "row 1 is not a whole row of results (it has no end)"),
        ("x.csv", HEADER + 'a,ok,b,0,1\n"a\n', "row 2 is not a whole row"),
        ("x.csv", HEADER + "a,ok,b,zero,1\n", "row 1 is not a whole row"),
        ("x.csv", HEADER + "a,fine,b,0,1\n", "status 'fine' with 1 classes"),
        ("x.csv", HEADER + "a,ok,,,\n", "status 'ok' with 0 classes"),
        ("x.csv", HEADER + "\0\0\0\0\n", "row 1 is not a whole row"),
        ("x.jsonl", json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:-5], "row 2 is not a whole row"),
        ("x.jsonl", '{"path": 1}\n', "row 1 is not a whole row"),
        ("x.jsonl", "[]\n", "row 1 is not a whole row"),
        ("x.json", "[{", "cannot read results from x.json"),
        ("x.json", "{}", None),
        ("x.json", "[1]", "cannot read results from x.json"),
        ("x.parquet", "PAR1", "cannot read results from x.parquet"),
    ],
)
def test_files_without_results_are_refused(name: str, text: str, complaint: str | None) -> None:
    Path(name).write_text(text)
    if complaint is None:
        assert list(read_results(Path(name))) == []
        return
    with pytest.raises(InputError) as refused:
        list(read_results(Path(name)))
    assert complaint in str(refused.value)
    assert f"cannot read results from {name}" in str(refused.value)
