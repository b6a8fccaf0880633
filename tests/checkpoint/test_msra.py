"""Detectron's pickles of MSRA's ResNets: blobs of Caffe2, against a forward pass of its own."""

import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models import get_model

from pickled import opened, refusal
from resnet_cli.checkpoint.inspect import inspect_checkpoint

Blobs = dict[str, Any]

DEPTHS = (3, 4, 6, 3)  # of ResNet-50
MEANS = (102.9801, 115.9465, 122.7717)


def blobs(*, head: str | None = "pred", statistics: bool = False) -> Blobs:
    """Weights of a ResNet-50, with the head under a name, and as much of its batch norms."""
    body = {name: value for name, value in everything().items() if not name.startswith("pred_")}
    if not statistics:
        body = {n: value for n, value in body.items() if not n.endswith(("_rm", "_riv"))}
    if head:
        body |= {f"{head}_{end}": everything()[f"pred_{end}"] for end in "wb"}
    return body


@cache
def everything() -> Blobs:
    """What there may be in a file, as Detectron names and stores it."""
    random = np.random.default_rng(0)
    found: Blobs = {}

    def add(conv: str, norm: str, out: int, into: int, side: int) -> None:
        reach = (6 / (into * side * side)) ** 0.5
        weight = random.random((out, into, side, side), "f4")
        found[f"{conv}_w"] = (2 * weight - 1) * np.float32(reach)
        found[f"{conv}_b"] = random.normal(0, 0.1, out).astype("f4")
        found[f"{norm}_s"] = random.uniform(0.3, 0.8, out).astype("f4")
        found[f"{norm}_b"] = random.normal(0, 0.2, out).astype("f4")
        found[f"{norm}_rm"] = random.normal(0, 0.1, out).astype("f4")
        found[f"{norm}_riv"] = random.uniform(0.5, 1.5, out).astype("f4")

    add("conv1", "res_conv1_bn", 64, 3, 7)
    size = 64
    for stage, depth in enumerate(DEPTHS, start=2):
        width = 64 << (stage - 2)
        for block in range(depth):
            start = f"res{stage}_{block}_branch"
            if block == 0:
                add(f"{start}1", f"{start}1_bn", 4 * width, size, 1)
            add(f"{start}2a", f"{start}2a_bn", width, size, 1)
            add(f"{start}2b", f"{start}2b_bn", width, width, 3)
            add(f"{start}2c", f"{start}2c_bn", 4 * width, width, 1)
            size = 4 * width
    found["pred_w"] = random.normal(0, 0.03, (5, size)).astype("f4")
    found["pred_b"] = random.normal(0, 0.1, 5).astype("f4")
    return found


def forward(found: Blobs, x: Tensor, head: str) -> Tensor:
    """Detectron's ResNet: affine channels, strides in the first 1x1, the head on the mean."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        blob = {name: torch.from_numpy(value) for name, value in found.items()}
        weight = blob[f"{conv}_w"]
        y = functional.conv2d(x, weight, blob[f"{conv}_b"], stride, weight.shape[-1] // 2)
        if f"{norm}_rm" in blob:
            mean, variance = blob[f"{norm}_rm"], blob[f"{norm}_riv"]
            y = (y - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return y * blob[f"{norm}_s"][:, None, None] + blob[f"{norm}_b"][:, None, None]

    x = functional.max_pool2d(layer(x, "conv1", "res_conv1_bn", 2).relu(), 3, 2, 1)
    for stage, depth in enumerate(DEPTHS, start=2):
        for block in range(depth):
            start = f"res{stage}_{block}_branch"
            stride = 2 if block == 0 and stage > 2 else 1
            y = layer(x, f"{start}2a", f"{start}2a_bn", stride).relu()
            y = layer(y, f"{start}2b", f"{start}2b_bn").relu()
            y = layer(y, f"{start}2c", f"{start}2c_bn")
            short = layer(x, f"{start}1", f"{start}1_bn", stride) if block == 0 else x
            x = (y + short).relu()
    weight, bias = (torch.from_numpy(found[f"{head}_{end}"]) for end in "wb")
    return functional.linear(x.mean((2, 3)), weight, bias)


def saved(found: Blobs, *, under: str | None = "blobs") -> Path:
    path = Path("R-50.pkl")
    protocol = 4 if under else 2  # Python 2 wrote the second, which takes five times as long
    path.write_bytes(pickle.dumps({under: found, "cfg": "x"} if under else found, protocol))
    return path


@pytest.mark.parametrize(
    ("head", "under", "statistics"),
    [("fc1000", None, False), ("pred", "blobs", True)],
)
def test_blobs_of_detectron_compute_the_same(
    head: str, under: str | None, *, statistics: bool
) -> None:
    found = blobs(head=head, statistics=statistics)
    momenta = {f"{head}_{end}_momentum": np.zeros_like(found[f"{head}_{end}"]) for end in "wb"}
    loaded = opened(saved({**found, **momenta} if under else found, under=under))
    images = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (2, 3, 64, 64)).astype("f4"))

    assert (loaded.model, loaded.num_classes, loaded.layout) == ("resnet50", 5, "msra")
    assert loaded.state_key == (under or "")
    assert "taken for the 1x1, as MSRA's" in "; ".join(loaded.notes)
    with torch.no_grad():
        ours = loaded.network()(images).softmax(1)
        torch.testing.assert_close(ours, forward(found, images, head).softmax(1), rtol=0, atol=1e-5)


def test_images_are_prepared_as_detectron_does() -> None:
    settings = opened(saved(blobs())).preprocess

    assert settings.color == "bgr"
    assert [255 * mean for mean in settings.mean] == pytest.approx(MEANS)
    assert [255 * std for std in settings.std] == pytest.approx([1, 1, 1])


def test_blobs_without_a_head_are_a_backbone() -> None:
    path = saved(blobs(head=None))

    assert "resnet50 is in it, but no head: it cannot tell classes apart" in refusal(path)
    assert inspect_checkpoint(path).layout == "msra"


def test_resnexts_are_refused_as_they_stride_otherwise() -> None:
    state = get_model("resnext50_32x4d", num_classes=5).state_dict()
    found = {renamed(n): t.numpy() for n, t in state.items() if "num_batches" not in n}
    assert "Detectron's resnext50_32x4d, which strides" in refusal(saved(found))


def renamed(name: str) -> str:
    """A name of torchvision's in Detectron's words."""
    layer, _, kind = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name).rpartition(".")
    layer = re.sub(r"^bn1", "res_conv1_bn", layer.replace("fc", "pred"))
    layer = re.sub(r"\.(\d+)\.downsample\.0", r"_\1_branch1", layer)
    layer = re.sub(r"\.(\d+)\.downsample\.1", r"_\1_branch1_bn", layer)
    for number, letter in enumerate("abc", start=1):
        layer = re.sub(rf"\.(\d+)\.conv{number}", rf"_\1_branch2{letter}", layer)
        layer = re.sub(rf"\.(\d+)\.bn{number}", rf"_\1_branch2{letter}_bn", layer)
    scale = "s" if layer.endswith("_bn") else "w"
    ends = {"weight": scale, "bias": "b", "running_mean": "rm", "running_var": "riv"}
    return f"{layer}_{ends[kind]}"


def test_a_blob_that_is_missing_is_named() -> None:
    found = blobs()
    del found["res3_1_branch2b_w"]

    assert "layer2.1.conv2.weight is missing from its resnet50" in refusal(saved(found))
