"""``resnet-cli convert``: any checkpoint to a file that describes itself."""

from pathlib import Path

import click

from resnet_cli.cli.options import (
    classes_option,
    debug_option,
    dilation_option,
    ema_option,
    overwrite_option,
    preset_option,
    state_key_option,
    trust_option,
)
from resnet_cli.cli.sections import Command


@click.command(cls=Command)
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
@classes_option
@preset_option
@click.option("--half", is_flag=True, help="Write the weights in fp16, at half the size.")
@state_key_option
@ema_option
@dilation_option
@trust_option
@overwrite_option
@debug_option
def convert_command(
    *,
    checkpoint: Path,
    output: Path,
    classes: str | None,
    preset: str | None,
    half: bool,
    state_key: str | None,
    ema: bool,
    dilation: bool,
    trust_checkpoint: bool,
    overwrite: bool,
) -> None:
    """Write a checkpoint of any kind under torchvision's names, with all that is known about it.

    OUTPUT is .safetensors, with model, class names and preprocessing as metadata, or .pth, a dict
    for torch.load with the weights under state_dict and the names under classes. A backbone is
    written without a head.
    """
    from resnet_cli.checkpoint import LoadOptions
    from resnet_cli.checkpoint.convert import convert_checkpoint
    from resnet_cli.cli.terminal import print_note, showing_notes

    options = LoadOptions(
        classes=classes, state_key=state_key, ema=ema, dilated=dilation, trusted=trust_checkpoint
    )
    with showing_notes():
        done = convert_checkpoint(
            checkpoint, output, options, preset=preset, half=half, overwrite=overwrite
        )
    for sentence in done.notes:
        print_note(sentence)
    for sentence in done.warnings:
        print_note(sentence, "Warning")
    print_note(f"wrote {output}, {done.bytes / 1e6:.1f} MB")
