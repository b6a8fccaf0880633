"""Passes under the clock: streams, photographs, the peak, the memory."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from mmap import PAGESIZE, mmap
from pathlib import Path
from threading import Lock, get_ident
from typing import cast

import pytest
import torch

from conftest import SAMPLES
from items import paths_of
from measuring import CPU
from resnet_cli import Classifier
from resnet_cli.benchmark.timing import Effort, Stages, Timing, time_end_to_end, time_streams
from resnet_cli.benchmark.workload import (
    KERNELS,
    EndlessImages,
    Kernel,
    measure_sizes,
    peak_gflops,
    quickest_gflops,
)
from resnet_cli.errors import InputError
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.sources import Inputs
from resnet_cli.system import CLEAR


@pytest.fixture
def _no_longer_than_20_seconds() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    usual = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, usual)


@pytest.mark.parametrize("streams", [1, 3])
def test_warm_up_is_left_out(streams: int) -> None:
    calls: Counter[int] = Counter()
    lock = Lock()

    def network() -> None:
        with lock:
            calls[get_ident()] += 1
        time.sleep(0.3 if calls[get_ident()] <= 2 else 0.001)

    timing = time_streams(network, batch=7, streams=streams, effort=Effort(2, 9.0, 5))

    assert list(calls.values()) == [2 + 5] * streams
    assert len(timing.latencies_ms) == 5 * streams
    assert timing.images == 7 * 5 * streams
    assert min(timing.latencies_ms) >= 1
    assert timing.seconds < 0.3
    assert timing.images_per_second == timing.images / timing.seconds


def test_a_slow_network_is_measured_three_times() -> None:
    timing = time_streams(
        lambda: time.sleep(0.01), batch=1, streams=2, effort=Effort(0, seconds=1e-3)
    )
    assert len(timing.latencies_ms) == 3 * 2


@pytest.mark.usefixtures("_no_longer_than_20_seconds")
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_stream_that_fails_leaves_none_of_the_others_waiting(failing: int) -> None:
    calls, lock = iter(range(1, 100)), Lock()

    def network() -> None:
        with lock:
            number = next(calls)
        time.sleep(0.05)
        if number == failing:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        time_streams(network, batch=1, streams=3, effort=Effort(1, 1.0, 2))


@pytest.mark.usefixtures("_no_longer_than_20_seconds")
def test_an_interrupt_ends_all_streams_after_their_pass() -> None:
    passes = count()

    def network() -> None:
        time.sleep(0.02)
        next(passes)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    begun = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            time_streams(network, batch=1, streams=3, effort=Effort(1, seconds=600))
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert time.perf_counter() - begun < 5
    ended = next(passes)
    time.sleep(0.1)
    assert next(passes) == ended + 1  # no stream goes on behind our back


# photographs


class Camera:
    """Stands for a classifier: ten milliseconds a picture, of which it says what it likes."""

    def __init__(self, *, slow: int = 0, broken: frozenset[str] = frozenset()) -> None:
        self.slow = slow  # pictures at the start
        self.broken = broken
        self.runtime = CPU

    def predict(self, inputs: Inputs, **_: object) -> Iterator[Prediction]:
        for number, path in enumerate(paths_of(inputs)):
            time.sleep(0.1 if number < self.slow else 0.005)
            if Path(path).name in self.broken:
                yield Prediction(Item(path), error="the file is empty")
                continue
            scores = (Score("ant", 0, 0.9),)
            decode = 2 + 10 * (number % 2)  # large photographs among small ones
            yield Prediction(Item(path), scores, decode_ms=decode, preprocess_ms=1, forward_ms=4)


def filmed(camera: Camera, *, batch: int, effort: Effort, workers: int = 1) -> Timing:
    photographs = EndlessImages(SAMPLES / "bees")
    classifier = cast(Classifier, camera)
    return time_end_to_end(classifier, photographs, batch=batch, workers=workers, effort=effort)


def test_end_to_end_goes_by_the_clock_without_warm_up() -> None:
    timing = filmed(Camera(slow=4), batch=2, effort=Effort(2, 9.0, 5))

    assert timing.images == 10
    assert timing.latencies_ms == [2 * (2 + 1 + 4) + 10] * 5
    assert timing.stages == Stages(prepare_ms=8, forward_ms=4)
    assert 0.05 <= timing.seconds < 0.35


def test_photographs_that_differ_are_no_noise() -> None:
    timing = filmed(Camera(), batch=1, effort=Effort(1, 9.0, 8))
    assert max(timing.latencies_ms) == min(timing.latencies_ms) + 10
    assert timing.spread == 0


def test_each_stream_makes_its_passes_and_its_warm_up() -> None:
    timing = filmed(Camera(slow=6), batch=1, workers=3, effort=Effort(2, 9.0, 4))
    assert len(timing.latencies_ms) == 3 * 4
    assert timing.seconds < 0.35


@pytest.mark.usefixtures("_no_longer_than_20_seconds")
def test_when_no_picture_is_left_it_ends() -> None:
    broken = frozenset(path.name for path in (SAMPLES / "bees").iterdir())
    with pytest.raises(InputError, match=r"bees: none of its images can be read"):
        filmed(Camera(broken=broken), batch=3, effort=Effort(0, 600))


def test_the_broken_ones_take_no_part_in_the_rate() -> None:
    timing = filmed(Camera(broken=frozenset({"bee_02.jpg"})), batch=8, effort=Effort(0, 9.0, 2))
    assert timing.images == 7 + 8  # in the second round it is left out


# the peak


@pytest.mark.parametrize(("of_product", "of_convolution"), [(3.0, 5.0), (5.0, 3.0)])
def test_the_peak_is_the_better_of_product_and_convolution(
    monkeypatch: pytest.MonkeyPatch, of_product: float, of_convolution: float
) -> None:
    threads: list[int] = []

    def measured(rate: float) -> float:
        threads.append(torch.get_num_threads())
        return rate

    rates = {KERNELS[0]: of_product, KERNELS[1]: of_convolution}
    monkeypatch.setattr(
        "resnet_cli.benchmark.workload.measure_sizes", lambda kernel, *_: [measured(rates[kernel])]
    )
    torch.set_num_threads(2)

    assert peak_gflops(CPU, torch.float32, 3) == 5
    assert threads == [3, 3]
    assert torch.get_num_threads() == 2


def test_work_that_takes_long_is_not_made_larger() -> None:
    """A processor that lacks the arithmetic is a thousand times slower."""
    made: list[int] = []

    def make(size: int, *_: object) -> Callable[[], torch.Tensor]:
        made.append(size)

        def work() -> torch.Tensor:
            time.sleep(size / 1000)
            return torch.zeros(1)

        return work

    slow = Kernel(make, lambda size: 10**6 * size, (1, 10, 100, 1000, 10000))
    rates = [*measure_sizes(slow, CPU, torch.float16)]
    assert made == [1, 10, 100]
    assert max(rates) == pytest.approx(1, rel=0.2)


def test_work_without_room_is_left_out() -> None:
    def make(size: int, *_: object) -> Callable[[], torch.Tensor]:
        if size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: torch.zeros(1)

    assert len([*measure_sizes(Kernel(make, lambda _: 1, (1, 2, 3)), CPU, torch.float32)]) == 1
    assert [*measure_sizes(Kernel(make, lambda _: 1, (2, 3)), CPU, torch.float32)] == []


def test_half_precision_on_a_processor_takes_no_minutes() -> None:
    begun = time.perf_counter()
    assert (peak_gflops(CPU, torch.float16, 1) or 0) > 0
    assert time.perf_counter() - begun < 30


def test_the_peak_goes_by_the_quickest_run() -> None:
    pauses = iter([0.1, 0.1, 0.02, 0.1, *[0.05] * 9])
    rate = quickest_gflops(lambda: time.sleep(next(pauses)), 10**9, CPU)
    assert 1 / 0.05 < rate <= 1 / 0.02


@pytest.mark.skipif(not os.access(CLEAR, os.W_OK), reason="the system keeps the peak for ever")
def test_peak_memory_is_that_of_the_row() -> None:
    CPU.reset_peak_memory()
    before = CPU.peak_memory()
    with mmap(-1, 200_000_000) as memory:  # what the heap gives may have been in memory before
        memory[::PAGESIZE] = bytes(len(memory[::PAGESIZE]))
    during = CPU.peak_memory()
    CPU.reset_peak_memory()

    assert 190e6 < during - before < 260e6
    assert CPU.peak_memory() < during - 150e6
