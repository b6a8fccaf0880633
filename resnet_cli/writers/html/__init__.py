"""HTML: one file to look through a run in a browser."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from resnet_cli.records import Prediction
from resnet_cli.writers.html.counts import Counts
from resnet_cli.writers.html.entry import entry_of
from resnet_cli.writers.html.page import page
from resnet_cli.writers.html.sample import Sample
from resnet_cli.writers.html.thumbnails import encoded
from resnet_cli.writers.judge import Judge
from resnet_cli.writers.options import Options, Write


@contextmanager
def html_writer(path: Path, options: Options) -> Iterator[Write]:
    """Write a report; a run that is stopped leaves one of what there was, which says so.

    Rows and thumbnails wait in a temporary file, so that memory is bounded whatever comes.
    """
    judge = Judge.of(options)
    counts = Counts()
    with TemporaryFile(dir=path.parent) as spool:
        sample = Sample(spool, options.report_limit)

        def write(prediction: Prediction) -> None:
            entry = entry_of(prediction, judge(prediction), counts.images, path.parent)
            counts.add(entry)
            if sample.wants(striking=entry.striking):
                sample.add(entry.encoded(), encoded(prediction.thumbnail))

        try:
            yield write
        finally:
            write_whole(path, page(options.record(), counts, judge.names, sample))


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Write a file whole or not at all; its place may have been taken by an empty one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        if path.exists() and path.stat().st_size == 0:
            path.unlink()
        raise
