"""Checkpoints and inputs on the command line where the other is expected."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from resnet_cli.errors import InputError
from resnet_cli.sources import SUFFIXES


def refuse_checkpoints(inputs: Sequence[str]) -> None:
    """Refuse a checkpoint among the inputs, or beside the images, that no option names.

    With ``-c`` a file named outright is tried as an image, and what is beside images is skipped.

    Raises:
        InputError: names the option.
    """
    context = click.get_current_context()
    source = context.get_parameter_source("checkpoint")
    if source is click.core.ParameterSource.COMMANDLINE:
        return
    from resnet_cli.checkpoint.locate import find_only_checkpoint, is_checkpoint

    for given in inputs:
        if is_checkpoint(Path(given)):
            raise InputError(f"{given} is a checkpoint, not an image: use -c {shlex.quote(given)}")
    if (
        any(context.params[name] for name in ("checkpoint", "model", "weights"))
        or find_only_checkpoint()
    ):
        return
    found = [file for given in inputs for file in files_right_in(given) if is_checkpoint(file)]
    if found:
        raise InputError(
            f"{', '.join(map(str, found))} is a checkpoint beside the images: use -c "
            f"{shlex.quote(str(found[0]))}, or --model resnet18 for the ImageNet weights"
        )


def files_right_in(given: str) -> Iterator[Path]:
    """Yield what is in a folder, but not in its folders."""
    if Path(given).is_dir():
        yield from sorted(Path(given).iterdir())


def command_for(name: str) -> str | None:
    """Say which command takes an input or a checkpoint that was given as the command."""
    path, quoted = Path(name), shlex.quote(name)
    if path.is_dir() or path.suffix.lower() in SUFFIXES or name.startswith("@"):
        return f"to classify it: resnet-cli predict {quoted}"
    if not path.is_file():
        return None
    from resnet_cli.checkpoint.locate import is_checkpoint

    if not is_checkpoint(path):
        return None
    return (
        f"to classify with it: resnet-cli predict INPUT -c {quoted}; to look into it: "
        f"resnet-cli inspect {quoted}"
    )
