"""``resnet-cli export``: a checkpoint as a file for ONNX Runtime, OpenVINO or torch.export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.loading import adjusts_preprocess, read_ahead
from resnet_cli.cli.options import (
    CHECKPOINT_FILE,
    POSITIVE,
    classes_option,
    debug_option,
    dilation_option,
    ema_option,
    overwrite_option,
    progress_option,
    state_key_option,
    trust_option,
)
from resnet_cli.cli.sections import Command

if TYPE_CHECKING:
    from resnet_cli.classifier import Adjust

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(cls=Command)
@click.argument("checkpoint", type=CHECKPOINT_FILE)
@click.argument("output", type=click.Path(path_type=Path))
@classes_option
@state_key_option
@ema_option
@dilation_option
@trust_option
@adjusts_preprocess
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    help="Numbers of the weights: fp16 halves the file, int8 quarters it and, by OpenVINO, is "
    "the fastest; int8 needs --calibration, and is not for .pt2.",
)
@click.option(
    "--input",
    "takes",
    type=click.Choice(["pixels", "normalized"]),
    default="pixels",
    help="What the file takes [N, C, H, W]: uint8 RGB, which it normalises itself, or float32 that "
    "is normalised already.",
)
@click.option(
    "--batch",
    type=POSITIVE,
    metavar="N",
    show_default="any number",
    help="Images in a pass, fixed.",
)
@click.option(
    "--calibration",
    type=FOLDER,
    metavar="DIR",
    help="Images on which int8 is calibrated and measured, and the file is verified; best with a "
    "folder for each class.  [default: none]",
)
@click.option(
    "--calibration-images",
    type=POSITIVE,
    metavar="N",
    default=300,
    help="Images that int8 is calibrated on, chosen at random; of a few at most two thirds. Up to "
    "1,000 others measure it.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="True classes of the images of --calibration, as for evaluate, to measure what int8 "
    "costs.  [default: the names of the folders]",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Keep layers in floating point until int8 loses no more of top-1 than this share, such as "
    "0.01; without classes of the images: of the labels of fp32. Takes minutes.  [default: none]",
)
@click.option(
    "--verify",
    type=click.IntRange(min=0),
    metavar="N",
    default=32,
    help="Run the file on N images, of --calibration or random ones, before it is left: a "
    "probability that differs by over 0.0001 in fp32 is an error.",
)
@overwrite_option
@progress_option
@debug_option
def export_command(
    *,
    checkpoint: Path | str,
    output: Path,
    classes: str | None,
    state_key: str | None,
    ema: bool,
    dilation: bool,
    trust_checkpoint: bool,
    adjust: "Adjust",
    precision: str,
    takes: str,
    batch: int | None,
    calibration: Path | None,
    calibration_images: int,
    labels: Path | None,
    max_drop: float | None,
    verify: int,
    overwrite: bool,
    progress: str,
) -> None:
    """Write a checkpoint as a file that other programs run, and that describes itself.

    OUTPUT is .onnx (for ONNX Runtime), .xml (for OpenVINO, with a .bin beside it) or .pt2 (for
    torch.export). It holds the network with its normalisation, the class names and the
    preprocessing. It is run and compared with the checkpoint first; one that differs is not left.
    A .onnx or .xml as CHECKPOINT becomes one of int8.
    """
    read_ahead([checkpoint])
    from resnet_cli.checkpoint.locate import LoadOptions
    from resnet_cli.cli.terminal import draw_progress, print_note, showing_notes
    from resnet_cli.export import export_checkpoint
    from resnet_cli.export.options import ExportOptions

    options = ExportOptions(
        load=LoadOptions(
            classes=classes,
            state_key=state_key,
            ema=ema,
            dilated=dilation,
            trusted=trust_checkpoint,
        ),
        preprocess=adjust,
        precision=precision,
        input=takes,
        batch=batch,
        calibration=calibration,
        calibration_images=calibration_images,
        labels=labels,
        max_drop=max_drop,
        verify=verify,
        overwrite=overwrite,
    )
    with showing_notes(), draw_progress(None, progress) as update:
        done = export_checkpoint(checkpoint, output, options, progress=update)
    for sentence in done.notes:
        print_note(sentence)
    for sentence in done.warnings:
        print_note(sentence, "Warning")
    print_note(f"wrote {' and '.join(map(str, done.files))}, {done.bytes / 1e6:.1f} MB")
