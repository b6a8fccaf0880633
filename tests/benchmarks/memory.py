"""Does memory stay flat however many pictures a run has?

Run by hand; fifty thousand small passes take a few minutes of one core:

    python tests/benchmarks/memory.py PHOTOS CHECKPOINT --images 50000

The run reads a folder of links to the photographs, each many times, at a size at which the network
takes little. What counts is the growth from the first mark to the last, as by then every worker has
had every photograph; the list of paths is there from the start.
"""

import resource
import sys
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from items import paths_of
from resnet_cli import Classifier
from resnet_cli.sources import find_inputs

MARKS = (1_000, 5_000, 20_000, 50_000, 200_000)  # images after which memory is looked at
FILES_IN_FOLDER = 1_000


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--images", default=50_000, help="Links to make and read.")
@click.option("--side", default=32, help="Pixels of the network's input.")
@click.option("-j", "--workers", default=2, help="Threads.")
def main(photos: Path, checkpoint: Path, images: int, side: int, workers: int) -> None:
    """Print resident memory at each mark, and its growth from the first to the last."""
    classifier = Classifier.load(
        checkpoint,
        device="cpu",
        preprocess=lambda recorded: replace(recorded, resize_size=side, crop_size=side),
    )
    marks = [*(mark for mark in MARKS if mark < images), images]
    with tempfile.TemporaryDirectory() as folder:
        link(Path(folder), photos, images)
        seen: list[int] = []
        begun = perf_counter()
        for number, _ in enumerate(classifier.predict(folder, workers=workers), 1):
            if number in marks:
                seen.append(resident())
                click.echo(
                    f"{number:>9,} images  {seen[-1] / 2**20:8.1f} MiB  "
                    f"{perf_counter() - begun:6.0f} s"
                )
    click.echo(f"growth {100 * (seen[-1] / seen[0] - 1):.1f} %")


def link(folder: Path, photos: Path, images: int) -> None:
    """Fill a folder with links to photographs, each of them many times."""
    targets = cycle(Path(path).resolve() for path in paths_of(find_inputs([str(photos)])))
    for number, target in enumerate(islice(targets, images)):
        place = folder / str(number // FILES_IN_FOLDER)
        place.mkdir(exist_ok=True)
        (place / f"{number}.jpg").symlink_to(target)


def resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
