"""``predict --list``: the items of the inputs, without a network and without opening an image."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import click

from resnet_cli.cli.terminal import print_note, reconfigure_stdout
from resnet_cli.files import naming_output
from resnet_cli.records import Item, is_url
from resnet_cli.results.csv import Table, disarm_cell
from resnet_cli.results.formats import PRINTED
from resnet_cli.results.json import encode_row
from resnet_cli.results.options import Dialect
from resnet_cli.sources import FindOptions, find_inputs
from resnet_cli.text import escape_unprintable

COLUMNS = ("path", "part", "bytes")

UNLISTED = ("outputs", "grids", "show", "resume", "overwrite", "quiet", "dry_run", "verify")
"""Parameters of ``predict`` that say what becomes of predictions."""


def list_inputs(
    inputs: Sequence[str], find: FindOptions, stdout_format: str, dialect: Dialect
) -> None:
    """Print a line for each item that ``predict`` would classify, as they are found.

    Args:
        inputs: as typed.
        find: what to take in folders, globs and lists.
        stdout_format: ``lines``, or a key of ``PRINTED``.
        dialect: of csv.

    Raises:
        InputError: nothing was found.
        UsageError: an option that needs predictions.
    """
    refuse_outputs()
    found = find_inputs(inputs, find)
    header, line = line_makers(dialect)[stdout_format]
    if stdout_format in PRINTED and isinstance(sys.stdout, TextIOWrapper):
        reconfigure_stdout(sys.stdout, PRINTED[stdout_format], dialect)
    with naming_output("standard output"):
        sys.stdout.write(header)
        for item in found.items:
            if isinstance(item, Item):
                sys.stdout.write(line(item) + "\n")
                if isinstance(item.content, str):
                    print_note(f"could not read {item.words}: {item.content}")
            if found.total is None:
                sys.stdout.flush()
        sys.stdout.flush()
    for sentence in found.notes:
        print_note(sentence)


def refuse_outputs() -> None:
    """Refuse options that a list has no use for.

    Raises:
        UsageError: names them.
    """
    context = click.get_current_context()
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in UNLISTED and context.params[parameter.name]
    ]
    if given:
        raise click.UsageError(f"--list classifies nothing: leave {', '.join(given)} out")


def line_makers(dialect: Dialect) -> Mapping[str, tuple[str, Callable[[Item], str]]]:
    """Return the header of each format, and what makes the line of an item."""
    table = Table(dialect)

    def csv_line(item: Item) -> str:
        path, part, size = cells(item)
        return table.line([disarm_cell(path, "./"), disarm_cell(part), size]).removesuffix("\n")

    return {
        "lines": ("", words),
        "csv": (dialect.mark + table.line(COLUMNS), csv_line),
        "jsonl": ("", lambda item: encode_row(dict(zip(COLUMNS, cells(item), strict=True)))),
    }


def words(item: Item) -> str:
    """Return an item as a line for people."""
    size = bytes_of(item)
    parts = [item.path, item.part, "" if size is None else f"{size:,} bytes"]
    return escape_unprintable("  ".join(filter(None, parts)))


def cells(item: Item) -> tuple[str, str, int | None]:
    """Return what ``COLUMNS`` name."""
    return item.path, item.part, bytes_of(item)


def bytes_of(item: Item) -> int | None:
    """Return the bytes of an image, as its source or its file states them."""
    if item.size is None and item.content is None and not item.part and not is_url(item.path):
        with suppress(OSError, ValueError):  # its row would say why it cannot be read
            return Path(item.path).stat().st_size
    return item.size
