"""The plain loop: Pillow, torchvision's transforms and network, eager fp32, one image at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import models, transforms

TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def load_resnet18(path: Path) -> models.ResNet:
    """Load a checkpoint as its owner would, knowing what it is."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model_state_dict", state)
    network: models.ResNet = models.resnet18(num_classes=len(state["fc.bias"]))
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def probabilities(network: models.ResNet, paths: Iterable[Path]) -> Iterator[Tensor]:
    """Yield the probabilities [classes] of each image."""
    for path in paths:
        image = Image.open(path).convert("RGB")
        yield network(TRANSFORM(image).unsqueeze(0)).softmax(dim=1)[0]
