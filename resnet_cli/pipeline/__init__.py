"""The stream: items -> batches -> results, in order, with bounded memory.

Where a runtime works on the workers' cores, a worker takes a chunk of items and does all of it, the
network included, on one intra-op thread: no pool of threads waits for another. In front of another
device the workers decode, and one thread keeps the device a batch ahead of the results. Both give
the same results in the same order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

from resnet_cli.records import Item, Pause
from resnet_cli.system import one_thread_each, use_one_thread

Task = TypeVar("Task")
Loaded = TypeVar("Loaded")  # a batch of images, or one for each of several networks
Result = TypeVar("Result")
Wait = Callable[[], list[Result]]


def stream_results(
    chunks: Iterable[Task],
    load: Callable[[Task], Loaded],
    launch: Callable[[Loaded], Wait[Result]],
    *,
    workers: int,
    on_workers_cores: bool,
) -> Generator[Result]:
    """Run chunks of items through the network.

    Args:
        chunks: taken one at a time as room appears, so that an endless source works.
        load: decodes a chunk; is called on a worker's thread.
        launch: starts the network on a batch and returns a function that waits for its results.
        workers: threads, at least 1.
        on_workers_cores: run the network on the workers' own cores too; see ``Runtime``.

    Yields:
        The results of each chunk, in the order of the chunks.
    """

    def whole(chunk: Task) -> list[Result]:
        return launch(load(chunk))()

    with one_thread_each:
        if on_workers_cores:
            with closing(map_ordered(chunks, whole, workers=workers)) as done:
                for results in done:
                    yield from results
        else:
            with closing(map_ordered(chunks, load, workers=workers)) as batches:
                yield from one_behind(batches, launch)


def one_behind(
    batches: Iterable[Loaded], launch: Callable[[Loaded], Wait[Result]]
) -> Generator[Result]:
    """Start each batch before waiting for the one before it, and yield the results in order."""
    previous: Wait[Result] | None = None
    for batch in batches:
        following = launch(batch)
        if previous is not None:
            yield from previous()
        previous = following
    if previous is not None:
        yield from previous()


def map_ordered(
    items: Iterable[Task], work: Callable[[Task], Result], *, workers: int
) -> Generator[Result]:
    """Map ``work`` over ``items`` on threads, in order, at most two items a worker ahead."""
    remaining = iter(items)
    in_flight: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=use_one_thread)
    try:
        while True:
            room = 2 * workers - len(in_flight)
            wanted = 1
            for item in islice(remaining, room):
                in_flight.append(pool.submit(work, item))
                if item == ():  # the source pauses: yield all that came before
                    wanted = len(in_flight)
                    break
            if not in_flight:
                return
            for _ in range(wanted):
                yield in_flight.popleft().result()
    finally:
        if isinstance(remaining, Generator):
            remaining.close()  # so that no worker waits for what it fetches
        pool.shutdown(wait=True, cancel_futures=True)


def cut_chunks(items: Iterable[Item | Pause], size: int) -> Iterator[tuple[Item, ...]]:
    """Cut a stream into chunks of ``size``, shorter at its end and before a pause.

    A pause itself becomes an empty chunk.
    """
    chunk: list[Item] = []
    for item in items:
        if isinstance(item, Pause):
            if chunk:
                yield tuple(chunk)
            yield ()
            chunk = []
            continue
        chunk.append(item)
        if len(chunk) == size:
            yield tuple(chunk)
            chunk = []
    if chunk:
        yield tuple(chunk)
