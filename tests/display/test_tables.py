"""The printer of tables: columns aligned in the cells of a terminal, whatever the script."""

from operator import itemgetter
from unicodedata import normalize

import pytest

from resnet_cli.display import TableColumn, TextTable, align_rows, cell_width

Row = tuple[str, int, str]

ROWS: list[Row] = [("ants", 7, "x"), ("蚂蚁", 1234, ""), ("guêpe", 12, "y")]

COLUMNS: list[TableColumn[Row]] = [
    TableColumn(title="class", text=itemgetter(0)),
    TableColumn(title="images", text=lambda row: f"{row[1]:,}", align="right"),
    TableColumn(title="", text=itemgetter(2)),
]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("", 0), ("ants", 4), ("蚂蚁", 4), ("アリ", 4), ("개미", 4), ("\uff41", 2), ("муравей", 7),
        (normalize("NFD", "guêpe"), 5), ("ผึ้ง", 2), ("🐜", 2), ("→", 1), ("█▌", 2),
    ],
)  # fmt: skip
def test_text_is_as_wide_as_a_terminal_shows_it(text: str, cells: int) -> None:
    assert cell_width(text) == cells


def test_columns_are_aligned_by_cells() -> None:
    table = TextTable.fit(COLUMNS, ROWS)

    assert [table.header, table.rule, *map(table.line, ROWS)] == [
        "class  images",
        "────────────────",
        "ants        7  x",
        "蚂蚁    1,234",
        "guêpe      12  y",
    ]


def test_columns_without_room_are_dropped_in_the_given_order_and_named_in_their_own() -> None:
    whole, narrow, narrowest = (
        TextTable.fit(COLUMNS, ROWS, width=width, dropped=("images", "class"))
        for width in (16, 15, 4)
    )

    assert (whole.left_out, whole.header) == ((), "class  images")
    assert (narrow.left_out, narrow.header) == (("images",), "class")
    assert narrowest.left_out == ("class", "images")
    assert TextTable.fit(COLUMNS, ROWS, dropped=("images",)).left_out == ()


def test_rows_that_come_later_fit_into_widths_that_are_given() -> None:
    columns: list[TableColumn[str]] = [
        TableColumn(title="mode", text=str, width=10),
        TableColumn(title="n", text=lambda row: str(len(row)), align="right", width=3),
    ]
    table = TextTable.fit(columns)

    assert table.header == "mode          n"
    assert table.line("forward") == "forward       7"
    assert table.join(["end-to-end"]) == "end-to-end"


def test_plain_rows_are_aligned_and_control_characters_spelled_out() -> None:
    lines = list(align_rows([["a", "b", "c"], ["1", "蚂", "\x1b"]], left=(1,), gap="|"))
    assert lines == ["a|b |   c", "1|蚂|\\x1b"]
