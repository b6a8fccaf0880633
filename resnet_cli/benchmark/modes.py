"""What is timed: the network alone on random pictures, or everything from files to labels."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from statistics import fmean
from time import perf_counter

import numpy as np

from resnet_cli.benchmark.subject import Photographs
from resnet_cli.benchmark.timing import (
    Effort,
    Stages,
    Timing,
    time_device,
    time_streams,
)
from resnet_cli.classifier import Classifier
from resnet_cli.errors import InputError
from resnet_cli.records import Prediction
from resnet_cli.runtimes import Runtime
from resnet_cli.sources import Inputs


def count_streams(runtime: Runtime, workers: int) -> int:
    """Passes that run beside each other: one a core, or one after the other on a device."""
    return workers if runtime.on_workers_cores else 1


def time_forward(
    classifier: Classifier, *, batch: int, side: int, workers: int, effort: Effort
) -> Timing:
    """Time the network on random pixels that are ready in its memory, up to the best classes.

    Args:
        classifier: of which the network is timed.
        batch: images of a pass.
        side: pixels.
        workers: streams, on the CPU.
        effort: how long.
    """
    runtime = classifier.runtime
    shape = (batch, side, side, classifier.checkpoint.in_channels)
    pixels = np.random.default_rng().integers(256, size=shape, dtype=np.uint8)
    run = classifier.session.repeat(pixels, classifier.topk(None))

    def run_and_wait() -> object:
        best = run()
        runtime.synchronize()
        return best

    if runtime.times_passes:  # cuda only
        return time_device(run, runtime=runtime, batch=batch, effort=effort)
    return time_streams(
        run_and_wait, batch=batch, streams=count_streams(runtime, workers), effort=effort
    )


def time_end_to_end(
    classifier: Classifier, photographs: Photographs, *, batch: int, workers: int, effort: Effort
) -> Timing:
    """Time all that ``predict`` does with files, over and over.

    A pass is a batch: its latency is the work that its images took, one after the other.

    Args:
        classifier: what is timed.
        photographs: files, taken again from the first when all were.
        batch: images of a pass.
        workers: threads.
        effort: how long.

    Raises:
        InputError: no picture is left that can be read.
    """
    endless = Inputs(photographs.endless(), None)
    rows = classifier.predict(endless, batch_size=batch, workers=workers)
    beside = count_streams(classifier.runtime, workers)
    passes: list[list[Prediction]] = []
    begun = now = perf_counter()
    with closing(rows):
        for number, members in enumerate(group_by_batch(rows, batch)):
            now = perf_counter()
            whole = whole_ones(members, photographs)
            if number < effort.warmup * workers:
                begun = now
                continue
            if whole:  # pictures that cannot be read take time, and are none
                passes.append(whole)
            if effort.enough(len(passes) // beside, now - begun):
                return sum_batches(passes, now - begun)
    raise InputError(f"cannot measure with {photographs.source}: none of its images can be read")


def whole_ones(members: Iterable[Prediction], photographs: Photographs) -> list[Prediction]:
    """The rows of pictures that could be read; the others are taken no more."""
    whole = []
    for row in members:
        if row.error is None:
            whole.append(row)
        else:
            photographs.leave_out(row.item, row.error)
    return whole


def sum_batches(passes: list[list[Prediction]], seconds: float) -> Timing:
    """What some batches took."""
    rows = [row for members in passes for row in members]
    return Timing(
        images=len(rows),
        seconds=seconds,
        latencies_ms=[sum(row.total_ms for row in members) for members in passes],
        forward_ms=[fmean(row.forward_ms or 0.0 for row in members) for members in passes],
        stages=Stages(
            prepare_ms=fmean((row.decode_ms or 0.0) + (row.preprocess_ms or 0.0) for row in rows),
            forward_ms=fmean(row.forward_ms or 0.0 for row in rows),
        ),
    )


def group_by_batch(rows: Iterable[Prediction], size: int) -> Iterator[list[Prediction]]:
    """Yield the rows of each batch."""
    members: list[Prediction] = []
    for row in rows:
        members.append(row)
        if len(members) == size:
            yield members
            members = []
