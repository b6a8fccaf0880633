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
from itertools import count
from pathlib import Path
from time import monotonic

import click
import numpy as np
import torch
from torchvision import models

sys.path.insert(0, str(Path(__file__).parents[2]))

from resnet_cli.graph import Description, read_graph
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import SessionOptions, find_runtime

SILENCE = 60  # seconds without a batch that count as a hang
SIDE = 32  # pixels: most of a call is then what surrounds the arithmetic
ROUND = 400  # batches of a worker


@click.command()
@click.option("--minutes", default=1.0, show_default=True)
@click.option("--workers", default=4, show_default=True)
def soak(minutes: float, workers: int) -> None:
    """Run rounds of workers until the time is over."""
    preprocess = Preprocess(resize_size=SIDE, crop_size=SIDE)
    network = models.resnet18(num_classes=10).eval()
    description = Description(
        model="resnet18",
        class_names=tuple("abcdefghij"),
        classes_source="made up",
        preprocess=preprocess.record(),
        preprocess_source="made up",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        convert_network(network, path, description=description)
        session = find_runtime("cpu", "openvino").load(
            read_graph(path), SessionOptions(preprocess=preprocess)
        )
        images = np.random.default_rng(0).integers(256, size=(8, SIDE, SIDE, 3), dtype=np.uint8)
        expected = session.launch(images, 10)[0]().probs

        def work(worker: int) -> int:
            for number in range(ROUND):
                size = 1 + (number + worker) % len(images)
                (wait,) = session.launch(images[:size], 10)
                np.testing.assert_allclose(wait().probs, expected[:size], atol=1e-5)
                faulthandler.dump_traceback_later(SILENCE, exit=True)
            return ROUND

        done, end = 0, monotonic() + 60 * minutes
        for turn in count():
            torch.set_num_threads(2)
            with torch.inference_mode():
                network(torch.zeros(4, 3, SIDE, SIDE))
            with ThreadPoolExecutor(workers) as pool:  # new threads, and so new requests
                done += sum(pool.map(work, range(workers)))
            if turn % 10 == 0:
                click.echo(f"{done:,} batches")
            if monotonic() > end:
                break
    faulthandler.cancel_dump_traceback_later()
    click.echo(f"{done:,} batches by {workers} workers: no hang")


if __name__ == "__main__":
    soak()
