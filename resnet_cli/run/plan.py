"""Which pictures are left, where earlier runs have written rows of some of them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from resnet_cli.results.files.resume import SavedRows
from resnet_cli.sources import Inputs
from resnet_cli.sources.lists import PAUSE


class Plan:
    """Which pictures are left, and which of several files want each of them."""

    def __init__(self, saved: Sequence[SavedRows]) -> None:
        """Say what each file holds."""
        self.saved = saved
        self.wanted: deque[tuple[bool, ...]] = deque()  # of the pictures on their way
        self.kinds: dict[tuple[bool, ...], tuple[bool, ...]] = {}  # there are few of them

    def remaining(self, inputs: Inputs) -> Inputs:
        """The inputs without those that every file has a row for."""
        paths = self.without_saved(inputs.paths)
        if not self.saved:
            return inputs
        if inputs.total is None:
            return replace(inputs, paths=paths)
        left = list(paths)
        return replace(inputs, paths=left, total=len(left))

    def without_saved(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield what is left of a stream of paths."""
        for path in paths:
            if path == PAUSE:
                yield path
                continue
            wanted = tuple(not saved.take(path) for saved in self.saved)
            if any(wanted):
                self.wanted.append(self.kinds.setdefault(wanted, wanted))
                yield path

    def next(self, files: int) -> tuple[bool, ...]:
        """Which of so many files want the next picture; new ones want each."""
        return self.wanted.popleft() if self.saved else (True,) * files

    @property
    def vanished(self) -> int:
        """Rows whose pictures are no longer among the inputs."""
        return max((saved.untaken for saved in self.saved), default=0)
