"""``resnet-cli inspect`` and ``resnet-cli convert``: what a checkpoint holds, and a copy of it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from resnet_cli.cli.options import (
    CHECKPOINT_FILE,
    classes_option,
    debug_option,
    dilation_option,
    ema_option,
    overwrite_option,
    preset_option,
    state_key_option,
    trust_option,
)
from resnet_cli.cli.process import echo
from resnet_cli.cli.sections import Command
from resnet_cli.display import fact_lines
from resnet_cli.errors import CheckpointError
from resnet_cli.text import first_few

INDENT = 16  # columns of the names of facts

TABLES = ("preprocess", "operations", "calibration", "agreement", "metadata")
"""Facts that have a name and a value each."""

NNCF = "nncf "  # begins the names of what NNCF writes into a file
TOLD_OF_NNCF = {
    "nncf version": "quantised by NNCF",
    "nncf quantization preset": "preset",
    "nncf quantization subset_size": "on images",
    "nncf quantization ignored_scope names": "leaving out",
}
"""What of it is shown, and under which name."""


@click.command(cls=Command)
@click.argument("checkpoint", type=CHECKPOINT_FILE)
@state_key_option
@ema_option
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["table", "json"]),
    default="table",
    help="Format of the report.",
)
@debug_option
def inspect_command(
    *, checkpoint: Path | str, state_key: str | None, ema: bool, text_format: str
) -> None:
    """Show what is in a checkpoint file, without running anything in it.

    CHECKPOINT is a file of any kind or its URL, or a folder with one. The network, its classes and
    its preprocessing, what a pickle would import, and what is unusual about the weights. The exit
    status is 1 when it holds no ResNet with a head, and the last line says what it holds instead.
    """
    from resnet_cli.checkpoint.inspect import inspect_checkpoint

    found = inspect_checkpoint(checkpoint, state_key=state_key, ema=ema)
    record = found.record()
    if text_format == "json":
        echo(json.dumps(record, indent=2))
    else:
        width = shutil.get_terminal_size(fallback=(100, 24)).columns
        echo("\n".join(fact_lines(list_facts(record), width, INDENT)))
    if found.error is not None:
        raise CheckpointError(found.error)


def list_facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each fact that the file has."""
    for name, value in folded(record).items():
        if value is None or value in ((), {}) or name == "error":
            continue
        title = name.replace("_", " ")
        for text in value if name in ("warnings", "unsafe_globals") else (fact_words(name, value),):
            yield title, text
            title = ""


def folded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with what NNCF wrote into a file, some twenty lines, in a few words."""
    metadata = dict(record.get("metadata") or {})
    written = {key: metadata.pop(key) for key in [*metadata] if key.startswith(NNCF)}
    told = {name: written[key] for key, name in TOLD_OF_NNCF.items() if key in written}
    return {**record, "metadata": metadata | told}


def fact_words(name: str, value: Any) -> str:
    """Write one fact for people."""
    if name == "classes":
        return first_few(value)
    if name in TABLES:
        return ", ".join(f"{key} {setting_words(part)}" for key, part in value.items())
    if name == "state_key" and not value:
        return "(the top of the file)"
    if name == "stripped_prefix" and not value:
        return "(none)"
    return f"{value:,}" if isinstance(value, int) else str(value)


def setting_words(value: Any) -> str:
    """Write a setting, numbers in four digits."""
    if isinstance(value, tuple | list):
        return " ".join(map(setting_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@click.command(cls=Command)
@click.argument("checkpoint", type=CHECKPOINT_FILE)
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
    checkpoint: Path | str,
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
    from resnet_cli.checkpoint.convert import convert_checkpoint
    from resnet_cli.checkpoint.locate import LoadOptions
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
