"""Detect class names in the wrong order: would the same names in another order score far better?

A network outputs indices, and the list of names gives them meaning. A list in another order than in
training makes a good network look bad, and the confusion matrix shows it: each class is predicted
as one other class, always the same.

The best assignment looks good on any network, because it was fitted. So the images are split into
two halves, and what one half suggests is validated on the other. A few common mix-ups are tried as
well; nothing is fitted for them, so they need few images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_cli.evaluate.metrics import Matrix, mcnemar_test
from resnet_cli.sources.folders import natural_key

Assignment = NDArray[np.int64]
"""The output [classes] that the images of each class are really assigned to."""

SURE = 0.001  # p above which a gain may be chance
FAR = 0.1  # share of all images to gain, unless most images of the moved classes are gained
MANY = 5  # moved classes; an open chain of fewer may be mere similarity

KNOWN: dict[str, Callable[[Sequence[str]], list[int]]] = {
    "they are sorted as text in training, 1, 10, 2, as torchvision's ImageFolder does": (
        lambda names: sorted(range(len(names)), key=lambda i: names[i])
    ),
    "they are sorted with numbers by their value in training, 1, 2, 10": (
        lambda names: sorted(range(len(names)), key=lambda i: natural_key(names[i]))
    ),
    "they are sorted without regard to capitals in training": (
        lambda names: sorted(range(len(names)), key=lambda i: names[i].casefold())
    ),
    "the list is reversed": lambda names: list(range(len(names)))[::-1],
    "the list is shifted by one: its first name belongs at the end": (
        lambda names: [*range(1, len(names)), 0]
    ),
    "the list is shifted by one: its last name belongs at the beginning": (
        lambda names: [len(names) - 1, *range(len(names) - 1)]
    ),
}
"""Common mix-ups: a description, and the positions of the names in the right order."""


@dataclass(frozen=True, slots=True)
class Move:
    """An output with another name in the better order."""

    index: int
    named: str
    means: str
    images: int  # of that class, as evidence; without any it is a guess


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the class names that scores far better."""

    classes: tuple[str, ...]
    reason: str | None  # description of the pattern, if it is a known one
    moves: tuple[Move, ...]
    top1: float  # accuracy in this order
    top1_given: float  # accuracy in the order given
    p: float  # probability of such a gain by chance


def find_order(halves: tuple[Matrix, Matrix], names: Sequence[str]) -> Order | None:
    """Find an order of the names that scores far better, beyond chance; None if there is none.

    Args:
        halves: confusion matrices of two halves of the images, alternating in each class.
        names: one per output, in the order given.
    """
    matrix = halves[0] + halves[1]
    found = better_known(matrix, names)
    fitted, p = fit_assignment(halves)
    if fitted is not None and (
        found is None or held_out(halves) > matrix[np.arange(len(names)), found[0]].sum()
    ):
        found = fitted, describe_pattern(fitted, matrix, names), p
    return None if found is None else describe_assignment(*found, matrix, names)


def deal_halves(
    truths: Sequence[int], labels: Sequence[int], classes: int
) -> tuple[Matrix, Matrix]:
    """Compute confusion matrices of two halves of the images, alternating in each class."""
    halves = np.zeros((2, classes, classes), dtype=np.int64)
    seen = [0] * classes
    for truth, label in zip(truths, labels, strict=True):
        halves[seen[truth] % 2, truth, label] += 1
        seen[truth] += 1
    return halves[0], halves[1]


def better_known(
    matrix: Matrix, names: Sequence[str]
) -> tuple[Assignment, str | None, float] | None:
    """Return the best of the known orders, if it is far better than the one given."""
    best, most = None, int(matrix.trace())
    for reason, arrange in KNOWN.items():
        assignment = np.argsort(arrange(names))
        gained, lost = exchanged_images(assignment, matrix)
        p = min(1.0, len(KNOWN) * mcnemar_test(gained, lost))
        if gained - lost + matrix.trace() > most and far_better(
            gained, lost, p, matrix, assignment
        ):
            most = int(gained - lost + matrix.trace())
            best = assignment, reason if len(names) > 2 else None, p
    return best


def fit_assignment(halves: tuple[Matrix, Matrix]) -> tuple[Assignment | None, float]:
    """Return the best assignment for all images, if each half confirms that of the other."""
    matrix = halves[0] + halves[1]
    pairs = [
        exchanged_images(solve_assignment(fitted), judged)
        for fitted, judged in (halves, halves[::-1])
    ]
    gained, lost = map(sum, zip(*pairs, strict=True))
    assignment, p = solve_assignment(matrix), mcnemar_test(gained, lost)
    moved = (assignment != np.arange(len(matrix))) & (matrix.sum(1) > 0)
    closed = set(assignment[moved].tolist()) == set(np.flatnonzero(moved).tolist())
    sure = closed or (moved.sum() >= MANY and gained >= 10 * lost)
    convincing = sure and far_better(gained, lost, p, matrix, assignment)
    return (assignment if convincing else None), p


def solve_assignment(matrix: Matrix) -> Assignment:
    """Return the assignment with the most images; ties go to the one that moves least."""
    from scipy.optimize import linear_sum_assignment

    size = len(matrix)
    return linear_sum_assignment(matrix * (size + 1.0) + np.eye(size), maximize=True)[1]


def exchanged_images(assignment: Assignment, matrix: Matrix) -> tuple[int, int]:
    """Count the images that only the assignment gets right, and only the order given."""
    places = np.arange(len(matrix))
    moved = places[assignment != places]
    return int(matrix[moved, assignment[moved]].sum()), int(matrix[moved, moved].sum())


def held_out(halves: tuple[Matrix, Matrix]) -> int:
    """Count the images that are right under the assignment of the other half."""
    places = np.arange(len(halves[0]))
    return sum(
        int(judged[places, solve_assignment(fitted)].sum())
        for fitted, judged in (halves, halves[::-1])
    )


def far_better(gained: int, lost: int, p: float, matrix: Matrix, assignment: Assignment) -> bool:
    """Return True if the gain is significant and large."""
    of_moved = int(matrix[assignment != np.arange(len(matrix))].sum())
    large = gained - lost >= FAR * matrix.sum() or 2 * gained >= of_moved
    return p < SURE and gained >= 2 * lost and bool(large)


def describe_pattern(assignment: Assignment, matrix: Matrix, names: Sequence[str]) -> str | None:
    """Describe the pattern of an assignment, if it is a known one."""
    moved = np.flatnonzero((assignment != np.arange(len(matrix))) & (matrix.sum(1) > 0))
    steps = set((assignment - np.arange(len(matrix)))[moved].tolist())
    if len(moved) > 2 and steps <= {1, -1} and len(steps) == 1:
        return (
            f"shifted by one from {names[moved[0]]!r} to {names[moved[-1]]!r}: a class is missing "
            "or superfluous at one end of them"
        )
    return None


def describe_assignment(
    assignment: Assignment, reason: str | None, p: float, matrix: Matrix, names: Sequence[str]
) -> Order:
    """Turn an assignment into an order of the names."""
    back = np.argsort(assignment)  # output -> the class whose images go there
    support = matrix.sum(1)
    moves = (
        Move(output, names[output], names[true], int(support[true]))
        for output, true in enumerate(back.tolist())
        if output != true
    )
    total = int(matrix.sum())
    right = int(matrix[np.arange(len(names)), assignment].sum())
    return Order(
        tuple(names[true] for true in back),
        reason,
        tuple(moves),
        right / total,
        int(matrix.trace()) / total,
        p,
    )
