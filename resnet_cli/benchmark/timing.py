"""Passes of a network under the clock."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from time import perf_counter

import torch

from resnet_cli.runtimes import Runtime, TimedPass
from resnet_cli.system import one_thread_each

LEAST_PASSES = 3  # of each stream, however slow they are

AHEAD = 8  # passes that wait in the queue of a device


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    warmup: int = 3  # passes that are not counted
    seconds: float = 3.0
    iterations: int | None = None  # passes in place of seconds

    def enough(self, passes: int, elapsed: float) -> bool:
        """Whether a stream has measured enough."""
        if self.iterations is not None:
            return passes >= self.iterations
        return passes >= LEAST_PASSES and elapsed >= self.seconds


@dataclass(frozen=True, slots=True)
class Stages:
    """Milliseconds that one image takes of a thread, or of the device."""

    prepare_ms: float  # decode and preprocess
    forward_ms: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What was measured of one setting."""

    images: int
    seconds: float  # by the clock, from the first counted pass to the end of the last
    latencies_ms: Sequence[float] = field(repr=False)  # of each pass
    forward_ms: Sequence[float] | None = field(default=None, repr=False)
    """The network's part of each pass, where a pass does more."""
    stages: Stages | None = None  # end to end

    @property
    def images_per_second(self) -> float:
        """Throughput by the clock."""
        return self.images / self.seconds

    def percentile(self, percent: float) -> float:
        """Milliseconds that so many percent of the passes took at most."""
        return interpolate_percentile(self.latencies_ms, percent)

    @property
    def spread(self) -> float:
        """How far the slower passes are from the median, as a share of it.

        Photographs differ, and so does what it takes to decode them: only the network's part is
        the same work in every pass.
        """
        alike = self.forward_ms or self.latencies_ms
        return interpolate_percentile(alike, 90) / statistics.median(alike) - 1


def interpolate_percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent are not above, between neighbours in proportion."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


class Together:
    """Streams that begin at once, and that all end when one of them fails or the user has enough.

    A pass under way cannot be cut short; no other begins.
    """

    def __init__(self, streams: int) -> None:
        self.barrier = Barrier(streams)

    @property
    def ended(self) -> bool:
        """Whether the streams shall end."""
        return self.barrier.broken

    @contextmanager
    def unless_it_fails(self) -> Iterator[None]:
        """End all streams when what is inside does not come to its end."""
        try:
            yield
        except BaseException:
            self.barrier.abort()
            raise


def time_streams(run: Callable[[], object], *, batch: int, streams: int, effort: Effort) -> Timing:
    """Time a pass on several threads of one core each, as the CPU classifies.

    Args:
        run: one pass over ``batch`` images, which waits for its result.
        batch: images of a pass.
        streams: threads.
        effort: how long.
    """
    together = Together(streams)

    def stream() -> tuple[float, list[float], float]:
        torch.set_num_threads(1)
        with together.unless_it_fails():
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

    with one_thread_each, ThreadPoolExecutor(streams) as pool, together.unless_it_fails():
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
    """Run, and read the clock."""
    run()
    return perf_counter()


def time_device(
    run: Callable[[], object], *, runtime: Runtime, batch: int, effort: Effort
) -> Timing:  # cuda only
    """Time passes that a device works off one after the other.

    They are queued without waiting, so that the device never rests; events on its stream tell how
    long each took, and the clock runs until the last is done.
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
