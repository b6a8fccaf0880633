"""How long a run would take, from a sample of its images; nothing is written."""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from resnet_cli.records import Item, Progress
from resnet_cli.run import Run
from resnet_cli.run.tally import Tally
from resnet_cli.sources import Inputs

SAMPLE = 20  # images that are classified


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would be."""

    images: int | None  # that are left; None of a stream
    tried: int
    errors: int  # of those tried
    seconds: float  # for each image of a long run; 0 where none was classified
    workers: int


def forecast_run(run: Run, *, progress: Progress | None = None) -> Forecast:
    """Classify a sample of what is left of a run twice, and say how long all would take.

    The first time images are read from where they lie; the second time the network is warm.
    """
    sample = sample_items(run.left)
    options = replace(run.options, thumbnails=False)
    tallies = [Tally.of(run.classifier, options.threads) for _ in range(2)]
    first, second = tallies
    for tally in tallies:
        with closing(run.classifier.classify(Inputs.of(sample), options)) as rows:
            for prediction in rows:
                tally.add(prediction)
                if progress is not None:
                    progress(first.images + second.images, 2 * len(sample))
    return Forecast(
        images=run.left.total,
        tried=first.images,
        errors=first.errors,
        seconds=first.pace(second.means()["forward"]),
        workers=first.workers,
    )


def sample_items(inputs: Inputs) -> list[Item]:
    """Choose items from everywhere in the inputs, or the first ones of a stream."""
    if inputs.total is None:
        return inputs.peek(SAMPLE)[0]
    step = max(1, inputs.total // SAMPLE)
    return list(islice(inputs.known, 0, step * SAMPLE, step))
