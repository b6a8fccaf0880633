"""Evaluations, audits and comparisons as lines of text for a terminal."""

from collections.abc import Iterator, Sequence

from resnet_cli.display import align_rows, cell_width
from resnet_cli.evaluate.audit import Finding
from resnet_cli.evaluate.compare import SURE, Comparison, Pair
from resnet_cli.evaluate.metrics import ClassRow, percentage
from resnet_cli.evaluate.order import Order
from resnet_cli.evaluate.scorecard import Evaluation
from resnet_cli.records import Item
from resnet_cli.results.options import end_of_name
from resnet_cli.text import cut_end, cut_start, escape_unprintable

MOST_CLASSES = 30  # in the table; of more only the worst are shown
WORST = 20
SHOWN = 10  # confused pairs, and mistakes
MOVES = 6  # outputs with a wrong name
TYPED = 20  # names in a suggested --classes
NAME, OF_TWO = 34, 26  # characters of a class name, alone in a line and beside another


def evaluation_lines(evaluation: Evaluation, width: int) -> Iterator[str]:
    """Yield the report on one checkpoint.

    Args:
        evaluation: to report.
        width: of the terminal, in columns.
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
    """Yield the metrics over all images."""
    yield (
        f"{evaluation.images:,} images of {len(evaluation.classes):,} classes"
        f"{unreadable_line(evaluation)}"
    )
    if not evaluation.images:
        return
    yield f"top-1        {evaluation.top1}"
    if evaluation.subset is not None:
        yield f"subset       {evaluation.subset.top1}"
        yield f"             top-1 among {evaluation.subset}"
    if evaluation.top5 is not None:
        yield f"top-5        {evaluation.top5}"
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
        yield f"             {kept.top1}"


def unreadable_line(evaluation: Evaluation) -> str:
    """Say how many images could not be read."""
    return f"; {evaluation.errors:,} could not be read" if evaluation.errors else ""


def temperature_line(evaluation: Evaluation) -> str:
    """Say how well a temperature would correct the calibration."""
    found = evaluation.temperature
    if found is None or found.at_bound:
        return ""
    trend = "over" if found.value > 1 else "under"
    return f"; {found.ece_after:.4f} at temperature {found.value:.2f} ({trend}confident)"


def class_table(evaluation: Evaluation) -> Iterator[str]:
    """Yield precision, recall, F1 and support of each class, or of the worst."""
    rows = [row for row in evaluation.classes if row.support]
    if len(rows) > MOST_CLASSES:
        yield f"the {WORST} worst of {len(rows):,} classes with images, by F1 (-o FILE has all)"
        rows = sorted(rows, key=lambda row: (row.f1 or 0.0, -row.support))[:WORST]
    titles = ["class", "precision", "recall", "F1", "images"]
    yield from align_rows(
        [
            titles,
            *(
                [short_class_name(row.label), *map(figure, class_scores(row)), f"{row.support:,}"]
                for row in rows
            ),
        ]
    )


def class_scores(row: ClassRow) -> tuple[float | None, ...]:
    """Return precision, recall and F1 of a class."""
    return row.precision, row.recall, row.f1


def confused_pairs(evaluation: Evaluation) -> Iterator[str]:
    """Yield the most confused pairs of classes."""
    if evaluation.confused:
        yield from ["", "most confused: true → predicted, images, share of the true class"]
        yield from align_rows(
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
    """Yield the most confident mistakes."""
    if evaluation.mistakes:
        yield from ["", "most confidently wrong"]
        for row in evaluation.mistakes[:SHOWN]:
            label, truth = short_class_name(row.label, OF_TWO), short_class_name(row.truth, OF_TWO)
            start = f"  predicted {label} ({row.prob:.3f}), actually {truth}  "
            room = max(12, width - cell_width(start))
            yield start + end_of_name(Item(row.path, row.part), room)


def order_lines(order: Order) -> Iterator[str]:
    """Explain what is wrong with the order of the class names, and how to fix it."""
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
    """Return the option that puts the class names in order."""
    guessed = sum(not move.images for move in order.moves)
    guess = f" ({guessed:,} of them without images, so guessed)" if guessed else ""
    names = order.classes
    if len(names) <= TYPED and not any("," in name or name != name.strip() for name in names):
        listed = escape_unprintable(",".join(names))
        return f"--classes {listed if ' ' not in listed else repr(listed)}{guess}"
    return f"--classes FILE with the names in the order of order.classes in -o FILE.json{guess}"


def audit_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the table of an audit and its verdict."""
    yield f"preprocessing audit on {findings[0].top1.images:,} images, one change at a time"
    yield from align_rows(
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
    """Return the cells of one change; the first row is the current preprocessing."""
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
    """Explain why a change was not scored on all images."""
    images, right = found.top1.images, found.top1.right
    instead = percentage((right - found.gained + found.lost) / images)
    return (
        f"{found.name}: plainly worse after {images} images (top-1 {percentage(found.top1.value)} "
        f"instead of {instead}; less sure of {found.less_sure})"
    )


def audit_verdict(findings: Sequence[Finding]) -> str:
    """Return a sentence on which options to use, if any is clearly better."""
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
    """Yield the report on several checkpoints: a table of them, and one of their pairs."""
    evaluations = comparison.evaluations
    yield f"{evaluations[0].images:,} images, the same for all{unreadable_line(evaluations[0])}"
    yield from align_rows(checkpoint_rows(comparison), left=(1,))
    yield ""
    yield from align_rows([PAIR_TITLES, *map(pair_cells, comparison.pairs)], left=(0, 5))
    for number, found in enumerate(evaluations, start=1):
        if found.subset is not None:
            yield f"{number}: top-1 {found.subset.top1} among {found.subset}"
    for number, found in enumerate(evaluations, start=1):
        if found.order is not None:
            yield from ["", f"of checkpoint {number}:", *order_lines(found.order)]


def checkpoint_rows(comparison: Comparison) -> Iterator[list[str]]:
    """Yield the cells of each checkpoint, after the titles."""
    yield ["", "checkpoint", "top-1", "95 % interval", "loss", "ECE"]
    pairs = zip(comparison.checkpoints, comparison.evaluations, strict=True)
    for number, (path, found) in enumerate(pairs, start=1):
        yield [
            str(number),
            cut_start(escape_unprintable(path), NAME),
            percentage(found.top1.value),
            f"{percentage(found.top1.low)} to {percentage(found.top1.high)}",
            figure(found.loss),
            figure(found.ece),
        ]


PAIR_TITLES = ("pair", "agree", "only 1st right", "only 2nd right", "McNemar p", "")


def pair_cells(pair: Pair) -> list[str]:
    """Return the cells of a pair of checkpoints."""
    better = 1 + (pair.first if pair.only_first > pair.only_second else pair.second)
    return [
        f"{1 + pair.first}, {1 + pair.second}",
        percentage(pair.agree.value),
        f"{pair.only_first:,}",
        f"{pair.only_second:,}",
        probability(pair.p),
        f"{better} is better" if pair.p < SURE else "may be chance",
    ]


def short_class_name(name: str, most: int = NAME) -> str:
    """Shorten a class name at its end to at most ``most`` characters."""
    return cut_end(escape_unprintable(name), most)


def figure(value: float | None) -> str:
    """Format a metric of 0 to 1, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def probability(p: float) -> str:
    """Format a p-value."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
