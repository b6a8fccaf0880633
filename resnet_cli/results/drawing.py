"""Draw in a thread of its own, while the run goes on to the next images."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from resnet_cli.records import Prediction
from resnet_cli.results.options import Write

AHEAD = 48
"""Predictions that may wait to be drawn, with thumbnails of up to 192 kB: three pages of a grid."""


@contextmanager
def draw_meanwhile(open_drawing: Callable[[], AbstractContextManager[Write]]) -> Iterator[Write]:
    """Open a drawing, and yield what hands predictions to it, which are drawn in their order.

    At the end all of them are drawn, also where an error or a signal ends the block; another
    signal meanwhile drops those that are not begun. What opening or drawing raises is raised here,
    at one of the next predictions or at the end.

    Args:
        open_drawing: opens what draws a prediction, which takes as long as its libraries to load.
    """
    waiting: deque[Future[Any]] = deque()

    def settle(most: int) -> None:
        while waiting and (len(waiting) > most or waiting[0].done()):
            waiting[0].result()
            waiting.popleft()

    def hand_over(prediction: Prediction) -> None:
        waiting.append(thread.submit(lambda: opened.result()(prediction)))
        settle(AHEAD)

    with ExitStack() as drawing, ThreadPoolExecutor(1, thread_name_prefix="drawing") as thread:
        opened = thread.submit(lambda: drawing.enter_context(open_drawing()))
        waiting.append(opened)
        try:
            yield hand_over
        finally:
            try:
                settle(0)
            except BaseException:
                thread.shutdown(wait=False, cancel_futures=True)
                raise
