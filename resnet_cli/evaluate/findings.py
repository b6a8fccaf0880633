"""What an audit and a comparison found, as people read it."""

from collections.abc import Iterator, Sequence

from resnet_cli.evaluate.audit import Finding
from resnet_cli.evaluate.compare import SURE, Comparison, Pair
from resnet_cli.evaluate.layout import NAME, figure, probability, table, whole
from resnet_cli.evaluate.text import of_all, order_lines, percent, unreadable
from resnet_cli.text import cut_start, printable


def audit_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The table of an audit, and what follows from it."""
    yield f"preprocessing audit on {findings[0].top1.images:,} images, one change at a time"
    yield from table([AUDIT_TITLES, *(audit_cells(each) for each in findings if not each.dropped)])
    yield from (dropped(found) for found in findings if found.dropped)
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
        whole(found.top1.value),
        *(counts if found.flags else [""] * len(counts)),
        figure(found.loss),
        probability(found.loss_p) if found.flags else "",
    ]


def dropped(found: Finding) -> str:
    """Say why a change was not tried on all images."""
    images, right = found.top1.images, found.top1.right
    instead = whole((right - found.gained + found.lost) / images)
    return (
        f"{found.name}: plainly worse after {images} images (top-1 {whole(found.top1.value)} "
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
        f"clearly better with {best.flags}  ({best.name}): top-1 {whole(best.top1.value)} instead "
        f"of {whole(now.top1.value)}, loss {figure(best.loss)} instead of {figure(now.loss)}"
    )


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The table of several checkpoints, and that of every pair."""
    evaluations = comparison.evaluations
    yield f"{evaluations[0].images:,} images, the same for all{unreadable(evaluations[0])}"
    yield from table(
        [
            ["", "checkpoint", "top-1", "95 % interval", "loss", "ECE"],
            *(
                [
                    str(number),
                    cut_start(printable(path), NAME),
                    whole(found.top1.value),
                    f"{whole(found.top1.low)} to {whole(found.top1.high)}",
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
    yield from table(
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
        whole(pair.agree.value),
        f"{pair.only_first:,}",
        f"{pair.only_second:,}",
        probability(pair.p),
        f"{better} is better" if pair.p < SURE else "may be chance",
    ]
