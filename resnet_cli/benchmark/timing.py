"""Passes of a network under the clock."""

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from time import perf_counter

import torch

from resnet_cli.pipeline import one_thread_each

LEAST_PASSES = 3  # of each stream, however slow they are


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
class Timing:
    """What was measured of one setting."""

    images: int
    seconds: float  # by the clock, from the first counted pass to the end of the last
    latencies_ms: Sequence[float] = field(repr=False)  # of each pass
    decode_share: float | None = None  # of a core's time that goes into decoding, end to end

    @property
    def images_per_second(self) -> float:
        """Throughput by the clock."""
        return self.images / self.seconds

    def percentile(self, percent: float) -> float:
        """Milliseconds that so many percent of the passes took at most."""
        ordered = sorted(self.latencies_ms)
        place = percent / 100 * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    @property
    def spread(self) -> float:
        """How far the slower half of the passes is from the median, as a share of it."""
        return self.percentile(90) / statistics.median(self.latencies_ms) - 1


def time_streams(run: Callable[[], object], *, batch: int, streams: int, effort: Effort) -> Timing:
    """Time a pass on several threads of one core each, as the CPU classifies.

    Args:
        run: one pass over ``batch`` images, which waits for its result.
        batch: images of a pass.
        streams: threads.
        effort: how long.
    """
    together = Barrier(streams)

    def stream() -> tuple[float, list[float], float]:
        torch.set_num_threads(1)
        try:
            for _ in range(effort.warmup):
                run()
        except BaseException:
            together.abort()  # the other streams shall not wait for this one
            raise
        together.wait()
        begun = now = perf_counter()
        latencies: list[float] = []
        while not effort.enough(len(latencies), now - begun):
            before, now = now, timed(run)
            latencies.append(1000 * (now - before))
        return begun, latencies, now

    with one_thread_each, ThreadPoolExecutor(streams) as pool:
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


def timed(run: Callable[[], object]) -> float:
    """Run, and read the clock."""
    run()
    return perf_counter()


def time_device(
    run: Callable[[], object], *, device: torch.device, batch: int, effort: Effort
) -> Timing:  # cuda only
    """Time passes that a device works off one after the other.

    They are queued without waiting, so that the device never rests; events on it tell how long
    each took, and the clock runs until the last is done.
    """
    for _ in range(effort.warmup):
        run()
    torch.cuda.synchronize(device)
    begun = perf_counter()
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    while not effort.enough(len(events), perf_counter() - begun):
        pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        pair[0].record()
        run()
        pair[1].record()
        events.append(pair)
        if len(events) % 8 == 0:
            events[-8][1].synchronize()  # no more than a few passes ahead
    torch.cuda.synchronize(device)
    seconds = perf_counter() - begun
    latencies = [start.elapsed_time(end) for start, end in events]
    return Timing(batch * len(events), seconds, latencies)
