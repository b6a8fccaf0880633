"""A backbone and its head in separate dicts of one file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from conftest import trained
from pickled import NAMES, opened, refusal
from resnet_cli.checkpoint.inspect import inspect_checkpoint

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> ResNet:
    return trained(num_classes=3)


def halves(network: ResNet, head: nn.Module | None = None) -> tuple[State, State]:
    body = {n: t for n, t in network.state_dict().items() if not n.startswith("fc.")}
    return body, dict((head or network.fc).state_dict())


def saved(content: Any) -> Path:
    torch.save(content, "model.pth")
    return Path("model.pth")


@pytest.mark.parametrize("names", [("backbone", "head"), ("encoder", "my_classes"), ("fc", "body")])
@pytest.mark.parametrize("key", ["", "state_dict", "a.b"])
def test_the_head_beside_a_backbone_is_found(
    network: ResNet, names: tuple[str, str], key: str
) -> None:
    both: Any = dict(zip(names, halves(network), strict=True))
    path = saved({key: both, "classes": NAMES} if key else {**both, "classes": NAMES})
    found = opened(path)
    images = torch.rand(2, 3, 64, 64)

    assert (found.state_key, found.stripped_prefix) == (key, f"{names[0]}.")
    assert found.classes.names == NAMES
    with torch.no_grad():
        assert torch.equal(found.network()(images), network(images))


def test_a_head_of_several_layers_is_found(network: ResNet) -> None:
    head = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)).eval()
    body, top = halves(network, head)
    found = opened(saved({"net": {"module." + n: t for n, t in body.items()}, "head": top}))
    images = torch.rand(2, 3, 64, 64)

    assert found.stripped_prefix == "net.module."
    with torch.no_grad():
        features = nn.Sequential(*list(network.children())[:-1])(images).flatten(1)
        torch.testing.assert_close(found.network()(images), head(features), atol=1e-5, rtol=0)


def test_separate_modules_show_what_they_compute(network: ResNet) -> None:
    body = trained(num_classes=3)
    body.fc = nn.Identity()
    body.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    head = nn.Sequential(nn.Linear(512, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    found = opened(saved({"body": body, "head": head}))
    images = torch.rand(2, 3, 64, 64)

    with torch.no_grad():
        torch.testing.assert_close(found.network()(images), head(body(images)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("one", "other"), "it has several heads (one, other): which one tells the classes apart?"),
        (("head", "other"), "its head does not end with head: other.weight is behind it or beside"),
    ],
)
def test_several_heads_beside_a_backbone_are_refused(
    network: ResNet, names: tuple[str, str], sentence: str
) -> None:
    body, top = halves(network)

    assert sentence in refusal(saved({"backbone": body, **dict.fromkeys(names, top)}))


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3, 512)}}, "param_groups": []}},
        {"centres": {"centers": torch.zeros(3, 512)}},
        {"head": {"weight": torch.zeros(3, 2048), "bias": torch.zeros(3)}},
        {"head": torch.zeros(3, 512), "count": 3},
    ],
    ids=["nothing", "an optimizer", "centres", "a head of another width", "a tensor"],
)
def test_a_backbone_beside_other_values_has_no_head(network: ResNet, beside: Any) -> None:
    path = saved({"backbone": halves(network)[0], **beside})

    assert "resnet18 is in it, but no head: it cannot tell classes apart" in refusal(path)
    assert inspect_checkpoint(path).state_key == "backbone"


def test_a_projector_beside_a_backbone_is_not_a_head(network: ResNet) -> None:
    projector = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    body, top = halves(network, projector)

    assert "for learning without labels (projector.0.weight)" in refusal(
        saved({"encoder": body, "projector": top})
    )
