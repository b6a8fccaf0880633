"""Sample: which pictures a report holds when there are more than it should."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import IO, NamedTuple

from resnet_cli.results.html.entry import Entry

SEED = 0  # the same run gives the same report


class Place(NamedTuple):
    """Where an item lies in the spool: its row, then its thumbnail."""

    begin: int
    middle: int
    end: int


class Reservoir:
    """A uniform sample of a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int, random: Random) -> None:
        self.size = size
        self.random = random
        self.seen = 0
        self.kept: list[Place] = []
        self.slot: int | None = None  # of the next item

    def wants(self) -> bool:
        """Whether the next item of the stream is to be put in."""
        self.seen += 1
        slot = len(self.kept) if self.seen <= self.size else self.random.randrange(self.seen)
        self.slot = slot if slot < self.size else None
        return self.slot is not None

    def put(self, place: Place) -> None:
        """Put it in, in place of an earlier one when there is no room."""
        self.kept[self.slot : (self.slot or 0) + 1] = [place]


class ReportSample:
    """Up to ``limit`` pictures of a run, whose rows and thumbnails wait in a file.

    Those that a person looks for (errors, uncertain and wrong ones) come first, up to half of the
    room or more if the others leave it; of both kinds a uniform sample is held.
    """

    def __init__(self, spool: IO[bytes], limit: int) -> None:
        random = Random(SEED)
        self.spool = spool
        self.limit = limit
        self.random = random
        self.striking = Reservoir(limit, random)
        self.others = Reservoir(limit, random)
        self.next = self.others

    def wants(self, *, striking: bool) -> bool:
        """Whether the next picture may be in the report: if so, ``add`` it."""
        self.next = self.striking if striking else self.others
        return self.next.wants()

    def add(self, row: bytes, thumbnail: bytes) -> None:
        """Hold a picture."""
        begin = self.spool.tell()
        self.spool.write(row)
        self.spool.write(thumbnail)
        middle = begin + len(row)
        self.next.put(Place(begin, middle, middle + len(thumbnail)))

    def places(self) -> list[Place]:
        """Where those lie that are in the report, in input order."""
        room = max(self.limit // 2, self.limit - len(self.others.kept))
        striking = self.some(self.striking, room)
        return sorted(striking + self.some(self.others, self.limit - len(striking)))

    def some(self, reservoir: Reservoir, room: int) -> list[Place]:
        """A uniform sample of what is held."""
        if len(reservoir.kept) <= room:
            return reservoir.kept
        return self.random.sample(reservoir.kept, room)

    def read(self, begin: int, end: int) -> str:
        """A row, or a thumbnail."""
        self.spool.seek(begin)
        return self.spool.read(end - begin).decode("ascii")


BINS = 20  # of the histogram of the best probability, from 0 to 1


@dataclass(slots=True)
class Counts:
    """A fold over entries."""

    images: int = 0
    errors: int = 0
    uncertain: int = 0
    right: int = 0
    wrong: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, entry: Entry) -> None:
        """Count one picture."""
        self.images += 1
        self.errors += entry.error is not None
        self.uncertain += entry.verdict.uncertain
        self.right += entry.verdict.right is True
        self.wrong += entry.verdict.right is False
        if entry.label is not None:
            self.labels[entry.label] += 1
            self.histogram[min(BINS - 1, int(BINS * entry.scores[0][1]))] += 1
