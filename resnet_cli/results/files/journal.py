"""Formats that cannot grow row by row: their rows wait in a journal of JSON lines beside them.

While ``results.parquet.part.jsonl`` is there, it holds all rows, and the file itself, if any, is
older. That is all there is to know after a run was cut off: nothing is ever in both.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.results.columns import RowLayout, SavedRows
from resnet_cli.results.files.append import growing_file
from resnet_cli.results.files.disk import existing_error, sync_folder, whole_file
from resnet_cli.results.json import json_line
from resnet_cli.results.options import Write, WriterOptions
from resnet_cli.results.readers import READERS

Finish = Callable[[BinaryIO, BinaryIO, WriterOptions], None]


def journal_path(path: Path) -> Path:
    """Where the rows of a file are until it is finished."""
    return path.with_name(f"{path.name}.part.jsonl")


@contextmanager
def journal_rows(path: Path, options: WriterOptions, finish: Finish) -> Iterator[Write]:
    """Collect rows in a journal, of which ``finish`` makes the file when the run ends or stops.

    A finished file stays as it is until there is a row to add.

    Args:
        path: the file.
        options: how results are laid out.
        finish: writes the rows of an open journal to an open file.
    """
    with ExitStack() as stack:
        begun: list[Write] = []

        def write(prediction: Prediction) -> None:
            if not begun:
                begun.append(stack.enter_context(collect_rows(path, options, finish)))
            begun[0](prediction)

        if options.saved is None or journal_path(path).exists() or not path.exists():
            begun.append(stack.enter_context(collect_rows(path, options, finish)))
        yield write


@contextmanager
def collect_rows(path: Path, options: WriterOptions, finish: Finish) -> Iterator[Write]:
    """Collect rows in a journal now.

    Raises:
        OutputError: the file has come meanwhile.
    """
    if options.saved is None and not options.overwrite and path.exists():
        raise existing_error(path)
    journal = journal_path(path)
    if options.saved is not None and not journal.exists():
        options = replace(
            options,
            saved=options.saved.moved(begin_journal(journal, path, options.saved, options.layout)),
        )
    with growing_file(journal, options) as file:
        if options.overwrite:
            path.resolve().unlink(missing_ok=True)
        try:
            yield lambda prediction: file.append(json_line(prediction, options.layout))
        finally:
            file.sync()
            with journal.open("rb") as rows, whole_file(path) as finished:
                finish(rows, finished, options)
    journal.unlink()
    sync_folder(path.parent)


def begin_journal(journal: Path, path: Path, saved: SavedRows, layout: RowLayout) -> int:
    """Put the rows of a finished file, if there is one, into a journal; return its size.

    Raises:
        OutputError: it is not the file any more that ``saved`` was read from.
    """
    with whole_file(journal) as new:
        if path.exists():
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != saved.size:
                    raise OutputError(f"cannot resume {path}: another run has written it meanwhile")
                for prediction, _ in READERS[path.suffix.lower()](file):
                    new.write(json_line(prediction, layout))
        return new.tell()
