"""``resnet-cli summary``, a network layer by layer, and ``resnet-cli models``."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.options import (
    OUTPUT,
    POSITIVE,
    debug_option,
    height_and_width,
    overwrite_option,
)
from resnet_cli.cli.process import echo
from resnet_cli.cli.sections import Command
from resnet_cli.display import align_rows

WIDE = 200  # characters, where stdout is not a terminal and COLUMNS is not set


@click.command(cls=Command)
@click.argument("subject", metavar="[MODEL or CHECKPOINT]", default="resnet18")
@click.option(
    "--view",
    type=click.Choice(["layers", "blocks", "stages"]),
    default="layers",
    help="Rows: every layer, every residual block, or the stages of table 1 of the ResNet paper.",
)
@click.option(
    "--depth",
    type=POSITIVE,
    metavar="N",
    show_default="all",
    help="Deepest level of nested layers; deeper ones count for the row they are in.",
)
@click.option("--dilation", is_flag=True, help="Dilate the last two stages instead of striding.")
@click.option(
    "--plot",
    type=OUTPUT,
    show_default="none",
    help="Draw the stages: .png .pdf .svg.",
)
@click.option(
    "--img-size",
    callback=height_and_width,
    metavar="N or HxW",
    show_default="224, 299 for inception_v3",
    help="Side of the images in pixels, or their height and width as 320x224.",
)
@click.option("--batch-size", "-b", type=POSITIVE, default=1, help="Images in one pass.")
@click.option(
    "--in-channels", type=POSITIVE, show_default="3, or the checkpoint's", help="Input channels."
)
@click.option(
    "--num-classes",
    type=POSITIVE,
    show_default="1000, or the checkpoint's",
    help="Outputs of the head.",
)
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    show_default="table, or by the suffix of -o",
    help="Format of the rows.",
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    show_default="none",
    help="Write to a file instead of stdout: .txt .json .csv .md.",
)
@overwrite_option
@debug_option
def summary_command(
    *,
    subject: str,
    view: str,
    depth: int | None,
    dilation: bool,
    plot: Path | None,
    img_size: tuple[int, int] | None,
    batch_size: int,
    in_channels: int | None,
    num_classes: int | None,
    text_format: str | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Show the layers of a network: shapes, parameters, multiply-adds, memory.

    MODEL is a classification model of torchvision by name; CHECKPOINT is a file, shown with its own
    head or as a backbone, or a .prototxt of Caffe. The default is resnet18, and nothing is
    downloaded.
    """
    from resnet_cli.cli.terminal import say_left_out
    from resnet_cli.files import check_new, write_text_file
    from resnet_cli.summary import summarize_network
    from resnet_cli.summary.formats import (
        SUMMARY_FORMATS,
        choose_format,
        layout_summary,
        summary_table,
    )
    from resnet_cli.summary.networks import SummaryOptions, find_subject

    wanted = choose_format(text_format, output)
    for path in filter(None, (output, plot)):
        check_new(path, overwrite=overwrite)
    options = SummaryOptions(
        view=view,
        depth=depth,
        img_size=img_size,
        batch_size=batch_size,
        in_channels=in_channels,
        num_classes=num_classes,
        dilated=dilation,
    )
    found = find_subject(subject, options)
    summary = summarize_network(found, options)
    if plot is not None:
        from resnet_cli.summary.plot import plot_subject

        plot_subject(found, options, plot)
    if output is not None:
        write_text_file(output, SUMMARY_FORMATS[wanted](summary))
    elif wanted == "table":
        width = shutil.get_terminal_size(fallback=(WIDE, 24)).columns
        echo(summary_table(summary, width), nl=False)
        say_left_out(layout_summary(summary, width).left_out, width)
    else:
        echo(SUMMARY_FORMATS[wanted](summary), nl=False)


if TYPE_CHECKING:
    from resnet_cli.summary import ModelEntry

TITLES = ("model", "parameters", "GMACs", "weights", "acc@1", "acc@5", "preset", "MB", "")
WORDS = (0, 3, 6, 8)  # columns aligned to the left; numbers go to the right


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="List all classifiers of torchvision.")
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["table", "json"]),
    default="table",
    help="Format of the list.",
)
@debug_option
def models_command(*, everything: bool, text_format: str) -> None:
    """List the models known by name, with their published weights.

    Parameters, multiply-adds (GMACs), accuracies on ImageNet's validation set in percent, the
    preset they hold for (resize/crop in pixels) and the size of the download in MB (10^6 bytes),
    all from torchvision's own metadata; cached weights are in the torch hub cache already.
    """
    from resnet_cli.summary import list_models

    found = list_models(everything=everything)
    if text_format == "json":
        echo(json.dumps([asdict(model) for model in found], indent=2))
        return
    rows = (row for model in found for row in model_rows(model))
    lines = align_rows([TITLES, *rows], WORDS, gap=" ")
    echo(next(lines))
    for group, members in groupby(found, key=lambda model: model.group):
        if everything:
            echo(f"\n{group}")
        for line in islice(lines, sum(len(model.weights) for model in members)):
            echo(line)


def model_rows(model: "ModelEntry") -> Iterator[tuple[str, ...]]:
    """Yield a row for each set of weights; what belongs to the model stands on the first."""
    start = (model.name, f"{model.parameters:,}", f"{model.gmacs:.3f}")
    for entry in model.weights:
        preset = f"{entry.resize_size}/{entry.crop_size}"
        accuracy = (f"{entry.acc1:.3f}", f"{entry.acc5:.3f}")
        state = "cached" if entry.cached else ""
        yield (*start, entry.name, *accuracy, preset, f"{entry.megabytes:.1f}", state)
        start = ("", "", "")
