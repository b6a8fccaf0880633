"""Formats that grow line by line: a row is in the file as soon as it is there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_cli.records import Prediction
from resnet_cli.writers.durable.growing import growing_file
from resnet_cli.writers.options import Options, Write

Line = Callable[[Prediction], bytes]


@contextmanager
def appended(path: Path, options: Options, header: bytes, line: Line) -> Iterator[Write]:
    """Append a line for each prediction.

    Args:
        path: the file.
        options: how results are laid out.
        header: what the file begins with, if anything, even when it has no rows.
        line: makes a line of a prediction.
    """
    with growing_file(path, options) as file:

        def begin() -> None:
            if file.size < len(header):
                file.append(header)

        def write(prediction: Prediction) -> None:
            begin()
            file.append(line(prediction))

        try:
            yield write
        finally:
            begin()
