"""``resnet-cli predict``: classify images."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from resnet_cli.cli.finding import finds_images
from resnet_cli.cli.loading import Load, loads_classifier
from resnet_cli.cli.options import (
    OUTPUT,
    POSITIVE,
    SOME_UNREADABLE,
    batch_size_option,
    csv_bom_option,
    csv_separator_option,
    debug_option,
    grid_option,
    grid_size_option,
    on_error_option,
    overwrite_option,
    progress_option,
    quiet_option,
    show_option,
    verify_option,
    workers_option,
)
from resnet_cli.cli.sections import Command
from resnet_cli.results.formats import PRINTED, RESUMABLE, describe_formats

if TYPE_CHECKING:
    from resnet_cli.results.options import Dialect
    from resnet_cli.sources import FindOptions


@click.command(cls=Command)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@finds_images
@loads_classifier
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OUTPUT,
    multiple=True,
    help=f"Results file, repeatable; the suffix is the format: {describe_formats()}.  "
    "[default: none]",
)
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice(["lines", *PRINTED]),
    default="lines",
    help="What goes to stdout, also by --list.",
)
@click.option(
    "-k",
    "--topk",
    type=POSITIVE,
    metavar="N",
    show_default="1, or 5 when there are more than 10 classes",
    help="Classes kept per image, at most the number there are.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Add a column 'decision': the label, or 'uncertain' where the top probability (0 to 1) is "
    "under P. Label and scores stay.  [default: none]",
)
@click.option(
    "--calibration",
    metavar="INPUT",
    multiple=True,
    help="Calibrate --precision int8 on these images.  [default: 300 of those to classify, chosen "
    "at random]",
)
@batch_size_option
@workers_option
@grid_option
@grid_size_option
@show_option
@click.option(
    "--report-limit",
    type=POSITIVE,
    metavar="N",
    default=10_000,
    help="Images in an .html report, some 15 kB each; of more it holds a sample, errors, "
    "uncertain and wrong ones first.",
)
@click.option(
    "--resume",
    is_flag=True,
    help=f"Continue the files of -o ({' '.join(RESUMABLE)}) where an earlier run was cut off: "
    "their rows stay, and those of the other images come after them. Refused when checkpoint, "
    "classes or settings differ. Without files the run starts from the beginning.",
)
@csv_separator_option
@csv_bom_option
@overwrite_option
@quiet_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Count the images, classify 20 of them, say how long all would take and where the "
    "results would go; write nothing.",
)
@click.option(
    "--list",
    "list_only",
    is_flag=True,
    help="Print path, part and bytes of what would be classified, in the --format, and stop: no "
    "checkpoint is loaded, no image opened.",
)
@on_error_option
@verify_option
@progress_option
@debug_option
def predict_command(
    *,
    load: Load,
    inputs: tuple[str, ...],
    find: "FindOptions",
    outputs: tuple[Path, ...],
    stdout_format: str,
    topk: int | None,
    threshold: float | None,
    calibration: tuple[str, ...],
    batch_size: int | None,
    workers: int | None,
    grids: tuple[Path, ...],
    grid_size: tuple[int, int],
    show: bool,
    report_limit: int,
    resume: bool,
    csv_separator: str,
    csv_bom: bool,
    overwrite: bool,
    quiet: bool,
    dry_run: bool,
    list_only: bool,
    on_error: str,
    verify: int,
    progress: str,
) -> None:
    """Classify images: one line each on stdout, and results files by -o.

    INPUT is a folder (searched recursively, in natural order), a file, a quoted glob, @list.txt
    (one path or URL a line), - for paths on stdin, an archive (.zip, .tar, .tar.gz), a .parquet
    table with a column of images, or a URL (https://, s3:// and whatever fsspec opens) of any of
    these or of a store's folder, which ends in a slash. Every input appears exactly once in the
    results, in input order; a file that cannot be read has an error row, and the exit status is
    then 3.
    """
    from resnet_cli.results.options import Dialect

    dialect = Dialect(separator=csv_separator, bom=csv_bom)
    if list_only:
        print_list(inputs, find, stdout_format, dialect)
    from resnet_cli.classifier import PredictOptions
    from resnet_cli.cli.process import unbroken
    from resnet_cli.cli.run import load_and_find, report_forecast, report_rows
    from resnet_cli.cli.terminal import StandardOutput, showing_notes_of_images
    from resnet_cli.results import check_outputs
    from resnet_cli.run import OutputOptions, Run, lay_out_results
    from resnet_cli.run.manifest import Destinations

    check_usage(
        resume=resume,
        overwrite=overwrite,
        outputs=outputs,
        silent=quiet and not (grids or show),
        show=show,
    )
    predict = PredictOptions(
        topk=topk, threshold=threshold, batch_size=batch_size, workers=workers, on_error=on_error
    )
    output = OutputOptions(
        resume=resume,
        overwrite=overwrite,
        grid_size=grid_size,
        report_limit=report_limit,
        csv_dialect=dialect,
    )
    check_outputs(outputs, grids=grids, overwrite=overwrite, resume=resume)
    with showing_notes_of_images():
        classifier, found = load_and_find(
            load,
            inputs,
            [*outputs, *grids],
            find=find,
            calibration=calibration,
            resumed=outputs if resume else (),
            verify=verify,
            progress=progress,
        )
        options = lay_out_results(classifier, found, predict, output)
        destinations = Destinations(
            options=options, files=outputs, grids=grids, show=show, resume=resume
        )
        errors = (report_forecast if dry_run else report_rows)(
            Run(classifier, found, destinations, predict, hold=unbroken),
            StandardOutput(
                format=stdout_format, options=options, quiet=quiet, ends_run=not destinations.paths
            ),
            progress=progress,
        )
    if errors:
        raise click.exceptions.Exit(SOME_UNREADABLE)


def print_list(
    inputs: tuple[str, ...], find: "FindOptions", stdout_format: str, dialect: "Dialect"
) -> NoReturn:
    """Print what would be classified, and end the command."""
    from resnet_cli.cli.listing import list_inputs

    list_inputs(inputs, find, stdout_format, dialect)
    raise click.exceptions.Exit


def check_usage(
    *, resume: bool, overwrite: bool, outputs: tuple[Path, ...], silent: bool, show: bool
) -> None:
    """Refuse options that contradict each other, and a window where none can be opened.

    Raises:
        UsageError: names them.
    """
    if resume and overwrite:
        raise click.UsageError(
            "--resume continues the files of -o, --overwrite replaces them: choose one"
        )
    if resume and not outputs:
        raise click.UsageError("--resume continues the files of -o: name them")
    if silent and not outputs:
        raise click.UsageError("--quiet leaves no output: name a file with -o")
    if show:
        from resnet_cli.results.grid import check_display

        check_display()
