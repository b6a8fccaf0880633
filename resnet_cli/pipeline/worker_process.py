"""One process that loads, from both of its ends."""

import os
import pickle
import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from io import BytesIO
from math import prod
from mmap import mmap
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from time import sleep
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

from resnet_cli.images.native_warnings import listen_alone, pass_on
from resnet_cli.pipeline.loader import Allocate
from resnet_cli.records import Item, Pixels
from resnet_cli.system import use_one_thread

Loaded = TypeVar("Loaded")
Loads = TypeVar("Loads", covariant=True)

NONE = -1  # instead of the place of a picture in its chunk

LOOK = 0.2  # seconds after which a process notices that the one it works for is gone

COPYING = Lock()
"""While the end of a connection that a child is for is open here, no other child must get it: that
nobody has that end is how this process learns that the child is gone."""


class Load(Protocol[Loads]):
    """What turns a chunk of items into a batch, or into several."""

    def __call__(self, items: Sequence[Item], /) -> Loads:
        """Load a chunk, its pictures in order."""

    def nbytes(self, count: int) -> int:
        """Bytes of the pixels of so many images."""

    def shared(self, workers: int) -> "Load[Loads]":
        """The same for so many processes that load at a time."""

    def refuse(self, item: Item, reason: str) -> None:
        """Make a row of the reason instead of opening this item."""


class Child(Generic[Loaded]):
    """A process that loads one chunk at a time, and what it shares with this one."""

    def __init__(self, load: Load[Loaded], nbytes: int, allocate: Allocate) -> None:
        """Start it.

        Args:
            load: what it does with a chunk.
            nbytes: of the pixels of a chunk.
            allocate: memory for the pixels that are returned.
        """
        context = get_context("fork")
        self.allocate = allocate
        self.memory = memoryview(mmap(-1, max(1, nbytes)))
        self.place = memoryview(mmap(-1, 8)).cast("q")  # where in its chunk it is
        self.place[0] = NONE
        with COPYING:
            self.connection, other_end = context.Pipe()
            self.process = context.Process(
                target=self.serve, args=(load, other_end, os.getpid()), daemon=True
            )
            self.process.start()
            other_end.close()

    @property
    def at(self) -> int:
        """The place of the picture that it is at, or ``NONE``."""
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
        """Tell it that it has nothing to do any more."""
        with suppress(OSError):  # it may be gone, or told before
            self.connection.send(None)
        self.connection.close()

    def close(self) -> int:
        """Let it end and return its status: that of ``exit``, or minus the signal's number."""
        self.hang_up()
        self.process.join()
        return self.process.exitcode or 0

    def serve(self, load: Load[Loaded], connection: Connection, parent: int) -> None:
        """Load chunk after chunk until the other end hangs up. This runs in the child."""
        Thread(target=end_with, args=(parent,), daemon=True).start()
        # whoever sends these to all processes of a terminal means the run, which ends its children
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
    """End this process at once when its parent is gone, and not after the chunk.

    It has a part in the parent's files until then, and in its locks on them.
    """
    while os.getppid() == parent:
        sleep(LOOK)
    os._exit(1)


class Watched(Sequence[Item]):
    """A chunk that notes in shared memory which picture is being loaded."""

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
        """Copy pixels behind those before; in the pickle stand their place and shape."""
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
        """Copy pixels out of the shared memory, whose next pixels may come."""
        start, shape = pid
        pixels = self.allocate(shape)
        pixels[:] = view_pixels(self.memory, start, shape)
        return pixels


def view_pixels(memory: memoryview, start: int, shape: tuple[int, ...]) -> Pixels:
    """View pixels in memory from a place on."""
    return np.frombuffer(memory, np.uint8, prod(shape), start).reshape(shape)
