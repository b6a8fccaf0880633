"""Load in worker processes, for a device that takes images faster than one interpreter loads them.

Decoding releases Python's lock, but the code around it does not: in front of a GPU the threads of
more than a few cores would wait for each other. Here each thread that asks for a batch has a
process that loads it, forked from this one, with a lock of its own. Pixels come back through shared
memory. An image that crashes its process becomes an error row like any other damaged image.
"""

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from math import prod
from mmap import mmap
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock, Thread
from time import sleep
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

from resnet_cli.errors import ProcessError
from resnet_cli.images.native_warnings import listen_alone, pass_on
from resnet_cli.pipeline.batches import Allocate, allocate_pixels
from resnet_cli.records import Item, Pixels
from resnet_cli.runtimes import Runtime
from resnet_cli.system import use_one_thread

log = logging.getLogger("resnet_cli")

Loaded = TypeVar("Loaded")
Loads = TypeVar("Loads", covariant=True)

FEW_WORKERS = 4  # threads that hardly wait for each other
FEW_IMAGES = 4000  # they are done before the processes have paid for their start

CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGKILL"})
"""Signals by which an image ends its decoder, the last when memory runs out. Others come from a
person or a program."""

NONE = -1  # instead of the index of an image in its chunk

LOOK = 0.2  # seconds between two looks at whether the parent still lives

FORKING = Lock()
"""Held while the worker's end of a connection is open in this process: no other worker may inherit
it, because a worker's death is noticed by its end being closed everywhere."""


class Load(Protocol[Loads]):
    """What loads a chunk of items as a batch, or as several."""

    def __call__(self, items: Sequence[Item], /) -> Loads:
        """Load a chunk, its images in order."""

    def pixel_bytes(self, count: int) -> int:
        """Return the bytes of the pixels of ``count`` images."""

    def shared(self, workers: int) -> "Load[Loads]":
        """Return a copy that shares the memory budget among ``workers`` processes."""

    def refuse(self, item: Item, reason: str) -> None:
        """Give this item an error row from now on, without opening it."""


@contextmanager
def place_loader(
    load: Load[Loaded], *, runtime: Runtime, workers: int, size: int, total: int | None
) -> Iterator[Callable[[Sequence[Item]], Loaded]]:
    """Yield ``load`` itself, or a pool of processes that run it where that is faster.

    Args:
        load: chunk of items -> a batch.
        runtime: runs the network.
        workers: threads that will load at the same time.
        size: most images in a chunk.
        total: images of the run; None while unknown.
    """
    processes = None
    if pay_off(runtime, workers=workers, total=total):
        try:
            most = size if total is None else min(size, total)
            processes = Processes(load, workers=workers, size=most, allocate=runtime.allocate)
        except (OSError, OverflowError) as error:
            log.warning("decoding in threads, which is slower: no process can start: %s", error)
    if processes is None:
        yield load
    else:
        with closing(processes):
            yield processes


def pay_off(runtime: Runtime, *, workers: int, total: int | None) -> bool:
    """Return True if processes are possible and worth their start.

    They are forked, which is not safe on macOS once the system's libraries were used, and does not
    exist on Windows.
    """
    return (
        runtime.wants_processes
        and sys.platform == "linux"
        and workers > FEW_WORKERS
        and (total is None or total > FEW_IMAGES)
        and not current_process().daemon  # those may have no children
    )


class Processes(Generic[Loaded]):
    """A pool that distributes the chunks of several threads over as many processes."""

    def __init__(
        self,
        load: Load[Loaded],
        *,
        workers: int,
        size: int,
        allocate: Allocate = allocate_pixels,
    ) -> None:
        """Start them.

        Args:
            load: chunk of items -> a batch.
            workers: processes.
            size: most images in a chunk.
            allocate: memory for the pixels that are returned.

        Raises:
            OSError: the system allows no more processes, or not as much memory.
            OverflowError: no system has that much memory.
        """
        self.load = load.shared(workers)
        self.size = size
        self.allocate = allocate
        self.workers: list[WorkerProcess[Loaded]] = []
        self.idle: SimpleQueue[WorkerProcess[Loaded]] = SimpleQueue()
        try:
            for _ in range(workers):
                self.idle.put(self.start_worker())
        except OSError:
            self.close()
            raise

    def __call__(self, items: Sequence[Item]) -> Loaded:
        """Load a chunk in an idle process.

        Raises:
            ProcessError: a process ended, and not because of an image.
        """
        worker = self.idle.get()
        try:
            while True:
                try:
                    return worker.load(items)
                except (EOFError, OSError):
                    worker = self.replace(worker, items)
        finally:
            self.idle.put(worker)  # a dead one, too: the thread that waits for it must not hang

    def start_worker(self) -> "WorkerProcess[Loaded]":
        """Start a process."""
        worker = WorkerProcess(self.load, self.load.pixel_bytes(self.size), self.allocate)
        self.workers.append(worker)
        return worker

    def replace(
        self, dead: "WorkerProcess[Loaded]", items: Sequence[Item]
    ) -> "WorkerProcess[Loaded]":
        """Start a process in place of a dead one, which will skip the image that killed it.

        Raises:
            ProcessError: it was loading no image, or was ended from outside.
        """
        status = dead.close()
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        if cause not in CRASHES or dead.at == NONE:
            raise ProcessError(f"a process that decodes images was ended by {cause}")
        why = ", as when memory runs out" if cause == "SIGKILL" else ""
        self.load.refuse(items[dead.at], f"its decoder was killed by {cause}{why}")
        successor = self.start_worker()
        self.workers.remove(dead)
        return successor

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.hang_up()
        for worker in self.workers:
            worker.close()


class WorkerProcess(Generic[Loaded]):
    """A process that loads one chunk at a time, and the memory that it shares with this one."""

    def __init__(self, load: Load[Loaded], nbytes: int, allocate: Allocate) -> None:
        """Fork it.

        Args:
            load: what it does with a chunk.
            nbytes: of the pixels of a chunk.
            allocate: memory for the pixels that are returned.
        """
        context = get_context("fork")
        self.allocate = allocate
        self.memory = memoryview(mmap(-1, max(1, nbytes)))
        self.place = memoryview(mmap(-1, 8)).cast("q")  # index of its image in the chunk
        self.place[0] = NONE
        with FORKING:
            self.connection, other_end = context.Pipe()
            self.process = context.Process(
                target=self.serve, args=(load, other_end, os.getpid()), daemon=True
            )
            self.process.start()
            other_end.close()

    @property
    def at(self) -> int:
        """Index of the image that it is loading, or ``NONE``."""
        return self.place[0]

    def load(self, items: Sequence[Item]) -> Loaded:
        """Have it load a chunk, and wait.

        Raises:
            EOFError: it ended.
            OSError: likewise.
        """
        self.connection.send(items)
        data = self.connection.recv()
        loaded: Loaded = Unpacker(data, self.memory, self.allocate).load()
        return loaded

    def hang_up(self) -> None:
        """Ask it to end once it has nothing to do."""
        with suppress(OSError):  # it may be dead, or have been asked before
            self.connection.send(None)
        self.connection.close()

    def close(self) -> int:
        """Let it end and return its status: that of ``exit``, or minus the signal's number."""
        self.hang_up()
        self.process.join()
        return self.process.exitcode or 0

    def serve(self, load: Load[Loaded], connection: Connection, parent: int) -> None:
        """Load chunk after chunk until the other end hangs up. This runs in the worker."""
        Thread(target=end_with, args=(parent,), daemon=True).start()
        # a terminal sends these to all of its processes: the run obeys them and ends its workers
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        use_one_thread()
        listen_alone()
        with suppress(EOFError, ConnectionError):
            while (items := connection.recv()) is not None:
                packed = Packer(self.memory)
                packed.dump(load(Watched(items, self.place)))
                self.place[0] = NONE
                pass_on()
                connection.send(packed.data.getvalue())


def end_with(parent: int) -> None:
    """End this process as soon as its parent has ended, not only after the chunk.

    Until then it holds the parent's files open, and its locks on them.
    """
    while os.getppid() == parent:
        sleep(LOOK)
    os._exit(1)


class Watched(Sequence[Item]):
    """A chunk that notes in shared memory which of its images is being loaded."""

    def __init__(self, items: Sequence[Item], place: memoryview) -> None:
        self.items = items
        self.place = place

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self.items[index]

    def __iter__(self) -> Generator[Item]:
        for place, item in enumerate(self.items):
            self.place[0] = place
            yield item


class Packer(pickle.Pickler):
    """Pickles what was loaded, with its pixels in shared memory instead.

    Attributes:
        data: the pickle.
    """

    def __init__(self, memory: memoryview) -> None:
        self.data = BytesIO()
        self.memory = memory
        self.end = 0  # of the pixels so far
        super().__init__(self.data, protocol=5)

    def persistent_id(self, thing: Any) -> tuple[int, tuple[int, ...]] | None:
        """Copy pixels behind those before; the pickle holds their place and shape."""
        if not isinstance(thing, np.ndarray) or thing.dtype != np.uint8:
            return None
        start, end = self.end, self.end + thing.nbytes
        if end > len(self.memory):  # not of the batch: it stays in the pickle
            return None
        self.end = end
        view_pixels(self.memory, start, thing.shape)[:] = thing
        return start, thing.shape


class Unpacker(pickle.Unpickler):
    """Reads what a ``Packer`` wrote."""

    def __init__(self, data: bytes, memory: memoryview, allocate: Allocate) -> None:
        super().__init__(BytesIO(data))
        self.memory = memory
        self.allocate = allocate

    def persistent_load(self, pid: Any) -> Pixels:
        """Copy pixels out of the shared memory, which the next chunk will overwrite."""
        start, shape = pid
        pixels = self.allocate(shape)
        pixels[:] = view_pixels(self.memory, start, shape)
        return pixels


def view_pixels(memory: memoryview, start: int, shape: tuple[int, ...]) -> Pixels:
    """View memory from ``start`` on as pixels."""
    return np.frombuffer(memory, np.uint8, prod(shape), start).reshape(shape)
