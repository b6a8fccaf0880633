"""Predictions in, result files out, in the format that their suffix names; and files read back."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.errors import InputError, OutputError, OutputNameError
from resnet_cli.files import check_distinct, check_new, check_suffix, naming_output
from resnet_cli.results.formats import (
    FORMATS,
    GRIDS,
    READABLE,
    RESUMABLE,
    Read,
    format_of,
    manifest_path,
    require_library,
)

if TYPE_CHECKING:
    from resnet_cli.records import Prediction
    from resnet_cli.results.options import Write, WriterOptions


def check_outputs(
    outputs: Sequence[Path],
    *,
    overwrite: bool,
    resume: bool = False,
    grids: Sequence[Path] = (),
) -> None:
    """Check, before any work is done, that the results can be written at the end of it.

    Args:
        outputs: files of any format.
        overwrite: existing files may be replaced.
        resume: existing files may be continued.
        grids: files of pages of images.

    Raises:
        OutputError: an unknown suffix, no folder, an existing file, one named twice, a library
            that is not installed.
    """
    wanted = [*((path, tuple(FORMATS)) for path in outputs), *((path, GRIDS) for path in grids)]
    taken: set[Path] = set()
    for path, suffixes in wanted:
        check_suffix(path, suffixes)
        wanted_format = format_of(path)
        check_distinct(path, taken, {path.resolve(), manifest_path(path).resolve()})
        if resume and not wanted_format.resumable:
            raise OutputNameError(
                f"cannot resume {path}: --resume continues {', '.join(RESUMABLE)}: leave it "
                "out, or replace it with --overwrite"
            )
        require_library(path)
        for place in (path, *wanted_format.beside(path)):
            check_new(place, overwrite=overwrite or resume, remedy=wanted_format.remedy)


@contextmanager
def open_writer(path: Path, options: "WriterOptions") -> "Iterator[Write]":
    """Open a result file, and yield what writes a prediction to it.

    A run that is stopped leaves whole rows. Of a prediction with more classes than
    ``options.topk`` the others are left out.

    Raises:
        OutputError: the file cannot be written, now or at any row.
    """
    stack = ExitStack()
    wanted = format_of(path)
    require_library(path)
    with naming_output(path, full=wanted.full_disk):
        write = stack.enter_context(wanted.write(path, options))

    def write_named(prediction: "Prediction") -> None:
        with naming_output(path, full=wanted.full_disk):
            write(prediction)

    try:
        yield write_named
    except BaseException:  # the cause, which an error of closing must not hide
        with suppress(OSError, OutputError):
            stack.close()
        raise
    with naming_output(path, full=wanted.full_disk):
        stack.close()


def read_results(path: Path) -> "Iterator[Prediction]":
    """Read the predictions of a result file, as a stream, in its order.

    ``warm_up``, thumbnails and distributions are not in files, and so not in these predictions.

    Raises:
        InputError: the format cannot be read, or, later, a row is not one of results.
        OSError: the file cannot be read.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None or found.read is None:
        raise InputError(
            f"cannot read results from {path}: the suffix must be one of {', '.join(READABLE)}"
        )
    return stream_results(path, found.read)


def stream_results(path: Path, read: Read) -> "Iterator[Prediction]":
    """Yield the predictions that a reader finds in a file."""
    from resnet_cli.results.columns import restore_prediction

    with path.open("rb") as file:
        try:
            yield from read(file, restore_prediction)
        except (ValueError, KeyError, TypeError) as error:  # of pyarrow too: ArrowInvalid
            raise InputError(
                f"cannot read results from {path}: {error}: a file that predict wrote, with its "
                "header; predict --resume repairs one that was cut off"
            ) from error
