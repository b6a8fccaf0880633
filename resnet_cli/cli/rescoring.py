"""``resnet-cli evaluate --predictions``: rows that were saved, scored without the network."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import click

from resnet_cli.checkpoint.metadata import read_given
from resnet_cli.cli.figures import Files
from resnet_cli.cli.scoring import (
    ONE_OF_SEVERAL,
    EvaluationSettings,
    drawings_of,
    lay_out,
    mistakes_of,
    publish_figures,
    with_shares,
)
from resnet_cli.cli.terminal import print_note, progress_bar
from resnet_cli.evaluate import Evaluation, Scorecard
from resnet_cli.evaluate.saved import (
    SavedResults,
    Truth,
    illustrate_rows,
    open_saved,
    truth_by_folder,
    truth_by_table,
)
from resnet_cli.records import Prediction
from resnet_cli.results import WriterOptions
from resnet_cli.system import available_cores
from resnet_cli.text import amount, first_few


def rescore_file(
    predictions: Path, classes: Sequence[str], files: Files, settings: EvaluationSettings
) -> int:
    """Evaluate the rows of a file.

    Returns:
        How many images could not be read.
    """
    if len(classes) > 1:
        raise click.UsageError("--classes once: the rows are those of one checkpoint")
    refused = {
        "--audit": settings.audit_images, "--verify": settings.verify,
        "--exclude": settings.exclude, "--hidden": settings.hidden,
    }  # fmt: skip
    if given := [option for option, value in refused.items() if value]:
        raise click.UsageError(
            f"--predictions scores the rows of a file: leave {', '.join(given)} out"
        )
    saved = open_saved(predictions, read_given(classes[0])[0] if classes else None)
    print_note(f"{len(saved.names):,} classes: {first_few(saved.names)}")
    if settings.labels is not None:
        truth, notes = truth_by_table(saved, settings.labels, settings.folder)
    else:
        truth, notes = truth_by_folder(saved, settings.folder)
    for sentence in notes:
        print_note(sentence)
    evaluation, unknown = score_rows(saved, truth, files, settings)
    if unknown:
        print_note(f"{unknown:,} rows without a class are left out")
    if saved.is_multi_label:
        print_note(ONE_OF_SEVERAL)
    elif evaluation.images and evaluation.loss is None:
        top5 = ", top-5" if evaluation.top5 is None and len(saved.names) > 5 else ""
        print_note(f"the rows do not hold every class (-k): no loss, no temperature{top5}")
    figures = {**evaluation.record(), "audit": None, "run": saved.record}
    publish_figures(evaluation, figures, files, settings, predictions.name)
    return evaluation.errors


def score_rows(
    saved: SavedResults, truth: Truth, files: Files, settings: EvaluationSettings
) -> tuple[Evaluation, int]:
    """Score every row whose class is known, and count the others."""
    scorecard = Scorecard(
        saved.names,
        threshold=settings.threshold,
        present=saved.present(truth),
        multi_label=saved.is_multi_label,
    )
    unknown = unseen = 0
    with ExitStack() as stack:
        options = laid_out(saved, truth, files, settings, scorecard)
        mistakes = list(mistakes_of(saved.names, files, stack))
        drawings = list(drawings_of(files, options, stack))
        rows = stack.enter_context(closing(with_thumbnails(saved, files, settings)))
        bar = stack.enter_context(progress_bar(None, settings.progress))
        for row in rows:
            index = truth(row.path)
            bar.update()
            if index is None:
                unknown += 1
                continue
            unseen += row.thumbnail is None and row.error is None
            scorecard.add(row, index)
            for write in mistakes:
                write(row, index)
            for write in drawings:
                write(replace(row, item=saved.from_here(row.item)), index)
    if unseen and files.want_thumbnails:
        print_note(f"{amount(unseen, 'image')} not shown: missing by now, or unreadable", "Warning")
    return scorecard.evaluation(), unknown


def with_thumbnails(
    saved: SavedResults, files: Files, settings: EvaluationSettings
) -> Generator[Prediction]:
    """The rows, with thumbnails where something shows them."""
    if not files.want_thumbnails:
        return saved.rows()
    workers = settings.workers or available_cores()
    return illustrate_rows(saved.rows(), saved.absolute, workers=workers)


def laid_out(
    saved: SavedResults,
    truth: Truth,
    files: Files,
    settings: EvaluationSettings,
    scorecard: Scorecard,
) -> WriterOptions:
    """How a report of saved rows is laid out, and what it knows."""

    def label(path: Path) -> str | None:
        index = truth(Path.cwd() / path)
        return None if index is None else saved.names[index]

    record = {**(saved.record or {}), "classes": list(saved.names)}
    return replace(
        lay_out(saved.names, files, settings, saved.path.name),
        truth=label,
        record=with_shares(lambda: record, scorecard),
    )
