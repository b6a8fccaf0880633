"""What the figures mean, in a sentence that names what to change."""

from collections.abc import Sequence

from resnet_cli.benchmark import Row

WAITING = 0.8  # of the network's own speed, below which a device waits for something
MOST = 0.5  # of the work of an image


def verdict(rows: Sequence[Row], *, compiled: bool, workers: int) -> str:
    """Say what limits the speed here, and which option would change it.

    Args:
        rows: of one benchmark.
        compiled: whether the network was.
        workers: threads.
    """
    measured = [row for row in rows if row.images_per_second is not None]
    if not measured:
        return "nothing could be measured: a smaller --batch-size"
    sentences = [limits(measured, compiled=compiled, workers=workers)]
    noisy = [row for row in measured if row.status == "noisy"]
    if noisy:
        sentences.append(
            f"too noisy: {len(noisy)} of {len(measured)} rows spread too widely to be trusted: let "
            "nothing else run, or measure longer with --duration"
        )
    if len(measured) < len(rows):
        smallest = min(row.batch_size for row in rows if row.images_per_second is None)
        sentences.append(f"out of memory from --batch-size {smallest}")
    return "; ".join(sentences)


def limits(measured: Sequence[Row], *, compiled: bool, workers: int) -> str:
    """What limits the fastest setting."""
    fastest = max(measured, key=speed)
    whole = [row for row in measured if row.mode == "end-to-end"]
    if whole:
        best = max(whole, key=speed)
        alone = next(row for row in measured if same(row, best))
        if is_cpu(best):
            if (best.decode_share or 0.0) > MOST:
                return decode_bound(best, "pictures of fewer pixels, or more cores")
        elif speed(best) < WAITING * speed(alone):
            return decode_bound(best, f"more threads than --workers {workers}")
        fastest = best
    advice = faster(fastest, compiled=compiled)
    rate = f"{speed(fastest):.1f} images/s"
    return f"compute-bound: {settings_of(fastest)} is the fastest, {rate}{advice}"


def decode_bound(row: Row, remedy: str) -> str:
    """A sentence on a network that waits for pictures."""
    return f"decode-bound: {settings_of(row)}, {speed(row):.1f} images/s: {remedy} would help"


def faster(row: Row, *, compiled: bool) -> str:
    """Options that were not tried."""
    options = [] if compiled else ["--compile"]
    if row.precision == "fp32":
        options.insert(0, "--precision bf16")
    return f"; try {' and '.join(options)}" if options else ""


def settings_of(row: Row) -> str:
    """What sets a row apart."""
    return f"{row.mode} in {row.precision} with --batch-size {row.batch_size}"


def same(row: Row, other: Row) -> bool:
    """Whether a row is of the network alone, in the setting of another."""
    alike = (row.precision, row.batch_size) == (other.precision, other.batch_size)
    return row.mode == "forward" and alike


def is_cpu(row: Row) -> bool:
    """Whether the network ran on the processor."""
    return row.device == "cpu"


def speed(row: Row) -> float:
    """Images per second."""
    return row.images_per_second or 0.0
