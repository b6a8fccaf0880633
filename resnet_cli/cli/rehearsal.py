"""``predict --dry-run``: how long a run would take and where it would write; nothing is written."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from resnet_cli.classifier import Classifier
from resnet_cli.cli.destinations import Destinations
from resnet_cli.cli.run import plan_run
from resnet_cli.cli.stdio import echo
from resnet_cli.cli.terminal import progress_bar
from resnet_cli.run.manifest import Record
from resnet_cli.run.tally import Tally
from resnet_cli.sources import Inputs
from resnet_cli.system import available_cores
from resnet_cli.text import amount, duration_words, escape_unprintable

SAMPLE = 20  # images that are classified


def rehearse_run(
    classifier: Classifier,
    found: Inputs,
    destinations: Destinations,
    *,
    workers: int | None,
    progress: str,
    **settings: Any,
) -> int:
    """Classify a sample, and report on the whole run; the arguments are those of ``run``.

    Returns:
        How many images of the sample could not be read.
    """
    threads = workers or available_cores()
    tallies = [Tally(threads, on_cpu=classifier.runtime.on_workers_cores) for _ in range(2)]
    record = Record(classifier, tallies[0], destinations.options.topk, settings["threshold"])
    plan, left = plan_run(found, destinations, record)
    sample = sample_inputs(left)
    with progress_bar(2 * len(sample), progress) as bar:
        for tally in tallies:  # the second time everything is warm, but files are cached
            rows = classifier.predict(Inputs(sample, len(sample), 0), workers=threads, **settings)
            with closing(rows):
                for prediction in rows:
                    tally.add(prediction)
                    bar.update()
    for line in (
        *forecast_time(left, *tallies),
        *list_places(destinations, [saved.rows for saved in plan.saved]),
        "dry run: nothing was written",
    ):
        echo(line)
    return tallies[0].errors


def sample_inputs(inputs: Inputs) -> list[str]:
    """Choose images from everywhere in the inputs, or the first ones of a stream."""
    if inputs.total is None:
        return inputs.peek(SAMPLE)[0]
    step = max(1, inputs.total // SAMPLE)
    return list(islice(inputs.paths, 0, step * SAMPLE, step))


def forecast_time(inputs: Inputs, first: Tally, second: Tally) -> Iterator[str]:
    """Say how many images there are, and how long they would take.

    Args:
        inputs: of the run.
        first: of the sample, read from where it lies.
        second: of the sample again, by a network that is warm.
    """
    count = "as many as come" if inputs.total is None else f"{inputs.total:,}"
    yield f"images: {count}"
    if first.images:
        yield f"tried: {amount(first.images, 'image')}, {amount(first.errors, 'error')}"
    each = first.pace(second.means()["forward"])
    if each:
        rate = f"{1 / each:.1f} images/s"
        total = "" if inputs.total is None else f"about {duration_words(each * inputs.total)}, at "
        yield f"time: {total}{rate} with {amount(first.workers, 'worker')}"


def list_places(destinations: Destinations, rows: list[int]) -> Iterator[str]:
    """Say where the run would write, and what would become of the files that exist."""
    for number, path in enumerate(destinations.paths):
        if not path.exists():
            becomes = "new"
        elif destinations.resume:
            becomes = f"continued after {amount(rows[number], 'row')}"
        else:
            becomes = "replaced"
        yield escape_unprintable(f"writes: {path} ({becomes})")
    if not destinations.quiet:
        yield f"writes: stdout ({destinations.stdout_format})"
