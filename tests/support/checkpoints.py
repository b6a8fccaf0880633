"""State dicts that take no room in a file, and checkpoints opened from them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from resnet_cli.checkpoint.loading import Checkpoint, load_checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, locate_checkpoint
from resnet_cli.errors import CheckpointError

State = dict[str, Tensor]

Change = Callable[[State], Any]


def tiny(
    name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3, seed: int = 0
) -> State:
    """A state dict with every name and shape of a network, whose tensors are one number each.

    Spread over its shape such a number takes no room in a file, so the largest network saves in
    no time.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = models.get_model(name, num_classes=num_classes)
    state = {
        key: torch.rand((), generator=random).to(tensor.dtype).expand(tensor.shape)
        for key, tensor in network.state_dict().items()
    }
    if in_channels != 3:
        state["conv1.weight"] = state["conv1.weight"][:, :1].expand(-1, in_channels, -1, -1)
    return state


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def opened(path: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(
        locate_checkpoint(path, model=None, weights=None, progress=False), LoadOptions(**options)
    )


def refusal(path: Path, **options: Any) -> str:
    """The sentence in which a checkpoint is refused, by opening it or by building its network."""
    with pytest.raises(CheckpointError) as refused:
        opened(path, **options).network()
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def holds(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> bool:
    """Whether the network that runs has these very weights."""
    loaded = checkpoint.network().state_dict()
    return loaded.keys() == state.keys() and all(
        torch.equal(loaded[name], tensor) for name, tensor in state.items()
    )


def save_plainly(state: State, path: Path) -> None:
    torch.save(state, path)


def save_as_of_old(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_wrapped(state: State, path: Path) -> None:
    torch.save({"state_dict": prefixed(state, "module.")}, path)


FORMS: dict[str, Callable[[State, Path], None]] = {
    "pickle-zip": save_plainly,
    "pickle-legacy": save_as_of_old,
    "safetensors": save_file,
    "wrapped": save_wrapped,
}
