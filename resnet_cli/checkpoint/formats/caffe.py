"""A .caffemodel (a network of Caffe in binary) -> its tensors, and the settings of its layers."""

import math
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet_cli.checkpoint.formats.prototxt import (
    Message,
    net_parameter,
    proto_layers,
    proto_part,
    read_prototxt,
    text_of,
)
from resnet_cli.checkpoint.tree import Part, StateDict
from resnet_cli.errors import CheckpointError

MOST_AXES = 32  # of a blob: kMaxBlobAxes in Caffe's blob.hpp

NAMES = {
    "BatchNorm": ("running_mean", "running_var", "factor"),
    "Convolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "Scale": ("weight", "bias"),
}
"""Names of the blobs of a layer, in their order."""

AXES = {("Convolution", "weight"): 4, ("InnerProduct", "weight"): 2}
"""Axes of a tensor that has more than one."""


def read_caffemodel(path: Path) -> StateDict:
    """Read the weights of a .caffemodel, and the settings of its layers where it has them.

    Returns:
        Float32 tensors under ``<layer>.weight`` and ``.bias``, for batch norms under
        ``<layer>.running_mean`` and ``.running_var``, for layers of other types under ``.blob0`` …;
        a part for every layer under its name.

    Raises:
        CheckpointError: it is damaged or inconsistent; the message names no file.
        OSError: the file cannot be read.
    """
    from google.protobuf.message import DecodeError

    net = net_parameter()()
    try:
        net.ParseFromString(path.read_bytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            "a damaged caffemodel, or one cut off: copy or download it again"
        ) from error
    return state_of(net)


def state_of(net: Message) -> StateDict:
    """Collect the tensors and settings of all layers.

    Raises:
        CheckpointError: there are none, two of one name, or damaged ones.
    """
    tensors: dict[str, Tensor] = {}
    parts: dict[str, Part] = {}
    for layer in proto_layers(net):
        name = text_of(layer.name)
        part = parts[name] = proto_part(layer)
        found = {f"{name}.{key}": tensor for key, tensor in tensors_of(layer, part)}
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"two of its layers hold weights under {min(twice)}: rename one")
        tensors |= found
    if not tensors:
        raise CheckpointError("none of its layers holds weights: name the .caffemodel of a net")
    return StateDict(tensors, parts)


def tensors_of(layer: Message, part: Part) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a layer under PyTorch's names."""
    names = NAMES.get(part.kind, ())
    blobs: dict[str, Tensor] = {}
    for index, blob in enumerate(layer.blobs):
        key = names[index] if index < len(names) else f"blob{index}"
        try:
            blobs[key] = tensor_of(blob, AXES.get((part.kind, key), 1))
        except ValueError as error:
            raise CheckpointError(
                f"{text_of(layer.name)}.{key} has {error}: is it damaged?"
            ) from None
    if part.kind == "BatchNorm" and blobs:
        yield from read_statistics(blobs, text_of(layer.name))
    elif part.settings.get("transpose") and "weight" in blobs:
        yield from (blobs | {"weight": blobs["weight"].T.contiguous()}).items()
    else:
        yield from blobs.items()


def read_statistics(blobs: dict[str, Tensor], name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield mean and variance of a batch norm; Caffe stores sums, and the sum of their weights.

    A sum of zero gives zeros for both, as in Caffe (batch_norm_layer.cpp).

    Raises:
        CheckpointError: the blobs are not these three.
    """
    factor = blobs.pop("factor", None)
    if factor is None or factor.numel() != 1 or len(blobs) != 2:
        raise CheckpointError(
            f"{name} holds {len(blobs) + (factor is not None)} blobs, a batch norm of Caffe holds "
            "mean, variance and one factor: is it of NVIDIA's Caffe?"
        )
    for key, blob in blobs.items():
        yield key, blob / factor if factor.item() else torch.zeros_like(blob)


def tensor_of(blob: Message, axes: int) -> Tensor:
    """Return the numbers of a blob as a tensor of at least ``axes`` axes.

    Raises:
        ValueError: they do not fill the shape; the message follows "has".
    """
    kind, chunks = ("<f8", blob.double_data) if blob.double_data else ("<f4", blob.data)
    data = b"".join(chunks)
    shape = blob_shape(blob)
    size = np.dtype(kind).itemsize
    if min(shape, default=0) < 0 or len(shape) > MOST_AXES or math.prod(shape) * size != len(data):
        # checked before any memory is allocated, as a file may claim any shape
        raise ValueError(f"{len(data) // size} numbers for a shape of {list(shape[:8])}")
    array = np.frombuffer(data, kind).astype(np.float32)
    return torch.from_numpy(array).reshape(without_ones(shape, axes))


def blob_shape(blob: Message) -> tuple[int, ...]:
    """Return the shape of a blob: four fields in old files, a list in newer ones."""
    legacy = ("num", "channels", "height", "width")
    if any(map(blob.HasField, legacy)):  # these take precedence in Blob::FromProto
        return tuple(getattr(blob, side) for side in legacy)
    return tuple(blob.shape.dim)


def without_ones(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Drop the leading ones with which old files fill a shape up to four axes."""
    if axes == 1 and math.prod(shape) == max(shape, default=1):
        return (math.prod(shape),)
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return shape


def apply_prototxt(state: StateDict, text: str) -> StateDict:
    """Complete the settings of a .caffemodel by those of its .prototxt, which take precedence.

    Raises:
        CheckpointError: it is not a prototxt, or describes another network.
    """
    layers = {layer.name: layer.part for layer in read_prototxt(text).layers}
    if not any(f"{name}.weight" in state for name in layers):
        raise CheckpointError("the prototxt names none of the layers that hold weights")
    parts = dict(state.parts)
    for name, part in layers.items():
        require_same_settings(name, part, state)
        earlier = parts[name].settings if name in parts else {}
        parts[name] = Part(part.kind, {**earlier, **part.settings})
    return StateDict(state, parts)


def require_same_settings(name: str, part: Part, state: StateDict) -> None:
    """Refuse settings that contradict the weights of a layer.

    Raises:
        CheckpointError: another number of outputs, or another kernel.
    """
    weight = state.get(f"{name}.weight")
    if weight is None or part.kind not in ("Convolution", "InnerProduct"):
        return
    said = [part.settings.get("num_output"), *part.settings.get("kernel_size", ())]
    held = [weight.shape[0], *weight.shape[2:]]
    if said != held:
        raise CheckpointError(
            f"the prototxt is of another network: {name} has {said} outputs and kernel there, "
            f"{held} in the weights"
        )


NET_FIELDS = {1: bytes, 3: bytes, 4: int, 5: int, 6: bytes, 7: int, 8: bytes}
"""Fields before the layers of a NetParameter: name, inputs, state."""

LAYER, V1_LAYER = 100, 2  # numbers of the fields that hold the layers

WORD = re.compile(rb"[A-Za-z]\w{0,63}")
V1_TYPE, LAST_V1_TYPE = 5, 39  # number of the field, and the greatest value in it


def is_caffemodel(head: bytes) -> bool:
    """Return whether a file that starts with these bytes may be a NetParameter in binary.

    Its first layer must lie within them and start with a name and a type: other files of protobuf
    (ONNX, TensorFlow, Caffe2) share only the fields before that.
    """
    try:
        for number, value in wire_fields(head):
            if number in (LAYER, V1_LAYER):
                return isinstance(value, bytes) and (
                    is_layer(value) if number == LAYER else is_v1_layer(value)
                )
            if not isinstance(value, NET_FIELDS.get(number, type(None))):
                return False
            if number == 1 and not is_name(value):
                return False
    except ValueError:
        return False
    return False


def is_name(value: int | bytes) -> bool:
    """Return whether a value reads as a name."""
    try:
        return isinstance(value, bytes) and (not value or value.decode().isprintable())
    except UnicodeDecodeError:
        return False


def is_layer(data: bytes) -> bool:
    """Return whether a layer starts with its name, and its type as a word."""
    first = list(islice(wire_fields(data), 2))
    if [number for number, _ in first] != [1, 2]:
        return False
    (_, name), (_, kind) = first
    return is_name(name) and isinstance(kind, bytes) and WORD.fullmatch(kind) is not None


def is_v1_layer(data: bytes) -> bool:
    """Return whether an old layer starts with names of blobs, its name, and a numbered type."""
    for number, value in wire_fields(data):
        if number == V1_TYPE:
            return isinstance(value, int) and value <= LAST_V1_TYPE
        if number not in (2, 3, 4) or not is_name(value):
            return False
    return False


def wire_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message, up to the end of ``data``.

    https://protobuf.dev/programming-guides/encoding.

    Raises:
        ValueError: it is not such a message.
    """
    place = 0
    while place < len(data):
        tag, place = read_varint(data, place)
        number, wire = tag >> 3, tag & 7
        value, place = read_varint(data, place)
        if wire not in (0, 2):  # no field that is read here has another type
            raise ValueError("no such field")
        if wire == 0:
            yield number, value
        else:
            yield number, data[place : place + value]
            place += value


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it.

    Raises:
        ValueError: the number does not end.
    """
    value = 0
    for index in range(10):
        byte = data[place + index] if place + index < len(data) else 0x80
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    raise ValueError("no number")
