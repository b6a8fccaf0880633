"""Workbooks, read back by openpyxl: typed cells, text that stays text, memory that stays flat."""

import gc
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from conftest import Run, room_for
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Prediction, Score, tidy_path
from resnet_cli.results import check_outputs, formats, open_writer, xlsx
from resnet_cli.results.options import WriterOptions


def ok(path: str, label: str = "ants", prob: float = 0.75) -> Prediction:
    return Prediction(Item(path), (Score(label, 7, prob),), 1.25, 0.5, 12.345, 16)


def write(*rows: Prediction, **options: Any) -> Any:
    """Write a workbook and return its sheets, as another library reads them."""
    with open_writer(Path("x.xlsx"), WriterOptions(**{"topk": 1} | options)) as write_row:
        for row in rows:
            write_row(row)
    return openpyxl.load_workbook("x.xlsx").worksheets


def values(sheet: Any) -> list[tuple[Any, ...]]:
    return list(sheet.iter_rows(values_only=True))


HEADER = (
    "path", "status", "label", "index", "prob",
    "decode_ms", "preprocess_ms", "forward_ms", "batch_size", "error",
)  # fmt: skip


def test_cells_have_the_types_of_their_columns() -> None:
    [sheet] = write(
        ok("photos/ünïcode 日本.png"), Prediction(Item("b.jpg"), error="truncated JPEG")
    )
    header, first, error = values(sheet)
    assert header == HEADER
    assert first == (
        "photos/ünïcode 日本.png", "ok", "ants", 7, 0.75, 1.25, 0.5, 12.345, 16, None,
    )  # fmt: skip
    assert error == ("b.jpg", "error", *[None] * 7, "truncated JPEG")
    assert [cell.data_type for cell in sheet[2][:6]] == ["s", "s", "s", "n", "n", "n"]
    assert sheet.freeze_panes == "A2"


def test_no_rows_are_a_workbook_with_a_header() -> None:
    [sheet] = write()
    assert values(sheet) == [HEADER]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "{=1+1}", "+1", "-1", "@a", "1e5", "https://a.b/c.jpg", "mailto:a@b", "internal:A1",
     " space ", "tab\t", "two\nlines", "<&>", "TRUE"],
)  # fmt: skip
def test_text_is_never_interpreted(text: str) -> None:
    [sheet] = write(ok(f"{text}/a.jpg", text), ok("b.jpg"))
    path, label = sheet["A2"], sheet["C2"]
    assert (path.value, label.value) == (tidy_path(f"{text}/a.jpg"), text)
    assert {path.data_type, label.data_type} == {"s"}
    assert path.hyperlink is None


def test_a_name_that_is_not_utf8_is_spelt_out() -> None:
    [sheet] = write(ok(os.fsdecode(b"caf\xe9.jpg")))
    assert sheet["A2"].value == r"caf\xe9.jpg"


def test_characters_and_numbers_that_xml_lacks_are_replaced() -> None:
    [sheet] = write(ok("a\x01\r\uffff.jpg", "x" * 40_000, float("nan")), ok("b.jpg"))
    assert len(sheet["C2"].value) == 32_767
    assert [row[0] for row in values(sheet)][2] == "b.jpg"


@pytest.mark.parametrize(("rows", "lengths"), [(3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_a_full_sheet_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch, rows: int, lengths: list[int]
) -> None:
    assert xlsx.SHEET_ROWS == 2**20
    monkeypatch.setattr(xlsx, "SHEET_ROWS", 4)
    sheets = write(*[ok(f"{number}.jpg") for number in range(rows)])
    assert [len(values(sheet)) - 1 for sheet in sheets] == lengths
    assert {values(sheet)[0] for sheet in sheets} == {HEADER}
    paths = [row[0] for sheet in sheets for row in values(sheet)[1:]]
    assert paths == [f"{number}.jpg" for number in range(rows)]


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(count: int) -> int:
        rows: Iterator[Prediction] = (ok(f"photos/{number}.jpg") for number in range(count))
        tracemalloc.start()
        try:
            with open_writer(Path("x.xlsx"), WriterOptions(topk=1, overwrite=True)) as write_row:
                for row in rows:
                    write_row(row)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(1000)
    assert peak(8_000) < few + 500_000
    assert openpyxl.load_workbook("x.xlsx", read_only=True).active.max_row == 8_001


class StopError(Exception):
    pass


def test_a_run_that_stops_leaves_a_workbook_of_its_rows() -> None:
    def stopped() -> None:
        with open_writer(Path("x.xlsx"), WriterOptions(topk=1)) as write_row:
            write_row(ok("a.jpg"))
            raise StopError

    with pytest.raises(StopError):
        stopped()
    [sheet] = openpyxl.load_workbook("x.xlsx").worksheets
    assert [row[0] for row in values(sheet)] == ["path", "a.jpg"]
    assert [path.name for path in Path().iterdir()] == ["x.xlsx"]


@pytest.mark.parametrize("room", [60_000, 180_000])  # for the journal alone, and for half a sheet
def test_a_full_disk_leaves_the_journal_and_no_workbook(room: int) -> None:
    with room_for(room), pytest.raises(OutputError, match=r"cannot write x\.xlsx: File too large"):
        write(*[ok(f"{number}.jpg") for number in range(900)])
    gc.collect()  # a file that was left open would be reported here
    assert [path.name for path in Path().iterdir()] == ["x.xlsx.part.jsonl"]


def test_a_workbook_is_not_resumed() -> None:
    with pytest.raises(OutputError, match=r"cannot resume x.xlsx: --resume continues .csv, .jsonl"):
        check_outputs([Path("x.xlsx")], overwrite=False, resume=True)
    write(ok("a.jpg"))
    with pytest.raises(OutputError, match="it already exists: use --overwrite to replace it"):
        check_outputs([Path("x.xlsx")], overwrite=False)


def test_without_the_library_one_line_names_the_extra(
    run: Run, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    result = run("predict", photos, "-c", checkpoint, "-o", "x.xlsx")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: cannot write x.xlsx: .xlsx needs an extra: pip install 'resnet-cli[excel]'"
    )
    assert not list(Path().glob("x.xlsx*"))


def test_predict_writes_a_workbook(run: Run, checkpoint: Path, photos: Path) -> None:
    (photos / "broken.jpg").touch()
    result = run(
        "predict", photos, "-c", checkpoint, "-o", "x.xlsx", "-o", "x.csv", "--device", "cpu",
        "--resize-size", 40, "--img-size", 32, "--threshold", 0.5,
    )  # fmt: skip
    assert result.exit_code == 3
    assert "1 error: see the rows with status error in x.xlsx" in result.stderr
    [sheet] = openpyxl.load_workbook("x.xlsx").worksheets
    header, *rows = values(sheet)
    assert "decision" in header
    assert [row[0] for row in rows] == [
        line.split(",")[0] for line in Path("x.csv").read_text().splitlines()[1:]
    ]
