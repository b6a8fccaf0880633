"""Excel workbooks (.xlsx), written by XlsxWriter with memory that does not grow with the rows.

Text stays text: no cell is taken for a formula, a link or a number. Excel's limit of 32,767
characters in a cell cuts longer ones.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.worksheet import Worksheet

from resnet_cli.results.columns import Cell, as_utf8, flat_cells
from resnet_cli.results.json import read_jsonl
from resnet_cli.results.options import WriterOptions

SHEET_ROWS = 1_048_576  # of a worksheet, its header among them

SETTINGS = {
    "constant_memory": True,  # rows wait in a temporary file for each sheet
    "use_zip64": True,  # a sheet may be larger than 4 GiB
    "nan_inf_to_errors": True,
}

WIDTHS = {"path": 40, "error": 40}  # of columns, in characters
USUAL_WIDTH = 12


def write_workbook(journal: BinaryIO, file: BinaryIO, options: WriterOptions) -> None:
    """Write the rows of a journal as a workbook, with a further sheet for each that is full."""
    layout = options.layout
    rows = read_jsonl(journal, lambda row: flat_cells(row, layout))
    with TemporaryDirectory(dir=Path(file.name).parent, prefix=".resnet-cli-") as folder:
        book = Workbook(file, SETTINGS | {"tmpdir": folder})
        try:
            write_sheets(book, [*layout.columns], rows)
            book.close()
        except FileCreateError as error:  # around an OSError, such as that of a full disk
            raise error.args[0] from error
        finally:
            for sheet in book.worksheets():
                sheet._opt_close()  # their rows' files, of a book that is not finished


def write_sheets(book: Workbook, names: list[str], rows: Iterator[list[Cell]]) -> None:
    """Write rows into as many sheets as they need, at least one, each with the header."""
    bold = book.add_format({"bold": True})
    first: list[Cell] | None = next(rows, None)
    while True:
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        for column, name in enumerate(names):
            sheet.set_column(column, column, WIDTHS.get(name, USUAL_WIDTH))
            sheet.write_string(0, column, name, bold)
        begun = [] if first is None else [first]
        for number, cells in enumerate(islice(chain(begun, rows), SHEET_ROWS - 1), start=1):
            write_row(sheet, number, cells)
        first = next(rows, None)
        if first is None:
            return


def write_row(sheet: Worksheet, number: int, cells: list[Cell]) -> None:
    """Write the cells of a row as text and numbers; None leaves a cell empty."""
    for column, cell in enumerate(cells):
        if isinstance(cell, str):
            sheet.write_string(number, column, as_utf8(cell))
        elif cell is not None:
            sheet.write_number(number, column, cell)
