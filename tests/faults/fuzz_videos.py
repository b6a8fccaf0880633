"""Damage videos of every codec: each gives frames and reasons, the same ones each time.

Run by hand; a thousand inputs take two minutes of one core:

    python tests/faults/fuzz_videos.py --count 1000 --seed 0

Input number n of a seed is the same on every run; ``--only n`` repeats it. Inputs are read twice,
in a process that FFmpeg may crash; then a new one goes on. What ends otherwise than it should is
named.
"""

import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import click
import numpy as np

sys.path.extend(str(Path(__file__).parents[2] / part) for part in ("", "tests", "tests/support"))

from faults.harms import HARMS
from resnet_cli.records import Item
from resnet_cli.sources.frames import frame_items
from resnet_cli.sources.inputs import Carried
from videos import KINDS, make_video

SILENCE = 20  # seconds until a process is ended
EVERY = Fraction(1, 20)


def sample_videos(folder: Path) -> list[Path]:
    """A small video of each kind, and one that is turned."""
    plain = [
        make_video(folder / name, codec=codec, pixels=pixels)
        for name, (codec, pixels) in KINDS.items()
    ]
    front = {"movflags": "faststart"}
    return [*plain, make_video(folder / "turned.mp4", turn=(90, True, False), container=front)]


def damaged(samples: list[Path], seed: int, number: int) -> tuple[str, bytes]:
    """The name and the bytes of an input."""
    random = Random(f"{seed} {number}")
    sample = random.choice(samples)
    data = bytearray(sample.read_bytes())
    random.choice(HARMS)(data, random)
    return sample.name, bytes(data)


def reading(path: Path) -> tuple[str, str]:
    """A digest of all frames and reasons, and the last of the reasons."""
    digest, reason = sha256(), "read"
    for item in frame_items(str(path), EVERY, Carried()):
        if isinstance(item, Item):
            digest.update(item.part.encode())
            if isinstance(item.content, np.ndarray):
                digest.update(item.content.tobytes())
            else:
                reason = str(item.content)
                digest.update(reason.encode())
    return digest.hexdigest(), reason


def serve(connection: Connection) -> None:
    """Read one file after another."""
    while (path := connection.recv()) is not None:
        first, reason = reading(path)
        again, _ = reading(path)
        connection.send(reason if first == again else "ODD: other frames the second time")


def outcomes(paths: Iterator[Path]) -> Iterator[tuple[Path, str]]:
    """What becomes of each file, read in a process that is replaced when it ends."""
    context = multiprocessing.get_context("spawn")
    process = None
    for path in paths:
        if process is None:
            connection, other = context.Pipe()
            process = context.Process(target=serve, args=(other,), daemon=True)
            process.start()
            other.close()
        connection.send(path)
        try:
            answer = connection.recv() if connection.poll(SILENCE) else "ODD: no answer"
        except EOFError:
            process.join()
            answer = f"ODD: the process ended with {process.exitcode}"
        yield path, answer
        if answer.startswith("ODD: "):
            process.kill()
            process = None
    if process is not None:
        connection.send(None)
        process.join()


@click.command()
@click.option("--count", default=1000, help="Inputs.")
@click.option("--seed", default=0, help="Of all of them.")
@click.option("--only", type=int, help="One of them.")
def main(count: int, seed: int, only: int | None) -> None:
    """Damage videos, and count what becomes of them."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        samples = sample_videos(folder)

        def inputs() -> Iterator[Path]:
            for number in range(count) if only is None else [only]:
                name, data = damaged(samples, seed, number)
                path = folder / f"{number}-{name}"
                path.write_bytes(data)
                yield path
                path.unlink()

        for path, outcome in outcomes(inputs()):
            if outcome.startswith("ODD"):
                click.echo(f"{path.name}: {outcome}")
            found["".join("#" if c.isdigit() else c for c in outcome)] += 1
    for words, times in found.most_common():
        click.echo(f"{times:6}  {words}")
    if any(words.startswith("ODD") for words in found):
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
