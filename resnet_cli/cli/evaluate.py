"""``resnet-cli evaluate``: how good a checkpoint is on labelled pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.loading import LoadAll, loads_classifiers
from resnet_cli.cli.options import (
    OUTPUT,
    POSITIVE,
    SOME_UNREADABLE,
    batch_size_option,
    csv_bom_option,
    csv_separator_option,
    debug_option,
    exclude_option,
    grid_option,
    grid_size_option,
    hidden_option,
    on_error_option,
    overwrite_option,
    progress_option,
    quiet_option,
    show_option,
    verify_option,
    workers_option,
)
from resnet_cli.cli.sections import Command

if TYPE_CHECKING:
    from resnet_cli.cli.figures import Files
    from resnet_cli.cli.scoring import EvaluationSettings


@click.command(cls=Command)
@click.argument("folder", metavar="[DIR]", required=False)
@loads_classifiers
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="True classes from a table with the columns path,label or path,index (commas, semicolons "
    "or tabs; UTF-8 or UTF-16), in place of the folders' names; a path is taken from DIR, or else "
    "from here.  [default: none]",
)
@exclude_option
@hidden_option
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Score the rows that 'predict -o FILE' has saved (.csv .jsonl .json .parquet); no network "
    "runs, what its rows do not hold is left out, and a report reads the images again.  "
    "[default: none]",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="Every figure as .json, or the table of all classes as .csv; repeatable.  [default: none]",
)
@click.option(
    "--confusion",
    type=OUTPUT,
    multiple=True,
    metavar="FILE",
    help="Confusion matrix as .png, .pdf or .svg (of more than 100 classes the most confused), or "
    "whole as .csv; repeatable.  [default: none]",
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
    help="All images with truth and prediction, as .html to look through; of several checkpoints "
    "FILE-1.html, FILE-2.html, one for each.  [default: none]",
)
@click.option(
    "--report-limit",
    type=POSITIVE,
    metavar="N",
    default=10_000,
    help="Images in the report; of more it holds a sample, errors and wrong ones first.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="First score a sample with other preprocessings (sizes, colours, scales, EXIF), one "
    "change at a time, and say which would be far better.",
)
@click.option(
    "--audit-images",
    type=POSITIVE,
    metavar="N",
    default=200,
    help="Images of that sample, the same number from each class.",
)
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="What goes to stdout.",
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
    help="Also say how good the images are whose top probability (0 to 1) reaches P; others are "
    "'uncertain' in the report. With --predictions any P, whichever the rows were made with.  "
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
    exclude: tuple[str, ...],
    hidden: bool,
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
    """Say how good a checkpoint is, and where it is wrong.

    DIR holds a folder for each class; folders are matched to classes by name. Several checkpoints
    (-c A -c B) are compared on the same images. A list of class names in the wrong order is found
    by itself; --audit finds a preprocessing that is not that of training.
    """
    from resnet_cli.cli.figures import Files
    from resnet_cli.cli.process import muted
    from resnet_cli.cli.scoring import EvaluationSettings
    from resnet_cli.cli.terminal import showing_notes_of_images
    from resnet_cli.results import Dialect

    files = Files(
        outputs=outputs, confusion=confusion, calibration=calibration, mistakes=mistakes,
        report=report, grids=grids, show=show, overwrite=overwrite,
        dialect=Dialect(csv_separator, csv_bom),
    )  # fmt: skip
    if quiet and not files.any:
        raise click.UsageError("--quiet leaves no output: name a file with -o")
    files.check()
    settings = EvaluationSettings(
        folder=folder, labels=labels, exclude=exclude, hidden=hidden,
        stdout_format=stdout_format, topk=topk,
        threshold=threshold, batch_size=batch_size, workers=workers, progress=progress,
        report_limit=report_limit, grid_size=grid_size, on_error=on_error, verify=verify,
        audit_images=audit_images if audit else 0,
    )  # fmt: skip
    with showing_notes_of_images(), muted(stdout=quiet):
        if predictions is None:
            errors = run_networks(load, files, settings)
        else:
            errors = run_none(predictions, files, settings)
    if errors:
        raise click.exceptions.Exit(SOME_UNREADABLE)


def run_networks(load: LoadAll, files: "Files", settings: "EvaluationSettings") -> int:
    """Evaluate one checkpoint, or compare several.

    Returns:
        How many images could not be read.
    """
    from resnet_cli.cli.misplaced import refuse_checkpoints
    from resnet_cli.cli.rivals import compare_checkpoints
    from resnet_cli.cli.scoring import score_checkpoint
    from resnet_cli.cli.terminal import bar_wanted

    if settings.folder is None:
        raise click.UsageError("Missing argument 'DIR': a folder of labelled images.")
    refuse_checkpoints([settings.folder])
    classifiers = load(progress=bar_wanted(settings.progress))
    return (score_checkpoint if len(classifiers) == 1 else compare_checkpoints)(
        classifiers, files, settings
    )


def run_none(predictions: Path, files: "Files", settings: "EvaluationSettings") -> int:
    """Evaluate saved rows.

    Returns:
        How many images could not be read.
    """
    from resnet_cli.cli.rescoring import rescore_file

    context = click.get_current_context()
    if context.get_parameter_source("checkpoint") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--predictions runs no network: leave -c out")
    return rescore_file(predictions, context.params["classes"], files, settings)
