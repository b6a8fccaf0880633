"""Items that a thread reads or lists ahead of the run, within a number of items and bytes."""

from collections import deque
from collections.abc import Generator, Iterator
from threading import Condition, Thread

import numpy as np

from resnet_cli.records import PAUSE, Item, Pause
from resnet_cli.sources.inputs import Carried
from resnet_cli.sources.lists import PATIENCE

READ_AHEAD = 64 << 20  # bytes that wait to be taken
MOST_AHEAD = 1024  # items that wait to be taken
IN_FLIGHT = 512 << 20  # bytes that are taken before all of them have to be done


def run_ahead(
    items: Iterator[Item], carried: Carried | None = None, *, most: int = MOST_AHEAD
) -> Generator[Item | Pause]:
    """Yield items that a thread reads or lists, with a PAUSE whenever none comes.

    There is also a PAUSE when the items since the last one carry more than ``IN_FLIGHT`` bytes, as
    memory could run out: those before a pause are done when it is over.

    Args:
        items: to read.
        carried: by the streams before this one; None begins with nothing.
        most: items that wait to be taken.
    """
    shelf = Shelf(most)
    carried = carried or Carried()
    Thread(target=shelf.fill, args=(items,), daemon=True).start()
    try:
        while not shelf.is_empty():
            item = shelf.take()
            carried.size += carried_bytes(item) if isinstance(item, Item) else 0
            yield item
            if carried.size > IN_FLIGHT or isinstance(item, Pause):
                carried.size = 0
                yield from () if isinstance(item, Pause) else (PAUSE,)
    finally:
        shelf.close()


def carried_bytes(item: Item) -> int:
    """Return the bytes of its file, or of its pixels, that an item holds in memory."""
    content = item.content
    if isinstance(content, np.ndarray):
        return content.nbytes
    return len(content) if isinstance(content, bytes) else 0


class Shelf:
    """Items on their way from the thread that reads them to the one that takes them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.items: deque[Item] = deque()
        self.size = 0  # bytes that the items carry
        self.filled = False  # nothing more comes
        self.closed = False  # nothing more is taken
        self.failure: BaseException | None = None
        self.changed = Condition()

    def fill(self, items: Iterator[Item]) -> None:
        """Put items on the shelf while there is room; this runs in a thread of its own."""
        try:
            for item in items:
                if not self.put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self.failure = error
        finally:
            with self.changed:
                self.filled = True
                self.changed.notify_all()

    def put(self, item: Item) -> bool:
        """Wait for room and put an item there; return False if nothing more is taken."""
        with self.changed:
            self.changed.wait_for(self.has_room)
            self.items.append(item)
            self.size += carried_bytes(item)
            self.changed.notify_all()
            return not self.closed

    def has_room(self) -> bool:
        """Return whether one more item may be put there."""
        return self.closed or (len(self.items) < self.most and self.size < READ_AHEAD)

    def is_empty(self) -> bool:
        """Return whether all items were taken.

        Raises:
            BaseException: what stopped the thread that reads them.
        """
        with self.changed:
            if self.filled and not self.items and self.failure is not None:
                raise self.failure
            return self.filled and not self.items

    def take(self) -> Item | Pause:
        """Take the next item; a PAUSE if none comes in time."""
        with self.changed:
            self.changed.wait_for(lambda: self.items or self.filled, PATIENCE)
            if not self.items:
                return PAUSE
            item = self.items.popleft()
            self.size -= carried_bytes(item)
            self.changed.notify_all()
            return item

    def close(self) -> None:
        """Take nothing more, and let the thread end."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
