"""Hold the throughput that ``benchmark`` states against a plain loop, in turn.

Run by hand on a machine that does nothing else:

    python tests/benchmarks/forward.py --model resnet18 --batch-size 8 --rounds 5

The loop has the network as the program runs it, whose convolutions are no one else's, and nothing
else in common with it: threads, warming, counting and clock are its own. The program runs as its
users run it, and what counts is the ``images_per_second`` in its .json.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import torch
import torchvision

from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import PRECISIONS, SessionOptions, find_runtime
from resnet_cli.runtimes.torch_runtime import TorchSession


@click.command()
@click.option("--model", default="resnet18", help="One of torchvision's ResNets.")
@click.option("--batch-size", default=8, help="Images in one pass.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="fp32")
@click.option("--workers", default=2, help="Streams, one a core.")
@click.option("--seconds", default=3.0, help="Of each measurement.")
@click.option("--rounds", default=5, help="Rounds of both.")
def main(
    model: str, batch_size: int, precision: str, workers: int, seconds: float, rounds: int
) -> None:
    """Print images per second of both, and their ratio."""
    torch.set_num_threads(1)
    session = find_runtime("cpu").load(
        torchvision.models.get_model(model).eval(),
        SessionOptions(preprocess=Preprocess(), precision=precision),
    )
    assert isinstance(session, TorchSession)
    images = torch.randint(0, 256, (batch_size, 3, 224, 224), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    words = ["--device", "cpu", "-b", batch_size, "-j", workers, "--precision", precision]
    words += ["--duration", seconds]
    speeds: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = loop(session.network, images, workers, seconds), program(model, words)
        click.echo(
            f"round {number}: loop {pair[0]:.1f}, benchmark {pair[1]:.1f} images/s, "
            f"ratio {pair[1] / pair[0]:.3f}"
        )
        speeds.append(pair)
    ratios = [said / found for found, said in speeds]
    click.echo(
        f"{model} {precision}, batches of {batch_size}: loop {median(a for a, _ in speeds):.1f}, "
        f"benchmark {median(b for _, b in speeds):.1f} images/s, "
        f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def loop(
    network: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    workers: int,
    seconds: float,
) -> float:
    """Images per second of threads that do nothing but the forward pass."""

    def stream(until: float) -> int:
        torch.set_num_threads(1)
        passes = 0
        with torch.inference_mode():
            while perf_counter() < until:
                network(images)
                passes += 1
        return passes

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(stream, [perf_counter() + 1] * workers))  # warm
        begun = perf_counter()
        passes = sum(pool.map(stream, [begun + seconds] * workers))
        return passes * len(images) / (perf_counter() - begun)


def program(model: str, words: list[object]) -> float:
    """Images per second that the program states."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        command = [sys.executable, "-m", "resnet_cli", "benchmark", model, "-o", path, *words]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        [row] = json.loads(path.read_text())["rows"]
        return float(row["images_per_second"])


if __name__ == "__main__":
    main()
