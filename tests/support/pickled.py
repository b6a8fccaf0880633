"""Files of torch.save and of pickle for tests: containers, opcodes, and how they are opened."""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.loading import Checkpoint, load_checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, Location
from resnet_cli.checkpoint.metadata.classes import find_classes
from resnet_cli.checkpoint.tree import tensors_in, walk_containers
from resnet_cli.errors import CheckpointError

State = dict[str, Tensor]
Save = Callable[[Any, Path], None]
Build = Callable[[], bytes]

NAMES = ("ant", "bee", "cat")
RUN = "touch ran"


def numbers() -> State:
    random = torch.Generator().manual_seed(3)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    base = some(6, 8)
    return {
        "float32": some(3, 4),
        "float64": some(5).double(),
        "float16": some(5).half(),
        "bfloat16": some(5).bfloat16(),
        "int64": torch.arange(-3, 4),
        "int32": torch.arange(-3, 4, dtype=torch.int32),
        "int16": torch.arange(-3, 4, dtype=torch.int16),
        "int8": torch.arange(-3, 4, dtype=torch.int8),
        "uint8": torch.arange(9, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "complex64": torch.complex(some(3), some(3)),
        "one number": torch.tensor(2.5),
        "counter": torch.tensor(7),
        "nothing": torch.zeros(0, 3),
        "transposed": some(4, 5).t(),
        "column": some(6, 6)[:, 2],
        "every other": some(9)[::2],
        "channels last": some(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "spread": some(3, 1).expand(3, 5),
        "whole": base,
        "tied": base,
        "rows": base[2:4],
        "corner": base[1::2, 3:],
        "parameter": nn.Parameter(some(3)),
        "frozen": nn.Parameter(some(3), requires_grad=False),
        "with a gradient": some(2).requires_grad_(),
    }


def legacy(thing: Any, path: Path) -> None:
    torch.save(thing, path, _use_new_zipfile_serialization=False)


def dumped(protocol: int) -> Save:
    def save(thing: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(thing, protocol))

    return save


CONTAINERS: dict[str, Save] = {
    "zip": lambda thing, path: torch.save(thing, path),
    "zip of protocol 4": lambda thing, path: torch.save(thing, path, pickle_protocol=4),
    "zip of protocol 5": lambda thing, path: torch.save(thing, path, pickle_protocol=5),
    "legacy": legacy,
    **{f"pickle of protocol {protocol}": dumped(protocol) for protocol in range(6)},
}


def own_reading(path: Path) -> Any:
    """What the library that wrote a file reads in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except RuntimeError:  # no file of torch.save
        return pickle.loads(path.read_bytes())


def at(tree: Any, key: str) -> Any:
    for step in filter(None, key.split(".")):
        tree = tree[int(step)] if isinstance(tree, list | tuple) else tree[step]
    return tree


def held(path: Path, key: str = "") -> Mapping[str, Tensor]:
    """The tensors under a key of a file, as this program reads them."""
    return tensors_in(dict(walk_containers(read_contents(path).tree))[key])


def require_same(found: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert torch.equal(found[name], tensor), name


def tiny(scale: float = 1.0) -> State:
    """A resnet18 of three classes whose tensors are one number each, spread over their shapes."""
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = models.resnet18(num_classes=3)
    return {
        name: (scale * torch.rand((), generator=random)).to(tensor.dtype).expand(tensor.shape)
        for name, tensor in network.state_dict().items()
    }


def opened(path: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(Location(path, "given"), LoadOptions(**options))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as refused:
        opened(path, **options)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


class Call:
    """What unpickling would call; itself such a thing, so that what a call gives may be called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name_of(path: str) -> bytes:
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


HEAD = b"\x80\x04"
PRIME = sys.hash_info.modulus


def of_one_hash(count: int, between: bytes = b"") -> Iterator[bytes]:
    """Integers that CPython hashes to nothing, each with something behind it."""
    for n in range(1, count + 1):
        yield b"\x8a\x0a" + (n * PRIME).to_bytes(10, "little", signed=True) + between


def in_zip(data: bytes, **parts: bytes) -> bytes:
    """An archive as of torch.save, with a storage of eight zeros."""
    stream = io.BytesIO()
    inside = {"data.pkl": data, "byteorder": b"little", "data/0": bytes(32), "version": b"3\n"}
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part in (inside | parts).items():
            archive.writestr(f"archive/{name}", part)
    return stream.getvalue()


def by_torch(thing: Any, **options: Any) -> bytes:
    torch.save(thing, stream := io.BytesIO(), **options)
    return stream.getvalue()


STORAGE = (
    b"(" + text("storage") + name_of("torch.FloatStorage") + text("0") + text("cpu") + b"K\x08t"
)


class Small(nn.Module):
    """A network with all that modules are made of."""

    def __init__(self, *, passing: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 1)))
        self.scale = nn.Parameter(torch.randn(2, 1, 1))
        self.register_buffer("offset", torch.randn(2, 1, 1))
        if passing:
            self.register_buffer("passing", torch.randn(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(self.bn(self.conv(x)))
        return result * self.scale + self.get_buffer("offset")


def with_attributes(made: Any, **attributes: Any) -> Any:
    vars(made).update(attributes)
    return made


def names_in(path: Path) -> tuple[str, ...]:
    return find_classes(None, read_contents(path), path, len(NAMES)).names
