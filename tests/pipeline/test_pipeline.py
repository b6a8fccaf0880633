import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count, islice

import numpy as np
import pytest
import torch

from items import items_of
from resnet_cli.pipeline import cut_chunks, stream_results
from resnet_cli.records import PAUSE, Batch, Item, Pause, Sample

PATIENCE = 30  # seconds until a test that hangs fails

placements = pytest.mark.parametrize("on_cpu", [True, False])

Launch = Callable[[Batch], Callable[[], list[int]]]


def load(number: int) -> Batch:
    """A batch of one sample, whose only pixel is its number."""
    sample = Sample(Item(str(number)))
    return Batch((sample,), np.full((1, 1, 1, 1), number % 256, np.uint8), False)


def launch(batch: Batch) -> Callable[[], list[int]]:
    number = int(batch.samples[0].item.path)
    return lambda: [number]


def run(
    chunks: Iterable[int],
    *,
    load: Callable[[int], Batch] = load,
    launch: Launch = launch,
    workers: int = 2,
    on_cpu: bool,
) -> Generator[int]:
    return stream_results(chunks, load, launch, workers=workers, on_workers_cores=on_cpu)


@pytest.fixture
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@placements
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_chunks(workers: int, *, on_cpu: bool) -> None:
    assert list(run(range(50), workers=workers, on_cpu=on_cpu)) == list(range(50))


@placements
def test_a_slow_chunk_keeps_its_place(*, on_cpu: bool) -> None:
    second_is_done = threading.Event()

    def load_first_last(number: int) -> Batch:
        if number == 0:
            assert second_is_done.wait(PATIENCE)
        if number == 1:
            second_is_done.set()
        return load(number)

    assert list(run(range(4), load=load_first_last, on_cpu=on_cpu)) == [
        0,
        1,
        2,
        3,
    ]


@placements
def test_every_result_of_a_chunk_is_given(*, on_cpu: bool) -> None:
    def twice_or_never(batch: Batch) -> Callable[[], list[int]]:
        number = int(batch.samples[0].item.path)
        return lambda: [number] * (number % 3)

    assert list(run(range(6), launch=twice_or_never, on_cpu=on_cpu)) == [
        1,
        2,
        2,
        4,
        5,
        5,
    ]


@placements
def test_nothing_in_nothing_out(*, on_cpu: bool) -> None:
    assert list(run([], on_cpu=on_cpu)) == []


@placements
def test_nothing_is_taken_before_it_is_asked_for(*, on_cpu: bool) -> None:
    source = iter(range(10))
    results = run(source, on_cpu=on_cpu)
    assert next(source) == 0
    assert next(results) == 1
    results.close()


@placements
def test_an_endless_source_works(*, on_cpu: bool) -> None:
    results = run(count(), on_cpu=on_cpu)
    assert list(islice(results, 20)) == list(range(20))
    results.close()


@placements
@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_two_chunks_a_worker_are_in_flight(workers: int, *, on_cpu: bool) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    in_the_device = 0 if on_cpu else 1
    ahead = [taken - given for given, _ in enumerate(run(source(), workers=workers, on_cpu=on_cpu))]
    assert max(ahead) <= 2 * workers + in_the_device
    assert max(ahead) >= workers  # nobody waits for work


@placements
def test_all_workers_work_at_once(*, on_cpu: bool) -> None:
    together = threading.Barrier(3)

    def load_together(number: int) -> Batch:
        together.wait(PATIENCE)
        return load(number)

    assert list(run(range(6), load=load_together, workers=3, on_cpu=on_cpu)) == list(range(6))


def test_the_device_has_the_next_batch_before_the_last_is_waited_for() -> None:
    events: list[str] = []

    def launch_and_tell(batch: Batch) -> Callable[[], list[int]]:
        number = int(batch.samples[0].item.path)
        events.append(f"start {number}")

        def wait() -> list[int]:
            events.append(f"wait {number}")
            return [number]

        return wait

    assert list(run(range(3), launch=launch_and_tell, on_cpu=False)) == [0, 1, 2]
    assert events == ["start 0", "start 1", "wait 0", "start 2", "wait 1", "wait 2"]


@pytest.mark.parametrize(("on_cpu", "on_worker"), [(True, True), (False, False)])
def test_the_network_runs_on_the_workers_of_a_cpu_and_on_one_thread_before_a_device(
    *, on_cpu: bool, on_worker: bool
) -> None:
    threads: list[threading.Thread] = []

    def launch_and_tell(batch: Batch) -> Callable[[], list[int]]:
        threads.append(threading.current_thread())
        return launch(batch)

    list(run(range(5), launch=launch_and_tell, on_cpu=on_cpu))
    assert len(threads) == 5
    assert all((thread is not threading.current_thread()) is on_worker for thread in threads)


class OwnError(Exception):
    pass


def failing_source() -> Iterator[int]:
    yield from range(3)
    raise OwnError


def failing_load(number: int) -> Batch:
    if number == 3:
        raise OwnError
    return load(number)


def failing_launch(batch: Batch) -> Callable[[], list[int]]:
    if batch.samples[0].item.path == "3":
        raise OwnError
    return launch(batch)


def failing_wait(batch: Batch) -> Callable[[], list[int]]:
    def wait() -> list[int]:
        raise OwnError

    return wait if batch.samples[0].item.path == "3" else launch(batch)


FAULTS: dict[str, Callable[[bool], Generator[int]]] = {
    "source": lambda on_cpu: run(failing_source(), workers=1, on_cpu=on_cpu),
    "load": lambda on_cpu: run(count(), load=failing_load, workers=1, on_cpu=on_cpu),
    "launch": lambda on_cpu: run(count(), launch=failing_launch, workers=1, on_cpu=on_cpu),
    "wait": lambda on_cpu: run(count(), launch=failing_wait, workers=1, on_cpu=on_cpu),
}


@placements
@pytest.mark.parametrize("place", FAULTS)
def test_a_bug_passes_through_and_stops_the_workers(place: str, *, on_cpu: bool) -> None:
    before = set(threading.enumerate())
    given: list[int] = []
    with pytest.raises(OwnError) as caught:
        given.extend(FAULTS[place](on_cpu))

    assert set(threading.enumerate()) == before  # while the error and its traceback are held
    assert caught.type is OwnError
    assert given == list(range(len(given)))
    assert len(given) <= 3


@placements
def test_closing_early_cancels_what_waits(*, on_cpu: bool) -> None:
    loaded: list[int] = []
    closing = threading.Event()
    begun = threading.Semaphore(0)
    slow = 1 if on_cpu else 2  # a device is given a batch more before the first result

    def load_slowly(number: int) -> Batch:
        if number >= slow:
            begun.release()
            assert closing.wait(PATIENCE)
        loaded.append(number)
        return load(number)

    before = set(threading.enumerate())
    results = run(count(), load=load_slowly, workers=2, on_cpu=on_cpu)
    assert next(results) == 0
    assert all(begun.acquire(timeout=PATIENCE) for _ in range(2))
    timer = threading.Timer(0.5, closing.set)  # when results.close() waits for the workers
    timer.start()
    results.close()
    timer.join()

    assert set(threading.enumerate()) == before
    assert sorted(loaded) == list(range(slow + 2))  # the two that were begun, none that waited


@placements
@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize("end", ["exhausted", "closed", *FAULTS])
def test_the_number_of_intra_op_threads_is_put_back(end: str, *, on_cpu: bool) -> None:
    results = FAULTS[end](on_cpu) if end in FAULTS else run(range(20), on_cpu=on_cpu)
    next(results)
    while_running = torch.get_num_threads()
    if end == "closed":
        results.close()
    elif end == "exhausted":
        list(results)
    else:
        with pytest.raises(OwnError):
            list(results)

    assert while_running == 1
    assert torch.get_num_threads() == 3


@placements
@pytest.mark.usefixtures("_three_threads")
def test_a_worker_has_one_intra_op_thread(*, on_cpu: bool) -> None:
    seen: list[int] = []

    def load_and_tell(number: int) -> Batch:
        seen.append(torch.get_num_threads())
        return load(number)

    list(run(range(6), load=load_and_tell, on_cpu=on_cpu))
    assert seen == [1] * 6


@pytest.mark.parametrize(
    ("total", "size", "sizes"),
    [(0, 3, []), (2, 3, [2]), (3, 3, [3]), (7, 3, [3, 3, 1]), (2, 1, [1, 1])],
)
def test_chunks_are_neighbours_and_the_last_may_be_fewer(
    total: int, size: int, sizes: list[int]
) -> None:
    chunks = list(cut_chunks(items_of(range(total)), size))
    assert [len(chunk) for chunk in chunks] == sizes
    assert [int(item.path) for chunk in chunks for item in chunk] == list(range(total))


def test_chunks_are_cut_from_an_endless_source() -> None:
    endless = (Item(str(number)) for number in count())
    first, second = islice(cut_chunks(endless, 2), 2)
    assert [item.path for item in (*first, *second)] == ["0", "1", "2", "3"]


def test_a_pause_cuts_a_chunk() -> None:
    a, b, c, d, e = items_of("abcde")
    items: list[Item | Pause] = [a, b, c, PAUSE, PAUSE, d, e, PAUSE]
    assert list(cut_chunks(items, 2)) == [(a, b), (c,), (), (), (d, e), ()]


@placements
def test_what_came_before_a_pause_is_out_before_the_source_goes_on(*, on_cpu: bool) -> None:
    out: list[str] = []

    def slow() -> Iterator[tuple[str, ...]]:
        yield from (("a", "b"), ("c",), ())
        assert out == ["a", "b", "c"]
        yield ("d",)

    def load(chunk: tuple[str, ...]) -> Batch:
        samples = tuple(Sample(Item(path)) for path in chunk)
        return Batch(samples, np.empty((0, 1, 1, 3), np.uint8), False)

    def launch(batch: Batch) -> Callable[[], list[str]]:
        return lambda: [sample.item.path for sample in batch.samples]

    for path in stream_results(slow(), load, launch, workers=4, on_workers_cores=on_cpu):
        out.append(path)  # one by one, as the source looks at it meanwhile
    assert out == ["a", "b", "c", "d"]
