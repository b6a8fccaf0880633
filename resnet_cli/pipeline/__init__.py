"""The stream: items -> batches -> results, in order, with bounded memory.

On the CPU a worker takes a chunk of items and does all of it, the network included, on one
intra-op thread: no pool of threads waits for another. In front of another device the workers
decode, and one thread keeps the device a batch ahead of the results. Which of the two is the
secret of this module: both give the same results in the same order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from threading import Lock
from typing import TypeVar

import torch

from resnet_cli.records import Item, Pause

Task = TypeVar("Task")
Loaded = TypeVar("Loaded")  # a batch of pictures, or one for each of several networks
Result = TypeVar("Result")
Wait = Callable[[], list[Result]]


class OneThreadEach:
    """Gives PyTorch's operators one thread each while any stream runs, and puts it back after."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.streams = 0
        self.before = 1

    def __enter__(self) -> None:
        """The first stream to begin notes how many threads there were."""
        with self.lock:
            if self.streams == 0:
                self.before = torch.get_num_threads()
                torch.set_num_threads(1)
            self.streams += 1

    def __exit__(self, *_: object) -> None:
        """The last one to end gives them back."""
        with self.lock:
            self.streams -= 1
            if self.streams == 0:
                torch.set_num_threads(self.before)


one_thread_each = OneThreadEach()
"""The number of threads is the process's, whichever streams there are."""


def stream_results(
    chunks: Iterable[Task],
    load: Callable[[Task], Loaded],
    launch: Callable[[Loaded], Wait[Result]],
    *,
    workers: int,
    on_cpu: bool,
) -> Generator[Result]:
    """Run chunks of items through the network.

    Args:
        chunks: taken one at a time as room appears, so that an endless source works.
        load: decodes a chunk; is called on a worker's thread.
        launch: starts the network on a batch and returns a function that waits for its results.
        workers: threads, at least 1.
        on_cpu: whether the network runs on the workers' own cores.

    Yields:
        The results of each chunk, in the order of the chunks.
    """

    def whole(chunk: Task) -> list[Result]:
        return launch(load(chunk))()

    with one_thread_each:
        if on_cpu:
            with closing(map_ordered(chunks, whole, workers=workers)) as done:
                for results in done:
                    yield from results
        else:
            with closing(map_ordered(chunks, load, workers=workers)) as batches:
                yield from one_behind(batches, launch)


def one_behind(
    batches: Iterable[Loaded], launch: Callable[[Loaded], Wait[Result]]
) -> Generator[Result]:
    """Start each batch before waiting for the one before it."""
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
    """Map ``work`` over ``items`` on threads, in order, two items a worker in flight at most."""
    remaining = iter(items)
    in_flight: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        while True:
            room = 2 * workers - len(in_flight)
            wanted = 1
            for item in islice(remaining, room):
                in_flight.append(pool.submit(work, item))
                if item == ():  # the source pauses: nothing is to wait for more
                    wanted = len(in_flight)
                    break
            if not in_flight:
                return
            for _ in range(wanted):
                yield in_flight.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def cut_chunks(items: Iterable[Item | Pause], size: int) -> Iterator[tuple[Item, ...]]:
    """Cut a stream into neighbours of ``size``; fewer at its end, or none when it pauses."""
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
