"""What the figures mean, in a sentence that names what to change."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_cli.benchmark import Row
from resnet_cli.benchmark.timing import Stages
from resnet_cli.text import amount

BUSY = 0.8  # of what a stage can do alone, from which it is what the others wait for
RISING = 1.05  # times the speed of the next smaller batch


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen, and what there is."""

    compiling: frozenset[str]  # precisions in which torch.compile was not used and would add speed
    workers: int  # threads
    cores: int  # that this process may use
    bf16: bool = True  # the device has arithmetic for it
    on_workers_cores: bool = True  # the network runs where the images are decoded


def state_verdict(rows: Sequence[Row], options: Choices) -> str:
    """Say what limits the speed here, and which option would change it.

    Args:
        rows: of one benchmark, at least one.
        options: of that benchmark.
    """
    measured = [row for row in rows if row.images_per_second is not None]
    if not measured:
        smallest = min(row.batch_size for row in rows)
        return (
            f"nothing could be measured: out of memory at --batch-size {smallest}: try a smaller "
            "one, or a smaller --img-size"
        )
    best = decisive_row(measured)
    sentences = [name_limit(best, measured, options)]
    noisy = [row for row in measured if row.status == "noisy"]
    if noisy:
        spread = "spreads" if len(noisy) == 1 else "spread"
        doubt = (
            f"too noisy: {len(noisy)} of {amount(len(measured), 'row')} {spread} too widely to be "
            "trusted: let nothing else run, or measure longer with --duration"
        )
        sentences.insert(0 if best in noisy else 1, doubt)
    if len(measured) < len(rows):
        smallest = min(row.batch_size for row in rows if row.images_per_second is None)
        sentences.append(f"out of memory from --batch-size {smallest}")
    return "; ".join(sentences)


def decisive_row(measured: Sequence[Row]) -> Row:
    """The fastest row of those that are nearest to what ``predict`` does."""
    whole = [row for row in measured if row.mode == "end-to-end"]
    return max(whole or measured, key=row_speed)


def name_limit(best: Row, measured: Sequence[Row], options: Choices) -> str:
    """What limits a row."""
    if best.stages is not None:
        if options.on_workers_cores:
            if best.stages.prepare_ms > best.stages.forward_ms:
                return f"decode-bound: {describe_row(best)}: {more_decoders(options)}"
        elif row_speed(best) < BUSY * speed_alone(best, best.stages, measured):
            if row_speed(best) > BUSY * 1000 * options.workers / best.stages.prepare_ms:
                return f"decode-bound: {describe_row(best)}: {more_decoders(options)}"
            return (
                f"transfer-bound: {describe_row(best)}, though neither decoding nor the network is "
                "busy: a larger --batch-size makes fewer and larger copies"
            )
    return f"compute-bound: {describe_row(best)}: {give_advice(best, measured, options)}"


def speed_alone(row: Row, stages: Stages, measured: Sequence[Row]) -> float:
    """Images per second of the network without anything before it, in the setting of a row."""
    same = [
        other
        for other in measured
        if other.mode == "forward"
        and (other.precision, other.batch_size) == (row.precision, row.batch_size)
    ]
    return max(map(row_speed, same), default=1000 / stages.forward_ms)


def more_decoders(options: Choices) -> str:
    """What makes decoding faster."""
    if options.workers < options.cores:
        return f"try --workers {options.cores}, of which {options.workers} were used"
    return f"images of fewer pixels or more cores than --workers {options.workers} would help"


def give_advice(best: Row, measured: Sequence[Row], options: Choices) -> str:
    """What was not tried and may be faster."""
    untried = []
    if options.bf16 and {row.precision for row in measured} == {"fp32"}:
        untried.append("--precision bf16")
    if best.precision in options.compiling:
        untried.append("--compile")
    if is_rising(best, measured):
        untried.append(f"a --batch-size over {best.batch_size}")
    if options.on_workers_cores and options.workers < options.cores:
        untried.append(f"--workers {options.cores}")
    return f"try {' or '.join(untried)}" if untried else "only a smaller --img-size would be faster"


def is_rising(best: Row, measured: Sequence[Row]) -> bool:
    """Whether the largest batch of a sweep is clearly faster than the next smaller one."""
    alike = [row for row in measured if (row.mode, row.precision) == (best.mode, best.precision)]
    smaller = [row for row in alike if row.batch_size < best.batch_size]
    if not smaller or best.batch_size < max(row.batch_size for row in alike):
        return False
    return row_speed(best) > RISING * row_speed(max(smaller, key=lambda row: row.batch_size))


def describe_row(row: Row) -> str:
    """What sets a row apart, and how fast it is."""
    share = "" if row.peak_share is None else f", {row.peak_share:.0%} of this machine's peak"
    if (row.peak_share or 0) > 1:
        share += (
            " (3x3 convolutions take fewer multiplications than are counted, or this machine was "
            "slower while its peak was measured)"
        )
    return (
        f"{row.mode} in {row.precision} with --batch-size {row.batch_size} is fastest, "
        f"{row_speed(row):.1f} images/s{share}"
    )


def row_speed(row: Row) -> float:
    """Images per second."""
    return row.images_per_second or 0.0
