"""Images by URL are fetched ahead of the workers, by threads, in the order in which they are used.

Connections and memory are bounded: an object is asked for once there is room for its bytes, and
what is fetched holds its room until a worker takes it. Large objects are not fetched ahead.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from threading import Condition, Lock, Thread
from typing import Any

from resnet_cli.errors import ImageError
from resnet_cli.records import Item, Pause
from resnet_cli.sources.fetch import LARGE, STOPPED, Connection, Fetchable, TooLargeError
from resnet_cli.system import free_memory

SHARE = 8  # of the free memory, one part
LEAST, MOST = 64 << 20, 512 << 20  # bytes

ASSUMED = 8 << 20  # bytes of an object whose size is unknown


class Prefetch:
    """Fetches the remote ones among items; the others pass.

    Iterate once. After ``close`` no thread waits for a server, and images that have not come are
    errors.
    """

    def __init__(
        self, items: Iterable[Item | Pause], connections: int, *, total: int | None = None
    ) -> None:
        """Set what is fetched; nothing begins yet.

        Args:
            items: as they come.
            connections: most requests at a time.
            total: bytes of what is fetched or on its way; None takes a share of the free memory.
        """
        self.items = items
        self.connections = connections
        self.total = default_ahead() if total is None else total
        self.held = 0  # bytes
        self.changed = Condition()
        self.tasks: deque[Fetched] = deque()
        self.threads: list[Thread] = []
        self.connection = Connection()
        self.closed = False
        self.last: Fetched | None = None  # of which a part was submitted

    def __iter__(self) -> Iterator[Item | Pause]:
        """Yield the items in order, as many ahead of the caller as there are connections."""
        try:
            yield from self.ahead()
        except BaseException:  # the consumer stops, or the listing fails: no worker may wait
            self.close()
            raise

    def ahead(self) -> Iterator[Item | Pause]:
        """Yield the items in order, and have those behind them fetched."""
        waiting: deque[Item] = deque()
        for item in self.items:
            if isinstance(item, Pause):
                yield from waiting
                waiting.clear()
                yield item
                continue
            waiting.append(self.submit(item))
            while waiting and (len(waiting) > self.connections or not self.threads):
                yield waiting.popleft()
        yield from waiting

    def submit(self, item: Item) -> Item:
        """Have an item fetched, if it is a remote one; once for neighbouring parts of one image."""
        if not isinstance(item.content, Fetchable):
            return item
        if self.last is not None and self.last.stored is item.content:
            return replace(item, content=self.last)
        fetched = Fetched(item.content, self)
        self.last = fetched if item.part else None
        with self.changed:
            self.tasks.append(fetched)
            if len(self.threads) < self.connections:
                self.threads.append(Thread(target=self.work, daemon=True))
                self.threads[-1].start()
            self.changed.notify()
        return replace(item, content=fetched)

    def work(self) -> None:
        """Fetch one object after the other; this is a thread of its own."""
        while (task := self.next()) is not None:
            try:
                task.fetch(self.connection)
            except Exception as error:  # noqa: BLE001 - whoever waits for it must have it
                task.future.set_exception(error)
            del task  # so that it gives its room back, unless a worker holds it

    def next(self) -> "Fetched | None":
        """Wait for an object, and for room for it; None when there are no more."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or (self.tasks and self.has_room()))
            if self.closed:
                return None
            task = self.tasks.popleft()
            self.held += task.claimed
            self.changed.notify()  # the next one may fit as well
            return task

    def has_room(self) -> bool:
        """Return True if the first object may be fetched."""
        return self.held == 0 or self.held + self.tasks[0].claimed <= self.total

    def give(self, size: int) -> None:
        """Take back room for ``size`` bytes."""
        with self.changed:
            self.held -= size
            self.changed.notify()

    def close(self) -> None:
        """End everything."""
        with self.changed:
            self.closed, self.last = True, None
            left = [*self.tasks]
            self.tasks.clear()
            self.changed.notify_all()
        self.connection.end()
        for task in left:
            task.future.set_exception(ImageError(STOPPED))
        for thread in self.threads:
            thread.join(1)  # a file system without asyncio may take longer, which harms nothing


class Fetched:
    """A remote image that is on its way, as the content of an item.

    Its pickle is the image itself, so that a worker process need not know the network.
    """

    def __init__(self, stored: Fetchable, owner: Prefetch) -> None:
        """Begin; the owner fetches it."""
        self.stored = stored
        self.owner = owner
        self.future: Future[bytes | None] = Future()  # None for what must not be fetched ahead
        self.claimed = min(ASSUMED if stored.size is None else stored.size, LARGE)
        self.holds = False
        self.taken = Lock()

    def fetch(self, connection: Connection) -> None:
        """Fetch it, in the thread of its owner.

        Raises:
            ImageError: it does not come.
        """
        self.holds = True
        data = None
        if self.stored.size is None or self.stored.size <= LARGE:
            try:
                data = self.stored.fetch(connection, LARGE)
            except TooLargeError:
                data = None
        unused = self.claimed - len(data or b"")
        self.claimed -= unused
        self.owner.give(unused)
        self.future.set_result(data)

    def read(self) -> bytes:
        """Return the bytes once they are here; a second time they are fetched again.

        Raises:
            ImageError: they do not come.
        """
        if not self.taken.acquire(blocking=False):
            return self.stored.read()
        try:
            data = self.future.result()
        finally:
            self.release()
            self.future = Future()
        return self.stored.read() if data is None else data

    def release(self) -> None:
        """Give up the room for the bytes."""
        if self.holds:
            self.holds = False
            self.owner.give(self.claimed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Wait, and pickle the bytes, or the reason why there are none."""
        try:
            return bytes, (self.read(),)
        except ImageError as error:
            return str, (str(error),)

    def __del__(self) -> None:
        """Give up the room, also for bytes that were never read."""
        self.release()


def default_ahead() -> int:
    """Return the bytes that may be fetched ahead on this machine."""
    free = free_memory()
    return MOST if free is None else min(MOST, max(LEAST, free // SHARE))
