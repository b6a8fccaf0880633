"""How long until the first row of a million objects in a store, and what do they take in memory?

Run by hand; the store is a process of this machine, which answers as S3 does:

    python tests/benchmarks/remote.py CHECKPOINT --objects 1000000

The first row has to come within 15 seconds of the command, long before the listing ends; all
objects together may take 400 bytes each.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import click
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from resnet_cli import Classifier
from resnet_cli.records import Item
from resnet_cli.run.manifest import Fingerprint
from resnet_cli.sources import find_inputs
from servers import Store, serving

URL = "s3://bucket/photos/"


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--objects", default=1_000_000, help="In the store, all in one folder.")
def main(checkpoint: Path, objects: int) -> None:
    """Print the seconds until the first row, those of the listing, and the bytes an object."""
    with a_store(objects) as url:
        os.environ.update(
            AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
            AWS_DEFAULT_REGION="us-east-1",
        )  # fmt: skip
        begun = perf_counter()
        classifier = Classifier.load(
            checkpoint,
            device="cpu",
            preprocess=lambda recorded: replace(recorded, resize_size=32, crop_size=32),
        )
        click.echo(f"loaded    {perf_counter() - begun:6.1f} s")
        with closing(classifier.predict(URL)) as rows:
            row = next(rows)
            click.echo(f"first row {perf_counter() - begun:6.1f} s: {row.item.path} {row.label}")
        before = resident()
        begun = perf_counter()
        fingerprint = Fingerprint()
        found = find_inputs([URL]).items
        count = sum(isinstance(item, Item) for item in fingerprint.through(found))
        click.echo(f"listing   {perf_counter() - begun:6.1f} s: {count:,} objects")
        click.echo(f"memory    {(resident() - before) / count:6.1f} bytes an object, at the most")


@contextmanager
def a_store(objects: int) -> Iterator[str]:
    """Run a store in another process, whose memory is not ours."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, objects), daemon=True)
    process.start()
    yield ours.recv()
    ours.send("enough")
    process.join()


def serve(connection: Connection, objects: int) -> None:
    """Answer until the other end has had enough."""
    file = BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "JPEG")
    body = file.getvalue()
    names = [f"photos/img{number:07}.jpg" for number in range(objects)]
    with serving(Store(names, lambda _: body)) as store:
        connection.send(store.url)
        connection.recv()


def resident() -> int:
    """Return the most bytes that this process has had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
