"""What a threshold decides, in every format: read back by the csv module, json and pyarrow."""

import csv
import json
import re
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from commands import SMALL
from conftest import Run
from resnet_cli.records import Item, Prediction, Score, decide_label
from resnet_cli.results import open_writer, read_results
from resnet_cli.results.options import WriterOptions

NAMES = ("x.csv", "x.jsonl", "x.json", "x.parquet")
OUTPUTS = [word for name in NAMES for word in ("-o", name)]
NEW = {"columns", "csv_separator", "csv_bom", "inputs"}  # in records, since there are decisions

Row = dict[str, Any]


@pytest.fixture
def predict(run: Run, checkpoint: Path) -> Run:
    def invoke(*arguments: object) -> Result:
        return run(
            "predict", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "--progress", "off",
            *arguments,
        )  # fmt: skip

    return invoke


def table(name: str) -> list[Row]:
    """Rows as plain tables say them, by libraries that know nothing of this one."""
    path = Path(name)
    match path.suffix:
        case ".csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        case ".parquet":
            return pq.read_table(path).to_pylist()
        case ".json":
            rows = json.loads(path.read_text())
        case _:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, **(row["predictions"] or [{"label": None, "prob": None}])[0]} for row in rows]


def said(name: str) -> list[tuple[str, str, str | None]]:
    return [(row["path"], row["label"], row.get("decision")) for row in table(name)]


def middle(name: str) -> float:
    """A threshold that some rows reach and others do not."""
    return median(float(row["prob"]) for row in table(name))


@pytest.mark.parametrize("topk", [1, 2, 3])
def test_the_column_stands_after_the_best_probability(
    predict: Run, photos: Path, topk: int
) -> None:
    predict(photos, "-k", topk, "-o", "plain.csv")
    predict(photos, "-k", topk, "--threshold", 0.5, *OUTPUTS)
    with Path("plain.csv").open(newline="") as file:
        plain = next(csv.reader(file))
    expected = [*plain[:5], "decision", *plain[5:]]
    with Path("x.csv").open(newline="") as file:
        assert next(csv.reader(file)) == expected
    assert pq.read_schema("x.parquet").names == expected
    assert json.loads(Path("x.parquet.run.json").read_text())["columns"] == expected
    assert json.loads(Path("plain.csv.run.json").read_text())["columns"] == plain
    for row in json.loads(Path("x.json").read_text()):
        assert list(row)[:4] == ["path", "status", "predictions", "decision"]


def test_label_and_scores_stay_and_the_decision_follows_the_saved_probability(
    predict: Run, photos: Path
) -> None:
    (photos / "b" / "broken.jpg").touch()
    predict(photos, "-o", "plain.csv")
    known = [row for row in table("plain.csv") if row["status"] == "ok"]
    threshold = median(float(row["prob"]) for row in known)
    assert predict(photos, "--threshold", threshold, *OUTPUTS).exit_code == 3
    for name in NAMES:
        rows = [row for row in table(name) if row["status"] == "ok"]
        assert [row["label"] for row in rows] == [row["label"] for row in known]
        for row in rows:
            uncertain = float(row["prob"]) < threshold
            assert row["decision"] == ("uncertain" if uncertain else row["label"])
        assert 0 < sum(row["decision"] == "uncertain" for row in rows) < len(rows)
        [broken] = [row for row in table(name) if row["status"] == "error"]
        assert not broken["decision"]


def test_a_run_without_a_threshold_decides_nothing(predict: Run, photos: Path) -> None:
    predict(photos, *OUTPUTS)
    assert not any("decision" in row for name in NAMES for row in table(name))


def test_a_threshold_of_nothing_decides_everything(predict: Run, photos: Path) -> None:
    predict(photos, "--threshold", 0, "-o", "x.csv")
    assert all(row["decision"] == row["label"] for row in table("x.csv"))


def test_lines_show_label_and_decision(predict: Run, photos: Path) -> None:
    lines = predict(photos, "--threshold", 1, "-k", 2).stdout.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert re.search(r"  uncertain \([abc] 0\.\d{3}\)  [abc] 0\.\d{3}  \d+\.\d ms$", line)


@pytest.mark.parametrize(
    ("threshold", "decision"), [(None, None), (0.5, "a"), (0.5000001, "uncertain"), (0.0, "a")]
)
def test_a_probability_that_reaches_the_threshold_decides(
    threshold: float | None, decision: str | None
) -> None:
    assert decide_label([Score("a", 0, 0.5)], threshold) == decision
    assert decide_label([], threshold) is None


ODD = [
    Prediction(Item("a.jpg"), (Score("=ants", 0, 0.9), Score("b", 1, 0.1)), decision="=ants"),
    Prediction(Item("b.jpg"), (Score("", 0, 0.9), Score("b", 1, 0.1)), decision=""),
    Prediction(Item("c.jpg"), (Score("b", 1, 0.5), Score("", 0, 0.5)), decision="uncertain"),
    Prediction(Item("d.jpg"), error="torn"),
]


@pytest.mark.parametrize("name", NAMES)
def test_decisions_come_back(name: str) -> None:
    with open_writer(Path(name), WriterOptions(topk=2, decides=True)) as write:
        for row in ODD:
            write(row)
    assert list(read_results(Path(name))) == ODD
    assert [row.uncertain for row in read_results(Path(name))] == [False, False, True, False]


def test_a_decision_starts_no_formula() -> None:
    with open_writer(Path("x.csv"), WriterOptions(topk=1, decides=True)) as write:
        write(ODD[0])
    assert table("x.csv")[0]["decision"] == "'=ants"


# files of earlier versions


def as_before(name: str) -> None:
    """Spell a file as it was spelt when the decision stood in place of the label."""
    path = Path(name)
    if path.suffix in (".csv", ".parquet"):
        rows = [
            {key: value for key, value in (row | {"label": row["decision"]}).items()
             if key != "decision"}
            for row in table(name)
        ]  # fmt: skip
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        old = pq.read_schema(path)
        pq.write_table(pa.Table.from_pylist(rows, old.remove(old.names.index("decision"))), path)
    else:
        text = path.read_text()
        objects = json.loads(text) if name == "x.json" else map(json.loads, text.splitlines())
        lines = []
        for row in objects:
            row["predictions"][0]["label"] = row.pop("decision")
            lines.append(json.dumps(row))
        path.write_text(
            f"[{','.join(lines)}]\n" if name == "x.json" else "".join(f"{each}\n" for each in lines)
        )
    beside = Path(f"{name}.run.json")
    record = json.loads(beside.read_text())
    beside.write_text(json.dumps({k: v for k, v in record.items() if k not in NEW}))


def test_a_file_of_an_earlier_version_keeps_its_columns_and_their_meaning(
    predict: Run, photos: Path
) -> None:
    predict(photos, "-o", "plain.csv")
    threshold = middle("plain.csv")
    predict(photos, "--threshold", threshold, *OUTPUTS)
    decided = {path: decision for path, _, decision in said("x.csv")}
    for path in [*Path().glob("x.*")]:
        path.unlink()
    predict(photos / "a", "--threshold", threshold, *OUTPUTS)
    list(map(as_before, NAMES))
    for added in ("b/img6.jpg", "b"):  # the second time its record is a new one
        result = predict(
            photos / "a", photos / added, "--threshold", threshold, *OUTPUTS, "--resume"
        )
        assert result.exit_code == 0, result.stderr
        for name in NAMES:
            assert not any("decision" in row for row in table(name))
            assert all(label == decided[path] for path, label, _ in said(name))
            assert "decision" not in json.loads(Path(f"{name}.run.json").read_text())["columns"]
    assert len(table("x.parquet")) == 10
    assert "uncertain" in {label for _, label, _ in said("x.jsonl")}


def test_an_earlier_run_without_a_threshold_is_resumed(predict: Run, photos: Path) -> None:
    predict(photos / "a", "-o", "x.csv")
    beside = Path("x.csv.run.json")
    record = {k: v for k, v in json.loads(beside.read_text()).items() if k not in NEW}
    beside.write_text(json.dumps(record | {"threshold": 0.0}))
    assert predict(photos, "-o", "x.csv", "--resume").exit_code == 0
    assert len(table("x.csv")) == 10


@pytest.mark.parametrize("name", NAMES)
def test_earlier_rows_are_read_as_uncertain(name: str) -> None:
    rows = [
        Prediction(Item("a.jpg"), (Score("uncertain", 1, 0.4),)),
        Prediction(Item("b.jpg"), (Score("bees", 1, 0.9),)),
    ]
    with open_writer(Path(name), WriterOptions(topk=1)) as write:
        for row in rows:
            write(row)
    assert [row.uncertain for row in read_results(Path(name))] == [True, False]


@pytest.mark.parametrize("before", [(), ("--threshold", 0.2)])
def test_a_column_more_or_less_is_refused(
    predict: Run, photos: Path, before: tuple[object, ...]
) -> None:
    now = () if before else ("--threshold", 0.2)
    predict(photos, *before, *OUTPUTS)
    files = {name: Path(name).read_bytes() for name in NAMES}
    result = predict(photos, *now, *OUTPUTS, "--resume")
    assert result.exit_code == 1
    assert f"cannot resume {', '.join(NAMES)}: made with other settings: " in result.stderr
    was, now_is = ("0.2", "nothing") if before else ("nothing", "0.2")
    assert f"threshold {was} there, {now_is} now" in result.stderr
    assert files == {name: Path(name).read_bytes() for name in NAMES}


def test_a_table_of_other_columns_is_refused(predict: Run, photos: Path) -> None:
    predict(photos, "-o", "x.csv")
    beside = Path("x.csv.run.json")
    record = json.loads(beside.read_text())
    record["columns"].insert(1, "part")
    beside.write_text(json.dumps(record))
    result = predict(photos, "-o", "x.csv", "--resume")
    assert result.exit_code == 1
    assert "column part there, not now" in result.stderr


# another threshold needs no new run


@pytest.mark.parametrize("name", NAMES)
def test_saved_rows_are_scored_at_any_threshold(
    predict: Run, run: Run, photos: Path, name: str
) -> None:
    predict(photos, "-o", "plain.csv")
    threshold = middle("plain.csv")
    predict(photos, "--threshold", 0.99, "-o", name)
    Path("labels.csv").write_text(
        "path,label\n" + "".join(f"{row['path']},a\n" for row in table(name))
    )
    result = run(
        "evaluate", "--predictions", name, "--labels", "labels.csv", "--threshold", threshold,
        "--format", "json",
    )  # fmt: skip
    kept = json.loads(result.stdout)["kept"]
    sure = [row for row in table(name) if float(row["prob"]) >= threshold]
    assert kept["threshold"] == threshold
    assert (kept["images"]["right"], kept["images"]["images"]) == (len(sure), 10)
    assert kept["top1"]["right"] == sum(row["label"] == "a" for row in sure)
