"""An evaluation as people read it."""

from collections.abc import Iterator, Sequence

from resnet_cli.evaluate import Evaluation, Scorecard, Subset
from resnet_cli.evaluate.audit import Finding
from resnet_cli.evaluate.compare import SURE, Comparison, Pair
from resnet_cli.evaluate.confusion import ClassRow, Share
from resnet_cli.evaluate.formats import (
    NAME,
    OF_TWO,
    align_table,
    figure,
    percentage,
    probability,
    short_class_name,
    text_columns,
)
from resnet_cli.evaluate.order import Order
from resnet_cli.text import amount, cut_start, escape_unprintable

MOST_CLASSES = 30  # of a table on a terminal; of more only the worst
WORST = 20
SHOWN = 10  # pairs, and mistakes
MOVES = 6  # outputs whose name is wrong
TYPED = 20  # names that a person may be asked to type


def evaluation_lines(evaluation: Evaluation, width: int) -> Iterator[str]:
    """Yield the lines that people read.

    Args:
        evaluation: what to show.
        width: columns of the terminal.
    """
    yield from headline_lines(evaluation)
    if not evaluation.images:
        return
    yield ""
    yield from class_table(evaluation)
    yield from confused_pairs(evaluation)
    yield from mistake_lines(evaluation, width)
    if evaluation.order is not None:
        yield ""
        yield from order_lines(evaluation.order)


def headline_lines(evaluation: Evaluation) -> Iterator[str]:
    """The figures of the whole."""
    yield (
        f"{evaluation.images:,} images of {len(evaluation.classes):,} classes"
        f"{unreadable_line(evaluation)}"
    )
    if not evaluation.images:
        return
    yield f"top-1        {percent(evaluation.top1)}"
    if evaluation.subset is not None:
        yield f"subset       {percent(evaluation.subset.top1)}"
        yield f"             top-1 among {of_all(evaluation.subset)}"
    if evaluation.top5 is not None:
        yield f"top-5        {percent(evaluation.top5)}"
    if evaluation.loss is not None:
        yield f"loss         {evaluation.loss:.4f}  (mean negative log likelihood)"
    if evaluation.means is not None:
        mean = evaluation.means
        yield (
            f"class means  precision {mean.precision:.3f}  recall {mean.recall:.3f}  "
            f"F1 {mean.f1:.3f}"
        )
    if evaluation.ece is not None:
        yield f"calibration  error (ECE) {evaluation.ece:.4f}{temperature_line(evaluation)}"
    if evaluation.kept is not None:
        kept = evaluation.kept
        yield (
            f"threshold    {kept.images.right:,} images ({percentage(kept.images.value)}) reach "
            f"{kept.threshold:g}; top-1 of them"
        )
        yield f"             {percent(kept.top1)}"


def shares_line(scorecard: Scorecard) -> str:
    """Say in a line which share of the images seen so far is right."""
    outputs = amount(len(scorecard.names), "class", "classes")
    words = f"top-1 {percent(scorecard.top1())} over {outputs}"
    subset = scorecard.subset()
    return words + (f"; {percent(subset.top1)} among {of_all(subset)}" if subset else "")


def of_all(subset: Subset) -> str:
    """Say which classes can be the answer."""
    return f"the {subset.classes:,} of {subset.outputs:,} classes that have images"


def unreadable_line(evaluation: Evaluation) -> str:
    """How many images are left out."""
    return f"; {evaluation.errors:,} could not be read" if evaluation.errors else ""


def percent(found: Share) -> str:
    """A share with its interval."""
    if found.value is None:
        return "none"
    return (
        f"{percentage(found.value)}  ({found.right:,} of {found.images:,}; "
        f"95 % interval {percentage(found.low)} to {percentage(found.high)})"
    )


def temperature_line(evaluation: Evaluation) -> str:
    """What the temperature would mend."""
    found = evaluation.temperature
    if found is None:
        return ""
    if found.at_bound:
        return ""
    trend = "over" if found.value > 1 else "under"
    return f"; {found.ece_after:.4f} at temperature {found.value:.2f} ({trend}confident)"


def class_table(evaluation: Evaluation) -> Iterator[str]:
    """Precision, recall, F1 and support of each class, or of the worst."""
    rows = [row for row in evaluation.classes if row.support]
    if len(rows) > MOST_CLASSES:
        yield f"the {WORST} worst of {len(rows):,} classes with images, by F1 (-o FILE has all)"
        rows = sorted(rows, key=lambda row: (row.f1 or 0.0, -row.support))[:WORST]
    titles = ["class", "precision", "recall", "F1", "images"]
    yield from align_table(
        [
            titles,
            *(
                [short_class_name(row.label), *map(figure, class_scores(row)), f"{row.support:,}"]
                for row in rows
            ),
        ]
    )


def class_scores(row: ClassRow) -> tuple[float | None, ...]:
    """The three figures of a class."""
    return row.precision, row.recall, row.f1


def confused_pairs(evaluation: Evaluation) -> Iterator[str]:
    """The most confused pairs."""
    if evaluation.confused:
        yield from ["", "most confused: true → predicted, images, share of the true class"]
        yield from align_table(
            [
                "  {} → {}".format(
                    *(short_class_name(name, OF_TWO) for name in (pair.truth, pair.label))
                ),
                f"{pair.images:,}",
                percentage(pair.share),
            ]
            for pair in evaluation.confused[:SHOWN]
        )


def mistake_lines(evaluation: Evaluation, width: int) -> Iterator[str]:
    """The most confident mistakes."""
    if evaluation.mistakes:
        yield from ["", "most confidently wrong"]
        for row in evaluation.mistakes[:SHOWN]:
            label, truth = short_class_name(row.label, OF_TWO), short_class_name(row.truth, OF_TWO)
            start = f"  predicted {label} ({row.prob:.3f}), actually {truth}  "
            yield start + cut_start(
                escape_unprintable(row.path), max(12, width - text_columns(start))
            )


def order_lines(order: Order) -> Iterator[str]:
    """What is wrong with the order of the class names, and what would mend it."""
    yield (
        f"the class names seem to be in the wrong order: top-1 would be {percentage(order.top1)} "
        f"instead of {percentage(order.top1_given)}"
    )
    if order.reason is not None:
        yield f"  why it looks so: {order.reason}"
    moves = [move for move in order.moves if move.images] or list(order.moves)
    for move in moves[:MOVES]:
        named, means = short_class_name(move.named), short_class_name(move.means)
        yield f"  output {move.index}, called {named}, means {means}"
    if len(moves) > MOVES:
        yield f"  … {len(moves):,} outputs in all"
    yield f"  fix: {order_option(order)}"


def order_option(order: Order) -> str:
    """The option that puts the names in order."""
    guessed = sum(not move.images for move in order.moves)
    guess = f" ({guessed:,} of them without images, so guessed)" if guessed else ""
    names = order.classes
    if len(names) <= TYPED and not any("," in name or name != name.strip() for name in names):
        listed = escape_unprintable(",".join(names))
        return f"--classes {listed if ' ' not in listed else repr(listed)}{guess}"
    return f"--classes FILE with the names in the order of order.classes in -o FILE.json{guess}"


def audit_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The table of an audit, and what follows from it."""
    yield f"preprocessing audit on {findings[0].top1.images:,} images, one change at a time"
    yield from align_table(
        [AUDIT_TITLES, *(audit_cells(each) for each in findings if not each.dropped)]
    )
    yield from (dropped_reason(found) for found in findings if found.dropped)
    yield (
        "p: probability of such a difference by chance, corrected for "
        f"{len(findings) - 1} comparisons"
    )
    yield audit_verdict(findings)


AUDIT_TITLES = ("preprocessing", "top-1", "flips", "gained", "lost", "p", "loss", "p")


def audit_cells(found: Finding) -> list[str]:
    """A change in a line; the first line is none."""
    counts = [
        str(found.flips), str(found.gained), str(found.lost), probability(found.gain_p),
    ]  # fmt: skip
    return [
        found.name,
        percentage(found.top1.value),
        *(counts if found.flags else [""] * len(counts)),
        figure(found.loss),
        probability(found.loss_p) if found.flags else "",
    ]


def dropped_reason(found: Finding) -> str:
    """Say why a change was not tried on all images."""
    images, right = found.top1.images, found.top1.right
    instead = percentage((right - found.gained + found.lost) / images)
    return (
        f"{found.name}: plainly worse after {images} images (top-1 {percentage(found.top1.value)} "
        f"instead of {instead}; less sure of {found.less_sure})"
    )


def audit_verdict(findings: Sequence[Finding]) -> str:
    """Which flags to give, if any."""
    better = [found for found in findings if found.better]
    if not better:
        return "no alternative is clearly better"
    best = max(better, key=lambda found: (found.top1.right, -(found.loss or 0.0)))
    now = findings[0]
    return (
        f"clearly better with {best.flags}  ({best.name}): top-1 {percentage(best.top1.value)} "
        f"instead of {percentage(now.top1.value)}, "
        f"loss {figure(best.loss)} instead of {figure(now.loss)}"
    )


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The table of several checkpoints, and that of every pair."""
    evaluations = comparison.evaluations
    yield f"{evaluations[0].images:,} images, the same for all{unreadable_line(evaluations[0])}"
    yield from align_table(
        [
            ["", "checkpoint", "top-1", "95 % interval", "loss", "ECE"],
            *(
                [
                    str(number),
                    cut_start(escape_unprintable(path), NAME),
                    percentage(found.top1.value),
                    f"{percentage(found.top1.low)} to {percentage(found.top1.high)}",
                    figure(found.loss),
                    figure(found.ece),
                ]
                for number, (path, found) in enumerate(
                    zip(comparison.checkpoints, evaluations, strict=True), start=1
                )
            ),
        ],
        left=(1,),
    )
    yield ""
    yield from align_table(
        [
            ["pair", "agree", "only 1st right", "only 2nd right", "McNemar p", ""],
            *map(pair_cells, comparison.pairs),
        ],
        left=(0, 5),
    )
    for number, found in enumerate(evaluations, start=1):
        if found.subset is not None:
            yield f"{number}: top-1 {percent(found.subset.top1)} among {of_all(found.subset)}"
    for number, found in enumerate(evaluations, start=1):
        if found.order is not None:
            yield from ["", f"of checkpoint {number}:", *order_lines(found.order)]


def pair_cells(pair: Pair) -> list[str]:
    """Two checkpoints in a line."""
    better = 1 + (pair.first if pair.only_first > pair.only_second else pair.second)
    return [
        f"{1 + pair.first}, {1 + pair.second}",
        percentage(pair.agree.value),
        f"{pair.only_first:,}",
        f"{pair.only_second:,}",
        probability(pair.p),
        f"{better} is better" if pair.p < SURE else "may be chance",
    ]
