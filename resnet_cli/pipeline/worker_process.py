"""One process that loads, from both of its ends."""

import os
import pickle
import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from mmap import mmap
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from time import sleep
from typing import Any, Generic, Protocol, TypeVar, overload

import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_cli.images.native_warnings import listen_alone, pass_on
from resnet_cli.records import Item

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

    def __init__(self, load: Load[Loaded], nbytes: int, *, pinned: bool) -> None:
        """Start it.

        Args:
            load: what it does with a chunk.
            nbytes: of the pixels of a chunk.
            pinned: return pixels in pinned memory.
        """
        context = get_context("fork")
        self.pinned = pinned
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
        data, ends = self.connection.recv()
        buffers = [self.memory[start:end] for start, end in pairwise(ends)]
        loaded: Loaded = pickle.loads(data, buffers=buffers)
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
        torch.set_num_threads(1)
        listen_alone()
        with suppress(EOFError, ConnectionError):
            while (items := connection.recv()) is not None:
                packed = Packer(self.memory, pinned=self.pinned)
                packed.dump(load(Watched(items, self.place)))
                self.place[0] = NONE
                pass_on()
                connection.send((packed.data.getvalue(), packed.ends))


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
    """Pickles what was loaded, with its pixels in the shared memory instead.

    Attributes:
        data: the pickle.
        ends: where the tensors begin in the memory, and where the last one ends.
    """

    def __init__(self, memory: memoryview, *, pinned: bool) -> None:
        self.data = BytesIO()
        self.ends = [0]
        self.memory = memory
        self.pinned = pinned
        super().__init__(self.data, protocol=5, buffer_callback=self.lay)

    def lay(self, buffer: pickle.PickleBuffer) -> None:
        """Put the bytes of an array behind those of the last."""
        bytes_ = buffer.raw()
        start = self.ends[-1]
        self.ends.append(start + bytes_.nbytes)
        self.memory[start : self.ends[-1]] = bytes_

    def reducer_override(self, thing: Any) -> Any:
        """Let NumPy, which knows how, take a tensor apart."""
        if isinstance(thing, Tensor):
            return copy_out, (thing.permute(0, 2, 3, 1).numpy(), self.pinned)
        return NotImplemented


def copy_out(pixels: NDArray[Any], pinned: bool) -> Tensor:
    """Copy pixels [N, H, W, C] out of the shared memory, whose next pixels may come.

    Returns:
        The same as [N, C, H, W], channels last.
    """
    shared = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return shared.pin_memory() if pinned else shared.clone()
