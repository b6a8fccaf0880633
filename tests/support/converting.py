"""Networks to convert, and what converted files hold and compute."""

import copy
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torchvision import models, transforms
from torchvision.models import ResNet

from conftest import Run, trained

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth")

SIDE = 64  # pixels: the last features are 2x2, so that pools and strides matter

SMALL = ("--device", "cpu", "-j", 1, "--exact", "--resize-size", SIDE + 8, "--img-size", SIDE)

MIDDLE = transforms.Compose([transforms.Resize(SIDE + 8), transforms.CenterCrop(SIDE)])

AS_IMAGENET = transforms.Compose(
    [
        MIDDLE,
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


@torch.no_grad()
def calm(network: nn.Module, last: nn.Module, channels: int = 3) -> None:
    """Scale the last layer to logits of about 1, so that no probability is a mere 0 or 1."""
    images = torch.rand(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert isinstance(last, nn.Linear)
    last.weight.div_(network(images).abs().max())


@cache
def calm_resnet(name: str, num_classes: int, in_channels: int) -> ResNet:
    network = trained(name, num_classes=num_classes, in_channels=in_channels)
    calm(network, network.fc, in_channels)
    return network


def resnet(name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3) -> ResNet:
    """A network with the statistics of a trained one, of the test's own."""
    return copy.deepcopy(calm_resnet(name, num_classes, in_channels))


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def written(run: Run, source: Path, output: str, *options: object) -> Path:
    """Convert, and see that nothing stands on stdout or beside the output."""
    before = set(Path().iterdir())
    result = run("convert", source, output, *options)
    assert (result.exit_code, result.stdout) == (0, "")
    assert set(Path().iterdir()) == before | {Path(output)}
    return Path(output)


def complaint(run: Run, *arguments: object, status: int = 1) -> str:
    """The one line in which a conversion is refused."""
    before = set(Path().iterdir())
    result = run("convert", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert set(Path().iterdir()) == before
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def state_in(path: Path) -> State:
    """The weights of a converted file, as the library of its format reads them."""
    if path.suffix == ".pth":
        state: State = torch.load(path, weights_only=True)["state_dict"]
        return state
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal to the last bit, signs of zeros and types too."""
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape) == (b.dtype, b.shape)
        and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        for a, b in ((one[name], other[name]) for name in one)
    )


def in_torchvision(path: Path, name: str = "resnet18", head: nn.Module | None = None) -> ResNet:
    """Torchvision's own network, which takes the tensors of a file or raises."""
    network: ResNet = models.get_model(name, num_classes=3)
    network.fc = head or network.fc
    network.load_state_dict(state_in(path), strict=True)
    return network.eval()


@torch.no_grad()
def expected(network: nn.Module, transform: Callable[[Any], Tensor] = AS_IMAGENET) -> Tensor:
    """Probabilities [pictures, classes], by torchvision's transforms and the network itself."""
    paths = sorted(Path("images").iterdir())
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    logits: Tensor = network(images)
    found = logits.softmax(dim=1)
    assert found.min() > 0.001  # or a wrong network might give the same
    assert not torch.allclose(found[0], found[1], atol=1e-5)
    return found


def predicted(run: Run, path: Path, *options: object) -> tuple[Tensor, list[str]]:
    """Probabilities [pictures, classes] of predict, and the labels of the best."""
    result = run("predict", "images", "-c", path, "--format", "jsonl", "-k", 9, *SMALL, *options)
    assert result.exit_code == 0
    rows = [json.loads(line)["predictions"] for line in result.stdout.splitlines()]
    ordered = [sorted(row, key=lambda score: score["index"]) for row in rows]
    found = torch.tensor([[score["prob"] for score in row] for row in ordered])
    return found, [row[0]["label"] for row in rows]


def close(one: Tensor, other: Tensor, limit: float = 1e-6) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= limit
