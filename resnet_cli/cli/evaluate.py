"""``resnet-cli evaluate``: measure a checkpoint on labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.finding import finds_images
from resnet_cli.cli.loading import LoadAll, loads_classifiers
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
from resnet_cli.results.formats import READABLE

if TYPE_CHECKING:
    from resnet_cli.sources import FindOptions


@click.command(cls=Command)
@click.argument("folder", metavar="[INPUT]", required=False)
@loads_classifiers
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the true classes from a table with the columns path,label or path,index, and part "
    "for parts of images (commas, semicolons or tabs; UTF-8 or UTF-16). Paths are relative to "
    "INPUT, else to the current folder.  [default: what INPUT states, else the names of its "
    "folders]",
)
@finds_images
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Score rows saved by 'predict -o FILE' ({' '.join(READABLE)}). No network runs; "
    "metrics that the rows do not allow are left out, and a report reads the images again.  "
    "[default: none]",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="Every metric as .json, or the metrics of each class as .csv; repeatable.  "
    "[default: none]",
)
@click.option(
    "--confusion",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="Confusion matrix as .png, .pdf or .svg (of more than 100 classes, the most confused), "
    "or whole as .csv; repeatable.  [default: none]",
)
@click.option(
    "--calibration",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="Reliability diagram as .png, .pdf or .svg, or its bins as .csv; repeatable.  "
    "[default: none]",
)
@click.option(
    "--mistakes",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="A row for each wrong image, as .csv; repeatable.  [default: none]",
)
@click.option(
    "--report",
    type=OUTPUT,
    metavar="FILE",
    help="Report of all images with truth and prediction, as .html; for several checkpoints one "
    "each: FILE-1.html, FILE-2.html.  [default: none]",
)
@click.option(
    "--report-limit",
    type=POSITIVE,
    metavar="N",
    default=10_000,
    help="Images in the report; of more it holds a sample, errors and wrong images first.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="First score a sample with other preprocessings (sizes, colours, scales, EXIF), one "
    "change at a time, and report which are clearly better.",
)
@click.option(
    "--audit-images",
    type=POSITIVE,
    metavar="N",
    default=200,
    help="Images in that sample, the same number from each class.",
)
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Format of the metrics on stdout.",
)
@click.option(
    "-k",
    "--topk",
    type=POSITIVE,
    metavar="N",
    default=5,
    help="Classes shown for an image in the report, at most the number there are.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Also report the accuracy on images whose top probability (0 to 1) reaches P; the others "
    "are 'uncertain' in the report. With --predictions any P, whatever the threshold of the rows.  "
    "[default: none]",
)
@batch_size_option
@workers_option
@grid_option
@grid_size_option
@show_option
@csv_separator_option
@csv_bom_option
@overwrite_option
@quiet_option
@on_error_option
@verify_option
@progress_option
@debug_option
def evaluate_command(
    *,
    load: LoadAll,
    folder: str | None,
    labels: Path | None,
    find: "FindOptions",
    predictions: Path | None,
    outputs: tuple[Path, ...],
    confusion: tuple[Path, ...],
    calibration: tuple[Path, ...],
    mistakes: tuple[Path, ...],
    report: Path | None,
    report_limit: int,
    audit: bool,
    audit_images: int,
    stdout_format: str,
    topk: int,
    threshold: float | None,
    batch_size: int | None,
    workers: int | None,
    grids: tuple[Path, ...],
    grid_size: tuple[int, int],
    show: bool,
    csv_separator: str,
    csv_bom: bool,
    overwrite: bool,
    quiet: bool,
    on_error: str,
    verify: int,
    progress: str,
) -> None:
    """Measure a checkpoint on labelled images, and find where it is wrong.

    INPUT is what 'predict' takes. The true class of an image is what its source states (the column
    label of a table), else the first folder below INPUT; both are matched to classes by name.
    Several checkpoints (-c A -c B) are compared on the same images. Class names in the wrong order
    are detected; --audit detects preprocessing that differs from training.
    """
    from resnet_cli.cli.process import muted
    from resnet_cli.cli.scoring import Request, evaluate_checkpoints, evaluate_saved
    from resnet_cli.cli.terminal import showing_notes_of_images
    from resnet_cli.evaluate import EvaluateOptions
    from resnet_cli.evaluate.outputs import RowFiles
    from resnet_cli.results.options import Dialect
    from resnet_cli.run import OutputOptions

    request = Request(
        folder=folder,
        options=EvaluateOptions(
            labels=labels, find=find, topk=topk, threshold=threshold,
            batch_size=batch_size, workers=workers, on_error=on_error,
        ),
        rows=RowFiles(
            mistakes=mistakes, report=report, grids=grids, show=show,
            output=OutputOptions(
                overwrite=overwrite, grid_size=grid_size, report_limit=report_limit,
                csv_dialect=Dialect(separator=csv_separator, bom=csv_bom),
            ),
        ),
        metrics=outputs, confusion=confusion, calibration=calibration,
        audit_images=audit_images if audit else 0,
        verify=verify, stdout_format=stdout_format, progress=progress,
    )  # fmt: skip
    request.check(quiet=quiet)
    with showing_notes_of_images(), muted(stdout=quiet):
        if predictions is None:
            errors = evaluate_checkpoints(load, request)
        else:
            errors = evaluate_saved(predictions, request)
    if errors:
        raise click.exceptions.Exit(SOME_UNREADABLE)
