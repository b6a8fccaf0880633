"""Damage archives of every kind: each image must be read, or a row must say why not.

Run by hand; twenty thousand inputs take a few minutes of one core:

    python tests/faults/fuzz_archives.py --count 20000 --seed 0

Input number n of a seed is the same on every run; ``--only n`` repeats it. To take two GB more than
at the start is a fault, as is any error but a sentence, an input that takes seconds, an image of a
zip that is not what was packed, and one that is lost without a word.
"""

import gzip
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from zipfile import ZIP_DEFLATED, ZipFile

import click

sys.path.extend(str(Path(__file__).parents[2] / part) for part in ("", "tests", "tests/support"))

from faults.harms import HARMS
from packing import pack
from resnet_cli.errors import ImageError, InputError
from resnet_cli.records import Item
from resnet_cli.sources import find_inputs

SLOW = 2.0  # seconds of the processor that no archive of this size should take
ADDRESSES = 2 << 30  # bytes beyond those of a fresh process

CLEAN, ODD = ("read", "refused"), "odd"

IMAGES = 6


def originals() -> dict[str, bytes]:
    """The files of each archive; their bytes are not looked at, so that any will do."""
    random = Random(1)
    images = {
        f"{'long' * 30 * (number == 3)}d/{number}.png": random.randbytes(300 + 301 * number)
        for number in range(IMAGES)
    }
    return {**images, "d/1.cls": b"7", "notes.txt": b"x" * 100}


def archives(folder: Path) -> dict[str, bytes]:
    """An archive of each kind, by the name of its file."""
    files = originals()
    made = {
        name: pack(str(folder / name), files).read_bytes()
        for name in ("stored.zip", "deflated.zip", "bzip2.zip", "lzma.zip", "x.tar", "x.tar.gz")
    }
    streamed = BytesIO()
    streamed.seekable = lambda: False  # type: ignore[method-assign]
    with ZipFile(streamed, "w", ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return {
        **made,
        "streamed.zip": streamed.getvalue(),
        "again.tar.gz": made["x.tar"],  # damaged before it is packed
        "x.tar.xz": pack(str(folder / "x.tar.xz"), files).read_bytes(),
    }


def choose(seed: int, number: int, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The name and the bytes of one damaged archive."""
    random = Random(f"{seed} {number}")
    name = random.choice(list(files))
    data = bytearray(files[name])
    for _ in range(random.choice((1, 1, 1, 2))):
        if data:
            random.choice(HARMS)(data, random)
    return name, gzip.compress(data, 1) if name == "again.tar.gz" else bytes(data)


def outcome(path: Path) -> str:
    """How reading an archive ended; one of ``CLEAN``, or what must not be."""
    begun = process_time()
    try:
        inputs = find_inputs([str(path)])
        items = [item for item in inputs.items if isinstance(item, Item)]
    except InputError as error:
        return "refused" if str(error).isprintable() else f"says {error}"
    read: list[bytes] = []
    reasons: list[str] = []
    for item in items:
        try:
            read.append(bytes_of(item))
        except ImageError as error:
            reasons.append(str(error))
    if process_time() - begun > SLOW:
        return "slow"
    if any(not reason.isprintable() for reason in reasons):
        return f"says {reasons}"
    if path.suffix == ".zip" and not set(read) <= set(originals().values()):
        return "other bytes"
    if not reasons and len(read) + inputs.passed_over + inputs.sieve.skipped < IMAGES:
        return "lost without a word"
    return "refused" if reasons else "read"


def bytes_of(item: Item) -> bytes:
    """The bytes of an item.

    Raises:
        ImageError: it has none.
    """
    if isinstance(item.content, str):
        raise ImageError(item.content)
    assert item.content is not None
    return item.content if isinstance(item.content, bytes) else item.content.read()  # type: ignore[union-attr]


def outcomes(folder: Path, seed: int, numbers: range) -> dict[int, tuple[str, str]]:
    """The name of each damaged archive, and how it ended."""
    files = archives(folder)
    ended = {}
    for number in numbers:
        name, data = choose(seed, number, files)
        path = folder / name
        path.write_bytes(data)
        try:
            ended[number] = name, outcome(path)
        except Exception as error:  # noqa: BLE001 - the point is which there are
            ended[number] = name, f"{type(error).__name__}: {error}"
    return ended


@click.command()
@click.option("--count", default=5_000, help="Inputs.")
@click.option("--seed", default=0, help="Of the random numbers.")
@click.option("--only", type=int, help="The number of one input to read again.")
def main(count: int, seed: int, only: int | None) -> None:
    """Print how many inputs of each kind ended how; exit with 1 if any ended wrongly."""
    numbers = range(count) if only is None else range(only, only + 1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, resource.RLIM_INFINITY))
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ended = outcomes(Path(folder), seed, numbers)
    table = Counter((name, end if end in CLEAN else ODD) for name, end in ended.values())
    for number, (name, end) in ended.items():
        if end not in CLEAN:
            click.echo(f"{number} ({name}): {end}")
    columns = (*CLEAN, ODD)
    click.echo(f"{'':20}" + "".join(f"{column:>10}" for column in columns))
    for name in sorted({name for name, _ in table}):
        click.echo(f"{name:20}" + "".join(f"{table[name, column]:10}" for column in columns))
    odd = sum(times for (_, end), times in table.items() if end == ODD)
    click.echo(f"{len(numbers)} inputs of seed {seed} in {perf_counter() - begun:.0f} s, {odd} odd")
    sys.exit(1 if odd else 0)


if __name__ == "__main__":
    main()
