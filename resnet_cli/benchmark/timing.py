"""A network or a whole run under the clock -> how many images, in how many milliseconds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from statistics import fmean, median
from threading import Barrier, BrokenBarrierError
from time import perf_counter

import numpy as np
import torch

from resnet_cli.benchmark.workload import EndlessImages
from resnet_cli.classifier import Classifier
from resnet_cli.errors import InputError
from resnet_cli.records import Prediction
from resnet_cli.runtimes import Runtime, TimedPass
from resnet_cli.sources import Inputs
from resnet_cli.system import one_thread_each

LEAST_PASSES = 3  # of each stream, however slow they are

AHEAD = 8  # passes queued on a device before the oldest is waited for


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    warmup: int = 3  # passes that are not counted
    seconds: float = 3.0
    iterations: int | None = None  # passes in place of seconds

    def enough(self, passes: int, elapsed: float) -> bool:
        """Return True once a stream has measured enough."""
        if self.iterations is not None:
            return passes >= self.iterations
        return passes >= LEAST_PASSES and elapsed >= self.seconds


@dataclass(frozen=True, slots=True)
class Stages:
    """Milliseconds that one image occupies a thread, or the device."""

    prepare_ms: float  # decode and preprocess
    forward_ms: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The measurements of one setting."""

    images: int
    seconds: float  # wall clock, from the first counted pass to the end of the last
    latencies_ms: Sequence[float] = field(repr=False)  # of each pass
    forward_ms: Sequence[float] | None = field(default=None, repr=False)
    """The network's part of each pass, where a pass does more."""
    stages: Stages | None = None  # end to end

    @property
    def images_per_second(self) -> float:
        """Throughput over the wall clock."""
        return self.images / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency of a pass, in milliseconds, at a percentile of 0 to 100."""
        return interpolate_percentile(self.latencies_ms, percent)

    @property
    def spread(self) -> float:
        """Distance of the 90th percentile from the median, as a share of the median.

        Images differ, and so does the time to decode them: only the network's part is the same
        work in every pass.
        """
        alike = self.forward_ms or self.latencies_ms
        return interpolate_percentile(alike, 90) / median(alike) - 1


def interpolate_percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, 0 to 100, interpolated between its two neighbours."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


class Together:
    """Make streams start together, and stop all of them when one fails or the user interrupts.

    A pass that is running cannot be cut short; no other one starts.
    """

    def __init__(self, streams: int) -> None:
        self.barrier = Barrier(streams)

    @property
    def ended(self) -> bool:
        """True once the streams have to stop."""
        return self.barrier.broken

    @contextmanager
    def stop_on_failure(self) -> Iterator[None]:
        """Stop all streams when the body raises."""
        try:
            yield
        except BaseException:
            self.barrier.abort()
            raise


def time_streams(run: Callable[[], object], *, batch: int, streams: int, effort: Effort) -> Timing:
    """Time a pass on several threads with one core each, as ``predict`` runs on the CPU.

    Args:
        run: one pass over ``batch`` images, which waits for its result.
        batch: images per pass.
        streams: threads.
        effort: how long to measure.
    """
    together = Together(streams)

    def stream() -> tuple[float, list[float], float]:
        torch.set_num_threads(1)
        with together.stop_on_failure():
            for _ in range(effort.warmup):
                if together.ended:
                    break
                run()
            together.barrier.wait()
            begun = now = perf_counter()
            latencies: list[float] = []
            while not (together.ended or effort.enough(len(latencies), now - begun)):
                before, now = now, time_run(run)
                latencies.append(1000 * (now - before))
        return begun, latencies, now

    with one_thread_each, ThreadPoolExecutor(streams) as pool, together.stop_on_failure():
        jobs = [pool.submit(stream) for _ in range(streams)]
        errors = [error for job in jobs if (error := job.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
            raise error  # the one that broke the barrier first
        results = [job.result() for job in jobs]
    return Timing(
        images=batch * sum(len(latencies) for _, latencies, _ in results),
        seconds=max(end for _, _, end in results) - min(begun for begun, _, _ in results),
        latencies_ms=[ms for _, latencies, _ in results for ms in latencies],
    )


def time_run(run: Callable[[], object]) -> float:
    """Run once, and return the clock at its end, in seconds."""
    run()
    return perf_counter()


def time_device(
    run: Callable[[], object], *, runtime: Runtime, batch: int, effort: Effort
) -> Timing:  # cuda only
    """Time passes that a device runs one after the other.

    They are queued without waiting, so that the device is never idle; events on its stream give
    the time of each pass, and the wall clock runs until the last one is done.
    """
    for _ in range(effort.warmup):
        run()
    runtime.synchronize()
    begun = perf_counter()
    passes: list[TimedPass] = []
    while not effort.enough(len(passes), perf_counter() - begun):
        passes.append(runtime.time_pass(run))
        if len(passes) > AHEAD:
            passes[-AHEAD].wait()
    runtime.synchronize()
    seconds = perf_counter() - begun
    return Timing(batch * len(passes), seconds, [one.milliseconds() for one in passes])


def count_streams(runtime: Runtime, workers: int) -> int:
    """Return how many passes run at the same time: one per core, or one on a device."""
    return workers if runtime.on_workers_cores else 1


def time_forward(
    classifier: Classifier, *, batch: int, side: int, workers: int, effort: Effort
) -> Timing:
    """Time the network from random pixels in its own memory to the best classes.

    Args:
        classifier: its network is timed.
        batch: images per pass.
        side: of each image, in pixels.
        workers: streams, on the CPU.
        effort: how long to measure.
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
    classifier: Classifier, images: EndlessImages, *, batch: int, workers: int, effort: Effort
) -> Timing:
    """Time everything that ``predict`` does from image files to labels.

    A pass is a batch: its latency is the work of its images, one after the other.

    Args:
        classifier: it is timed as a whole.
        images: files, which repeat once all of them were read.
        batch: images per pass.
        workers: threads.
        effort: how long to measure.

    Raises:
        InputError: none of the images can be read any more.
    """
    endless = Inputs(images.cycle(), None)
    rows = classifier.predict(endless, batch_size=batch, workers=workers)
    beside = count_streams(classifier.runtime, workers)
    passes: list[list[Prediction]] = []
    begun = now = perf_counter()
    with closing(rows):
        for number, members in enumerate(group_by_batch(rows, batch)):
            now = perf_counter()
            whole = drop_unreadable(members, images)
            if number < effort.warmup * workers:
                begun = now
                continue
            if whole:  # unreadable images take time, but are not counted
                passes.append(whole)
            if effort.enough(len(passes) // beside, now - begun):
                return sum_batches(passes, now - begun)
    raise InputError(f"cannot measure with {images.source}: none of its images can be read")


def drop_unreadable(members: Iterable[Prediction], images: EndlessImages) -> list[Prediction]:
    """Return the rows of images that could be read, and exclude the other images from now on."""
    whole = []
    for row in members:
        if row.error is None:
            whole.append(row)
        else:
            images.exclude(row.item, row.error)
    return whole


def sum_batches(passes: list[list[Prediction]], seconds: float) -> Timing:
    """Return the timing of a series of batches."""
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
    """Yield the rows of each full batch."""
    members: list[Prediction] = []
    for row in rows:
        members.append(row)
        if len(members) == size:
            yield members
            members = []
