"""Networks of Caffe on disk, and OpenCV's reading of them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from caffe_files import (
    caffe_resnet,
)
from resnet_cli.checkpoint.formats.caffe import read_caffemodel
from resnet_cli.checkpoint.tree import StateDict
from resnet_cli.summary.caffe import network_from_prototxt

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Files:
    """A network on disk, and OpenCV's reading of it."""

    text: str
    data: bytes
    prototxt: Path
    caffemodel: Path

    def opencv(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromCaffe(str(self.prototxt), str(self.caffemodel))


def saved(folder: Path, text: str, data: bytes) -> Files:
    files = Files(text, data, folder / "deploy.prototxt", folder / "net.caffemodel")
    files.prototxt.write_text(text)
    files.caffemodel.write_bytes(data)
    return files


def read(data: bytes) -> StateDict:
    path = Path("some.caffemodel")
    path.write_bytes(data)
    return read_caffemodel(path)


def described(text: str) -> nn.Module:
    path = Path("some.prototxt")
    path.write_text(text)
    return network_from_prototxt(path)


def thin_resnet(folder: Path) -> Files:
    """Caffe's ResNet-50 with an eighth of its channels, for images of 96 pixels."""
    text, data = caffe_resnet((3, 4, 6, 3), num_classes=7, seed=0, width=8, side=96)
    return saved(folder, text, data)
