"""Time ``predict`` against the loop of the tutorials, on the same photographs, in turn.

Run by hand on a machine that does nothing else:

    python tests/benchmarks/tutorial.py PHOTOS CHECKPOINT --images 320 --rounds 5

Both get the same list of files and the same weights, loaded beforehand; what is timed is from the
first file to the last label. The ratio is taken round by round, so that a machine whose speed
drifts slows both.
"""

import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import plain
from items import paths_of
from resnet_cli import Classifier
from resnet_cli.sources import find_inputs


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--images", default=320, help="Photographs of a round; a small folder is repeated.")
@click.option("--rounds", default=5, help="Rounds of both, after one that is not counted.")
@click.option("--precision", default="fp32", help="Of predict; the loop is fp32.")
def main(photos: Path, checkpoint: Path, images: int, rounds: int, precision: str) -> None:
    """Print images per second of both, and their ratio."""
    paths = [Path(path) for path in islice(cycle(paths_of(find_inputs([str(photos)]))), images)]
    network = plain.load_resnet18(checkpoint)
    classifier = Classifier.load(checkpoint, device="cpu", precision=precision)

    def loop() -> list[int]:
        return [int(row.argmax()) for row in plain.probabilities(network, paths)]

    def predict() -> list[int]:
        return [prediction.index or 0 for prediction in classifier.predict(paths, topk=1)]

    speeds: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        (loop_speed, expected), (predict_speed, labels) = timed(loop), timed(predict)
        flips = sum(a != b for a, b in zip(expected, labels, strict=True))
        click.echo(
            f"round {number}: loop {loop_speed:.1f}, predict {predict_speed:.1f} images/s, "
            f"ratio {predict_speed / loop_speed:.2f}, {flips} labels differ"
        )
        speeds.append((loop_speed, predict_speed))
    counted = speeds[1:]
    click.echo(
        f"medians: loop {median(a for a, _ in counted):.1f}, "
        f"predict {median(b for _, b in counted):.1f} images/s, "
        f"ratio {median(b / a for a, b in counted):.2f}"
    )


def timed(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    """Images per second of ``work``, and its labels."""
    begun = perf_counter()
    labels = work()
    return len(labels) / (perf_counter() - begun), labels


if __name__ == "__main__":
    main()
