"""HTML: one file to look through a run in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from resnet_cli.records import Prediction
from resnet_cli.results.files.disk import whole_file
from resnet_cli.results.html.entry import encode_thumbnail, entry_of
from resnet_cli.results.html.page import render_page
from resnet_cli.results.html.sample import Counts, ReportSample
from resnet_cli.results.judge import Judge
from resnet_cli.results.options import Write, WriterOptions


@contextmanager
def html_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Write a report; a run that is stopped leaves one of what there was, which says so.

    Rows and thumbnails wait in a temporary file, so that memory is bounded whatever comes.
    """
    judge = Judge.of(options)
    counts = Counts()
    with TemporaryFile(dir=path.parent) as spool:
        sample = ReportSample(spool, options.report_limit)

        def write(prediction: Prediction) -> None:
            entry = entry_of(prediction, judge(prediction), counts.images, path.parent)
            counts.add(entry)
            if sample.wants(striking=entry.striking):
                sample.add(entry.encoded(), encode_thumbnail(prediction.thumbnail))

        try:
            yield write
        finally:
            with whole_file(path) as file:
                for piece in render_page(options.record(), counts, judge.names, sample):
                    file.write(piece.encode())
