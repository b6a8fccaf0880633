"""The tables of formats and columns: each line does what it says, in every format."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest

from commands import SMALL
from conftest import REPOSITORY, Run
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import check_outputs, columns, formats, open_writer, read_results
from resnet_cli.results.columns import COLUMNS, Column, RowLayout, present_columns
from resnet_cli.results.formats import FORMATS, GRIDS, PRINTED, READABLE, RESUMABLE
from resnet_cli.results.options import WriterOptions

TABLES = [suffix for suffix, each in FORMATS.items() if not each.thumbnails]

ROWS = [
    Prediction(Item("a.jpg"), (Score("ants", 0, 0.75), Score("bees", 1, 0.25)), 1, 2, 3, 4),
    Prediction(Item("b.jpg"), (Score("bees", 1, 0.625), Score("ants", 0, 0.375)), 1, 2, 3, 4),
    Prediction(Item("c.jpg"), error="torn"),
]


def written(suffix: str, **options: Any) -> Path:
    path = Path("x").with_suffix(suffix)
    with open_writer(path, WriterOptions(**{"topk": 2} | options)) as write:
        for row in ROWS:
            write(row)
    return path


def flat_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of any table, by a library that did not write it, without the list of classes."""
    match path.suffix:
        case ".csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
        case ".json":
            return list(json.loads(path.read_text()))
        case ".parquet":
            return list(pq.read_table(path).to_pylist())
    header, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_makes_its_file(suffix: str) -> None:
    assert written(suffix).stat().st_size > 0
    assert list(Path().iterdir()) == [Path("x").with_suffix(suffix)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_file_that_a_format_writes_beside_its_own_is_protected(suffix: str) -> None:
    path = Path("x").with_suffix(suffix)
    for beside in FORMATS[suffix].beside(path):
        beside.touch()
        with pytest.raises(OutputError, match=f"cannot write {beside}: it already exists"):
            check_outputs([path], overwrite=False)


@pytest.mark.parametrize("suffix", READABLE)
def test_each_readable_format_gives_its_rows_back(suffix: str) -> None:
    assert list(read_results(written(suffix))) == ROWS


def test_what_is_resumed_is_read() -> None:
    assert set(RESUMABLE) <= set(READABLE)
    assert all(FORMATS[suffix].read_identities for suffix in RESUMABLE)
    assert set(GRIDS) == {suffix for suffix in FORMATS if FORMATS[suffix].purpose == formats.GRID}


def test_help_and_docs_name_each_format(run: Run) -> None:
    said = run("predict", "--help").stdout
    docs = "".join((REPOSITORY / "docs" / name).read_text() for name in ("results.md", "usage.md"))
    for suffix in FORMATS:
        assert re.search(rf"{re.escape(suffix)}\b", said)
        assert f"`{suffix}`" in docs
    assert f"[lines|{'|'.join(PRINTED)}]" in said


def test_help_reads_the_table_without_the_libraries_behind_it() -> None:
    code = (
        "import sys; from resnet_cli.results.formats import describe_formats; describe_formats();"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_docs_name_each_column() -> None:
    docs = (REPOSITORY / "docs" / "results.md").read_text()
    for name in RowLayout(topk=2, decides=True).columns:
        assert name in docs


MARGIN = Column(
    name="margin",
    kind=float,
    cell=lambda row: row.scores[0].prob - row.scores[1].prob if len(row.scores) > 1 else None,
    classes=2,
)


@pytest.fixture
def with_margin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more line in the table."""
    place = next(n for n, column in enumerate(COLUMNS) if getattr(column, "name", "") == "decision")
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS[:place], MARGIN, *COLUMNS[place:]))
    caches = present_columns, columns.flat_columns, columns.column_kind, columns.row_keys
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("topk", [1, 2])
@pytest.mark.parametrize("suffix", TABLES)
def test_a_column_is_a_line_of_the_table(with_margin: None, suffix: str, topk: int) -> None:
    path = written(suffix, topk=topk)
    found = [row["margin"] for row in flat_rows(path)]
    assert [None if cell in (None, "") else float(cell) for cell in found] == [0.5, 0.25, None]
    assert all("label_2" not in row for row in flat_rows(path)) or topk == 2
    assert RowLayout(topk=topk).classes == 2
    if suffix in READABLE:
        assert list(read_results(path)) == [row.best(topk) for row in ROWS]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_rows_with_other_columns_are_not_resumed(
    run: Run, checkpoint: Path, photos: Path, name: str, request: pytest.FixtureRequest
) -> None:
    words = ("predict", photos, "-c", checkpoint, *SMALL, "-o", name)
    assert run(*words).exit_code == 0
    before = Path(name).read_bytes()
    request.getfixturevalue("with_margin")
    result = run(*words, "--resume")
    assert result.exit_code == 1
    assert f"cannot resume {name}: made with other settings: no column margin" in result.stderr
    assert Path(name).read_bytes() == before
    assert run(*words, "--overwrite").exit_code == 0
    assert {row["margin"] for row in flat_rows(Path(name))} - {None, ""}
    assert run(*words, "--resume").exit_code == 0
