"""Export each of the ten ResNets in each format, and hold it against torchvision's network.

Run by hand, some minutes:

    python tests/faults/exports.py

Each file is run by its own library alone, on pixels that no code of this program has seen. The
status is 1 where a probability in fp32 differs by more than 0.0001, or one in fp16 by more than
0.01.
"""

import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from time import perf_counter

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(1, str(Path(__file__).parents[1]))
sys.path.insert(2, str(Path(__file__).parents[1] / "support"))

from converting import AS_IMAGENET, SIDE, resnet
from exported import logits_of
from resnet_cli import ExportOptions, Preprocess, export_checkpoint
from shapes import TEN

NORMALIZE = AS_IMAGENET.transforms[-1]
LIMITS = {"fp32": 1e-4, "fp16": 1e-2}
IMAGES = 3


@click.command()
@click.option("--suffix", "suffixes", multiple=True, default=(".onnx", ".xml", ".pt2"))
@click.option("--model", "models", multiple=True, default=TEN)
def main(suffixes: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Print the largest difference of a probability for each file."""
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, 3, SIDE, SIDE), dtype=np.uint8)
    failed = 0
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name in models:
            network = resnet(name)
            torch.save(network.state_dict(), "model.pth")
            with torch.inference_mode():
                expected = network(NORMALIZE(torch.from_numpy(pixels) / 255)).softmax(dim=1)
            for suffix in suffixes:
                for precision, limit in LIMITS.items():
                    begun = perf_counter()
                    path = export(suffix, precision)
                    seconds = perf_counter() - begun
                    found = logits_of(path, pixels).softmax(dim=1)
                    worst = float((found - expected).abs().max())
                    failed += not worst <= limit
                    click.echo(f"{name:18}{suffix:7}{precision:6}{worst:9.1e}{seconds:8.1f} s")
    sys.exit(failed > 0)


def export(suffix: str, precision: str) -> Path:
    """Write the network of model.pth."""
    options = ExportOptions(
        preprocess=Preprocess(resize_size=SIDE + 8, crop_size=SIDE),
        precision=precision,
        verify=IMAGES,
        overwrite=True,
    )
    return export_checkpoint("model.pth", f"out{suffix}", options).path


if __name__ == "__main__":
    main()
