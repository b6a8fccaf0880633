"""What fuzzers share: inputs are read in processes that may crash, hang or run out of memory."""

import multiprocessing
import resource
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

SILENCE = 20  # seconds until a process is ended
START = 60  # seconds more for a process that has torch to import
ADDRESSES = 2 << 30  # bytes beyond those of a fresh process

ODD = "odd"

Work = Callable[[Connection, int, Sequence[int], dict[str, Any]], None]
"""Reads inputs of a seed one after the other, and sends the number of each and how it ended."""


def limit_memory() -> None:
    """Let this process take two GB more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, resource.RLIM_INFINITY))


def outcomes_of(
    work: Work, seed: int, numbers: range, files: Mapping[str, Any], silence: float = SILENCE
) -> Iterator[tuple[int, str]]:
    """Yield how each input ended, through as many processes as it takes."""
    context = multiprocessing.get_context("spawn")
    done = numbers.start
    while done < numbers.stop:
        ours, theirs = context.Pipe(duplex=False)
        rest = range(done, numbers.stop)
        process = context.Process(target=work, args=(theirs, seed, rest, dict(files)))
        process.start()
        theirs.close()
        hung = False
        try:
            while done < numbers.stop:
                if not ours.poll(silence if done > rest.start else silence + START):
                    hung = True
                    process.kill()
                number, ended = ours.recv()
                done = number + 1
                yield number, ended
        except EOFError:
            process.join()
            yield done, "hung" if hung else f"the process ended with {process.exitcode}"
            done += 1
        process.join()


def print_table(
    table: Counter[tuple[str, str]], kinds: Collection[str], clean: Sequence[str]
) -> int:
    """Print how many inputs of each kind ended how, and return how many ended wrongly."""
    columns = (*clean, ODD)
    click.echo(f"{'':24}" + "".join(f"{column:>10}" for column in columns))
    for kind in kinds:
        click.echo(f"{kind:24}" + "".join(f"{table[kind, column]:10}" for column in columns))
    return sum(times for (_, ended), times in table.items() if ended == ODD)
