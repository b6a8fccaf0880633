"""Result files: the suffix names the format."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.writers.manifest import manifest_path
from resnet_cli.writers.options import Options, Write
from resnet_cli.writers.pages import numbered

__all__ = [
    "GRIDS",
    "ILLUSTRATED",
    "WRITERS",
    "Options",
    "Write",
    "check_new",
    "check_outputs",
    "open_writer",
    "saying",
]

Writer = Callable[[Path, Options], AbstractContextManager[Write]]


def late(module: str, name: str) -> Writer:
    """A writer whose module, and the library behind it, is imported when it is used."""

    def writer(path: Path, options: Options) -> AbstractContextManager[Write]:
        made: Writer = getattr(import_module(f"resnet_cli.writers.{module}"), name)
        return made(path, options)

    return writer


WRITERS: dict[str, Writer] = {
    ".csv": late("csv", "csv_writer"),
    ".jsonl": late("json", "jsonl_writer"),
    ".json": late("json", "json_writer"),
    ".parquet": late("parquet", "parquet_writer"),
    ".html": late("html", "html_writer"),
    ".png": late("grid", "image_writer"),
    ".pdf": late("grid", "pdf_writer"),
    ".svg": late("grid", "image_writer"),
}

GRIDS = (".png", ".pdf", ".svg")
"""Suffixes of pictures."""

ILLUSTRATED = (*GRIDS, ".html")
"""Suffixes whose writers want thumbnails."""


def check_outputs(outputs: Sequence[Path], *, overwrite: bool, grids: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, what could not be written at the end of it.

    Args:
        outputs: files of any format.
        grids: pictures.
        overwrite: whether files may be there already.

    Raises:
        OutputError: no writer for a suffix, no folder, a file that is there, or one named twice.
    """
    wanted = [*((path, tuple(WRITERS)) for path in outputs), *((path, GRIDS) for path in grids)]
    taken: set[Path] = set()
    for path, suffixes in wanted:
        if path.suffix.lower() not in suffixes:
            raise OutputError(
                f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}"
            )
        places = {path.resolve(), manifest_path(path).resolve()}
        if places & taken:
            raise OutputError(f"cannot write {path} twice: name each output once")
        taken |= places
        check_new(path, overwrite=overwrite)
        if path.suffix.lower() in GRIDS:  # the first of several pages
            check_new(numbered(path, 1), overwrite=overwrite)


def check_new(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no file can be made, or where there is one already."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} may not be written")
    if path.exists() and not overwrite:
        raise OutputError(f"cannot write {path}: it is there already: add --overwrite")


@contextmanager
def open_writer(path: Path, options: Options) -> Iterator[Write]:
    """Open the writer that the suffix of ``path`` names.

    Rows are appended as they come, so a run that is stopped leaves whole rows. Of a prediction
    with more classes than ``options.topk`` the others are left out.

    Raises:
        OutputError: the file cannot be written, now or at any row.
    """
    stack = ExitStack()
    with saying(path):
        if not options.overwrite:
            path.touch(exist_ok=False)  # of two runs that start at once, one has to lose
        write = stack.enter_context(WRITERS[path.suffix.lower()](path, options))

    def write_or_say(prediction: Prediction) -> None:
        with saying(path):
            write(prediction.best(options.topk))

    try:
        yield write_or_say
    finally:  # not inside saying: an error of the caller's is none of this file's
        with saying(path):
            stack.close()


@contextmanager
def saying(place: Path | str) -> Iterator[None]:
    """Name what could not be written in an error of the system, such as a full disk."""
    try:
        yield
    except BrokenPipeError:  # not an error: who reads has seen enough
        raise
    except OSError as error:
        raise OutputError(f"cannot write {place}: {error.strerror or error}") from error
