"""How long do the workers wait while pages and a report are drawn?

Run by hand on a machine that does nothing else:

    python tests/benchmarks/drawing.py PHOTOS CHECKPOINT --images 76 --rounds 5

A run with rows alone and one with pages and a report take turns, each in a process of its own. A
worker waits when it has no chunk of images in hand; the share is of all workers, from the first
chunk to the last. What the run prints of itself counts its start as waiting too.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from resnet_cli import Classifier, PredictOptions, pipeline
from resnet_cli.results.options import WriterOptions
from resnet_cli.run import OutputOptions, Run, lay_out_results
from resnet_cli.run.manifest import Destinations
from resnet_cli.sources import FindOptions, find_inputs

FILES = {"rows": (("r.csv",), ()), "drawn": (("r.html",), ("g.png",))}
"""Files of ``-o`` and of ``--grid``."""


@dataclass(frozen=True, slots=True)
class Times:
    """What one run took."""

    waiting: float  # share of the workers' time, 0 to 1
    said: float  # the same as the run's own tally has it
    stream: float  # seconds from the first chunk to the last
    rest: float  # seconds from there to closed files


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--images", default=76, help="In a run; the photographs are repeated.")
@click.option("--rounds", default=5, help="Runs of each kind, in turn.")
@click.option("-j", "--workers", default=2, help="Threads.")
@click.option("--only", type=click.Choice(list(FILES)), help="Do one run, and print it as JSON.")
def main(
    photos: Path, checkpoint: Path, images: int, rounds: int, workers: int, only: str | None
) -> None:
    """Print the share of time that workers wait, and the seconds of each kind of run."""
    if only:
        found = find_inputs([str(photos)], FindOptions()).known
        paths = [item.path for item in islice(cycle(found), images)]
        click.echo(json.dumps(asdict(time_run(paths, checkpoint, only, workers))))
        return
    seen: dict[str, list[Times]] = {kind: [] for kind in FILES}
    for _ in range(rounds):
        for kind, runs in seen.items():
            done = subprocess.run(
                [sys.executable, *sys.argv, "--only", kind], check=True, capture_output=True
            )
            runs.append(Times(**json.loads(done.stdout)))
            click.echo(describe(kind, runs[-1:]))
    for kind, runs in seen.items():
        click.echo(describe(f"median, {kind}", runs))


def time_run(paths: list[str], checkpoint: Path, kind: str, workers: int) -> Times:
    """Do one run into files of a folder that is removed afterwards."""
    predict = PredictOptions(workers=workers)
    classifier = Classifier.load(checkpoint, device="cpu")
    inputs = find_inputs(paths, FindOptions())
    files, grids = FILES[kind]
    spans = watch_workers()
    with TemporaryDirectory() as folder:
        options: WriterOptions = lay_out_results(classifier, inputs, predict, OutputOptions())
        destinations = Destinations(
            options=options,
            files=tuple(Path(folder) / name for name in files),
            grids=tuple(Path(folder) / name for name in grids),
        )
        run = Run(classifier, inputs, destinations, predict)
        for _ in run.rows():
            pass
        closed = perf_counter()
    begun, ended = min(start for start, _ in spans), max(end for _, end in spans)
    busy = sum(end - start for start, end in spans)
    computed = sum(run.tally.everything.sums.values()) / 1000
    return Times(
        waiting=1 - busy / workers / (ended - begun),
        said=1 - computed / workers / run.record.seconds,
        stream=ended - begun,
        rest=closed - ended,
    )


def watch_workers() -> list[tuple[float, float]]:
    """Note from now on when each chunk was begun and when it was done."""
    spans: list[tuple[float, float]] = []
    map_ordered = pipeline.map_ordered

    def watched(items: Iterable[Any], work: Callable[[Any], Any], *, workers: int) -> Iterator[Any]:
        def timed(item: Any) -> Any:
            begun = perf_counter()
            try:
                return work(item)
            finally:
                spans.append((begun, perf_counter()))

        return map_ordered(items, timed, workers=workers)

    pipeline.map_ordered = watched  # type: ignore[assignment]
    return spans


def describe(name: str, runs: list[Times]) -> str:
    """Describe runs by the median of each figure."""
    waiting, said, stream, rest = (
        median(getattr(run, name) for run in runs) for name in Times.__slots__
    )
    return (
        f"{name}: the workers wait {waiting:.1%} of the time (by the run's tally {said:.1%}), "
        f"{stream:.2f} s, then {rest:.2f} s to close the files"
    )


if __name__ == "__main__":
    main()
