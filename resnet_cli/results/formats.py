"""What the suffix of a result file means: one line of ``FORMATS`` for each format.

A format is a module of this package and a line here. The module, and the library behind it, is
imported on first use: options, messages and docs read the table without either.
"""

import json
from codecs import register_error
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from resnet_cli.errors import OutputError
from resnet_cli.files import MAKE_ROOM, OVERWRITE, check_suffix, reserve_place

if TYPE_CHECKING:
    from resnet_cli.results.columns import Identities, Row
    from resnet_cli.results.options import Dialect, Write, WriterOptions

Writer = Callable[[Path, "WriterOptions"], AbstractContextManager["Write"]]
Read = Callable[[BinaryIO, Callable[["Row"], Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdout:
    """How the rows of a format are printed."""

    write: "Callable[[TextIO, WriterOptions], Write]"  # returns what prints a prediction
    errors: str  # codec error handler
    any_encoding: bool = False  # the handler suits any encoding, not only UTF-8
    byte_order_mark: bool = False  # is printed if the dialect has one


def escape_as_json(error: UnicodeError) -> tuple[str, int]:
    """Escape what an encoding lacks as JSON does, whose escapes differ from Python's."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


register_error("jsonescape", escape_as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of result files, by their suffix."""

    suffix: str
    write: Writer  # opens a file for predictions
    purpose: str = ""  # in the help, if it is not a table of rows
    read: Read | None = None
    """Yields what a function makes of each row of a file; raises ``ValueError`` on a bad one."""
    read_identities: "Callable[[BinaryIO], Identities] | None" = None
    """Yields what ``--resume`` needs of each row, in a fraction of the time."""
    find_dialect: "Callable[[BinaryIO], Dialect] | None" = None  # of a file that was read
    has_header: bool = False  # a line before the rows
    utf8_only: bool = False  # bytes of names that are not UTF-8 are escaped
    resumable: bool = False  # a later run can continue a file
    thumbnails: bool = False  # shows the images
    grid: bool = False  # pages of images
    least_topk: int = 1  # classes of an image that it shows, however few the tables have
    beside: Callable[[Path], tuple[Path, ...]] = lambda _: ()  # files that are written beside one
    stdout: Stdout | None = None  # for ``--format``
    library: str = ""  # that has to be installed
    extra: str = ""  # of this package, which installs it

    @property
    def remedy(self) -> str:
        """What to do if the file exists."""
        if self.resumable:
            return "use --resume to continue it, or --overwrite to replace it"
        return OVERWRITE

    @property
    def full_disk(self) -> str:
        """What to do if the disk is full."""
        if self.resumable:
            return "its rows so far are whole: make room, then --resume"
        return MAKE_ROOM


def later(reference: str) -> Callable[..., Any]:
    """Return a function that imports and calls ``module:function`` of this package."""
    module, _, name = reference.partition(":")

    def call(*arguments: object) -> Any:
        return getattr(import_module(f"resnet_cli.results.{module}"), name)(*arguments)

    return call


def appended(lines: str) -> Writer:
    """Return the writer of files that grow by lines.

    Args:
        lines: reference of a function that takes the options and returns the header and what makes
            a line of a prediction.
    """

    def write(path: Path, options: "WriterOptions") -> AbstractContextManager["Write"]:
        opened: AbstractContextManager[Write] = later("files:append_lines")(
            path, options, *later(lines)(options)
        )
        return opened

    return write


def collected(finish: str) -> Writer:
    """Return the writer of files that are made at the end, of rows in a journal.

    Args:
        finish: reference of a function that takes the open journal, the open file and the options,
            and writes the file.
    """

    def write(path: Path, options: "WriterOptions") -> AbstractContextManager["Write"]:
        opened: AbstractContextManager[Write] = later("files:journal_rows")(
            path, options, later(finish)
        )
        return opened

    return write


def drawn(writer: str) -> Writer:
    """Return the writer of files that show images, in a thread of their own.

    Args:
        writer: reference of a function that takes path and options, and opens a writer.
    """

    @contextmanager
    def write(path: Path, options: "WriterOptions") -> "Iterator[Write]":
        with (
            reserve_place(path, overwrite=options.overwrite),
            later("drawing:draw_meanwhile")(partial(later(writer), path, options)) as draw,
        ):
            yield draw

    return write


def journal_path(path: Path) -> Path:
    """Return where the rows of a file wait until it is made: ``x.json.part.jsonl``."""
    return path.with_name(f"{path.name}.part.jsonl")


def manifest_path(path: Path) -> Path:
    """Return where the record of the run stands: ``x.csv.run.json``."""
    return path.with_name(f"{path.name}.run.json")


def numbered_page(path: Path, page: int) -> Path:
    """Return where one page of several goes: ``grid-2.png`` for ``grid.png``."""
    return path.with_name(f"{path.stem}-{page}{path.suffix}")


def beside_journal(path: Path) -> tuple[Path, ...]:
    """Return the journal of a file."""
    return (journal_path(path),)


def beside_page(path: Path) -> tuple[Path, ...]:
    """Return the first of several pages, after which the others are named."""
    return (numbered_page(path, 1),)


GRID = "for the grid"

FORMATS: dict[str, Format] = {
    each.suffix: each
    for each in (
        Format(
            suffix=".csv",
            write=appended("csv:csv_lines"),
            read=later("csv:read_csv"),
            read_identities=later("csv:csv_identities"),
            find_dialect=later("csv:csv_dialect"),
            has_header=True,
            resumable=True,
            stdout=Stdout(
                write=later("csv:csv_rows"), errors="surrogateescape", byte_order_mark=True
            ),
        ),
        Format(
            suffix=".jsonl",
            write=appended("json:jsonl_lines"),
            read=later("json:read_jsonl"),
            read_identities=later("json:jsonl_identities"),
            resumable=True,
            stdout=Stdout(write=later("json:jsonl_rows"), errors="jsonescape", any_encoding=True),
        ),
        Format(
            suffix=".json",
            write=collected("json:write_list"),
            read=later("json:read_json"),
            read_identities=later("json:json_identities"),
            resumable=True,
            beside=beside_journal,
        ),
        Format(
            suffix=".parquet",
            write=collected("parquet:write_table"),
            read=later("parquet:read_parquet"),
            read_identities=later("parquet:parquet_identities"),
            utf8_only=True,
            resumable=True,
            beside=beside_journal,
        ),
        Format(
            suffix=".xlsx",
            write=collected("xlsx:write_workbook"),
            utf8_only=True,
            beside=beside_journal,
            library="xlsxwriter",
            extra="excel",
        ),
        Format(
            suffix=".html",
            write=drawn("html:html_writer"),
            purpose="for a report to look through in a browser",
            thumbnails=True,
            least_topk=5,
        ),
        Format(
            suffix=".png",
            write=drawn("grid:image_writer"),
            purpose=GRID,
            thumbnails=True,
            grid=True,
            beside=beside_page,
        ),
        Format(
            suffix=".pdf",
            write=drawn("grid:pdf_writer"),
            purpose=GRID,
            thumbnails=True,
            grid=True,
        ),
        Format(
            suffix=".svg",
            write=drawn("grid:image_writer"),
            purpose=GRID,
            thumbnails=True,
            grid=True,
            beside=beside_page,
        ),
    )
}

RESUMABLE = tuple(suffix for suffix, each in FORMATS.items() if each.resumable)
READABLE = tuple(suffix for suffix, each in FORMATS.items() if each.read)
GRIDS = tuple(suffix for suffix, each in FORMATS.items() if each.grid)
PRINTED = {suffix[1:]: each.stdout for suffix, each in FORMATS.items() if each.stdout}
"""Formats of stdout, by name."""


def format_of(path: Path) -> Format:
    """Return the format that the suffix of a path names.

    Raises:
        OutputNameError: there is none.
    """
    check_suffix(path, FORMATS)
    return FORMATS[path.suffix.lower()]


def require_library(path: Path) -> None:
    """Check that the library is installed that writes a file.

    Raises:
        OutputError: names the extra that installs it.
    """
    wanted = format_of(path)
    if wanted.library and find_spec(wanted.library) is None:
        raise OutputError(
            f"cannot write {path}: {wanted.suffix} needs an extra: "
            f"pip install 'resnet-cli[{wanted.extra}]'"
        )


def describe_formats() -> str:
    """List the suffixes for the help: ``.csv .jsonl, .html for a report, .png .pdf for …``."""
    groups: dict[str, list[str]] = {}
    for suffix, each in FORMATS.items():
        groups.setdefault(each.purpose, []).append(suffix)
    return ", ".join(
        f"{' '.join(suffixes)} {purpose}".rstrip() for purpose, suffixes in groups.items()
    )
