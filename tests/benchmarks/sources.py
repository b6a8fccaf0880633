"""How fast is ``predict`` on images in archives, in tables and on servers, beside files?

Run by hand on a machine that does nothing else:

    python tests/benchmarks/sources.py PHOTOS CHECKPOINT --images 208 --rounds 5

The same images lie in a folder, a zip, a tar, a compressed tar, a parquet table, on a web server
and in a store of S3 (moto's), both on the loopback and with 10 ms before each answer. One
classifier takes them in turn, round after round, each time from the name of the source to the last
row; ratios are of speeds, against the folder in the same round. Servers are processes of their own,
and what they compute is told, as it is taken from the cores that ``predict`` would have. What needs
a package that is not installed is left out.
"""

import multiprocessing
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter, process_time, sleep
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.extend(str(Path(__file__).parents[2] / part) for part in ("", "tests", "tests/support"))

from resnet_cli import Classifier
from resnet_cli.sources.local import SUFFIXES
from servers import Handler, Site, send

FILES = "files"

GOALS = {"zip": 0.95, "tar": 0.95, "parquet": 0.95, "http": 0.9, "s3": 0.9}
"""The least ratio of speeds against files."""

BUCKET = "images"

Serve = Callable[[Path, float, Connection], None]


def link_images(photos: Path, folder: Path, count: int) -> list[Path]:
    """Link as many images as asked for, each photograph as often as it takes."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    folder.mkdir()
    images = []
    for number, photo in enumerate(islice(cycle(found), count)):
        images.append(folder / f"{number:06}{photo.suffix.lower()}")
        images[-1].symlink_to(photo.resolve())
    return images


def pack_images(images: list[Path], folder: Path) -> dict[str, str]:
    """Pack the images in every way; return the source of each."""
    made = {kind: str(folder / f"x.{kind}") for kind in ("zip", "tar", "tar.gz", "parquet")}
    with zipfile.ZipFile(made["zip"], "w") as zipped:
        for image in images:
            zipped.write(image, image.name)
    for kind, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        with tarfile.open(made[kind], mode, dereference=True) as tarred:  # type: ignore[call-overload]
            for image in images:
                tarred.add(image, image.name)
    pq.write_table(pa.table({"image": [image.read_bytes() for image in images]}), made["parquet"])
    return made


def serve_pages(folder: Path, delay: float, pipe: Connection) -> None:
    """Serve the files of a folder over HTTP."""

    def late(body: bytes, request: Any) -> None:
        sleep(delay)
        send(request, body)

    site = Site({f"/{path.name}": partial(late, path.read_bytes()) for path in folder.iterdir()})
    Thread(target=site.serve_forever, daemon=True).start()
    answer(pipe, site.url)


def serve_objects(folder: Path, delay: float, pipe: Connection) -> None:
    """Serve the files of a folder as objects of S3, by moto."""
    import boto3  # type: ignore[import-untyped]
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    app = DomainDispatcherApplication(create_backend_app)
    late = 0.0

    def delayed(environ: Any, start_response: Any) -> Any:
        sleep(late)
        return app(environ, start_response)

    class Quiet(WSGIRequestHandler):
        protocol_version = Handler.protocol_version  # which keeps connections

        def log(self, *_: Any, **__: Any) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", 0, delayed, threaded=True, request_handler=Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for path in folder.iterdir():
        client.put_object(Bucket=BUCKET, Key=f"all/{path.name}", Body=path.read_bytes())
    late = delay
    answer(pipe, url)


def answer(pipe: Connection, url: str) -> None:
    """Say where the server is, then how many seconds it has computed, as often as asked."""
    pipe.send(url)
    while pipe.recv():
        pipe.send(process_time())


@contextmanager
def running(serve: Serve, folder: Path, delay: float) -> Iterator[tuple[str, Connection]]:
    """Run a server in a process of its own; its address, and the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, delay, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.kill()
        process.join()


def computed(pipe: Connection | None) -> float:
    """Seconds that a server has computed so far."""
    if pipe is None:
        return 0.0
    pipe.send(True)
    seconds: float = pipe.recv()
    return seconds


def timed(classifier: Classifier, source: str, count: int, workers: int | None) -> float:
    """Seconds from the name of a source to the last row."""
    begun = perf_counter()
    rows = [row.status for row in classifier.predict(source, workers=workers)]
    seconds = perf_counter() - begun
    if len(rows) != count:
        raise click.ClickException(f"{source}: {len(rows)} rows, not {count}")
    return seconds


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.option("--images", default=208, help="In each source.")
@click.option("--rounds", default=5, help="Of all sources.")
@click.option("--delay", default=0.01, help="Seconds before each answer of a server.")
@click.option("-j", "--workers", type=int, help="Threads; all cores without it.")
@click.option("--only", multiple=True, help="A kind of source, beside files; repeatable.")
def main(
    photos: Path,
    checkpoint: Path,
    images: int,
    rounds: int,
    delay: float,
    workers: int | None,
    only: tuple[str, ...],
) -> None:
    """Print the speed of each source, and its ratio to that of files."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "key"}
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        linked = link_images(photos, place / FILES, images)
        sources = {FILES: str(place / FILES), **pack_images(linked, place)}
        pipes: dict[str, Connection] = {}
        if find_spec("aiohttp") and (not only or "http" in only):
            url, pipes["http"] = stack.enter_context(running(serve_pages, place / FILES, delay))
            addresses = place / "urls.txt"
            addresses.write_text("".join(f"{url}/{image.name}\n" for image in linked))
            sources["http"] = f"@{addresses}"
        if find_spec("s3fs") and find_spec("moto") and (not only or "s3" in only):
            url, pipes["s3"] = stack.enter_context(running(serve_objects, place / FILES, delay))
            os.environ["AWS_ENDPOINT_URL"] = url
            sources["s3"] = f"s3://{BUCKET}/all/"
        chosen = {
            kind: each for kind, each in sources.items() if kind in (FILES, *(only or sources))
        }
        classifier = Classifier.load(checkpoint, device="cpu")
        seconds: dict[str, list[float]] = {kind: [] for kind in chosen}
        taken: dict[str, list[float]] = {kind: [] for kind in chosen}
        timed(classifier, sources[FILES], images, workers)  # warm up
        for _ in range(rounds):
            for kind, source in chosen.items():
                before = computed(pipes.get(kind))
                seconds[kind].append(timed(classifier, source, images, workers))
                taken[kind].append(computed(pipes.get(kind)) - before)
    report(seconds, taken, images)


def report(seconds: dict[str, list[float]], taken: dict[str, list[float]], images: int) -> None:
    """Print a row a source."""
    click.echo("| source | images/s (least, most) | ratio to files (least, most) | goal | server |")
    click.echo("| --- | --- | --- | --- | --- |")
    for kind, times in seconds.items():
        speeds = sorted(images / each for each in times)
        ratios = sorted(file / each for file, each in zip(seconds[FILES], times, strict=True))
        goal = GOALS.get(kind)
        met = "" if goal is None else f"{goal} {'met' if median(ratios) >= goal else 'missed'}"
        share = median(cpu / each for cpu, each in zip(taken[kind], times, strict=True))
        click.echo(
            f"| {kind} | {median(speeds):.1f} ({speeds[0]:.1f}, {speeds[-1]:.1f}) "
            f"| {median(ratios):.3f} ({ratios[0]:.3f}, {ratios[-1]:.3f}) | {met} "
            f"| {f'{share:.2f} of a core' if share else ''} |"
        )


if __name__ == "__main__":
    main()
