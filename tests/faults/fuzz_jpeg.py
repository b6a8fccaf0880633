"""Damage JPEGs of every kind: each library must make the same of them, and survive.

Run by hand; twenty thousand inputs take a few minutes of one core:

    python tests/faults/fuzz_jpeg.py --count 20000 --seed 0

Inputs are numbered, read and kept as in ``fuzz_images.py``. Each goes through every library of
``images/jpeg.py`` that is installed, and through Pillow; pixels and what is printed are compared.
"""

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from faults.fuzz_images import choose, report
from faults.processes import limit_memory
from jpegs import kinds
from resnet_cli.images.jpeg import Decode, decode_by, read_jpeg, working_decoders
from resnet_cli.records import Pixels

STDERR = 2

LARGEST = 20_000_000  # pixels; a larger image is refused by its header

CLEAN = UNOPENED, REFUSED, PILLOW, WARNED, READ = (
    "unopened", "refused", "by Pillow", "warned", "read",
)  # fmt: skip
"""Not offered to a decoder; refused by all, or by all but Pillow; read by all."""

Way = Callable[[bytes], Pixels]


def by_library(decoder: Decode, data: bytes) -> Pixels:
    """Decode by a library."""
    return decode_by(decoder, read_jpeg(BytesIO(data), len(data), 1))


def by_pillow(data: bytes) -> Pixels:
    """Decode by Pillow."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


class Printed:
    """What this process prints on stderr, natively."""

    def __init__(self) -> None:
        """Begin to listen."""
        os.dup2(os.memfd_create("stderr"), STDERR)

    def take(self) -> bytes:
        """Return what was printed since the last time."""
        size = os.fstat(STDERR).st_size
        lines = os.pread(STDERR, size, 0)
        os.ftruncate(STDERR, 0)
        os.lseek(STDERR, 0, os.SEEK_SET)
        return lines


def attempt(decode: Way, data: bytes) -> str:
    """Decode; return the shape and a digest of the pixels, or ``REFUSED``."""
    try:
        pixels = decode(data)
    except Exception:  # noqa: BLE001 - the sentences of the libraries differ
        return REFUSED
    return f"{pixels.shape} {sha256(pixels.tobytes()).hexdigest()}"


def compare(ways: Mapping[str, Way], data: bytes, printed: Printed) -> str:
    """Say how an input ended: one of ``CLEAN``, or what must not be."""
    if not is_offered(data):
        return UNOPENED
    found = {name: (attempt(decode, data), printed.take()) for name, decode in ways.items()}
    pillows, _ = found.pop("pillow")  # which prints nothing
    (pixels, said), *others = found.values()
    if pixels not in (pillows, REFUSED) or any(other != (pixels, said) for other in others):
        return f"Pillow {pillows}, {found}"
    if pixels == REFUSED:
        return REFUSED if pillows == REFUSED else PILLOW
    return WARNED if said else READ


def is_offered(data: bytes) -> bool:
    """Return True for what comes to a decoder at all, by its header."""
    try:
        with Image.open(BytesIO(data)) as header:
            return header.format == "JPEG" and header.width * header.height <= LARGEST
    except Exception:  # noqa: BLE001 - Pillow raises anything on damaged files
        return False


def work(answers: Connection, seed: int, numbers: Sequence[int], files: dict[str, bytes]) -> None:
    """Read inputs one after the other; say how each ended."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # they are printed as well
    ways: dict[str, Way] = {
        name: partial(by_library, decoder) for name, decoder in working_decoders()
    }
    ways["pillow"] = by_pillow
    limit_memory()
    printed = Printed()
    for number in numbers:
        _, data = choose(seed, number, files)
        answers.send((number, compare(ways, data, printed)))


@click.command()
@click.option("--count", default=20_000, help="Inputs.")
@click.option("--start", default=0, help="Number of the first.")
@click.option("--seed", default=0, help="Of the random numbers.")
@click.option("--keep", type=click.Path(path_type=Path), default="fuzzed", help="For what is odd.")
def main(count: int, start: int, seed: int, keep: Path) -> None:
    """Print how many inputs of each kind ended how; exit with 1 if any ended wrongly."""
    numbers = range(start, start + count)
    sys.exit(1 if report(kinds(), seed, numbers, keep, work, CLEAN) else 0)


if __name__ == "__main__":
    main()
