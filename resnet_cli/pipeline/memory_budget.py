"""Bound the memory that images take while they are decoded, over all workers."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Condition, Lock
from time import perf_counter
from typing import Protocol
from weakref import finalize

from resnet_cli.records import Stored
from resnet_cli.system import free_memory

SHARE = 0.5  # of the free memory; the rest is for the network and for other programs
LEAST = 256 << 20  # bytes; with less, images of ordinary cameras would wait for each other
UNKNOWN = 4 << 30  # bytes assumed to be free where the system does not say

LARGE_FILE = 16 << 20  # bytes; of larger files only one at a time is open without its memory


class Budget(Protocol):
    """Memory that workers share."""

    @property
    def large_file(self) -> AbstractContextManager[object]:
        """Lock for opening a large file, held until its memory is claimed."""

    def claim(self, size: int) -> AbstractContextManager[object]:
        """Wait for ``size`` bytes and hold them."""


class MemoryBudget:
    """Gives memory to threads in the order in which they ask, up to a total."""

    def __init__(self, total: int | None = None) -> None:
        """Start with all of it free.

        Args:
            total: bytes; None takes a share of the free memory of this machine.
        """
        self.total = default_total() if total is None else total
        self.held = 0
        self.waiting: deque[object] = deque()
        self.changed = Condition()
        self.large_file = Lock()

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
            self.changed.notify_all()  # the next one may fit as well
        try:
            yield
        finally:
            with self.changed:
                self.held -= size
                self.changed.notify_all()

    def has_room(self, size: int) -> bool:
        """Return True if ``size`` more bytes may be taken."""
        return self.held == 0 or self.held + size <= self.total


class ProcessBudget:
    """Gives each of several worker processes the same share of the memory.

    Only one process at a time may take more than its share. When a process dies, the system
    releases its locks.
    """

    def __init__(self, each: int) -> None:
        """Create the locks that all processes forked from this one share.

        Args:
            each: bytes for a process.
        """
        self.each = each
        self.file = os.memfd_create("budget")  # empty: its bytes are only locked
        finalize(self, os.close, self.file)

    @property
    def large_file(self) -> AbstractContextManager[None]:
        """Lock for opening a large file, held until its memory is claimed."""
        return self.alone(0)

    def claim(self, size: int) -> AbstractContextManager[None]:
        """Wait for ``size`` bytes and hold them."""
        return self.alone(1) if size > self.each else nullcontext()

    @contextmanager
    def alone(self, byte: int) -> Iterator[None]:
        """Hold the lock on a byte of the file."""
        import fcntl

        fcntl.lockf(self.file, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, byte)


class Reservation:
    """The memory of one image: first the permission to open its file, then the bytes to decode it.

    The two cannot deadlock: who waits for bytes with a large file open waits only for those that
    have theirs, and these never open another file.
    """

    def __init__(self, budget: Budget) -> None:
        """Start with nothing reserved."""
        self.budget = budget
        self.waited = 0.0  # seconds
        self.warnings: list[str] = []  # remarks on the image
        self.opened = ExitStack()
        self.claimed = ExitStack()

    def enter(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be opened."""
        if size > LARGE_FILE:
            self.wait(self.opened, self.budget.large_file)

    def claim(self, size: int) -> None:
        """Wait for ``size`` bytes, then let another large file be opened."""
        self.wait(self.claimed, self.budget.claim(size))
        self.opened.close()

    def fetch(self, stored: Stored) -> bytes:
        """Read bytes that are in no file of their own, and add the time to ``waited``."""
        asked = perf_counter()
        try:
            return stored.read()
        finally:
            self.waited += perf_counter() - asked

    def warn(self, message: str) -> None:
        """Note a remark on the image, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def wait(self, held: ExitStack, wanted: AbstractContextManager[object]) -> None:
        """Enter a context that may block, and add the time that takes to ``waited``."""
        asked = perf_counter()
        held.enter_context(wanted)
        self.waited += perf_counter() - asked

    def close(self) -> None:
        """Release everything."""
        self.opened.close()
        self.claimed.close()


def default_total() -> int:
    """Return the bytes that images may take together on this machine."""
    free = free_memory()
    return max(LEAST, int(SHARE * (UNKNOWN if free is None else free)))
