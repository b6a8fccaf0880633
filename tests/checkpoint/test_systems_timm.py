"""Networks and folders of timm: the same file, the same probabilities."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import timm.models
import timm.utils
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet

from against import (
    CLASSES,
    LARGEST,
    check,
    difference,
    largest_shift,
    opened,
    photograph,
    saved,
    trained,
    turned,
)
from resnet_cli.classifier import Classifier
from resnet_cli.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

TIMM: Any = timm  # its types have gaps


def timm_network(name: str = "resnet18", **settings: Any) -> nn.Module:
    network: nn.Module = TIMM.create_model(name, num_classes=4, **settings)
    return network


def zeros(name: str = "resnet18", **settings: Any) -> nn.Module:
    """A network of timm whose weights do not matter, and take no room."""
    with torch.device("meta"):
        network = timm_network(name, **settings)
    for module in network.modules():
        for key, weight in list(module.named_parameters(recurse=False)):
            module.register_parameter(key, nn.Parameter(torch.zeros(()).expand(weight.shape)))
        for key, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(key, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
    return network


def hub_folder(network: nn.Module, *, safe: bool = True, **config: Any) -> str:
    """A folder as timm uploads it."""
    TIMM.models.save_for_hf(network, "hub", model_config=config, safe_serialization=safe)
    return "hub"


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
)
def test_networks_of_timm(name: str) -> None:
    network = trained(timm_network(name))
    checkpoint = check(hub_folder(network, label_names=CLASSES), network, model=name,
                       num_classes=4, layout="timm", format="safetensors")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_the_checkpoint_saver_of_timm(averages: bool, told: bool) -> None:
    network, average = trained(timm_network()), None
    if averages:
        average = TIMM.utils.ModelEmaV3(network)
        turned(average.module)
    args = Namespace(model="resnet18", lr=0.1, data_dir=Path("data"), best=np.float32(0.5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    saver = TIMM.utils.CheckpointSaver(
        network, optimizer, args=args if told else None, model_ema=average
    )
    saver.save_checkpoint(3, metric=np.float64(71.5))
    expected = network if average is None else average.module.eval()

    check("model_best.pth.tar", expected, model="resnet18",
          state_key="state_dict_ema" if averages else "state_dict")  # fmt: skip
    assert difference(opened("model_best.pth.tar", ema=False), network) <= LARGEST


def timm_transform(network: nn.Module) -> Callable[[Image.Image], Tensor]:
    """What timm evaluates a network with."""
    config = TIMM.data.resolve_model_data_config(network)
    transform: Callable[[Image.Image], Tensor] = TIMM.data.create_transform(**config)
    return transform


@pytest.mark.parametrize(("name", "config"), [
    ("resnet18.a1_in1k", {}),  # 95 % of 224 pixels, bicubic
    ("resnet18.a3_in1k", {}),  # 160 pixels
    ("resnet18.tv_in1k", {}),  # torchvision's own: bilinear
    ("resnet18", {"mean": (0.1, 0.5, 0.7), "std": (0.2, 0.3, 0.4), "interpolation": "bilinear"}),
    ("resnet18", {"crop_pct": 1.0, "crop_mode": "squash"}),
    ("resnet18", {"crop_pct": 0.9, "crop_mode": "squash", "input_size": (3, 128, 128)}),
])  # fmt: skip
def test_images_are_prepared_as_a_folder_of_timm_states(name: str, config: dict[str, Any]) -> None:
    network = zeros(name, pretrained_cfg_overlay=config)
    checkpoint = opened(hub_folder(network, safe=False))
    transform = timm_transform(network)

    assert checkpoint.preprocess_source == "of timm's config.json"
    assert largest_shift(checkpoint, transform) < 1e-3


def test_a_folder_of_timm_from_file_to_probability() -> None:
    network = trained(timm_network())
    hub_folder(network, safe=False, label_names=CLASSES)
    photograph((500, 375)).save("photograph.png")
    transform = timm_transform(network)
    with torch.inference_mode():
        expected = network(transform(photograph((500, 375)))[None]).softmax(1)[0]
    (prediction,) = Classifier.load("hub", exact=True).predict("photograph.png", topk=4)

    assert {score.label for score in prediction.scores} == set(CLASSES)
    for score in prediction.scores:
        assert abs(score.prob - float(expected[CLASSES.index(score.label)])) <= LARGEST


@pytest.mark.parametrize(("size", "message"), [
    ({"crop_mode": "border"}, "crop mode border"),
    ({"interpolation": "lanczos"}, "lanczos"),
    ({"input_size": (3, 200, 240)}, "200x240"),
])  # fmt: skip
def test_unsupported_preprocessing_is_refused(size: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        opened(hub_folder(zeros(pretrained_cfg_overlay=size), safe=False))


@pytest.mark.parametrize(("name", "sentence"), [
    ("resnet50d", "ResNet-D"),
    ("seresnet50", "SE-ResNet"),
    ("resnetblur18", "resnetblur18"),
    ("resnetaa50", "resnetaa50"),
    ("resnet26", "resnet26"),
    ("resnet50_gn", "ResNet without statistics of batch norm"),
])  # fmt: skip
def test_variants_of_timm_are_refused_by_name(name: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        opened(hub_folder(zeros(name), safe=False))


@pytest.mark.parametrize("settings", [
    {"output_stride": 8},
    {"act_layer": "gelu"},
    {"global_pool": "max"},
])  # fmt: skip
def test_changed_networks_of_timm_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(settings)).split("_")[-1]):
        opened(hub_folder(zeros(**settings), safe=False))


@pytest.mark.parametrize("arch", ["resnetblur18", "resnetblur18.in1k", "hf-hub:timm/resnetaa50.a1"])
@pytest.mark.parametrize("place", ["arch", "args"])
def test_variants_of_the_same_tensors_are_refused_by_name(
    plain: ResNet, arch: str, place: str
) -> None:
    told = {"arch": arch} if place == "arch" else {"args": Namespace(model=arch)}

    with pytest.raises(CheckpointError, match=r"resnet(blur18|aa50)"):
        opened(saved({**told, "state_dict": plain.state_dict()}))
