"""Checkpoints of self-supervised training: no head of theirs tells classes apart."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from systems import headless, resnet


def mlp(*sizes: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them, as projection heads are."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers.append(nn.Linear(size, following))
        layers += [nn.BatchNorm1d(following)] if norm else []
        layers.append(nn.ReLU())
    layers = layers[: -2 if norm else -1]
    return nn.Sequential(*layers)


def tensors(prefix: str, *modules: tuple[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of several modules, each under its own name, with what a wrapper puts before."""
    return {
        f"{prefix}{name}.{key}": tensor
        for name, module in modules
        for key, tensor in module.state_dict().items()
    }


def moco(version: int) -> dict[str, Any]:
    """https://github.com/facebookresearch/moco: in version 2 the head has two layers."""
    encoders = [resnet(fc=nn.Linear(512, 128) if version == 1 else mlp(512, 512, 128))] * 2
    state = tensors("module.", ("encoder_q", encoders[0]), ("encoder_k", encoders[1]))
    state |= {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1).long()}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}


def moco_v3() -> dict[str, Any]:
    """https://github.com/facebookresearch/moco-v3."""
    base = resnet(fc=mlp(512, 1024, 256, norm=True))
    state = tensors(
        "module.", ("base_encoder", base), ("momentum_encoder", base), ("predictor", mlp(256, 256))
    )
    return {"epoch": 300, "arch": "resnet18", "state_dict": state}


def simclr() -> dict[str, Any]:
    """https://github.com/sthalles/SimCLR: the head is projected through where fc was."""
    state = tensors("", ("backbone", resnet(fc=mlp(512, 512, 128))))
    return {"epoch": 100, "arch": "resnet18", "state_dict": state}


def simclr_of_spijkervet() -> dict[str, Tensor]:
    """https://github.com/Spijkervet/SimCLR."""
    return tensors("", ("encoder", headless(resnet())), ("projector", mlp(512, 512, 64)))


def dino() -> dict[str, Any]:
    """https://github.com/facebookresearch/dino: a student and a teacher, with weight norm."""
    head = mlp(512, 2048, 2048, 256)
    parts = {"weight_g": torch.ones(64, 1), "weight_v": torch.randn(64, 256)}
    student = tensors("module.", ("backbone", headless(resnet())), ("head.mlp", head))
    student |= {f"module.head.last_layer.{name}": tensor for name, tensor in parts.items()}
    teacher = {name.removeprefix("module."): tensor for name, tensor in student.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "optimizer": {"state": {}}}


def barlow_twins() -> dict[str, Any]:
    """https://github.com/facebookresearch/barlowtwins."""
    parts = ("backbone", headless(resnet())), ("projector", mlp(512, 1024, 1024, norm=True))
    return {"epoch": 1, "model": tensors("module.", *parts, ("bn", nn.BatchNorm1d(1024)))}


def swav() -> dict[str, Any]:
    """https://github.com/facebookresearch/swav."""
    head, prototypes = mlp(512, 1024, 128, norm=True), nn.Linear(128, 30, bias=False)
    state = {f"module.{name}": tensor for name, tensor in headless(resnet()).state_dict().items()}
    state |= tensors("module.", ("projection_head", head), ("prototypes", prototypes))
    return {"epoch": 400, "state_dict": state, "arch": "resnet18"}


def simsiam() -> dict[str, Any]:
    """https://github.com/facebookresearch/simsiam."""
    encoder = resnet(fc=mlp(512, 512, 512, 512, norm=True))
    state = tensors("module.", ("encoder", encoder), ("predictor", mlp(512, 128, 512, norm=True)))
    return {"epoch": 100, "arch": "resnet18", "state_dict": state}


LABELLESS: dict[str, Callable[[], dict[str, Any]]] = {
    "MoCo": lambda: moco(1),
    "MoCo v2": lambda: moco(2),
    "MoCo v3": moco_v3,
    "SimCLR": simclr,
    "SimCLR with a projector": simclr_of_spijkervet,
    "DINO": dino,
    "Barlow Twins": barlow_twins,
    "SwAV": swav,
    "SimSiam": simsiam,
}
