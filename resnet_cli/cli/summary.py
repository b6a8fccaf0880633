"""``resnet-cli summary``: what a network is, layer by layer."""

import shutil
from pathlib import Path

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
