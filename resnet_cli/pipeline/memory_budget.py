"""A bound on the memory that pictures take while they are decoded, shared by all workers."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Condition, Lock
from time import perf_counter
from typing import Protocol
from weakref import finalize

from resnet_cli.system import free_memory

SHARE = 0.5  # of the free memory; the rest is for the network and for other programs
LEAST = 256 << 20  # bytes; with less, ordinary photographs would wait for each other
UNKNOWN = 4 << 30  # bytes that are taken to be free where the system does not say

LARGE_FILE = 16 << 20  # bytes; of larger ones a single one is open and has not claimed yet


class Bound(Protocol):
    """Memory that pictures take turns to take."""

    @property
    def door(self) -> AbstractContextManager[object]:
        """Held by whoever has opened a large file and has not claimed yet."""

    def claim(self, size: int) -> AbstractContextManager[object]:
        """Wait for ``size`` bytes and hold them."""


class Budget:
    """Lets threads take memory in the order in which they ask, up to a total."""

    def __init__(self, total: int | None = None) -> None:
        """Begin with all of it free.

        Args:
            total: bytes; None takes a share of what is free on this machine.
        """
        self.total = default_total() if total is None else total
        self.held = 0
        self.waiting: deque[object] = deque()
        self.changed = Condition()
        self.door = Lock()

    @contextmanager
    def claim(self, size: int) -> Iterator[None]:
        """Wait for ``size`` bytes and hold them; more than the total waits to be alone.

        A thread must not claim twice at a time: two such threads could wait for each other.
        """
        with self.changed:
            ticket = object()
            self.waiting.append(ticket)
            self.changed.wait_for(lambda: self.waiting[0] is ticket and self.has_room(size))
            self.waiting.popleft()
            self.held += size
            self.changed.notify_all()  # whoever is next may fit as well
        try:
            yield
        finally:
            with self.changed:
                self.held -= size
                self.changed.notify_all()

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes more may be taken."""
        return self.held == 0 or self.held + size <= self.total


class Allowance:
    """What a process may take that shares a machine with others of its kind.

    More than that it takes when none of the others does so. The system gives the turn of a process
    that dies to the next one.
    """

    def __init__(self, each: int) -> None:
        """Make what all processes have in common that are copied from this one.

        Args:
            each: bytes for a process.
        """
        self.each = each
        self.file = os.memfd_create("allowance")  # empty: its bytes are only there to be locked
        finalize(self, os.close, self.file)

    @property
    def door(self) -> AbstractContextManager[None]:
        """Held by whoever has opened a large file and has not claimed yet."""
        return self.alone(0)

    def claim(self, size: int) -> AbstractContextManager[None]:
        """Wait for ``size`` bytes and hold them."""
        return self.alone(1) if size > self.each else nullcontext()

    @contextmanager
    def alone(self, byte: int) -> Iterator[None]:
        """Be the only process inside."""
        import fcntl

        fcntl.lockf(self.file, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, byte)


class Turn:
    """The way of one picture to its memory: a large file waits at the door, then for room.

    Whoever is at the door waits for those that have claimed, who never come back to it.
    """

    def __init__(self, budget: Bound) -> None:
        """Begin with nothing."""
        self.budget = budget
        self.waited = 0.0  # seconds
        self.warnings: list[str] = []  # what is odd about it
        self.door = ExitStack()
        self.room = ExitStack()

    def enter(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be opened."""
        if size > LARGE_FILE:
            self.wait(self.door, self.budget.door)

    def claim(self, size: int) -> None:
        """Wait for ``size`` bytes and let the next one open its file."""
        self.wait(self.room, self.budget.claim(size))
        self.door.close()

    def warn(self, message: str) -> None:
        """Note what is odd about the picture."""
        if message not in self.warnings:
            self.warnings.append(message)

    def wait(self, held: ExitStack, wanted: AbstractContextManager[object]) -> None:
        """Wait for something to hold, and count how long that takes."""
        asked = perf_counter()
        held.enter_context(wanted)
        self.waited += perf_counter() - asked

    def close(self) -> None:
        """Give all of it back."""
        self.door.close()
        self.room.close()


def default_total() -> int:
    """Bytes that pictures may take together on this machine."""
    free = free_memory()
    return max(LEAST, int(SHARE * (UNKNOWN if free is None else free)))
