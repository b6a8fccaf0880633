"""A file of ONNX as a message of Protocol Buffers, without the numbers of its weights.

They are left out before it is parsed, so that they are neither copied nor read from the disk.
https://protobuf.dev/programming-guides/encoding
"""

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

NUMBERS = ""  # a field that is left out
FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph"},
    "graph": {5: "tensor"},  # the initializers
    "tensor": dict.fromkeys((4, 5, 7, 9, 10, 11), NUMBERS),  # float_data … uint64_data, raw_data
}
"""Fields in onnx.proto that hold weights, or messages with weights."""

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # types in the wire format
SIZES = {FIXED_64: 8, FIXED_32: 4}


class WireError(ValueError):
    """Bytes that are not a message, or that end too early."""


def message_class() -> "type[ModelProto]":
    """Return the class of a network, without the rest of onnx, whose import takes far longer.

    Raises:
        ImportError: onnx is not installed.
    """
    name = "onnx.onnx_ml_pb2"
    if name in sys.modules:
        return sys.modules[name].ModelProto
    package = find_spec("onnx")
    for folder in (package and package.submodule_search_locations) or ():
        spec = spec_from_file_location(name, Path(folder) / "onnx_ml_pb2.py")
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.ModelProto
    raise ImportError(name)


def without_numbers(message: memoryview, kind: str = "model") -> bytes:
    """Return a message without the numbers of its tensors.

    Raises:
        WireError: it is damaged or cut off.
    """
    kept: list[bytes | memoryview] = []
    for number, begin, content, end in fields_of(message):
        inner = FIELDS[kind].get(number)
        if inner is None:
            kept.append(message[begin:end])
        elif inner:
            data = without_numbers(message[content:end], inner)
            kept += (number_bytes(number << 3 | BYTES), number_bytes(len(data)), data)
    return b"".join(kept)


def fields_of(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of each field, where it begins, where its content does, and where it ends.

    Raises:
        WireError: it is damaged or cut off.
    """
    end = 0
    while end < len(message):
        begin = end
        tag, content = read_number(message, begin)
        wire = tag & 7
        if wire == BYTES:
            length, content = read_number(message, content)
            end = content + length
        elif wire == VARINT:
            _, end = read_number(message, content)
        elif wire in SIZES:
            end = content + SIZES[wire]
        else:
            raise WireError
        if end > len(message):
            raise WireError
        yield tag >> 3, begin, content, end


def read_number(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it.

    Raises:
        WireError: it does not end.
    """
    number = 0
    for index, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, place + index + 1
    raise WireError


def number_bytes(number: int) -> bytes:
    """Return a number as it stands in a message."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
