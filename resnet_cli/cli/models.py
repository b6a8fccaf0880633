"""``resnet-cli models``: the networks that are known by name."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.options import debug_option
from resnet_cli.cli.process import echo
from resnet_cli.cli.sections import Command

if TYPE_CHECKING:
    from resnet_cli.summary.catalogue import Model

HEADER = ("model", "parameters", "GMACs", "weights", "acc@1", "acc@5", "preset", "MB", "")
LEFT = frozenset({"model", "weights", "preset", ""})  # columns of words; numbers go right


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="All of torchvision's classifiers.")
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How the list is laid out.",
)
@debug_option
def models_command(*, everything: bool, text_format: str) -> None:
    """List the models known by name, with their published weights.

    Parameters, multiply-adds (GMACs), accuracies on ImageNet's validation set in percent, the
    preset they hold for (resize/crop in pixels) and the size of the download in MB (10^6 bytes),
    all from torchvision's own metadata; cached weights are in the torch hub cache already.
    """
    from resnet_cli.summary.catalogue import list_models

    found = list_models(everything=everything)
    if text_format == "json":
        echo(json.dumps([asdict(model) for model in found], indent=2))
        return
    rows = [HEADER, *(row for model in found for row in model_lines(model))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    echo(align_model_row(HEADER, widths))
    for group, members in groupby(found, key=lambda model: model.group):
        if everything:
            echo(f"\n{group}")
        for model in members:
            for row in model_lines(model):
                echo(align_model_row(row, widths))


def model_lines(model: "Model") -> Iterator[tuple[str, ...]]:
    """A line for each set of weights; the name stands on the first."""
    start = (model.name, f"{model.parameters:,}", f"{model.gmacs:.3f}")
    for entry in model.weights:
        preset = f"{entry.resize_size}/{entry.crop_size}"
        accuracy = (f"{entry.acc1:.3f}", f"{entry.acc5:.3f}")
        state = "cached" if entry.cached else ""
        yield (*start, entry.name, *accuracy, preset, f"{entry.megabytes:.1f}", state)
        start = ("", "", "")


def align_model_row(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line of the list."""
    cells = [
        text.ljust(width) if title in LEFT else text.rjust(width)
        for title, text, width in zip(HEADER, row, widths, strict=True)
    ]
    return " ".join(cells).rstrip()
