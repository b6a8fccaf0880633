"""Run OpenVINO from many threads, beside torch, until a time is over; say whether it ever hangs.

Run by hand, for an hour:

    python tests/faults/soak_openvino.py --minutes 60

Two Python threads that shared OpenVINO's synchronous call have been seen to wait for each other for
good, after torch had run in the same process with threads of its own. Here rounds of workers run
batches of all sizes through one session, as ``predict`` does, with torch computing between them and
beside them. Where nothing is done for a minute, the stacks of all threads are printed.
"""

import faulthandler
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import click
import numpy as np
import torch
from torchvision import models

sys.path.insert(0, str(Path(__file__).parents[2]))

from resnet_cli.graph import Description, read_graph
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Pixels
from resnet_cli.runtimes import Session, SessionOptions, find_runtime

SILENCE = 120  # seconds for a round that count as a hang
SIDE = 32  # pixels: most of a call is then what surrounds the arithmetic
CLASSES = 10
ROUND = 400  # batches of a worker


def small_session(folder: Path) -> Session:
    """A network for images of a few pixels, by OpenVINO."""
    preprocess = Preprocess(resize_size=SIDE, crop_size=SIDE)
    description = Description(
        model="resnet18",
        class_names=tuple("abcdefghij"),
        classes_source="made up",
        preprocess=preprocess.record(),
        preprocess_source="made up",
    )
    path = folder / "network.xml"
    network = models.resnet18(num_classes=CLASSES).eval()
    convert_network(network, path, description=description)
    options = SessionOptions(preprocess=preprocess)
    return find_runtime("cpu", "openvino").load(read_graph(path), options)


def run_batches(session: Session, images: Pixels, expected: Any, worker: int) -> int:
    """Run batches of all sizes, and hold each against what one thread got."""
    for number in range(ROUND):
        size = 1 + (number + worker) % len(images)
        (wait,) = session.launch(images[:size], CLASSES)
        np.testing.assert_allclose(wait().probs, expected[:size], atol=1e-5)
    return ROUND


@torch.inference_mode()
def use_torch_threads() -> None:
    """Let torch compute with threads of its own."""
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.zeros(8, 32, 64, 64), torch.zeros(32, 32, 3, 3))


@click.command()
@click.option("--minutes", default=1.0, show_default=True)
@click.option("--workers", default=4, show_default=True)
def soak(minutes: float, workers: int) -> None:
    """Run rounds of workers until the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        session = small_session(Path(folder))
        images = np.random.default_rng(0).integers(256, size=(8, SIDE, SIDE, 3), dtype=np.uint8)
        expected = session.launch(images, CLASSES)[0]().probs
        done, end = 0, monotonic() + 60 * minutes
        while monotonic() < end:
            faulthandler.dump_traceback_later(SILENCE, exit=True)
            use_torch_threads()
            with ThreadPoolExecutor(workers) as pool:  # new threads, and so new requests
                run = partial(run_batches, session, images, expected)
                done += sum(pool.map(run, range(workers)))
            click.echo(f"\r{done:,} batches", nl=False)
    faulthandler.cancel_dump_traceback_later()
    click.echo(f"\r{done:,} batches by {workers} workers: no hang")


if __name__ == "__main__":
    soak()
