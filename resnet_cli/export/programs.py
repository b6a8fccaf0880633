"""A network of torch -> a .pt2 of ``torch.export``, and such a file -> what runs it."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from resnet_cli.checkpoint.convert import describe_metadata
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.checkpoint.recorded import MARK, as_metadata
from resnet_cli.files import naming_output, sync_file
from resnet_cli.graph import PIXELS, Description
from resnet_cli.graph.convert import Normalised, fits_half, in_rgb
from resnet_cli.graph.description import KEY, as_rt_info
from resnet_cli.graph.libraries import quiet

FEW, MANY = 2, 4096
"""Images of the example, as one would fix the batch at one, and the most that a pass takes."""


class InFloat32(nn.Module):
    """A network that computes in float32 whatever its weights are stored in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [N, classes] of float images [N, C, H, W]."""
        stored = (*self.network.named_parameters(), *self.network.named_buffers())
        as_float = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in stored
        }
        logits: Tensor = functional_call(self.network, as_float, (images,))
        return logits


def save_program(
    checkpoint: Checkpoint, path: Path, *, description: Description, batch: int | None
) -> None:
    """Write the network of a checkpoint and its normalisation by ``torch.export.save``.

    Args:
        checkpoint: with the preprocessing that goes into the file.
        path: of a .pt2.
        description: what the file will state; its precision is that of the weights, fp32 or fp16.
            Computing is float32 with both.
        batch: images in a pass; None leaves it free.

    Raises:
        OutputError: it cannot be written.
    """
    preprocess, takes_pixels = checkpoint.preprocess, description.input == PIXELS
    described = replace(description, preprocess=in_rgb(preprocess).record())
    network: nn.Module = checkpoint.network()
    if description.precision == "fp16":
        halve_weights(network)
        network = InFloat32(network)
    whole = Normalised(network, preprocess, takes_pixels=takes_pixels).eval()
    dtype = torch.uint8 if takes_pixels else torch.float32
    side = preprocess.crop_size
    example = torch.zeros(batch or FEW, preprocess.channels, side, side, dtype=dtype)
    free = None if batch else {0: torch.export.Dim("batch", min=1, max=MANY)}
    with quiet(), torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=(free,), strict=False)
    write_program(program, path, record_of(checkpoint, described))


def write_program(program: torch.export.ExportedProgram, path: Path, record: str) -> None:
    """Write a program and our record.

    Raises:
        OutputError: it cannot be written.
    """
    data = BytesIO()  # torch may end the whole process where a disk is full
    with quiet():
        torch.export.save(program, data, extra_files={KEY: record})
    with naming_output(path), path.open("wb") as file:
        file.write(data.getbuffer())
        sync_file(file)


def describe_program_again(checkpoint: Checkpoint, path: Path, description: Description) -> None:
    """Replace our record in a .pt2 that this program has just written.

    Raises:
        OutputError: it cannot be written.
    """
    with quiet():
        program = torch.export.load(path)
    write_program(program, path, record_of(checkpoint, description))


@torch.no_grad()
def halve_weights(network: nn.Module) -> None:
    """Store the weights in fp16, but biases, norms and what it cannot hold."""
    for parameter in network.parameters():
        if parameter.ndim > 1 and fits_half(parameter.numpy()):
            parameter.data = parameter.data.half()


def record_of(checkpoint: Checkpoint, description: Description) -> str:
    """Return the record of a network file, and what its tensors mean as those of a checkpoint."""
    record: dict[str, Any] = json.loads(as_rt_info(description)[KEY,])
    metadata = as_metadata({"written_by": MARK, **describe_metadata(checkpoint)})
    return json.dumps(record | {"metadata": metadata})


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Load a .pt2 that this program has just written, which runs code out of it.

    Returns:
        Its network: what the file takes [N, C, H, W] -> logits [N, classes].
    """
    with quiet():
        return torch.export.load(path).module()


def fill_up(images: Tensor, size: int) -> Tensor:
    """Repeat the last of some images [N, C, H, W] until there are ``size``."""
    return torch.cat([images, images[-1:].expand(size - len(images), -1, -1, -1)])
