"""``resnet-cli convert``: a checkpoint of any kind to one that describes itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.options import (
    classes_option,
    debug_option,
    dilation_option,
    ema_option,
    preset_option,
    state_key_option,
    trust_option,
)
from resnet_cli.cli.sections import Command
from resnet_cli.text import first_few

if TYPE_CHECKING:
    from resnet_cli.checkpoint import Checkpoint


@click.command(cls=Command)
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
@classes_option
@preset_option
@click.option("--half", is_flag=True, help="Write weights in fp16, half the size.")
@state_key_option
@ema_option
@dilation_option
@trust_option
@click.option("--overwrite", is_flag=True, help="Write over an existing file.")
@debug_option
def convert_command(
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
    """Write a checkpoint of any kind in torchvision's names, with all that is known of it.

    OUTPUT is .safetensors, with model, class names and preprocessing as metadata, or .pth, which
    torch.load gives back as a dict with the weights under state_dict and the names under classes.
    A backbone alone is written without a head.
    """
    from dataclasses import replace

    from resnet_cli.checkpoint import LoadOptions, Location, load_checkpoint
    from resnet_cli.checkpoint.convert import choose_saver, write_checkpoint
    from resnet_cli.cli.terminal import print_note, showing_notes
    from resnet_cli.preprocess import adjust_preprocess
    from resnet_cli.results import check_new

    choose_saver(output)
    check_new(output, overwrite=overwrite)
    with showing_notes():
        options = LoadOptions(
            classes=classes,
            state_key=state_key,
            ema=ema,
            dilated=dilation,
            trusted=trust_checkpoint,
            headless=True,
        )
        loaded = load_checkpoint(Location(checkpoint, "given"), options)
    if preset is not None:
        loaded = replace(
            loaded, preprocess=adjust_preprocess(loaded.preprocess, preset=preset, given={})
        )
    write_checkpoint(loaded, output, half=half)
    print_note(f"{loaded.path} ({loaded.format}): {', '.join([loaded.model, *loaded.whereabouts])}")
    for sentence in describe_converted(loaded):
        print_note(sentence)
    if loaded.head and loaded.classes.made_up:
        names = first_few(loaded.classes.names)
        print_note(f"no class names in {output}: labels will be {names}: give --classes", "Warning")
    print_note(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB")


def describe_converted(loaded: "Checkpoint") -> Iterator[str]:
    """Yield what is to be known of a checkpoint that was written."""
    names, head = loaded.classes, loaded.head
    if not head:
        yield "a backbone alone: torchvision's network takes it with strict=False, all but its fc"
    else:
        yield f"{loaded.num_classes:,} outputs: {first_few(names.names)} ({names.source})"
    if len(head) > 1:
        layers = ", ".join(layer.kind for layer in head)
        yield f"its head is {layers}: that of torchvision's own network is a single linear layer"
    for sentence in loaded.notes:
        yield f"recorded beside the weights: {sentence}"
