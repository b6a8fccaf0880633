"""Damage checkpoints of every container: each must be refused in a sentence, or load right.

Run by hand; twenty thousand inputs take some fifteen minutes of one core:

    nice -n 19 python tests/benchmarks/fuzz.py --count 20000 --seed 0

Input number n of a seed is the same on every run; ``--only n`` repeats it. Inputs are read in a
process that may take two GB more than it has, and ten seconds for each; where it dies, a new one
goes on. What ends otherwise than in a sentence or a network is kept, under its seed and number.
"""

import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import perf_counter
from types import TracebackType

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from benchmarks.victims import Victim, blank, damaged, victims
from resnet_cli.checkpoint.examine import examine_contents
from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.inspect import inspect_checkpoint
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, Location
from resnet_cli.checkpoint.tensors import require_finite
from resnet_cli.errors import CheckpointError, SettingError

SECONDS = 10  # of the processor, for one input
SILENCE = 120  # seconds until a process that no alarm reaches is ended
ADDRESSES = 2 << 30  # bytes beyond those of a fresh process
MEGABYTES = 300  # that one input may take for a while
WHOLE = 20  # one input in so many goes through all that predict and inspect do with a file

CLEAN, ODD = ("opened", "refused", "refused by the system"), "odd"


class TimeIsOverError(BaseException):
    """Goes through every ``except Exception``."""


def read(path: Path, *, entirely: bool) -> str:
    """Open a file as the program does, and say how that ended.

    Raises:
        AssertionError: it loads, and is not right.
    """
    try:
        if entirely:
            inspect_checkpoint(path)
            load_checkpoint(Location(path, "fuzz"))
        contents = read_contents(path)
        found = examine_contents(contents, path, LoadOptions()).found
        right = blank(found.architecture.name, found.in_channels).state_dict()
        for name, shape in ((name, tensor.shape) for name, tensor in right.items()):
            if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
                assert found.state[name].shape == shape, name
        finite(found.state, path, entirely=entirely)
    except (CheckpointError, SettingError):
        return "refused"
    except OSError:
        return "refused by the system"
    return "opened"


def finite(state: Mapping[str, Tensor], path: Path, *, entirely: bool) -> None:
    """See that NaN and infinity would be refused: in all numbers, or in the first of each tensor.

    Raises:
        CheckpointError: they are.
        AssertionError: they are not.
    """
    for name, tensor in state.items():
        numbers = tensor if entirely else tensor[(slice(0, 1),) * tensor.ndim]
        if not torch.isfinite(numbers).all():
            require_finite({name: tensor}, path)
            raise AssertionError(f"{name} is not finite")


class Watched:
    """Keeps what is raised inside a ``with``, whatever it is, and ends it when its time is over."""

    complaint: str | None = None

    def __enter__(self) -> "Watched":
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
        self.before = peak()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        signal.setitimer(signal.ITIMER_PROF, 0)
        taken = (peak() - self.before) >> 20
        if error is not None:
            last = traceback.extract_tb(trace)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            self.complaint = f"{type(error).__name__} in {place}: {str(error)[:80]!r}"
        elif taken > MEGABYTES:
            self.complaint = f"took {taken} MB"
        return True


def outcome(path: Path, *, entirely: bool) -> str:
    """How reading a file ended; one of ``CLEAN``, or what must not be."""
    ended = ""
    with Watched() as watched:
        ended = read(path, entirely=entirely)
    return watched.complaint or ended


def peak() -> int:
    """Bytes of memory that this process has held at once."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def choose(seed: int, number: int, files: Sequence[Victim]) -> tuple[Victim, bytes]:
    """The file of one number, and its damaged part."""
    random = Random(f"{seed} {number}")
    victim = random.choice(files)
    return victim, damaged(victim.target, random)


def work(answers: Connection, seed: int, numbers: Sequence[int], files: Sequence[Victim]) -> None:
    """Read inputs one after the other; say which is begun, and how it ended."""

    def stop(*_: object) -> None:
        raise TimeIsOverError

    signal.signal(signal.SIGPROF, stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    for number in numbers:
        answers.send((number, None))
        victim, data = choose(seed, number, files)
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            path = victim.place(data, Path(folder))
            answers.send((number, outcome(path, entirely=number % WHOLE == 0)))


def outcomes(seed: int, numbers: range, files: Sequence[Victim]) -> Iterator[tuple[int, str]]:
    """Yield how each input ended, through as many processes as it takes."""
    context = multiprocessing.get_context("fork")
    done = numbers.start
    while done < numbers.stop:
        ours, theirs = context.Pipe(duplex=False)
        rest = range(done, numbers.stop)
        process = context.Process(target=work, args=(theirs, seed, rest, files))
        process.start()
        theirs.close()
        try:
            while done < numbers.stop:
                if not ours.poll(SILENCE):
                    process.kill()
                number, ended = ours.recv()
                if ended is not None:
                    done = number + 1
                    yield number, ended
        except EOFError:
            process.join()
            yield done, f"the process ended with {process.exitcode}"
            done += 1
        process.join()


@click.command()
@click.option("--count", default=20_000, help="Inputs.")
@click.option("--seed", default=0, help="Of the random numbers.")
@click.option("--only", type=int, help="The number of one input to read again.")
@click.option("--keep", type=click.Path(path_type=Path), default="fuzzed", help="For what is odd.")
def main(count: int, seed: int, only: int | None, keep: Path) -> None:
    """Print how many inputs of each container ended how."""
    torch.set_num_threads(1)  # a process is copied from this one, threads are not
    files = list(victims())
    numbers = range(count) if only is None else range(only, only + 1)
    table: Counter[tuple[str, str]] = Counter()
    odd: Counter[str] = Counter()
    begun = perf_counter()
    for number, ended in outcomes(seed, numbers, files):
        victim, data = choose(seed, number, files)
        table[victim.name, ended if ended in CLEAN else ODD] += 1
        if ended not in CLEAN:
            place = keep / f"{seed}-{number}"
            place.mkdir(parents=True, exist_ok=True)
            victim.place(data, place)
            kind = ended.partition(": ")[0]
            odd[kind] += 1
            if odd[kind] == 1:
                click.echo(f"{number} ({victim.name}): {ended}")
    seconds = perf_counter() - begun
    show(table)
    for kind, times in odd.most_common():
        click.echo(f"{times:6} {kind}")
    click.echo(f"{len(numbers)} inputs of seed {seed} in {seconds:.0f} s")


def show(table: Counter[tuple[str, str]]) -> None:
    """Print counts, a container a line."""
    columns = (*CLEAN, ODD)
    for (_, ended), times in list(table.items()):
        table["all", ended] += times
    click.echo(" " * 24 + "".join(f"{column:>22}" for column in columns))
    for name in dict.fromkeys(name for name, _ in table):
        click.echo(f"{name:24}" + "".join(f"{table[name, column]:22}" for column in columns))


if __name__ == "__main__":
    main()
