"""Result files: the suffix names the format."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path

from resnet_cli.errors import OutputError, OutputNameError
from resnet_cli.records import Prediction
from resnet_cli.results.dialect import Dialect
from resnet_cli.results.files.disk import (
    OVERWRITE,
    RESUMABLE,
    is_resumable,
    naming_output,
    reserve_place,
    room_for,
    way_past,
)
from resnet_cli.results.files.manifest import manifest_path
from resnet_cli.results.grid import numbered_page
from resnet_cli.results.options import Write, WriterOptions

__all__ = [
    "GRIDS",
    "ILLUSTRATED",
    "RESUMABLE",
    "WRITERS",
    "Dialect",
    "Write",
    "WriterOptions",
    "check_new",
    "check_outputs",
    "naming_output",
    "open_writer",
]

Writer = Callable[[Path, WriterOptions], AbstractContextManager[Write]]


def late_writer(module: str, name: str) -> Writer:
    """A writer whose module, and the library behind it, is imported when it is used."""

    def writer(path: Path, options: WriterOptions) -> AbstractContextManager[Write]:
        made: Writer = getattr(import_module(f"resnet_cli.results.{module}"), name)
        return made(path, options)

    return writer


def appending_writer(module: str, name: str) -> Writer:
    """A writer that appends lines, and the function that says what they are."""

    def writer(path: Path, options: WriterOptions) -> AbstractContextManager[Write]:
        from resnet_cli.results.files import append as lines

        header, line = getattr(import_module(f"resnet_cli.results.{module}"), name)(options)
        return lines.append_lines(path, options, header, line)

    return writer


def journalling_writer(module: str, name: str) -> Writer:
    """A writer that collects rows, and the function that makes a file of them at the end."""

    def writer(path: Path, options: WriterOptions) -> AbstractContextManager[Write]:
        from resnet_cli.results.files import journal

        finish: journal.Finish = getattr(import_module(f"resnet_cli.results.{module}"), name)
        return journal.journal_rows(path, options, finish)

    return writer


WRITERS: dict[str, Writer] = {
    ".csv": appending_writer("csv", "csv_lines"),
    ".jsonl": appending_writer("json", "jsonl_lines"),
    ".json": journalling_writer("json", "write_list"),
    ".parquet": journalling_writer("parquet", "write_table"),
    ".html": late_writer("html", "html_writer"),
    ".png": late_writer("grid", "image_writer"),
    ".pdf": late_writer("grid", "pdf_writer"),
    ".svg": late_writer("grid", "image_writer"),
}

GRIDS = (".png", ".pdf", ".svg")
"""Suffixes of pictures."""

ILLUSTRATED = (*GRIDS, ".html")
"""Suffixes whose writers want thumbnails."""


def check_outputs(
    outputs: Sequence[Path],
    *,
    overwrite: bool,
    resume: bool = False,
    grids: Sequence[Path] = (),
) -> None:
    """Refuse, before any work is done, what could not be written at the end of it.

    Args:
        outputs: files of any format.
        grids: pictures.
        overwrite: whether files may be there already, to start anew.
        resume: whether files may be there already, to be gone on with.

    Raises:
        OutputError: no writer for a suffix, no folder, a file that is there, or one named twice.
    """
    wanted = [*((path, tuple(WRITERS)) for path in outputs), *((path, GRIDS) for path in grids)]
    taken: set[Path] = set()
    for path, suffixes in wanted:
        if path.suffix.lower() not in suffixes:
            raise OutputNameError(
                f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}"
            )
        places = {path.resolve(), manifest_path(path).resolve()}
        if places & taken:
            raise OutputNameError(f"cannot write {path} twice: name each output once")
        taken |= places
        if resume and not is_resumable(path):
            raise OutputNameError(
                f"cannot resume {path}: --resume continues {', '.join(RESUMABLE)}: leave it "
                "out, or replace it with --overwrite"
            )
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OutputError(f"cannot write {path}: it is a pipe or a device: name a file")
        for place in (path, *in_the_way(path)):
            check_new(place, overwrite=overwrite or resume, remedy=way_past(path))


def check_new(path: Path, *, overwrite: bool, remedy: str = OVERWRITE) -> None:
    """Refuse a place where no file can be made, or where there is one already."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} may not be written")
    if path.exists() and not overwrite:
        raise OutputError(f"cannot write {path}: it already exists: {remedy}")


def in_the_way(path: Path) -> list[Path]:
    """Other files that a writer of ``path`` would write over."""
    match path.suffix.lower():
        case ".json" | ".parquet":
            return [path.with_name(f"{path.name}.part.jsonl")]
        case suffix if suffix in GRIDS:
            return [numbered_page(path, 1)]
        case _:
            return []


@contextmanager
def open_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Open the writer that the suffix of ``path`` names.

    A run that is stopped leaves whole rows. Of a prediction with more classes than
    ``options.topk`` the others are left out.

    Raises:
        OutputError: the file cannot be written, now or at any row.
    """
    stack = ExitStack()
    room = room_for(path)
    with naming_output(path, full=room):
        if not is_resumable(path):
            stack.enter_context(reserve_place(path, overwrite=options.overwrite))
        write = stack.enter_context(WRITERS[path.suffix.lower()](path, options))

    def write_or_say(prediction: Prediction) -> None:
        with naming_output(path, full=room):
            write(prediction.best(options.topk))

    try:
        yield write_or_say
    except BaseException:  # which is what has to be told, not what comes of it
        with suppress(OSError, OutputError):
            stack.close()
        raise
    with naming_output(path, full=room):
        stack.close()
