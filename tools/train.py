"""Trains a ResNet-18 from scratch to tell drawn ants from drawn bees."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from tqdm import tqdm

from draw import LABELS, Label, draw

RESIZE_SIZE = 256
CROP_SIZE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Each use has its own range of seeds, so that no drawing is seen in two of them. The sample
# images have seeds above 2,000,000.
TRAINING_SEEDS = 0
TEST_SEEDS = 1_000_000
BATCH = 64
# The drawings that the statistics of the batch normalisation are taken from at the end.
CALIBRATION = 512

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Phase:
    """A part of the training, up to a share of all epochs."""

    until: float
    resolution: int


# Small pictures teach the shapes in a fraction of the time; the last epochs adapt to full size.
PHASES = (Phase(0.6, 96), Phase(0.8, 128), Phase(1.0, CROP_SIZE))


@dataclass(frozen=True)
class Order:
    """One drawing to make: its class, its seed, its size and the square cut out of it."""

    label: Label
    seed: int
    size: int
    crop: int


@dataclass(frozen=True)
class Drawings:
    """Pictures as bytes, with the index of the class of each."""

    pixels: Tensor
    targets: Tensor


def prepare(order: Order) -> Pixels:
    """Draw one picture, resize it and cut out its middle."""
    resize = Resize(RESIZE_SIZE, InterpolationMode.BILINEAR, antialias=True)
    steps = Compose([resize, CenterCrop(order.crop)])
    return np.asarray(steps(draw(order.label, order.seed, order.size))).transpose(2, 0, 1)


def make_drawings(orders: list[Order], workers: int, title: str) -> Drawings:
    """Draw many pictures with several processes."""
    crop = orders[0].crop
    pixels = np.empty((len(orders), 3, crop, crop), dtype=np.uint8)
    with Pool(workers) as pool:
        made = pool.imap(prepare, orders, chunksize=8)
        for place, picture in enumerate(tqdm(made, title, len(orders))):
            pixels[place] = picture
    targets = torch.tensor([LABELS.index(order.label) for order in orders])
    return Drawings(torch.from_numpy(pixels), targets)


def plan(first_seed: int, count: int, size: int, crop: int) -> list[Order]:
    """List `count` drawings, half of them of each class."""
    seeds = range(first_seed, first_seed + count // len(LABELS))
    return [Order(label, seed, size, crop) for label in LABELS for seed in seeds]


def normalised(pixels: Tensor) -> Tensor:
    """Turn bytes into what the network reads."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    ready = (pixels.float() / 255 - mean) / std
    return ready.contiguous(memory_format=torch.channels_last)


def centre(pixels: Tensor) -> Tensor:
    """Cut out the middle that the network reads."""
    edge = (pixels.shape[-1] - CROP_SIZE) // 2
    return pixels[..., edge : edge + CROP_SIZE, edge : edge + CROP_SIZE]


def shrunk(pixels: Tensor, resolution: int) -> Tensor:
    """Resize squares so that a crop of them has the resolution of a phase."""
    side = resolution * RESIZE_SIZE // CROP_SIZE
    if side == pixels.shape[-1]:
        return pixels
    parts = [
        nn.functional.interpolate(part.float(), side, mode="bilinear", antialias=True)
        for part in torch.split(pixels, 256)
    ]
    return torch.cat([part.round().to(torch.uint8) for part in parts])


def spread(count: int, low: float, high: float) -> Tensor:
    """Return evenly spread random numbers, shaped to multiply a batch of pictures."""
    return torch.empty(count, 1, 1, 1).uniform_(low, high)


def varied(pixels: Tensor, resolution: int) -> Tensor:
    """Cut random parts out of pictures, mirror them and change their colours a little."""
    count = len(pixels)
    zoom = spread(count, 0.75, 1.0).view(-1, 1)
    stretch = spread(count, 0.9, 1.1).view(-1, 1)
    mirror = torch.randint(0, 2, (count, 1)) * 2 - 1
    turn = spread(count, -0.35, 0.35).view(-1, 1)
    moves = torch.rand(count, 2) * 2 - 1
    shift = moves * (1 - zoom)
    rows = torch.stack(
        (
            torch.cat((mirror * zoom * stretch * turn.cos(), -zoom * turn.sin(), shift[:, :1]), 1),
            torch.cat((mirror * zoom * stretch * turn.sin(), zoom * turn.cos(), shift[:, 1:]), 1),
        ),
        dim=1,
    )
    grid = nn.functional.affine_grid(rows, [count, 3, resolution, resolution], align_corners=False)
    cut = nn.functional.grid_sample(
        pixels.float(), grid, padding_mode="reflection", align_corners=False
    )
    return recoloured(cut)


def recoloured(pixels: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and tint of each picture a little."""
    count = len(pixels)
    tint = torch.empty(count, 3, 1, 1).uniform_(0.93, 1.07)
    pixels = pixels * tint * spread(count, 0.8, 1.2)
    grey = pixels.mean(dim=1, keepdim=True)
    pixels = grey + (pixels - grey) * spread(count, 0.6, 1.4)
    level = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return (level + (pixels - level) * spread(count, 0.8, 1.2)).clamp(0, 255)


def batches(drawings: Drawings, pixels: Tensor, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the drawings in random order, varied; the last incomplete batch is left out."""
    for chosen in torch.split(torch.randperm(len(pixels)), BATCH):
        if len(chosen) == BATCH:
            yield normalised(varied(pixels[chosen], resolution)), drawings.targets[chosen]


def resolution_of(epoch: int, epochs: int) -> int:
    """Return the picture size of an epoch."""
    return next(phase.resolution for phase in PHASES if epoch < phase.until * epochs)


def fit(model: ResNet, drawings: Drawings, epochs: int) -> None:
    """Train the model."""
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = len(drawings.pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps * epochs)
    measure = nn.CrossEntropyLoss(label_smoothing=0.02)
    pixels = drawings.pixels
    for epoch in range(epochs):
        resolution = resolution_of(epoch, epochs)
        if epoch == 0 or resolution != resolution_of(epoch - 1, epochs):
            pixels = shrunk(drawings.pixels, resolution)
        total, right = 0.0, 0
        title = f"epoch {epoch + 1}/{epochs} at {resolution}"
        for inputs, targets in tqdm(batches(drawings, pixels, resolution), title, steps):
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(inputs)
            loss = measure(scores.float(), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
            right += int((scores.argmax(dim=1) == targets).sum())
        click.echo(f"loss {total / steps:.4f}, right {right / (steps * BATCH):.2%}")


def calibrate(model: ResNet, drawings: Drawings) -> None:
    """Take the statistics of the batch normalisation from unvaried drawings at full size."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            # No momentum means a plain average over all batches.
            layer.momentum = None
    model.train()
    chosen = torch.randperm(len(drawings.pixels))[:CALIBRATION]
    with torch.inference_mode():
        for part in torch.split(chosen, BATCH):
            model(normalised(centre(drawings.pixels[part])))


def save(model: ResNet, output: Path) -> None:
    """Write the weights in half precision with what is needed to use them."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise click.ClickException(f"too large for half precision: {', '.join(broken)}")
    preprocess = {
        "resize_size": RESIZE_SIZE,
        "crop_size": CROP_SIZE,
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
        "color": "rgb",
    }
    metadata = {
        "format": "pt",
        "model": "resnet18",
        "classes": json.dumps(LABELS),
        "preprocess": json.dumps(preprocess),
    }
    save_file(tensors, output, metadata=metadata)


def count_right(checkpoint: Path, drawings: Drawings) -> int:
    """Count the drawings that the saved checkpoint classifies correctly."""
    model = resnet18(num_classes=len(LABELS))
    model.load_state_dict(load_file(checkpoint))
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(drawings.targets), BATCH):
            part = slice(start, start + BATCH)
            scores = model(normalised(drawings.pixels[part]))
            right += int((scores.argmax(dim=1) == drawings.targets[part]).sum())
    return right


@dataclass
class Clock:
    """Tells how long each part took."""

    started: float

    def lap(self, what: str) -> None:
        """Report the time since the last report."""
        now = time.monotonic()
        click.echo(f"{what}: {now - self.started:.0f} s")
        self.started = now


@click.command(context_settings={"show_default": True})
@click.option("--epochs", type=click.IntRange(1), default=10, help="Passes over the drawings.")
@click.option("--drawings", type=click.IntRange(128), default=4000, help="Drawings to learn from.")
@click.option("--tests", type=click.IntRange(2), default=1200, help="Unseen drawings to test with.")
@click.option("--seed", default=0, help="Seed of the first weights and of the training order.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes that draw.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).parents[1] / "checkpoints" / "ants_bees_resnet18.safetensors",
    show_default="checkpoints/ants_bees_resnet18.safetensors",
    help="Checkpoint to write.",
)
def main(epochs: int, drawings: int, tests: int, seed: int, workers: int, output: Path) -> None:
    """Draw ants and bees, train a ResNet-18 on them and test it on other drawings."""
    torch.manual_seed(seed)
    clock = Clock(time.monotonic())
    lessons = make_drawings(
        plan(TRAINING_SEEDS, drawings, 288, RESIZE_SIZE), workers, "training drawings"
    )
    exam = make_drawings(plan(TEST_SEEDS, tests, 480, CROP_SIZE), workers, "test drawings")
    clock.lap("drawing")
    # Blocks that begin as the identity make the first epochs calmer.
    model = resnet18(num_classes=len(LABELS), zero_init_residual=True)
    model = model.to(memory_format=torch.channels_last)
    fit(model, lessons, epochs)
    calibrate(model, lessons)
    save(model, output)
    clock.lap("training")
    right = count_right(output, exam)
    clock.lap("testing")
    total = len(exam.targets)
    click.echo(f"{right} of {total} unseen drawings right ({right / total:.2%})")


if __name__ == "__main__":
    main()
