"""Files of ONNX and OpenVINO: what they state, how they are made; reading one needs no torch."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, cast

# OpenVINO and NNCF report their use to Intel, and write to the home for it, as soon as they are
# imported. They leave it where this module is missing, which None says.
sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".onnx": "resnet_cli.graph.onnx_files:read_onnx",
        ".xml": "resnet_cli.graph.openvino_files:read_openvino",
    }
)
"""Suffix of a network file: module and function that reads it."""

PIXELS, NORMALIZED = "pixels", "normalized"
"""What a graph takes: uint8 RGB, which it normalises itself, or floats that are normalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a network file that this program wrote states of itself."""

    model: str  # torchvision's name of the architecture
    class_names: tuple[str, ...]  # one an output
    classes_source: str  # in words
    preprocess: Mapping[str, Any]  # as ``Preprocess.record`` gives it
    preprocess_source: str  # in words
    input: str = PIXELS  # or NORMALIZED
    activation: str = "softmax"  # or sigmoid: turns its outputs into probabilities
    precision: str = "fp32"  # of its weights: fp32, fp16 or int8
    made_up: bool = False  # the class names are placeholders
    source: str = ""  # name of the checkpoint
    sha256: str = ""  # of the checkpoint
    notes: tuple[str, ...] = ()  # what was assumed of the checkpoint, in words
    calibration: Mapping[str, Any] = field(default_factory=dict)  # of int8: images, preset …
    agreement: Mapping[str, Any] = field(default_factory=dict)  # with its checkpoint in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network in a file of ONNX or OpenVINO, before a runtime loads it."""

    path: Path  # of the .onnx or .xml
    files: tuple[Path, ...]  # all that hold it: with the .bin, or the external data
    format: str  # onnx or openvino
    input: str  # name of its input
    channels: int  # of the images that it takes
    size: tuple[int, int] | None  # height and width in pixels; None where any will do
    layout: str  # NCHW or NHWC
    dtype: str  # of its input: uint8, float32 or float16
    batch: int | None  # images in a pass, where that is fixed
    output: str  # name of its output [N, classes]
    num_classes: int
    activation: str | None  # that it computes at its end: softmax or sigmoid
    precision: str  # of its weights: fp32, fp16, bf16 or int8
    operations: Mapping[str, int]  # how many there are of each kind
    parameters: int  # numbers in its weights
    producer: str = ""  # the program that wrote it, and its version
    metadata: Mapping[str, str] = field(default_factory=dict)  # as stored, without ours
    description: Description | None = None  # where this program wrote it

    @property
    def takes_pixels(self) -> bool:
        """True if it takes uint8 RGB and normalises by itself."""
        return self.dtype == "uint8"


def is_graph(path: Path) -> bool:
    """Return whether a file has the suffix of a network file."""
    return path.suffix.lower() in FORMATS


def starts_graph(path: Path, head: bytes) -> bool:
    """Return whether the first bytes of such a file may be those of a network."""
    return path.suffix.lower() != ".xml" or b"<net" in head


def holds_weights(path: Path) -> bool:
    """Return whether a file has the weights of the .xml beside it."""
    return path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file()


def read_graph(path: Path) -> Graph:
    """Read what a network file states, without running it.

    Raises:
        CheckpointError: it is damaged, or no network that classifies images; the message says
            what it is.
        ExtraError: the library that reads it is missing; the message names the extra.
    """
    module, _, name = FORMATS[path.suffix.lower()].partition(":")
    return cast("Callable[[Path], Graph]", getattr(import_module(module), name))(path)
