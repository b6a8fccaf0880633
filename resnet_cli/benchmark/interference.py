"""Linux's counts before and after a measurement -> how much of the cores other work took."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from time import perf_counter

PROC = Path("/proc")

BUSY = slice(0, 3), slice(5, 8)  # of a line of /proc/stat: user nice system, irq softirq steal
STOLEN = 7
OF_A_PROCESS = slice(13, 17)  # of /proc/PID/stat: its own time and that of children that ended

SHORTEST = 0.2  # seconds: what is counted in hundredths tells nothing of less

TOLERATED = 0.1  # share of the cores that changes a figure by less than two runs differ


@dataclass(frozen=True, slots=True)
class Counts:
    """What the system had counted at some moment, in seconds."""

    clock: float
    busy: float  # of all cores that this process may use
    stolen: float  # of it, by a hypervisor for other machines
    own: float  # CPU time of this process and its workers
    waiting: float | None  # in which anything waited for a core; None where it is not counted


@dataclass(frozen=True, slots=True)
class Interference:
    """What other work took while something was measured."""

    taken: float  # share of the cores that the measurement needed, 0 to 1
    stolen: float  # share of the machine's cores that the hypervisor gave to others
    pressure: float | None  # share of the time in which anything waited for a core

    @property
    def disturbs(self) -> bool:
        """True if figures are too low by more than they vary anyway."""
        return self.taken > TOLERATED

    def record(self) -> dict[str, float | None]:
        """Return the shares for JSON."""
        pressure = None if self.pressure is None else round(self.pressure, 3)
        return {
            "taken": round(self.taken, 3),
            "stolen": round(self.stolen, 3),
            "pressure": pressure,
        }


def read_counts() -> Counts | None:
    """Read what the system counts; None on other systems than Linux."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
        cores = os.sched_getaffinity(0)
    except (OSError, AttributeError):
        return None
    mine = [numbers_of(line) for line in lines if line.partition(" ")[0] in names_of(cores)]
    tick = os.sysconf("SC_CLK_TCK")
    return Counts(
        clock=perf_counter(),
        busy=sum(sum(map(sum, (core[part] for part in BUSY))) for core in mine) / tick,
        stolen=sum(core[STOLEN] for core in mine) / tick,
        own=sum(os.times()[:4]) + sum(seconds_of_process(one.pid) for one in active_children()),
        waiting=read_waiting(),
    )


def names_of(cores: set[int]) -> set[str]:
    """Return the words by which /proc/stat names cores."""
    return {f"cpu{core}" for core in cores}


def numbers_of(line: str) -> Sequence[int]:
    """Return the numbers of a core."""
    return [int(word) for word in line.split()[1:]]


def seconds_of_process(number: int | None) -> float:
    """Return the CPU time of a process, 0 once it has ended."""
    try:
        text = (PROC / str(number) / "stat").read_text()
    except OSError:
        return 0.0
    after_name = text.rpartition(")")[2].split()
    ticks = after_name[OF_A_PROCESS.start - 2 : OF_A_PROCESS.stop - 2]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def read_waiting() -> float | None:
    """Return the seconds in which anything waited for a core, where the kernel counts them."""
    try:
        some = (PROC / "pressure" / "cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None


def compare_counts(before: Counts | None, workers: int) -> Interference | None:
    """Return what other work took since some moment.

    Cores that a measurement leaves idle are free to others: on a machine of 64 cores two workers
    are not disturbed by ten other processes.

    Args:
        before: the counts of that moment.
        workers: CPU threads that measured.

    Returns:
        None where the system does not say, or too little time has passed.
    """
    after = read_counts()
    if before is None or after is None or after.clock - before.clock < SHORTEST:
        return None
    seconds = after.clock - before.clock
    cores = len(os.sched_getaffinity(0))
    needed = min(workers, cores)
    others = (after.busy - before.busy - (after.own - before.own)) / seconds
    waiting = None
    if before.waiting is not None and after.waiting is not None:
        waiting = (after.waiting - before.waiting) / seconds
    return Interference(
        taken=min(1.0, max(0.0, (others - (cores - needed)) / needed)),
        stolen=(after.stolen - before.stolen) / seconds / cores,
        pressure=waiting,
    )
