"""``resnet-cli evaluate --predictions``: rows that were saved, scored without the network."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from resnet_cli.checkpoint.classes import read_given
from resnet_cli.cli.figures import Files
from resnet_cli.cli.scoring import ONE_OF_SEVERAL, Settings, publish
from resnet_cli.cli.terminal import note, progress_bar
from resnet_cli.evaluate import Evaluation, Scorecard
from resnet_cli.evaluate.mistakes import mistakes_writer
from resnet_cli.evaluate.saved import Saved, Truth, open_saved, truth_by_folder, truth_by_table
from resnet_cli.text import first_few
from resnet_cli.writers import saying


def rescore(predictions: Path, classes: Sequence[str], files: Files, settings: Settings) -> int:
    """Evaluate the rows of a file.

    Returns:
        How many images could not be read.
    """
    if len(classes) > 1:
        raise click.UsageError("--classes once: the rows are those of one checkpoint")
    refused = {
        "--report": files.report, "--grid": files.grids, "--show": files.show,
        "--audit": settings.audit_images, "--verify": settings.verify,
    }  # fmt: skip
    if given := [option for option, value in refused.items() if value]:
        raise click.UsageError(f"--predictions runs no network: leave {', '.join(given)} out")
    saved = open_saved(predictions, read_given(classes[0])[0] if classes else None)
    note(f"{len(saved.names):,} classes: {first_few(saved.names)}")
    if settings.labels is not None:
        truth, notes = truth_by_table(saved, settings.labels, settings.folder)
    else:
        truth, notes = truth_by_folder(saved, settings.folder)
    for sentence in notes:
        note(sentence)
    evaluation, unknown = scored(saved, truth, files, settings)
    if unknown:
        note(f"{unknown:,} rows without a class are left out")
    if saved.is_multi_label:
        note(ONE_OF_SEVERAL)
    elif evaluation.images and evaluation.loss is None:
        top5 = ", top-5" if evaluation.top5 is None and len(saved.names) > 5 else ""
        note(f"the rows do not hold every class (-k): no loss, no temperature{top5}")
    figures = {**evaluation.record(), "audit": None, "run": saved.record}
    publish(evaluation, figures, files, settings, predictions.name)
    return evaluation.errors


def scored(saved: Saved, truth: Truth, files: Files, settings: Settings) -> tuple[Evaluation, int]:
    """Score every row whose class is known, and count the others."""
    scorecard = Scorecard(
        saved.names, threshold=settings.threshold, multi_label=saved.is_multi_label
    )
    unknown = 0
    with ExitStack() as stack:
        write = None
        if files.mistakes is not None:
            with saying(files.mistakes):
                write = stack.enter_context(
                    mistakes_writer(files.mistakes, saved.names, overwrite=files.overwrite)
                )
        bar = stack.enter_context(progress_bar(None, settings.progress))
        for row in saved.rows():
            index = truth(row.path)
            bar.update()
            if index is None:
                unknown += 1
                continue
            scorecard.add(row, index)
            if write is not None:
                write(row, index)
    return scorecard.evaluation(), unknown
