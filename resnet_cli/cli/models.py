"""``resnet-cli models``: the networks known by name, with their published weights."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby, islice
from typing import TYPE_CHECKING

import click

from resnet_cli.cli.options import debug_option
from resnet_cli.cli.process import echo
from resnet_cli.cli.sections import Command
from resnet_cli.display.tables import align_rows

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
