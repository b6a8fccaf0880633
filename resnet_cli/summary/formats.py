"""A summary as text: table, JSON, CSV, Markdown."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

from resnet_cli.files import check_suffix
from resnet_cli.summary import Summary
from resnet_cli.summary.views import Row

BAR_WIDTH = 12  # characters of a share of 100 %
EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table for people."""

    title: str
    text: Callable[[Row], str]
    right: bool = False  # aligned, as numbers are


def shape_words(shape: Sequence[int] | None) -> str:
    """A shape in few characters."""
    return "" if shape is None else "×".join(map(str, shape))


def count_cell(value: int) -> str:
    """A count with separators; nothing for zero."""
    return f"{value:,}" if value else ""


def nested_name(row: Row) -> str:
    """The last part of a name, indented by its depth."""
    return "  " * (row["depth"] - 1) + row["name"].rpartition(".")[2]


def channels_cell(row: Row) -> str:
    """Channels into and out of a block."""
    return f"{row['in_channels']} → {row['out_channels']}"


def share_bar(share: float) -> str:
    """A share, 0 to 1, as a bar."""
    whole, rest = divmod(round(share * BAR_WIDTH * 8), 8)
    return ("█" * whole + EIGHTHS[rest]).rstrip()


COSTS = (
    TableColumn("parameters", lambda row: count_cell(row["parameters"]), right=True),
    TableColumn("multiply-adds", lambda row: count_cell(row["macs"]), right=True),
)

COLUMNS: dict[str, tuple[TableColumn, ...]] = {
    "layers": (
        TableColumn("layer", nested_name),
        TableColumn("type", lambda row: row["type"]),
        TableColumn("input", lambda row: shape_words(row["input_shape"])),
        TableColumn("output", lambda row: shape_words(row["output_shape"])),
        TableColumn("kernel", lambda row: shape_words(row["kernel_size"])),
        TableColumn("stride", lambda row: shape_words(row["stride"])),
        TableColumn("padding", lambda row: shape_words(row["padding"])),
        *COSTS,
    ),
    "blocks": (
        TableColumn("block", lambda row: row["name"]),
        TableColumn("type", lambda row: row["block"]),
        TableColumn("shortcut", lambda row: row["shortcut"]),
        TableColumn("stride", lambda row: str(row["stride"]), right=True),
        TableColumn("channels", channels_cell, right=True),
        TableColumn("size", lambda row: shape_words(row["output_shape"][2:]), right=True),
        *COSTS,
    ),
    "stages": (
        TableColumn("stage", lambda row: row["name"]),
        TableColumn("output", lambda row: shape_words(row["output_size"]), right=True),
        *COSTS,
        TableColumn("share", lambda row: f"{row['macs_share']:.1%}", right=True),
        TableColumn("", lambda row: share_bar(row["macs_share"])),
    ),
}

DROPPED = {
    "layers": ("input", "padding", "stride", "kernel"),
    "blocks": ("stride", "type"),
    "stages": (),
}
"""Columns that a narrow terminal goes without, the first of them first."""

GAP = "  "


def summary_table(summary: Summary, width: int | None = None) -> str:
    """A table for people.

    Args:
        summary: what to show.
        width: characters of a line, at which columns are dropped; None keeps all.
    """
    columns = fitting_columns(summary, width)
    lines = [summary_title(summary), ""]
    cells = [[column.text(row) for column in columns] for row in summary.rows]
    widths = [
        max(map(len, (column.title, *texts)))
        for column, texts in zip(columns, zip(*cells, strict=True), strict=True)
    ]
    lines.append(align_line([column.title for column in columns], columns, widths))
    lines.append("─" * len(lines[-1].ljust(sum(widths) + len(GAP) * (len(widths) - 1))))
    for row, texts in zip(summary.rows, cells, strict=True):
        lines.append(align_line(texts, columns, widths))
        lines += below_row(row)
    return "\n".join([*lines, "", *totals_lines(summary), *wrapped_notes(summary, width), ""])


def fitting_columns(summary: Summary, width: int | None) -> list[TableColumn]:
    """The columns of a view that fit into a line."""
    columns = list(COLUMNS[summary.view])
    for dropped in DROPPED[summary.view]:
        widest = [
            max(len(column.title), *(len(column.text(row)) for row in summary.rows))
            for column in columns
        ]
        if width is None or sum(widest) + len(GAP) * (len(widest) - 1) <= width:
            break
        columns = [column for column in columns if column.title != dropped]
    return columns


def columns_left_out(summary: Summary, width: int) -> list[str]:
    """Name the columns that a line of this width has no room for."""
    shown = fitting_columns(summary, width)
    return [column.title for column in COLUMNS[summary.view] if column not in shown]


def align_line(texts: Sequence[str], columns: Sequence[TableColumn], widths: Sequence[int]) -> str:
    """One line of a table."""
    cells = [
        text.rjust(width) if column.right else text.ljust(width)
        for text, column, width in zip(texts, columns, widths, strict=True)
    ]
    return GAP.join(cells).rstrip()


def below_row(row: Row) -> Iterator[str]:
    """What stands below the row of a stage: its block and its formula."""
    if row.get("formula") or "repeats" in row:
        repeats = f" × {row['repeats']}" if row["repeats"] > 1 else ""
        yield f"    {row['block']}{repeats}"
        if row["formula"]:
            yield f"    {row['formula']}"


def summary_title(summary: Summary) -> str:
    """What was summarised."""
    images = shape_words((summary.batch_size, summary.in_channels, *summary.img_size))
    return f"{summary.model} ({summary.source}): {images} → {summary.outputs}"


def totals_lines(summary: Summary) -> list[str]:
    """The totals, a line each, with what is counted."""
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
    """Bytes in the unit that people read."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def wrapped_notes(summary: Summary, width: int | None) -> list[str]:
    """What is to be said below the totals, wrapped; formulas, which are indented, are not."""
    from textwrap import wrap

    lines = [""] if summary.notes else []
    for line in chain.from_iterable(note.splitlines() for note in summary.notes):
        lines += [line] if line[0] == " " else wrap(line, width or 1000, subsequent_indent="  ")
    return lines


def to_json(summary: Summary) -> str:
    """One object: ``model, source, view, …, rows, totals``."""
    return json.dumps(summary.record(), indent=2, ensure_ascii=False) + "\n"


def to_csv(summary: Summary) -> str:
    """The rows; a shape is one cell, such as 1x64x112x112."""
    text = StringIO()
    writer = csv.DictWriter(text, list(summary.rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        writer.writerow({name: plain_cell(value) for name, value in row.items()})
    return text.getvalue()


def plain_cell(value: Any) -> Any:
    """A value for a cell."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else value


def to_markdown(summary: Summary) -> str:
    """A table for a README or an issue, and the totals as a list."""
    columns = COLUMNS[summary.view]
    lines = [f"**{summary_title(summary)}**", ""]
    lines.append(f"| {' | '.join(column.title for column in columns)} |")
    lines.append(f"| {' | '.join('---:' if column.right else '---' for column in columns)} |")
    for row in summary.rows:
        cells = [column.text(row) for column in columns]
        more = "<br>".join(line.strip() for line in below_row(row))
        cells[0] = f"{cells[0].replace('  ', '&emsp;')}{'<br>' if more else ''}{more}"
        lines.append(f"| {' | '.join(cells)} |")
    notes = [" ".join(note.split()) for note in summary.notes]
    lines += ["", *(f"- {line}" for line in (*totals_lines(summary), *notes))]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Summary], str]] = {
    "table": summary_table,
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
}

SUFFIXES = {".txt": "table", ".json": "json", ".csv": "csv", ".md": "markdown"}
"""What the suffix of a file says about its format."""


def choose_format(asked: str | None, output: Path | None) -> str:
    """The format that was asked for, else what the suffix of ``output`` says, else a table.

    Raises:
        OutputError: the suffix says nothing.
    """
    if asked is not None or output is None:
        return asked or "table"
    check_suffix(output, SUFFIXES, otherwise=", or --format must say the format")
    return SUFFIXES[output.suffix.lower()]
