"""Counts: what a report says of all pictures, of which it may hold a sample."""

from collections import Counter
from dataclasses import dataclass, field

from resnet_cli.writers.html.entry import Entry

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
