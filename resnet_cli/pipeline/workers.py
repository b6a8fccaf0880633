"""Loading in processes, for a device that wants pictures faster than one interpreter hands them on.

Decoding leaves Python's lock alone, but what is around it does not, and in front of a GPU the
threads of more than a few cores would wait for each other. Here each thread that asks for a batch
has a process that loads it: a copy of this one, with a lock of its own. Pixels come back through
memory that both share. A picture that takes its process down becomes a row like any other damaged
one.
"""

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing import current_process
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

from resnet_cli.errors import ProcessError
from resnet_cli.pipeline.worker_process import NONE, Child, Load
from resnet_cli.records import Item

log = logging.getLogger("resnet_cli")

Loaded = TypeVar("Loaded")

FEW_WORKERS = 4  # threads that hardly wait for each other
FEW_IMAGES = 4000  # they are done before the processes have made good for their start

CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGKILL"})
"""How a picture ends its decoder, the last when memory runs out. Others were sent by somebody."""


@contextmanager
def place_loader(
    load: Load[Loaded], *, device: torch.device, workers: int, size: int, total: int | None
) -> Iterator[Callable[[Sequence[Item]], Loaded]]:
    """Load in processes where that is the faster.

    Args:
        load: chunk of items -> a batch.
        device: where the network runs.
        workers: threads that will load at a time.
        size: most images in a chunk.
        total: images of the run, if that is known.
    """
    processes = None
    if pay_off(device, workers=workers, total=total):
        try:
            pinned = device.type == "cuda"
            most = size if total is None else min(size, total)
            processes = Processes(load, workers=workers, size=most, pinned=pinned)
        except (OSError, OverflowError) as error:
            log.warning("decoding in threads, which is slower: no process can start: %s", error)
    if processes is None:
        yield load
    else:
        with closing(processes):
            yield processes


def pay_off(device: torch.device, *, workers: int, total: int | None) -> bool:
    """Whether processes are possible and worth their start.

    On macOS a copy of a process that has used the system's libraries is not safe, and Windows
    knows none.
    """
    return (
        device.type == "cuda"
        and sys.platform == "linux"
        and workers > FEW_WORKERS
        and (total is None or total > FEW_IMAGES)
        and not current_process().daemon  # those may have no children
    )


class Processes(Generic[Loaded]):
    """Hands the chunks of several threads to as many processes."""

    def __init__(self, load: Load[Loaded], *, workers: int, size: int, pinned: bool) -> None:
        """Start them.

        Args:
            load: chunk of items -> a batch.
            workers: processes.
            size: most images in a chunk.
            pinned: return pixels in memory that a GPU copies from by itself.

        Raises:
            OSError: the system allows no more processes, or not so much memory.
            OverflowError: nobody has so much memory.
        """
        self.load = load.shared(workers)
        self.size = size
        self.pinned = pinned
        self.children: list[Child[Loaded]] = []
        self.idle: SimpleQueue[Child[Loaded]] = SimpleQueue()
        try:
            for _ in range(workers):
                self.idle.put(self.bear())
        except OSError:
            self.close()
            raise

    def __call__(self, items: Sequence[Item]) -> Loaded:
        """Load a chunk in a process that has nothing to do.

        Raises:
            ProcessError: a process ended, and not because of a picture.
        """
        child = self.idle.get()
        try:
            while True:
                try:
                    return child.load(items)
                except (EOFError, OSError):
                    child = self.replace(child, items)
        finally:
            self.idle.put(child)  # a dead one, too: whoever gets it must not wait for ever

    def bear(self) -> "Child[Loaded]":
        """Start a process."""
        child = Child(self.load, self.load.nbytes(self.size), pinned=self.pinned)
        self.children.append(child)
        return child

    def replace(self, dead: "Child[Loaded]", items: Sequence[Item]) -> "Child[Loaded]":
        """Start a process in place of one that ended, and spare it the picture that it was at.

        Raises:
            ProcessError: it was at no picture, or ended of its own accord.
        """
        status = dead.close()
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        if cause not in CRASHES or dead.at == NONE:
            raise ProcessError(f"a process that decodes images was ended by {cause}")
        why = ", as when memory runs out" if cause == "SIGKILL" else ""
        self.load.refuse(items[dead.at], f"its decoder was killed by {cause}{why}")
        successor = self.bear()
        self.children.remove(dead)
        return successor

    def close(self) -> None:
        """End all processes, which have nothing to do any more."""
        for child in self.children:
            child.hang_up()
        for child in self.children:
            child.close()
