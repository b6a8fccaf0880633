"""What trains networks of torchvision, PyTorch alone and Lightning: the same probabilities."""

from argparse import Namespace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models import ResNet

from against import CLASSES, LARGEST, check, difference, opened, prefixed, saved

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def optimizer(plain: ResNet) -> dict[str, Any]:
    """The state of an optimizer that has made one step."""
    weights = [weight.detach().clone() for weight in plain.parameters() if weight.ndim == 1]
    made = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    made.step()
    return made.state_dict()


def test_the_imagenet_example_of_pytorch(plain: ResNet, optimizer: dict[str, Any]) -> None:
    content = {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": nn.DataParallel(plain).state_dict(),
        "best_acc1": torch.tensor(69.8),
        "optimizer": optimizer,
        "scheduler": {"step_size": 30, "last_epoch": 90},
    }

    check(saved(content, "model_best.pth.tar"), plain, model="resnet18", state_key="state_dict",
          stripped_prefix="module.")  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
def test_data_parallel(plain: ResNet, whole: bool) -> None:
    network = nn.DataParallel(plain)

    check(saved(network if whole else network.state_dict()), plain, stripped_prefix="module.")


def test_compiled(plain: ResNet) -> None:
    compiled: Any = torch.compile(plain, backend="eager")

    check(saved(compiled.state_dict()), plain, stripped_prefix="_orig_mod.")


def averaged(network: nn.Module) -> AveragedModel:
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))


@pytest.mark.parametrize("key", ["model_ema", "ema_state_dict", "ema"])
def test_an_average_is_preferred_to_the_weights_beside_it(
    plain: ResNet, other: ResNet, key: str
) -> None:
    content = {"model": plain.state_dict(), key: averaged(other).state_dict(), "epoch": 7}
    path = saved(content)

    check(path, other, state_key=key, stripped_prefix="module.")
    assert difference(opened(path, ema=False), plain) <= LARGEST


def test_an_average_alone(other: ResNet) -> None:
    check(saved(averaged(other).state_dict()), other, stripped_prefix="module.")


class Phase(Enum):
    TRAIN = "train"


class OmegaList:
    """Pickles as OmegaConf's lists do: nodes that hold their values."""

    def __init__(self, values: list[str]) -> None:
        self._metadata, self._parent = Namespace(ref_type=Any), None
        self._content = [OmegaText(value) for value in values]


class OmegaText:
    def __init__(self, value: str) -> None:
        self._metadata, self._val = Namespace(optional=True), value


SETTINGS: dict[str, Any] = {
    "list": {"class_names": CLASSES, "lr": 0.1},
    "tuple": {"classes": tuple(CLASSES)},
    "numpy": {"classes": np.array(CLASSES)},
    "name to index": {"class_to_idx": {name: index for index, name in enumerate(CLASSES)}},
    "index to name": {"idx_to_class": dict(enumerate(CLASSES))},
    "namespace": {"args": Namespace(labels=CLASSES, root=Path("data"), phase=Phase.TRAIN)},
    "omegaconf": {"cfg": {"data": {"class_names": OmegaList(CLASSES)}}},
    "at night": {"started": datetime(2026, 1, 2), "best": np.float64(0.5), "Class_Names": CLASSES},
}


@pytest.mark.parametrize("form", SETTINGS)
def test_lightning_checkpoints_name_their_classes(
    plain: ResNet, optimizer: dict[str, Any], form: str
) -> None:
    state = prefixed("model.", plain.state_dict())
    state |= {"criterion.weight": torch.ones(4), "val_acc.tp": torch.zeros(4, dtype=torch.int64)}
    content = {
        "epoch": 4,
        "global_step": 125,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"dirpath": "/tmp"}},
        "optimizer_states": [optimizer],
        "lr_schedulers": [{"T_max": 5, "last_epoch": 5}],
        "hparams_name": "kwargs",
        "hyper_parameters": SETTINGS[form],
    }
    checkpoint = check(saved(content, "last.ckpt"), plain, state_key="state_dict",
                       stripped_prefix="model.", layout="torchvision")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)
    assert checkpoint.classes.source.startswith("hyper_parameters.")


def test_the_average_of_lightning_is_where_the_weights_were(plain: ResNet, other: ResNet) -> None:
    content = {  # as EMAWeightAveraging writes it
        "epoch": 4,
        "state_dict": prefixed("model.", other.state_dict()),
        "current_model_state": prefixed("model.", plain.state_dict()),
        "averaging_state": {"n_averaged": torch.tensor(5)},
    }

    check(saved(content, "last.ckpt"), other, state_key="state_dict")
