"""Checkpoints to inspect, and what ``resnet-cli inspect`` says of them."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from click.testing import Result
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from conftest import Run

State = dict[str, Tensor]

KEYS = (
    "path", "bytes", "sha256", "format", "layout", "state_key", "stripped_prefix", "model",
    "num_classes", "in_channels", "classes", "classes_source", "preprocess", "parameters",
    "dtype", "unsafe_globals", "warnings",
)  # fmt: skip

PUBLISHED = {
    name: models.get_model_weights(name).DEFAULT.meta
    for name in (
        "resnet18", "resnet34", "resnet50", "resnet152", "resnext50_32x4d", "wide_resnet50_2",
    )
}  # fmt: skip


def tiny(
    name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3, dtype: Any = torch.float
) -> State:
    """All names and shapes of a network; each tensor is one number, which takes no room."""
    random = torch.Generator().manual_seed(num_classes)
    with torch.device("meta"):
        network = models.get_model(name, num_classes=num_classes)
        network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    return {
        key: torch.rand((), generator=random)
        .to(dtype if tensor.is_floating_point() else tensor.dtype)
        .expand(tensor.shape)
        for key, tensor in network.state_dict().items()
    }


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def describe_headless(state: Mapping[str, Tensor]) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def inspected(run: Run, path: Path, *options: object) -> dict[str, Any]:
    """What inspect says of a file that it can say all of."""
    result = run("inspect", path, "--format", "json", *options)
    assert result.exit_code == 0
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(run: Run, path: Path, *options: object) -> tuple[dict[str, Any], str]:
    """What inspect can say all the same of a file that it refuses, and the sentence."""
    result = run("inspect", path, "--format", "json", *options)
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["path"] == str(path)
    assert found["bytes"] == path.stat().st_size
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    return found, sentence(result)


def sentence(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    return line


def save_legacy(state: State) -> None:
    torch.save(state, "file", _use_new_zipfile_serialization=False)


def save_safetensors(state: State) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "file")


def save_arrays(state: State) -> None:
    arrays = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    Path("file").write_bytes(pickle.dumps(arrays))


def save_script(state: State) -> None:
    network = models.resnet18(num_classes=3)
    network.load_state_dict(state)
    torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 3, 32, 32)), "file")
