"""Systems whose networks are written anew in ``systems``: the same file, the same probabilities."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import ResNet

from against import (
    CLASSES,
    LARGEST,
    check,
    difference,
    opened,
    prefixed,
    saved,
    trained,
)
from conftest import Run
from resnet_cli.errors import CheckpointError
from self_supervised import LABELLESS
from systems import (
    BottleneckBlock,
    D2lResNet18,
    Detectron2ResNet,
    MmHead,
    MmStackedHead,
    Parted,
    TeachingResNet,
    cut,
    d2l_chinese_edition,
    d2l_first_edition,
    fastai_head,
    mm_classifier,
    resnet,
    to_detectron2,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# fastai


@pytest.mark.parametrize(("name", "settings"), [
    ("resnet18", {}),
    ("resnet50", {}),
    ("resnet18", {"hidden": (256, 64)}),
    ("resnet18", {"hidden": ()}),
    ("resnet18", {"dropout": 0.0}),
    ("resnet18", {"first_bn": False}),
    ("resnet18", {"bn_final": True}),
    ("resnet34", {"concat_pool": False}),
])  # fmt: skip
def test_learners_of_fastai(name: str, settings: dict[str, Any]) -> None:
    features = 2048 if name == "resnet50" else 512
    network = trained(nn.Sequential(cut(resnet(name), -2), fastai_head(features, 4, **settings)))
    layout = "fastai" if settings.get("concat_pool", True) else "sequential"

    check(saved(network.state_dict()), network, model=name, num_classes=4, layout=layout,
          state_key="", stripped_prefix="0.")  # fmt: skip


def test_learners_of_fastai_with_their_optimizer() -> None:
    network = trained(nn.Sequential(cut(resnet(), -2), fastai_head(512, 4)))
    content = {"model": network.state_dict(), "opt": {"state": [{"mom": 0.9}], "hypers": []}}

    check(saved(content), network, layout="fastai", state_key="model", stripped_prefix="0.")


# mmpretrain


def mm_checkpoint(network: nn.Module, **meta: Any) -> dict[str, Any]:
    meta = {"epoch": 1, "iter": 4, "cfg": "model = dict(type='ImageClassifier')", **meta}
    return {"meta": meta, "state_dict": network.state_dict(), "optimizer": {"state": {}}}


@pytest.mark.parametrize(("name", "meta"), [
    ("resnet18", {"dataset_meta": {"classes": CLASSES}}),
    ("resnext50_32x4d", {"CLASSES": CLASSES}),  # of mmcls, before it was mmpretrain
])  # fmt: skip
def test_networks_of_mmpretrain(name: str, meta: dict[str, Any]) -> None:
    features = 512 if name == "resnet18" else 2048
    network = trained(mm_classifier(resnet(name), MmHead(features, 4)))
    checkpoint = check(saved(mm_checkpoint(network, **meta)), network, model=name, num_classes=4,
                       layout="mmpretrain", stripped_prefix="backbone.")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_the_caffe_style_of_mmpretrain_strides_first(key: str) -> None:
    network = trained(mm_classifier(resnet("resnet50"), MmHead(2048, 4), style="caffe"))
    config = "model = dict(backbone=dict(type='ResNet', depth=50, style='caffe'))"

    check(saved(mm_checkpoint(network, **{key: config})), network, model="resnet50")


def test_the_stacked_head_of_mmpretrain() -> None:
    network = trained(mm_classifier(resnet(), MmStackedHead(512, (64, 32), 4)))

    check(saved(mm_checkpoint(network)), network, num_classes=4)


def test_mmengine_stores_the_average_under_the_key_of_the_weights(
    plain: ResNet, other: ResNet
) -> None:
    """EMAHook swaps the two when it saves: ``ema_state_dict`` is for going on with training."""
    weights, average = (Parted(net, head=nn.Identity()).state_dict() for net in (plain, other))
    content = {
        "meta": {"epoch": 1, "mmengine_version": "0.10.7"},
        "state_dict": average,
        "message_hub": {"log_scalars": {}, "runtime_info": {}},
        "ema_state_dict": {"steps": torch.tensor(4), **prefixed("module.", weights)},
    }
    path = saved(content)

    check(path, other, state_key="state_dict")
    assert difference(opened(path, state_key="ema_state_dict"), plain) <= LARGEST


# detectron2


DEPTHS = (3, 4, 6, 3)  # of ResNet-50


def test_networks_of_detectron2() -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))

    check(saved({"model": network.state_dict(), "iteration": 9}), network, model="resnet50",
          num_classes=4, layout="detectron2", state_key="model")  # fmt: skip


def test_a_backbone_of_detectron2_has_no_head() -> None:
    content = {"model": prefixed("backbone.bottom_up.", Detectron2ResNet(DEPTHS).state_dict())}

    with pytest.raises(CheckpointError, match="resnet50 is in it, but no head"):
        opened(saved(content))


def test_files_of_torchvision_converted_by_detectron2(plain: ResNet) -> None:
    arrays = {to_detectron2(name): tensor.numpy() for name, tensor in plain.state_dict().items()}
    content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    Path("R-18.pkl").write_bytes(pickle.dumps(content))

    check("R-18.pkl", plain, model="resnet18", layout="detectron2", format="pickle")


NOT_SAID = "whether bottlenecks stride"


def test_the_author_of_a_file_of_detectron2_shows_where_it_strides() -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))
    path = saved({"model": network.state_dict()})

    assert any(NOT_SAID in note for note in opened(path).notes)
    told = check(saved({"model": network.state_dict(), "__author__": "torchvision"}), network)
    assert told.notes == ()


@pytest.mark.parametrize(("said", "first"), [("true", True), ("false", False)])
def test_the_settings_beside_a_file_of_detectron2_show_where_it_strides(
    said: str, *, first: bool
) -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))
    for block in network.modules():
        if first and isinstance(block, BottleneckBlock):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    Path("config.yaml").write_text(f"MODEL:\n  RESNETS:\n    STRIDE_IN_1X1: {said}\n")

    found = check(saved({"model": network.state_dict()}), network)
    assert not any(NOT_SAID in note for note in found.notes)


# Teaching


@pytest.mark.parametrize(("model", "settings"), [
    ("resnet50", {}),
    ("resnext50_32x4d", {"groups": 32, "width_per_group": 4}),
])  # fmt: skip
def test_networks_of_courses(model: str, settings: dict[str, Any]) -> None:
    network = trained(TeachingResNet(DEPTHS, 4, **settings))

    check(saved(network.state_dict()), network, model=model, num_classes=4, layout="torchvision")


def test_a_network_without_its_top_has_no_head() -> None:
    network = TeachingResNet(DEPTHS, 4, include_top=False)

    with pytest.raises(CheckpointError, match="resnet50 is in it, but no head"):
        opened(saved(network.state_dict()))


@pytest.mark.parametrize(("channels", "whole"), [(1, False), (3, False), (1, True)])
@pytest.mark.parametrize("edition", [d2l_first_edition, D2lResNet18, d2l_chinese_edition])
def test_the_resnet_of_dive_into_deep_learning(
    edition: Callable[[int], nn.Module], channels: int, whole: bool
) -> None:
    network = trained(edition(channels), channels)

    check(saved(network if whole else network.state_dict(), "resnet.params"), network,
          model="resnet18", num_classes=10, in_channels=channels, layout="d2l")  # fmt: skip


# Learning without labels


@pytest.mark.parametrize("system", LABELLESS)
def test_networks_trained_without_labels_have_no_classes(system: str, run: Run) -> None:
    path = saved(LABELLESS[system]())
    with pytest.raises(CheckpointError, match=r"resnet18 is in it, but no head"):
        opened(path)
    record = json.loads(run("inspect", path, "--format", "json").stdout)

    assert (record["model"], record["in_channels"]) == ("resnet18", 3)
