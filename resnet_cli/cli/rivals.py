"""``resnet-cli evaluate -c A -c B``: several checkpoints on the same images."""

from collections.abc import Sequence
from contextlib import closing
from itertools import chain

import click

from resnet_cli.classifier import Classifier
from resnet_cli.cli.run import describe
from resnet_cli.cli.scoring import Files, Settings, labelled, show, write
from resnet_cli.cli.terminal import note, progress_bar
from resnet_cli.evaluate.compare import Ledger, predict_all
from resnet_cli.evaluate.findings import comparison_lines
from resnet_cli.evaluate.formats import as_json
from resnet_cli.inputs import Inputs


def compare(classifiers: Sequence[Classifier], files: Files, settings: Settings) -> int:
    """Evaluate several checkpoints on the same images.

    Returns:
        How many images could not be read.
    """
    for_one = ("confusion", "calibration", "mistakes", "report")
    given = [f"--{name}" for name in for_one if getattr(files, name)]
    given += ["--audit"] if settings.audit_images else []
    given += [f"-o {path}" for path in files.outputs if path.suffix.lower() != ".json"]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: for one checkpoint at a time; several are compared on stdout and "
            "in -o FILE.json"
        )
    for classifier in classifiers:
        describe(classifier)
    datasets = [labelled(settings, classifier.class_names) for classifier in classifiers]
    for sentence in dict.fromkeys(chain.from_iterable(each.notes for each in datasets)):
        note(sentence)
    ledger = Ledger(classifiers, threshold=settings.threshold)
    total = len(datasets[0].paths)
    rows = predict_all(
        classifiers,
        Inputs(datasets[0].paths, total, 0),
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    truths = zip(*(dataset.truths for dataset in datasets), strict=True)
    with progress_bar(total, settings.progress) as bar, closing(rows):
        for predictions, indices in zip(rows, truths, strict=True):
            ledger.add(predictions, indices)
            bar.update()
    comparison = ledger.comparison()
    figures = comparison.record()
    for path in files.outputs:
        write(path, as_json(figures))
    if settings.stdout_format == "json":
        show([as_json(figures).rstrip("\n")])
    else:
        show(comparison_lines(comparison))
    return comparison.evaluations[0].errors
