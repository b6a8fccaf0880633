"""``resnet-cli evaluate -c A -c B``: several checkpoints on the same images."""

from collections.abc import Sequence
from contextlib import closing
from itertools import chain

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.figures import Files, show, write
from resnet_cli.cli.run import describe, verified
from resnet_cli.cli.scoring import Settings, labelled
from resnet_cli.cli.terminal import note, progress_bar
from resnet_cli.errors import ImageError, InputError
from resnet_cli.evaluate.compare import Comparison, Ledger, predict_all
from resnet_cli.evaluate.dataset import Dataset
from resnet_cli.evaluate.findings import comparison_lines
from resnet_cli.evaluate.formats import as_json


def compare(classifiers: Sequence[Classifier], files: Files, settings: Settings) -> int:
    """Evaluate several checkpoints on the same images.

    Returns:
        How many images could not be read.
    """
    refuse(files, settings)
    for classifier in classifiers:
        describe(classifier)
    datasets = [labelled_for(classifier, settings) for classifier in classifiers]
    for sentence in dict.fromkeys(chain.from_iterable(each.notes for each in datasets)):
        note(sentence)
    for classifier in classifiers if settings.verify else ():
        verified(classifier, datasets[0].inputs, settings.verify)
    comparison = compared(classifiers, datasets, settings)
    figures = comparison.record()
    for path in files.outputs:
        write(path, as_json(figures))
    if settings.stdout_format == "json":
        show([as_json(figures).rstrip("\n")])
    else:
        show(comparison_lines(comparison))
    return comparison.evaluations[0].errors


def labelled_for(classifier: Classifier, settings: Settings) -> Dataset:
    """Match the true classes to those of one checkpoint of several.

    Raises:
        InputError: they do not match; the message names the checkpoint.
    """
    try:
        return labelled(settings, classifier.class_names)
    except InputError as error:
        raise InputError(f"{classifier.checkpoint.path}: {error}") from error


def refuse(files: Files, settings: Settings) -> None:
    """Refuse what only one checkpoint has.

    Raises:
        UsageError: names it.
    """
    for_one = {"confusion": files.confusion, "calibration": files.calibration,
               "mistakes": files.mistakes, "report": files.report, "grid": files.grids,
               "show": files.show}  # fmt: skip
    given = [f"--{name}" for name, value in for_one.items() if value]
    given += ["--audit"] if settings.audit_images else []
    given += [f"-o {path}" for path in files.outputs if path.suffix.lower() != ".json"]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: for one checkpoint at a time; several are compared on stdout and "
            "in -o FILE.json"
        )


def compared(
    classifiers: Sequence[Classifier], datasets: Sequence[Dataset], settings: Settings
) -> Comparison:
    """Run all networks over all pictures.

    Raises:
        ImageError: one cannot be read, and the run is to stop there.
    """
    for classifier in classifiers:
        classifier.checkpoint.release()
    ledger = Ledger(classifiers, threshold=settings.threshold)
    rows = predict_all(
        classifiers,
        datasets[0].inputs,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    truths = zip(*(dataset.truths for dataset in datasets), strict=True)
    with progress_bar(len(datasets[0].paths), settings.progress) as bar, closing(rows):
        for predictions, indices in zip(rows, truths, strict=True):
            ledger.add(predictions, indices)
            bar.update()
            if predictions[0].error is not None and settings.on_error == "fail":
                raise ImageError(f"stopped at {predictions[0].path}: {predictions[0].error}")
    return ledger.comparison()
