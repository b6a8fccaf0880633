"""What ``fuzz.py`` damages: a small file of each container; and how it damages them."""

import argparse
import json
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import models
from torchvision.models import ResNet

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from caffe_files import caffe_resnet

State = dict[str, Tensor]


@dataclass(frozen=True)
class Victim:
    """A file to damage."""

    name: str
    target: bytes  # the part that is damaged
    place: Callable[[bytes, Path], Path]  # writes it, and what belongs to it, into a folder


def tiny(*, divisor: int = 1) -> State:
    """A resnet18 whose tensors are one number each, spread over their shapes: they fill no file."""
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.rand((), generator=random)
        .to(t.dtype)
        .expand([-(-side // divisor) for side in t.shape])
        for name, t in blank("resnet18").state_dict().items()
    }


@cache
def blank(name: str, channels: int = 3) -> ResNet:
    """A network without weights."""
    with torch.device("meta"):
        network: ResNet = models.get_model(name, num_classes=3)
        if channels != 3:
            network.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return network.eval()


def content() -> dict[str, Any]:
    """What a training script keeps beside its weights."""
    return {
        "state_dict": OrderedDict(tiny()),
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), classes=["a", "b", "c"]),
        "best": np.float64(0.5),
        "curve": np.arange(5, dtype=np.float32),
        "class_to_idx": defaultdict(int, a=0, b=np.int64(1), c=2),
        "names": np.array(["a", "b", "c"]),
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        "rest": [{1, 2}, (3, None, True), b"bytes", bytearray(b"more"), 2**70, 1j],
    }


def saved(thing: Any, **options: Any) -> bytes:
    """The bytes of ``torch.save``."""
    torch.save(thing, stream := BytesIO(), **options)
    return stream.getvalue()


def victims() -> Iterator[Victim]:
    """Yield a file of each container."""
    network = models.resnet18(num_classes=3).eval()
    network.load_state_dict(tiny(), assign=True)
    arrays = {name: t.numpy() for name, t in tiny(divisor=16).items()}
    image = torch.zeros(1, 3, 32, 32)
    legacy = partial(saved, _use_new_zipfile_serialization=False)
    yield Victim("zip", saved(content()), whole)
    yield in_archive("pickle in a zip", saved(content()), "archive/data.pkl")
    yield Victim("legacy", legacy(content()), whole)
    yield Victim("module, zip", saved(network), whole)
    yield in_archive("pickle of a module", saved(network), "archive/data.pkl")
    yield Victim("module, legacy", legacy(network), whole)
    for protocol in (0, 2, 5):
        yield Victim(f"pickle {protocol}", pickle.dumps(content(), protocol), whole)
        yield Victim(f"arrays {protocol}", pickle.dumps(arrays, protocol), whole)
    torch.jit.save(torch.jit.trace(network, image, check_trace=False), stream := BytesIO())
    yield Victim("torchscript", stream.getvalue(), whole)
    torch.export.save(torch.export.export(network, (image,)), stream := BytesIO())
    yield Victim("pt2", stream.getvalue(), whole)
    listed = "archive/data/weights/model_weights_config.json"
    yield in_archive("list of a pt2", stream.getvalue(), listed)
    yield from of_safetensors()
    for legacy_shapes in (True, False):
        _, data = caffe_resnet((3, 4, 6, 3), num_classes=3, seed=0, width=2, legacy=legacy_shapes)
        yield Victim(f"caffemodel, shapes {1 if legacy_shapes else 2}", data, whole)
    yield from beside_weights()


def of_safetensors() -> Iterator[Victim]:
    """Yield safetensors, and an index of two of them; their values are holes in a file."""
    tensors = list(tiny().items())
    about = {"classes": '["a", "b", "c"]', "model": "resnet18"}
    text, size = header(tensors, about)
    halves = {f"{half}.safetensors": tensors[half::2] for half in (0, 1)}

    def with_length(data: bytes, folder: Path) -> Path:
        return hollow(folder / "model", struct.pack("<Q", len(data)) + data, size)

    def with_shards(data: bytes, folder: Path) -> Path:
        for name, half in halves.items():
            own, length = header(half, {})
            hollow(folder / name, struct.pack("<Q", len(own)) + own, length)
        (folder / "model.safetensors.index.json").write_bytes(data)
        return folder / "model.safetensors.index.json"

    start = struct.pack("<Q", len(text)) + text
    yield Victim("safetensors", start, lambda data, f: hollow(f / "model", data, size))
    yield Victim("header of safetensors", text, with_length)
    names = {name: file for file, half in halves.items() for name, _ in half}
    yield Victim("index of shards", json.dumps({"weight_map": names}).encode(), with_shards)


def header(tensors: list[tuple[str, Tensor]], about: dict[str, str]) -> tuple[bytes, int]:
    """The description in a safetensors file, and the bytes of the values behind it."""
    entries: dict[str, Any] = {"__metadata__": about}
    at = 0
    for name, tensor in tensors:
        dtype, size = "F32" if tensor.is_floating_point() else "I64", tensor.nbytes
        entries[name] = {"dtype": dtype, "shape": [*tensor.shape], "data_offsets": [at, at + size]}
        at += size
    return json.dumps(entries).encode(), at


def hollow(path: Path, start: bytes, size: int) -> Path:
    """Write a file that goes on for ``size`` bytes of nothing, which no disk has to hold."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return path


def beside_weights() -> Iterator[Victim]:
    """Yield settings that stand beside a file of weights."""
    weights = saved(tiny())
    timm: dict[str, Any] = {
        "architecture": "resnet18",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
    }
    timm["pretrained_cfg"] = {"input_size": [3, 224, 224], "crop_pct": 0.95, "mean": [0.5] * 3,
                              "std": [0.5] * 3, "interpolation": "bicubic"}  # fmt: skip
    hf: dict[str, Any] = {
        "model_type": "resnet",
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "hidden_act": "relu",
    }
    processor = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224},
                 "crop_pct": 0.875, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # fmt: skip

    def place(data: bytes, folder: Path, name: str, other: bytes) -> Path:
        for file in ("config.json", "preprocessor_config.json"):
            (folder / file).write_bytes(data if file == name else other)
        (folder / "pytorch_model.bin").write_bytes(weights)
        return folder / "pytorch_model.bin"

    for title, name, damaged_one, other in (
        ("config of timm", "config.json", timm, {}),
        ("config of transformers", "config.json", hf, processor),
        ("its preprocessor", "preprocessor_config.json", processor, hf),
    ):
        filled = partial(place, name=name, other=json.dumps(other).encode())
        yield Victim(title, json.dumps(damaged_one).encode(), filled)


def whole(data: bytes, folder: Path) -> Path:
    """The damaged part is all of the file."""
    path = folder / "model"
    path.write_bytes(data)
    return path


def in_archive(name: str, archive: bytes, inside: str) -> Victim:
    """One part of a zip archive, which is whole around it."""
    with zipfile.ZipFile(BytesIO(archive)) as file:
        parts = {entry.filename: file.read(entry) for entry in file.infolist()}

    def place(data: bytes, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "model", "w") as file:
            for part, old in parts.items():
                file.writestr(part, data if part == inside else old)
        return folder / "model"

    return Victim(name, parts[inside], place)


PIECES = [
    *(bytes([code]) for code in b"0123NRQbatsuelod()}]\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92"),
    *(bytes([code]) for code in b"\x93\x94\x97\x98.\x00\xff\x7f\x80"),
    *(b"h" + bytes([slot]) for slot in range(0, 40, 3)),
    *(b"K" + bytes([number]) for number in (0, 1, 2, 255)),
    *(struct.pack("<B", 0x8A) + bytes([n]) + bytes(n - 1) + b"\x7f" for n in (1, 8, 9, 200)),
    *(b"M\xff\xff", b"J\xff\xff\xff\xff", b"G\x7f\xf0\0\0\0\0\0\0", b"I01\n", b"S'a'\n"),
    *(b"r\xff\xff\xff\x7f", b"p4294967295\n", b"\x82\x01", b"X\x04\0\0\0data", b"U\x01\xff"),
    *(b"\x96\x03\0\0\0\0\0\0\0abc", b"\x8d" + struct.pack("<Q", 1 << 60), b"C\x02ab", b"Pid\n"),
    *(b"N}X\x04\0\0\0dataK\x01s\x86b", b"}X\x04\0\0\0dataK\x01sb", b"ios\nsystem\n"),
    *(b"c" + name.replace(b" ", b"\n") + b"\n" for name in (
        b"os system", b"builtins set", b"builtins list", b"builtins dict", b"builtins tuple",
        b"builtins frozenset", b"builtins bytearray", b"builtins getattr", b"_codecs encode",
        b"collections OrderedDict", b"collections defaultdict", b"numpy dtype", b"numpy ndarray",
        b"numpy.core.multiarray scalar", b"numpy.core.multiarray _reconstruct", b"torch Size",
        b"torch.nn.parameter Parameter", b"torch FloatStorage", b"torch float32",
        b"torch._utils _rebuild_tensor_v2", b"torch._utils _rebuild_parameter",
        b"torch._tensor _rebuild_from_type_v2", b"torch.storage _load_from_bytes",
    )),
    *(b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b"true", b"99999999999999999999"),
    *(struct.pack("<I", number) for number in (0, 1, 1 << 31, (1 << 32) - 1)),
    *(struct.pack("<Q", number) for number in (1 << 40, 1 << 60, (1 << 64) - 1)),
]  # fmt: skip
"""What is put in: opcodes, numbers at the edge, values of JSON."""


@cache
def places_of(data: bytes) -> tuple[int, ...]:
    """Where it may pay to cut: at opcodes, or at any byte of what is no pickle."""
    stream, found = BytesIO(data), [0]
    try:
        while len(found) < 50_000:
            start = stream.tell()
            found += [place for _, _, place in pickletools.genops(stream) if place is not None]
            assert stream.tell() > start
    except (ValueError, UnicodeDecodeError, AssertionError):
        pass
    return tuple(found) if len(found) > 20 else tuple(range(len(data) + 1))


def damaged(data: bytes, random: Random) -> bytes:
    """Change some bytes, in one to four ways."""
    places = places_of(data)
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 1, 1, 2, 3))):
        at, other = (
            min(random.choice(places), len(changed)) if exact else random.randint(0, len(changed))
            for exact in random.choices((True, False), k=2)
        )
        random.choice(WAYS)(changed, at, other, random)
    return bytes(changed)


def flip(data: bytearray, _: int, __: int, random: Random) -> None:
    """Change one to eight bytes anywhere."""
    for _ in range(random.choice((1, 1, 1, 2, 4, 8)) if data else 0):
        data[random.randrange(len(data))] = random.randrange(256)


def put_in(data: bytearray, at: int, _: int, random: Random) -> None:
    """Put in something that a reader may trip over."""
    data[at:at] = random.choice(PIECES)


def replace(data: bytearray, at: int, _: int, random: Random) -> None:
    """The same, over what was there."""
    piece = random.choice(PIECES)
    data[at : at + len(piece)] = piece


def take_out(data: bytearray, at: int, _: int, random: Random) -> None:
    """Leave some bytes out."""
    del data[at : at + random.randint(1, 64)]


def copy(data: bytearray, at: int, other: int, random: Random) -> None:
    """Repeat some bytes elsewhere."""
    data[other:other] = data[at : at + random.randint(1, 200)]


def cut_off(data: bytearray, at: int, _: int, random: Random) -> None:
    """End early, often by very little."""
    del data[at if random.random() < 0.5 else len(data) - random.randint(1, 9) :]


WAYS = (flip, flip, flip, flip, flip, put_in, replace, replace, take_out, copy, cut_off)
