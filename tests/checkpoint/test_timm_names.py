"""Names of timm's networks, and which of them are torchvision's."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from resnet_cli.checkpoint.network.architectures import architecture_of_timm
from shapes import TEN, Shapes, shapes

pytestmark = pytest.mark.usefixtures("no_first_values")


def computing(network: nn.Module) -> dict[str, str]:
    """Layers that compute, with their settings, by name."""
    passive = (nn.Identity, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten)
    return {
        name: repr(module)
        for name, module in network.named_modules()
        if next(module.children(), None) is None and not isinstance(module, passive)
    }


Anatomy = tuple[Shapes, dict[str, str]]


@pytest.fixture(scope="module")
def originals() -> Mapping[str, Anatomy]:
    with torch.device("meta"):
        networks = {name: models.get_model(name, num_classes=7) for name in TEN}
    return {name: (shapes(network), computing(network)) for name, network in networks.items()}


def twin(network: nn.Module, originals: Mapping[str, Anatomy]) -> str | None:
    """The original with the same tensors and the same layers."""
    tensors_of = shapes(network)
    alike = [name for name, (theirs, _) in originals.items() if theirs == tensors_of]
    same = [name for name in alike if originals[name][1] == computing(network)]
    return same[0] if same else None


def test_every_name_of_timm_is_matched(timm: Any, originals: Mapping[str, Anatomy]) -> None:
    names = [name for name in timm.list_models() if "resnet" in name or "resnext" in name]
    with torch.device("meta"):
        twins = {name: twin(timm.create_model(name, num_classes=7), originals) for name in names}

    assert {name: architecture_of_timm(name) for name in names} == twins
    assert set(TEN) <= set(twins.values())


def test_every_published_file_of_timm_is_of_its_network(timm: Any) -> None:
    tagged = [name for name in timm.list_pretrained() if "resnet" in name or "resnext" in name]

    assert len(tagged) > 100
    for name in tagged:
        assert architecture_of_timm(name) == architecture_of_timm(name.split(".")[0])
        assert architecture_of_timm(f"timm/{name}") == architecture_of_timm(name)


@pytest.mark.parametrize("name", ["resnet18", "resnetblur18"])
def test_the_twins_compute_the_same(timm: Any, name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = models.resnet18(num_classes=7).eval(), timm.create_model(name, num_classes=7)
    for key, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(*((0.5, 1.5) if key.endswith("var") else (-0.1, 0.1)))
    theirs.eval().load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        same = torch.allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-6)

    assert same == (architecture_of_timm(name) == "resnet18")


RETIRED = {  # names of timm before 0.9, from the table of deprecated names of timm 1.0
    **{f"tv_{name}": name for name in ("resnet34", "resnet50", "resnet101", "resnet152")},
    "tv_resnext50_32x4d": "resnext50_32x4d",
    "ig_resnext101_32x8d": "resnext101_32x8d",
    **{f"ig_resnext101_32x{width}d": None for width in (16, 32, 48)},
    **{f"{source}_{name}": name for source in ("ssl", "swsl")
       for name in ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x8d")},
    **{f"{source}_resnext101_32x{width}d": None for source in ("ssl", "swsl") for width in (4, 16)},
    **{f"gluon_resnet{depth}_v1b": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"gluon_resnet{depth}_v1{kind}": None for depth in (50, 101, 152) for kind in "cds"},
    "gluon_resnext50_32x4d": "resnext50_32x4d",
    "gluon_resnext101_64x4d": "resnext101_64x4d",
    **dict.fromkeys(("gluon_resnext101_32x4d", "gluon_seresnext50_32x4d", "seresnext26tn_32x4d",
                     "gluon_seresnext101_32x4d", "gluon_seresnext101_64x4d", "resnetv2_50x1_bitm",
                     "ens_adv_inception_resnet_v2", "tresnet_m_448", "vit_base_resnet50_384")),
}  # fmt: skip


@pytest.mark.parametrize("name", RETIRED)
def test_names_that_timm_has_retired_are_known(name: str) -> None:
    assert architecture_of_timm(name) == RETIRED[name]


@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
@pytest.mark.parametrize("name", [name for name in RETIRED if "_32x" not in name or "x8" in name])
def test_retired_names_mean_the_networks_of_today(
    timm: Any, originals: Mapping[str, Anatomy], name: str
) -> None:
    """Timm sends ig_resnext101_32x16d and its like to 32x8d, so those stand in the table alone."""
    with torch.device("meta"):
        assert twin(timm.create_model(name, num_classes=7), originals) == RETIRED[name]


@pytest.mark.parametrize("name", [
    "", "resnet", "resnet50_", "tv_", "vgg16", "resnet20", "seresnet50", "gluon_", "resnet18_v1",
    "nf_resnet50",
])  # fmt: skip
def test_other_names_are_of_other_networks(name: str) -> None:
    assert architecture_of_timm(name) is None
