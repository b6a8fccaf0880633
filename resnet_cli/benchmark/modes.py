"""What is timed: the network alone on random pictures, or everything from files to labels."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import cycle
from time import perf_counter

import torch

from resnet_cli.benchmark.timing import Effort, Timing, time_device, time_streams
from resnet_cli.classifier import Classifier
from resnet_cli.errors import InputError
from resnet_cli.inputs import Inputs
from resnet_cli.records import Prediction


def time_forward(
    classifier: Classifier, *, batch: int, side: int, workers: int, effort: Effort
) -> Timing:
    """Time the network on random pictures that are ready in its memory.

    Args:
        classifier: of which the network is timed.
        batch: images of a pass.
        side: pixels.
        workers: streams, on the CPU.
        effort: how long.
    """
    backend = classifier.backend
    channels = classifier.checkpoint.in_channels
    shape = (batch, channels, side, side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=backend.device)
    pixels = pixels.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> object:
        return backend.network(pixels)

    if backend.device.type == "cuda":  # cuda only
        return time_device(run, device=backend.device, batch=batch, effort=effort)
    return time_streams(run, batch=batch, streams=workers, effort=effort)


def time_end_to_end(
    classifier: Classifier, inputs: Inputs, *, batch: int, workers: int, effort: Effort
) -> Timing:
    """Time all that ``predict`` does with files, over and over.

    A pass is a batch: its latency is the work that its images took, one after the other.

    Args:
        classifier: what is timed.
        inputs: files, taken again from the first when all were.
        batch: images of a pass.
        workers: threads.
        effort: how long.
    """
    endless = Inputs(cycle(list(inputs.paths)), None, 0)
    rows = classifier.predict(endless, batch_size=batch, workers=workers)
    latencies: list[float] = []
    decoding = everything = images = 0.0
    begun = now = perf_counter()
    with closing(rows):
        for number, members in enumerate(grouped(rows, batch)):
            now = perf_counter()
            if number < effort.warmup * workers:
                begun = now
                continue
            stages = [work(row) for row in members if row.error is None]
            if not stages:
                raise InputError("cannot measure: none of the pictures of a batch can be read")
            latencies.append(sum(map(sum, stages)))
            decoding += sum(decode for decode, _ in stages)
            everything += latencies[-1]
            images += len(stages)
            if effort.enough(len(latencies), now - begun):
                break
    return Timing(int(images), now - begun, latencies, decoding / max(everything, 1e-9))


def grouped(rows: Iterable[Prediction], size: int) -> Iterator[list[Prediction]]:
    """Yield the rows of each batch."""
    members: list[Prediction] = []
    for row in rows:
        members.append(row)
        if len(members) == size:
            yield members
            members = []


def work(row: Prediction) -> tuple[float, float]:
    """Milliseconds that one image took to decode and prepare, and in the network."""
    prepare = (row.decode_ms or 0.0) + (row.preprocess_ms or 0.0)
    return prepare, row.forward_ms or 0.0
