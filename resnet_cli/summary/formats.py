"""A summary as text: table, JSON, CSV, Markdown."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

from resnet_cli.display import TableColumn, TextTable
from resnet_cli.files import check_suffix
from resnet_cli.summary import Summary
from resnet_cli.summary.trace import SummaryRow

BAR_WIDTH = 12  # characters of a share of 100 %
EIGHTHS = " ▏▎▍▌▋▊▉"


def shape_words(shape: Sequence[int] | None) -> str:
    """Return a shape in few characters: 64×112×112."""
    return "" if shape is None else "×".join(map(str, shape))


def count_cell(value: int) -> str:
    """Return a count with thousands separators, or nothing for zero."""
    return f"{value:,}" if value else ""


def nested_name(row: SummaryRow) -> str:
    """Return the last part of a name, indented by its depth."""
    return "  " * (row["depth"] - 1) + row["name"].rpartition(".")[2]


def share_bar(share: float) -> str:
    """Draw a share, 0 to 1, as a bar."""
    whole, rest = divmod(round(share * BAR_WIDTH * 8), 8)
    return ("█" * whole + EIGHTHS[rest]).rstrip()


def word_column(title: str, text: Callable[[SummaryRow], str]) -> TableColumn[SummaryRow]:
    """Return a column of words."""
    return TableColumn(title=title, text=text)


def number_column(title: str, text: Callable[[SummaryRow], str]) -> TableColumn[SummaryRow]:
    """Return a column of numbers."""
    return TableColumn(title=title, text=text, align="right")


COSTS = (
    number_column("parameters", lambda row: count_cell(row["parameters"])),
    number_column("multiply-adds", lambda row: count_cell(row["macs"])),
)

SUMMARY_COLUMNS: dict[str, tuple[TableColumn[SummaryRow], ...]] = {
    "layers": (
        word_column("layer", nested_name),
        word_column("type", lambda row: row["type"]),
        word_column("input", lambda row: shape_words(row["input_shape"])),
        word_column("output", lambda row: shape_words(row["output_shape"])),
        word_column("kernel", lambda row: shape_words(row["kernel_size"])),
        word_column("stride", lambda row: shape_words(row["stride"])),
        word_column("padding", lambda row: shape_words(row["padding"])),
        *COSTS,
    ),
    "blocks": (
        word_column("block", lambda row: row["name"]),
        word_column("type", lambda row: row["block"]),
        word_column("shortcut", lambda row: row["shortcut"]),
        number_column("stride", lambda row: str(row["stride"])),
        number_column("channels", lambda row: f"{row['in_channels']} → {row['out_channels']}"),
        number_column("size", lambda row: shape_words(row["output_shape"][2:])),
        *COSTS,
    ),
    "stages": (
        word_column("stage", lambda row: row["name"]),
        number_column("output", lambda row: shape_words(row["output_size"])),
        *COSTS,
        number_column("share", lambda row: f"{row['macs_share']:.1%}"),
        word_column("", lambda row: share_bar(row["macs_share"])),
    ),
}

DROPPED = {
    "layers": ("input", "padding", "stride", "kernel"),
    "blocks": ("stride", "type"),
    "stages": (),
}
"""Columns that a narrow terminal leaves out, the first of them first."""


def layout_summary(summary: Summary, width: int | None = None) -> TextTable[SummaryRow]:
    """Lay out the rows of a summary.

    Args:
        summary: to show.
        width: terminal cells of a line, for which columns are left out; None keeps all.
    """
    return TextTable.fit(
        SUMMARY_COLUMNS[summary.view], summary.rows, width=width, dropped=DROPPED[summary.view]
    )


def summary_table(summary: Summary, width: int | None = None) -> str:
    """Return a summary as a table for people, as wide as ``width`` terminal cells."""
    table = layout_summary(summary, width)
    lines = [summary_title(summary), "", table.header, table.rule]
    for row in summary.rows:
        lines += [table.line(row), *below_row(row)]
    return "\n".join([*lines, "", *totals_lines(summary), *wrapped_notes(summary, width), ""])


def below_row(row: SummaryRow) -> Iterator[str]:
    """Yield the lines below the row of a stage: its block and its formula."""
    if row.get("formula") or "repeats" in row:
        repeats = f" × {row['repeats']}" if row["repeats"] > 1 else ""
        yield f"    {row['block']}{repeats}"
        if row["formula"]:
            yield f"    {row['formula']}"


def summary_title(summary: Summary) -> str:
    """Return the model, the images it takes, and the classes it gives."""
    images = shape_words((summary.batch_size, summary.in_channels, *summary.img_size))
    return f"{summary.model} ({summary.source}): {images} → {summary.outputs}"


def totals_lines(summary: Summary) -> list[str]:
    """Return a line for each total, with what is counted."""
    t = summary.totals
    return [
        f"parameters       {t.parameters:,} ({t.trainable_parameters:,} trainable), "
        f"{t.buffers:,} in buffers",
        f"multiply-adds    {t.gmacs:.3f} GMACs = {t.gflops:.3f} GFLOPs "
        "(convolutions and linear layers)",
        f"activations      {t.activations:,} (outputs of the same layers)",
        f"weights          {size_in_units(t.weights_bytes_fp32)} in fp32, "
        f"{size_in_units(t.weights_bytes_fp16)} in fp16",
        f"peak activations {size_in_units(t.peak_activation_bytes)} in fp32 "
        f"at batch {summary.batch_size}",
    ]


def size_in_units(count: int) -> str:
    """Return bytes as MB or kB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def wrapped_notes(summary: Summary, width: int | None) -> list[str]:
    """Wrap the notes below the totals, but not the formulas, which are indented."""
    from textwrap import wrap

    lines = [""] if summary.notes else []
    for line in chain.from_iterable(note.splitlines() for note in summary.notes):
        lines += [line] if line[0] == " " else wrap(line, width or 1000, subsequent_indent="  ")
    return lines


def summary_json(summary: Summary) -> str:
    """Return one object: ``model, source, view, …, rows, totals``."""
    return json.dumps(summary.record(), indent=2, ensure_ascii=False) + "\n"


def summary_csv(summary: Summary) -> str:
    """Return the rows; a shape is one cell, such as 1x64x112x112."""
    text = StringIO()
    writer = csv.DictWriter(text, list(summary.rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        writer.writerow({name: plain_cell(value) for name, value in row.items()})
    return text.getvalue()


def plain_cell(value: Any) -> Any:
    """Return a value as a cell of CSV."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else value


def summary_markdown(summary: Summary) -> str:
    """Return a table for a README or an issue, and the totals as a list."""
    columns = SUMMARY_COLUMNS[summary.view]
    lines = [f"**{summary_title(summary)}**", ""]
    lines.append(f"| {' | '.join(column.title for column in columns)} |")
    lines.append(
        f"| {' | '.join('---:' if column.align == 'right' else '---' for column in columns)} |"
    )
    for row in summary.rows:
        cells = [column.text(row) for column in columns]
        more = "<br>".join(line.strip() for line in below_row(row))
        cells[0] = f"{cells[0].replace('  ', '&emsp;')}{'<br>' if more else ''}{more}"
        lines.append(f"| {' | '.join(cells)} |")
    notes = [" ".join(note.split()) for note in summary.notes]
    lines += ["", *(f"- {line}" for line in (*totals_lines(summary), *notes))]
    return "\n".join(lines) + "\n"


SUMMARY_FORMATS: dict[str, Callable[[Summary], str]] = {
    "table": summary_table,
    "json": summary_json,
    "csv": summary_csv,
    "markdown": summary_markdown,
}

SUFFIXES = {".txt": "table", ".json": "json", ".csv": "csv", ".md": "markdown"}
"""The format of a file, by its suffix."""


def choose_format(asked: str | None, output: Path | None) -> str:
    """Return the format that was asked for, else the one of the file's suffix, else a table.

    Raises:
        OutputNameError: no format has this suffix.
    """
    if asked is not None or output is None:
        return asked or "table"
    check_suffix(output, SUFFIXES, otherwise=", or --format must say the format")
    return SUFFIXES[output.suffix.lower()]
