"""Which items are left, where earlier runs have written rows of some of them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from resnet_cli.records import Item, Pause
from resnet_cli.results.files.resume import SavedRows
from resnet_cli.sources import Inputs


class Plan:
    """Which items are left, and which of several files lack a row for each of them."""

    def __init__(self, saved: Sequence[SavedRows]) -> None:
        """Begin with the rows that each file holds."""
        self.saved = saved
        self.wanted: deque[tuple[bool, ...]] = deque()  # of the items on their way
        self.kinds: dict[tuple[bool, ...], tuple[bool, ...]] = {}  # there are few of them

    def remaining(self, inputs: Inputs) -> Inputs:
        """Return the inputs without those that every file has a row for."""
        items = self.without_saved(inputs.items)
        if not self.saved:
            return inputs
        if inputs.total is None:
            return replace(inputs, items=items)
        left = list(items)
        return replace(inputs, items=left, total=len(left))

    def without_saved(self, items: Iterable[Item | Pause]) -> Iterator[Item | Pause]:
        """Yield what is left of a stream of items."""
        for item in items:
            if isinstance(item, Pause):
                yield item
                continue
            wanted = tuple(not saved.take(item.identity) for saved in self.saved)
            if any(wanted):
                self.wanted.append(self.kinds.setdefault(wanted, wanted))
                yield item

    def next(self, files: int) -> tuple[bool, ...]:
        """Return, for each file, whether it lacks a row for the next item; a new one lacks all."""
        return self.wanted.popleft() if self.saved else (True,) * files

    @property
    def vanished(self) -> int:
        """Return how many rows are of items that are no longer among the inputs."""
        return max((saved.untaken for saved in self.saved), default=0)
