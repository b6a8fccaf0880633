"""Exported files as other programs run them, and the pixels that they are given."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from converting import MIDDLE, SIDE

SUFFIXES = (".onnx", ".xml", ".pt2")

SIZES = ("--resize-size", SIDE + 8, "--img-size", SIDE, "--verify", 3)  # quick: a few pixels do

Images = NDArray[Any]  # [N, C, H, W]


def by_onnxruntime(path: Path, images: Images) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images})
    return torch.from_numpy(logits)


def by_openvino(path: Path, images: Images) -> Tensor:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", settings)
    return torch.from_numpy(model(images)["logits"].copy())


def by_torch(path: Path, images: Images) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = torch.export.load(path).module()(torch.from_numpy(images))
    return logits


RUN: dict[str, Callable[[Path, Images], Tensor]] = {
    ".onnx": by_onnxruntime,
    ".xml": by_openvino,
    ".pt2": by_torch,
}


def logits_of(path: Path, images: Images) -> Tensor:
    """What a file gives for images, by its own library alone."""
    return RUN[path.suffix](path, images)


def pixels_of(folder: str = "images", mode: str = "RGB") -> Images:
    """The images of a folder by Pillow, uint8 [N, C, SIDE, SIDE]."""
    images = [
        np.array(MIDDLE(Image.open(path).convert(mode))).reshape(SIDE, SIDE, -1)
        for path in sorted(Path(folder).iterdir())
    ]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def record_in(path: Path) -> dict[str, Any]:
    """What a file states of itself, read by its own library."""
    if path.suffix == ".pt2":
        found = {"resnet_cli": ""}
        torch.export.load(path, extra_files=found)
        text = found["resnet_cli"]
    elif path.suffix == ".xml":
        text = openvino.Core().read_model(path).get_rt_info(["resnet_cli"]).astype(str)
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map["resnet_cli"]
    record: dict[str, Any] = json.loads(text)
    return record
