import argparse
import array
import copyreg
import functools
import io
import json
import logging
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import tarfile
import types
import uuid
import zipfile
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from conftest import Run, picture
from resnet_cli.checkpoint import Checkpoint, Location, load_checkpoint
from resnet_cli.checkpoint.classes import find_classes
from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.inspection import inspect_checkpoint
from resnet_cli.checkpoint.tree import containers, tensors_in
from resnet_cli.errors import CheckpointError, SettingError

State = dict[str, Tensor]
Save = Callable[[Any, Path], None]
Build = Callable[[], bytes]

NAMES = ("ant", "bee", "cat")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


# Containers


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

AROUND: dict[str, Callable[[Any], Any]] = {
    "": lambda s: s,
    "state_dict": lambda s: OrderedDict(epoch=3, state_dict=OrderedDict(s)),
    "0": lambda s: (s,),
    "2.1": lambda s: [None, "x", (1, s, 2.5)],
    "a.0.b": lambda s: {"a": [{"b": s}]},
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
    return tensors_in(dict(containers(read_contents(path).tree))[key])


def require_same(found: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("key", AROUND)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_number_is_that_of_the_library_which_wrote_the_file(container: str, key: str) -> None:
    CONTAINERS[container](AROUND[key](numbers()), Path("model"))

    require_same(held(Path("model"), key), at(own_reading(Path("model")), key))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_sign_that_torch_keeps_beside_the_numbers_is_kept(container: str) -> None:
    pair = torch.complex(torch.ones(3), torch.arange(3.0))
    negated, conjugated = pair.clone().conj().imag, pair.clone().conj()
    assert negated.is_neg()
    assert conjugated.is_conj()
    CONTAINERS[container]({"negated": negated, "conjugated": conjugated}, Path("model"))

    assert held(Path("model"))["negated"].tolist() == [0, -1, -2]
    assert held(Path("model"))["conjugated"].tolist() == [1, 1 - 1j, 1 - 2j]


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?", ">f4", ">i8")
    return {
        **{kind: (9 * random.standard_normal((3, 5))).astype(kind) for kind in kinds},
        "by columns": np.asfortranarray(random.standard_normal((3, 4))),
        "turned": random.standard_normal((2, 3, 4)).transpose(2, 0, 1),
        "every other": random.standard_normal(9)[::2],
        "one number": np.array(2.5),
        "nothing": np.zeros((0, 3)),
        "constant": np.broadcast_to(np.float32(3), (2, 3)),
    }


@pytest.mark.parametrize("container", CONTAINERS)
def test_arrays_of_numpy_are_read_as_tensors(container: str) -> None:
    CONTAINERS[container]({"weights": arrays()}, Path("model"))
    found = held(Path("model"), "weights")

    assert list(found) == list(arrays())
    for name, expected in arrays().items():
        assert found[name].numpy().dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name].numpy(), expected)


def python2(thing: Any) -> bytes:
    """A pickle as Python 2 made it, where text and bytes were the same."""
    match thing:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[thing]
        case int():
            return b"J" + struct.pack("<i", thing)
        case str() | bytes():
            data = thing.encode() if isinstance(thing, str) else thing
            return b"T" + struct.pack("<i", len(data)) + data
        case tuple() | list():
            inside = b"".join(map(python2, thing))
            return b"(" + inside + (b"t" if isinstance(thing, tuple) else b"l")
        case dict():
            return b"(" + b"".join(python2(k) + python2(v) for k, v in thing.items()) + b"d"
        case type() | types.BuiltinFunctionType():
            return f"c{thing.__module__}\n{thing.__qualname__}\n".encode()
    function, arguments, *state = thing.__reduce__()
    return (
        python2(function) + python2(arguments) + b"R" + b"".join(python2(s) + b"b" for s in state)
    )


@pytest.mark.parametrize("core", ["core", "_core"])
def test_arrays_of_python_2_open(core: str) -> None:
    data = b"\x80\x02" + python2({"weights": arrays(), "classes": list(NAMES)}) + b"."
    Path("model").write_bytes(re.sub(rb"numpy\._?core\.", f"numpy.{core}.".encode(), data))
    found = held(Path("model"), "weights")

    for name, expected in arrays().items():
        np.testing.assert_array_equal(found[name].numpy(), expected)
    assert names_in(Path("model")) == NAMES


def test_tensors_of_python_2_open() -> None:
    legacy({"weights": numbers(), "classes": NAMES}, Path("model"))
    stream = io.BytesIO(Path("model").read_bytes())
    data = bytearray(stream.getvalue())
    for _ in range(5):  # pickles, behind which the values are
        for opcode, _, place in pickletools.genops(stream):
            if opcode.name == "BINUNICODE" and place is not None:
                data[place : place + 1] = b"T"
    Path("model").write_bytes(data)

    require_same(held(Path("model"), "weights"), own_reading(Path("model"))["weights"])
    assert names_in(Path("model")) == NAMES


def separate(state: Mapping[str, Tensor]) -> State:
    """Tensors as safetensors takes them: in rows, and none of another's memory."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def test_safetensors_have_the_numbers_that_their_library_reads() -> None:
    safetensors.torch.save_file(separate(numbers()), "model")
    expected = safetensors.torch.load_file("model")

    require_same(held(Path("model")), {name: expected[name] for name in held(Path("model"))})
    assert held(Path("model")).keys() == numbers().keys()


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_have_the_numbers_of_the_whole(suffix: str) -> None:
    whole = separate(numbers())
    table: dict[str, str] = {}
    for part in range(3):
        name = f"model-0000{part}-of-00003.{suffix}"
        inside = dict(list(whole.items())[part::3])
        table |= dict.fromkeys(inside, name)
        save: Any = safetensors.torch.save_file if suffix == "safetensors" else torch.save
        save(inside, name)
    index = Path(f"model.{suffix}.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    found = held(index)

    require_same({name: found[name] for name in whole}, whole)
    assert found.keys() == whole.keys()


@pytest.mark.parametrize(("name", "sentence"), [
    ("../outside.bin", "files that are not beside it"),
    ("gone.bin", "its shard gone.bin is missing"),
    ("model.bin.index.json", "index"),
])  # fmt: skip
def test_an_index_leads_to_files_beside_it_alone(name: str, sentence: str) -> None:
    torch.save(numbers(), "../outside.bin")
    index = Path("model.bin.index.json")
    index.write_text(json.dumps({"weight_map": {"float32": name}}))

    assert sentence in refusal(index)
    assert len(refusal(index)) < 300


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


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.other = nn.Linear(3, 3)
        self.other.weight = self.one.weight


MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": Small,
    "in half precision": lambda: Small().half(),
    "parallel": lambda: nn.DataParallel(Small()),
    "average": lambda: torch.optim.swa_utils.AveragedModel(Small()),
    "tied": Tied,
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("container", ["zip", "legacy", "pickle of protocol 2"])
def test_a_whole_module_gives_its_state_dict(container: str, kind: str) -> None:
    CONTAINERS[container]({"model": MODULES[kind]()}, Path("model"))
    expected: nn.Module = own_reading(Path("model"))["model"]

    found = held(Path("model"), "model")
    require_same({name: found[name] for name in expected.state_dict()}, expected.state_dict())
    assert found.keys() == expected.state_dict().keys()


def scripted(module: nn.Module) -> Any:
    return torch.jit.script(module)


def traced(module: nn.Module) -> Any:
    return torch.jit.trace(module, torch.randn(1, 3, 8, 8))


class Branching(nn.Module):
    """What only a script can hold: a choice made while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.rest = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        for layer in self.rest:
            if x.sum() > 0:
                x = layer(x)
        return x


@pytest.mark.parametrize(("compile_", "kind"), [
    (scripted, Branching), (traced, lambda: Small(passing=False)),
])  # fmt: skip
def test_torchscript_has_the_numbers_that_torch_reads(
    compile_: Callable[[nn.Module], Any], kind: Callable[[], nn.Module]
) -> None:
    compile_(kind().eval()).save("model")
    expected = torch.jit.load("model").state_dict()
    found = held(Path("model"))

    assert read_contents(Path("model")).format == "torchscript"
    require_same({name: found[name] for name in expected}, expected)
    assert found.keys() == expected.keys()


def test_an_exported_program_has_the_numbers_that_torch_reads() -> None:
    program = torch.export.export(Branchless().eval(), (torch.randn(1, 3, 8, 8),))
    torch.export.save(program, "model.pt2")
    expected = torch.export.load("model.pt2").state_dict

    assert read_contents(Path("model.pt2")).format == "pt2"
    require_same(dict(held(Path("model.pt2"))), expected)


class Branchless(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def repacked(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Change the parts of a zip archive."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, change(name, data))


@pytest.mark.parametrize("tag", ["cuda:0", "cuda:7", "mps", "xpu:1", "hpu", "meta"])
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_tensor_of_any_device_opens_on_the_cpu(container: str, tag: str) -> None:
    def retag(name: str, data: bytes) -> bytes:
        old, new = (b"X" + struct.pack("<I", len(w)) + w for w in (b"cpu", tag.encode()))
        return data if "/data/" in name else data.replace(old, new)

    state = numbers()
    CONTAINERS[container](state, Path("model"))
    if container == "zip":
        repacked(Path("model"), retag)
    else:
        Path("model").write_bytes(retag("", Path("model").read_bytes()))

    require_same(held(Path("model")), state)


def swapped_zip(state: State, path: Path) -> None:
    """A file as a machine of the other byte order writes it."""
    torch.save(state, path)
    contiguous = {t.untyped_storage().data_ptr(): t.element_size() for t in state.values()}
    assert set(contiguous.values()) == {4}

    def swap(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        return np.frombuffer(data, "u4").byteswap().tobytes() if "/data/" in name else data

    repacked(path, swap)


def swapped_legacy(state: State, path: Path) -> None:
    """The same before 1.6, which always wrote its values in the order of most machines."""
    legacy(state, path)
    data = path.read_bytes()
    start = data.index(b"little_endian")
    path.write_bytes(data[:start] + data[start:].replace(b"\x88", b"\x89", 1))


@pytest.mark.parametrize("save", [swapped_zip, swapped_legacy])
def test_files_of_big_endian_machines_open(save: Save) -> None:
    state = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    save(state, Path("model"))

    require_same(held(Path("model")), torch.load("model"))
    require_same(held(Path("model")), state)


class Annotated(torch.Tensor):
    note: str


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_of_other_classes_open(container: str) -> None:
    annotated = torch.randn(3).as_subclass(Annotated)
    annotated.note = "mine"
    parameter = nn.Parameter(torch.randn(3))
    vars(parameter)["note"] = "mine"
    CONTAINERS[container]({"annotated": annotated, "parameter": parameter}, Path("model"))
    expected = {name: t.as_subclass(Tensor) for name, t in own_reading(Path("model")).items()}

    require_same(held(Path("model")), expected)


class OfXla:
    """How a tensor of a TPU is saved: as an array."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = torch._utils._rebuild_device_tensor_from_numpy
        return rebuild, (self.tensor.numpy(), self.tensor.dtype, "cpu", False)


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_tensors_of_a_tpu_open(container: str) -> None:
    state = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    CONTAINERS[container]({name: OfXla(t) for name, t in state.items()}, Path("model"))

    require_same(held(Path("model")), own_reading(Path("model")))
    require_same(held(Path("model")), state)


# What stands beside the weights


LOST = """
import enum
from dataclasses import dataclass, field
from typing import NamedTuple

@dataclass
class Settings:
    lr: float
    classes: list = field(default_factory=list)

class Options:
    pass

class Slotted:
    __slots__ = ("classes",)

class Settable:
    def __setstate__(self, state):
        self.__dict__.update(state)

class AttributeDict(dict):
    pass

class NameList(list):
    pass

class Colour(enum.Enum):
    RED, GREEN, BLUE = 0, 1, 2

class Level(enum.IntEnum):
    LOW, HIGH = 0, 1

class Word(str, enum.Enum):
    YES = "yes"

class Pair(NamedTuple):
    first: int
    second: str

class Optimizer:
    def __init__(self, classes):
        self.state = {0: {"step": 3, "classes": classes}}

def schedule(epoch):
    return 0.1

class Node:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

class DictConfig(Node): pass
class ListConfig(Node): pass
class AnyNode(Node): pass
class Metadata(Node): pass
"""


@contextmanager
def lost() -> Iterator[Any]:
    """A module that is gone once a file is written."""
    module: Any = types.ModuleType("lost")
    sys.modules["lost"] = module
    exec(LOST, vars(module))
    try:
        yield module
    finally:
        del sys.modules["lost"]


def omegaconf(m: Any, value: Any, parent: Any = None) -> Any:
    """What OmegaConf 2.3 keeps of a config: nodes that know their parents."""
    about = m.Metadata(ref_type=Any, key=None, flags={}, resolver_cache=defaultdict(dict))
    if isinstance(value, dict):
        node = m.DictConfig(_metadata=about, _parent=parent, _content={})
        node._content.update({key: omegaconf(m, inner, node) for key, inner in value.items()})
        return node
    if isinstance(value, list):
        node = m.ListConfig(_metadata=about, _parent=parent, _content=[])
        node._content += [omegaconf(m, inner, node) for inner in value]
        return node
    return m.AnyNode(_metadata=about, _parent=parent, _flags_cache=None, _val=value)


def slotted(m: Any) -> Any:
    made = m.Slotted()
    made.classes = list(NAMES)
    return made


def with_attributes(made: Any, **attributes: Any) -> Any:
    vars(made).update(attributes)
    return made


TO_NUMBERS = {name: number for number, name in enumerate(NAMES)}
FROM_NUMBERS = dict(enumerate(NAMES))

HOLDERS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda _: {"classes": list(NAMES)},
    "a tuple": lambda _: {"classes": NAMES},
    "a deque": lambda _: {"classes": deque(NAMES, maxlen=9)},
    "a list of its own class": lambda m: {"classes": m.NameList(NAMES)},
    "an array of text": lambda _: {"classes": np.array(NAMES)},
    "an array of bytes": lambda _: {"classes": np.array(NAMES, dtype="S")},
    "an array of objects": lambda _: {"classes": np.array(NAMES, dtype=object)},
    "text of NumPy": lambda _: {"classes": [np.str_(name) for name in NAMES]},
    "names to numbers": lambda _: {"class_to_idx": TO_NUMBERS},
    "names to numbers of NumPy": lambda _: {
        "class_to_idx": {name: np.int64(number) for name, number in TO_NUMBERS.items()}
    },
    "a Counter": lambda _: {"class_to_idx": Counter(TO_NUMBERS)},
    "an OrderedDict": lambda _: {"class_to_idx": OrderedDict(TO_NUMBERS)},
    "a defaultdict": lambda _: {"class_to_idx": defaultdict(int, TO_NUMBERS)},
    "a UserDict": lambda _: {"config": UserDict(classes=NAMES)},
    "numbers to names": lambda _: {"idx_to_class": FROM_NUMBERS},
    "digits to names": lambda _: {"id2label": {str(n): name for n, name in FROM_NUMBERS.items()}},
    "numbers of NumPy to names": lambda _: {
        "idx_to_class": {np.int32(n): name for n, name in FROM_NUMBERS.items()}
    },
    "another case": lambda _: {"meta": {"CLASSES": NAMES}},
    "deep inside": lambda _: {"a": [{"b": ({"Class_Names": NAMES},)}]},
    "a Namespace": lambda _: {"args": argparse.Namespace(lr=0.1, classes=list(NAMES))},
    "a Namespace in another": lambda _: {
        "args": argparse.Namespace(data=argparse.Namespace(class_names=np.array(NAMES)))
    },
    "a SimpleNamespace": lambda _: {"args": types.SimpleNamespace(classes=list(NAMES))},
    "a dataclass": lambda m: {"hyper_parameters": m.Settings(0.1, list(NAMES))},
    "an object": lambda m: {"opt": with_attributes(m.Options(), classes=NAMES)},
    "an object with slots": lambda m: {"opt": slotted(m)},
    "an object that sets its state": lambda m: {
        "opt": with_attributes(m.Settable(), label_names=NAMES)
    },
    "a dict of its own class": lambda m: {"hyper_parameters": m.AttributeDict(classes=NAMES)},
    "such a dict with attributes": lambda m: {
        "hyper_parameters": with_attributes(m.AttributeDict(lr=0.1), classes=NAMES)
    },
    "OmegaConf": lambda m: {"config": omegaconf(m, {"data": {"lr": 0.1, "classes": list(NAMES)}})},
    "names to numbers of OmegaConf": lambda m: {
        "config": omegaconf(m, {"class_to_idx": TO_NUMBERS})
    },
}


def names_in(path: Path) -> tuple[str, ...]:
    return find_classes(None, read_contents(path), path, len(NAMES)).names


BESIDE = ("zip", "legacy", "pickle of protocol 0", "pickle of protocol 4")


HELD = {(holder, container) for holder in HOLDERS for container in BESIDE} - {
    ("an object with slots", "pickle of protocol 0")  # which cannot hold it
}


@pytest.mark.parametrize(("holder", "container"), sorted(HELD))
def test_class_names_are_found_in_whatever_holds_them(holder: str, container: str) -> None:
    with lost() as module:
        content = {"weights": numbers(), **HOLDERS[holder](module)}
        CONTAINERS[container](content, path := Path("model"))
        expected = own_reading(path)["weights"]

    require_same(held(path, "weights"), expected)
    assert names_in(path) == NAMES


def knot() -> Any:
    inside: list[Any] = [1]
    inside.append({"self": inside})
    return inside


def optimizer() -> Any:
    network = Small()
    made = torch.optim.Adam(network.parameters())
    network(torch.randn(1, 3, 8, 8)).sum().backward()
    made.step()
    return made


EXTRAS: dict[str, Callable[[Any], Any]] = {
    "a path": lambda _: Path("runs/1"),
    "a path of another system": lambda _: PurePosixPath("/data"),
    "a time": lambda _: datetime(2026, 1, 2, tzinfo=UTC),
    "a date and a duration": lambda _: (date(2026, 1, 2), timedelta(days=3)),
    "an enum": lambda m: m.Colour.GREEN,
    "an enum of numbers": lambda m: m.Level.HIGH,
    "an enum of text": lambda m: m.Word.YES,
    "a named tuple": lambda m: m.Pair(1, "x"),
    "a partial": lambda m: functools.partial(m.schedule, 3, name="x"),
    "a function and a class": lambda m: (m.schedule, m.Options, len, dict),
    "a defaultdict of lists": lambda _: defaultdict(list, a=[1]),
    "a defaultdict of its own": lambda m: defaultdict(m.Options, a=1),
    "a Counter": lambda _: Counter("abca"),
    "a deque": lambda _: deque([1, 2], maxlen=3),
    "sets": lambda _: ({1, 2}, frozenset("ab"), set(), frozenset()),
    "a ChainMap": lambda _: ChainMap({"a": 1}, {"b": 2}),
    "numbers of all kinds": lambda _: (1j, 2**70, -(2**70), 1e300, Decimal("1.5"), Fraction(1, 3)),
    "huge numbers": lambda _: {"n": 2**10_000},
    "ranges": lambda _: (range(3), slice(1, 2)),
    "bytes": lambda _: (b"", b"abc\xff", bytearray(b"abc"), bytearray()),
    "an identifier": lambda _: uuid.UUID(int=5),
    "a pattern": lambda _: re.compile("a+"),
    "an error": lambda _: ValueError("no"),
    "an array of Python": lambda _: array.array("f", [1.5]),
    "a logger": lambda _: logging.getLogger("training"),
    "numbers of NumPy": lambda _: [np.float32(1.5), np.int64(3), np.bool_(True), np.complex64(1j)],
    "a long double": lambda _: np.longdouble(1.5),
    "a time of NumPy": lambda _: np.datetime64("2026-01-02"),
    "a duration of NumPy": lambda _: np.timedelta64(3, "s"),
    "times of NumPy": lambda _: np.array(["2026-01-02"], dtype="M8[D]"),
    "a row of a table": lambda _: np.zeros(2, dtype="i4,f4")[0],
    "a table": lambda _: np.zeros(2, dtype=[("a", "i4"), ("b", "U3")]),
    "a masked array": lambda _: np.ma.masked_array([1.0, 2.0], [True, False]),
    "an array of arrays": lambda _: np.array([np.zeros(2), None], dtype=object),
    "text of any length": lambda _: np.array(["a", "bcd"], dtype=np.dtypes.StringDType()),
    "a type of NumPy": lambda _: (np.dtype("f4"), np.dtype("M8[s]"), np.float32),
    "random numbers of NumPy": lambda _: np.random.default_rng(0),
    "the older ones": lambda _: np.random.RandomState(0).get_state(),
    "things of torch": lambda _: [
        torch.float16, torch.Size([1, 2]), torch.device("cuda:1"), torch.strided,
        torch.get_rng_state(),
    ],
    "an optimizer": lambda _: optimizer(),
    "its state": lambda _: optimizer().state_dict(),
    "an optimizer of another library": lambda m: {"optimizer": m.Optimizer(["x", "y", "z"])},
    "a scheduler": lambda m: torch.optim.lr_scheduler.LambdaLR(optimizer(), m.schedule),
    "a module": lambda _: nn.Sequential(nn.LSTM(3, 4), nn.Embedding(3, 4)),
    "a sparse tensor": lambda _: torch.eye(3).to_sparse(),
    "a tensor without values": lambda _: torch.empty(3, device="meta"),
    "a knot": lambda _: knot(),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("container", BESIDE)
@pytest.mark.parametrize("extra", EXTRAS)
def test_what_stands_beside_the_weights_is_no_hindrance(extra: str, container: str) -> None:
    with lost() as module:
        thing = EXTRAS[extra](module)
        content = {"extra": thing, "weights": numbers(), "classes": NAMES}
        CONTAINERS[container](content, path := Path("model"))
        expected = own_reading(path)["weights"]

    require_same(held(path, "weights"), expected)
    assert names_in(path) == NAMES


KEYS: dict[str, Callable[[Any], Any]] = {
    name: EXTRAS[name]
    for name in ("a path", "a time", "an enum", "an enum of text", "a named tuple", "an identifier",
                 "a date and a duration", "numbers of all kinds", "a time of NumPy", "a partial")
} | {"infinity": lambda _: float("inf"), "a huge number": lambda _: 2**20_000}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_anything_may_be_a_key(key: str) -> None:
    with lost() as module:
        thing = KEYS[key](module)
        content = {"labels": {thing: 0}, "idx_to_class": {thing: "x"}, thing: [{thing: thing}],
                   "weights": numbers(), "classes": NAMES}  # fmt: skip
        torch.save(content, path := Path("model"))

    require_same(held(path, "weights"), numbers())
    assert names_in(path) == NAMES


def test_names_in_the_state_of_an_optimizer_are_none_of_classes() -> None:
    with lost() as module:
        wrong = module.Optimizer(["x", "y", "z"])
        torch.save({"optimizer": wrong, "classes": NAMES}, path := Path("model"))

    assert names_in(path) == NAMES


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
    return load_checkpoint(Location(path, "as named"), **options)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as refused:
        opened(path, **options)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("container", ["zip", "pickle of protocol 4"])
def test_a_checkpoint_with_all_of_this_opens(container: str) -> None:
    with lost() as module:
        extras = {name: make(module) for name, make in EXTRAS.items() if name != "a module"}
        config = omegaconf(module, {"data": {"classes": list(NAMES)}})
        content = {"config": config, **extras, "net": {"state_dict": tiny()}}
        CONTAINERS[container](content, path := Path("model"))
    checkpoint = opened(path)

    assert (checkpoint.model, checkpoint.state_key) == ("resnet18", "net.state_dict")
    assert checkpoint.classes.names == NAMES
    require_same({name: checkpoint.state[name] for name in tiny()}, tiny())


# What must never happen


class Call:
    """What unpickling would call; itself such a thing, so that what a call gives may be called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Stateful(Call):
    """The same, with a state, elements and entries for what the call gives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, {"a": 1}, iter([1, 2]), iter([("a", 1)])


class SetBy(Call):
    """What has its state set by a call of any function, as it may be since Python 3.8."""

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), self.arguments[0], None, None, self.function


RUN = "touch ran"
OPEN = "open('ran', 'w')"


@contextmanager
def victim() -> Iterator[Any]:
    """A function of a module that writes a file when it is imported."""
    module: Any = types.ModuleType("victim")
    exec("def thing(): ...", vars(module))
    sys.modules["victim"] = module
    try:
        yield module.thing
    finally:
        del sys.modules["victim"]


def nested(levels: int) -> bytes:
    """A pickle in a pickle in a pickle."""
    data = pickle.dumps(Call(os.system, RUN), 4)
    for _ in range(levels - 1):
        data = pickle.dumps(Call(torch.storage._load_from_bytes, data), 4)
    return data


def calls() -> dict[str, Any]:
    """Programs in a checkpoint."""
    system = Call(getattr, Call(__import__, "os"), "system")
    with victim() as thing:
        imported = pickle.dumps(Call(thing), 2)
    return {
        "a command": Call(os.system, RUN),
        "another process": Call(subprocess.Popen, ["touch", "ran"]),
        "eval": Call(eval, OPEN),
        "exec": Call(exec, OPEN),
        "a chain of attributes": Call(system, RUN),
        "an open file": Call(open, "ran", "w"),
        "what a call gives": Call(Call(Call(functools.partial, os.system)), RUN),
        "a partial": Call(functools.partial(os.system, RUN)),
        "a map": Call(list, Call(map, os.system, [RUN])),
        "a state": Stateful(os.system, RUN),
        "a setter of states": SetBy(os.system, RUN),
        "a key": {Call(os.system, RUN): 1},
        "an element of a set": {Call(os.system, RUN)},
        "arguments of a known class": Call(OrderedDict, Call(os.system, RUN)),
        "a parameter": Call(nn.Parameter, Call(os.system, RUN)),
        "a file in the file": Call(torch.storage._load_from_bytes, nested(1)),
        "a module in it": Call(torch.storage._load_from_bytes, imported),
    }


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name_of(path: str) -> bytes:
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


HEAD = b"\x80\x04"
SYSTEM = name_of("os.system")
RUNS = SYSTEM + text(RUN) + b"\x85R"
CHANGES = b"}" + b"".join(
    text(name) + SYSTEM + b"s" for name in ("call", "__code__", "__call__", "data", "dtype", "path")
)
STATES = {"a dict": CHANGES, "slots": b"N" + CHANGES + b"\x86"}
STATELESS = {
    **{
        f"the name {name}": name_of(name)
        for name in (
            "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Tensor",
            "torch.nn.parameter.Parameter", "torch.storage._load_from_bytes", "torch.FloatStorage",
            "torch.float32", "torch.Size", "torch.device", "torch._tensor._rebuild_from_type_v2",
            "collections.OrderedDict", "collections.defaultdict", "_codecs.encode", "builtins.set",
            "builtins.list", "builtins.dict", "builtins.bytearray", "numpy.dtype", "numpy.ndarray",
            "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar",
            "argparse.Namespace",
        )
    },
    "an OrderedDict": name_of("collections.OrderedDict") + b")R",
    "an array": name_of("numpy.ndarray") + b")R",
    "a new array": name_of("numpy.ndarray") + b")\x81",
    "a type of arrays": name_of("numpy.dtype") + text("f4") + b"\x85R",
    "a list": b"]",
    "a text": text("x"),
    "bytes": b"\x96\x01\0\0\0\0\0\0\0a",
}  # fmt: skip
"""What has no state that a file might set."""

IMPOSSIBLE: dict[str, bytes] = {
    f"{kind} for {name}": HEAD + thing + state + b"b0" + RUNS + b"."
    for name, thing in STATELESS.items()
    for kind, state in STATES.items()
}
OPCODES: dict[str, bytes] = {
    "INST": f"(V{RUN}\nios\nsystem\n.".encode(),
    "OBJ": HEAD + b"(" + SYSTEM + text(RUN) + b"o.",
    "NEWOBJ": HEAD + SYSTEM + text(RUN) + b"\x85\x81.",
    "NEWOBJ_EX": HEAD + SYSTEM + text(RUN) + b"\x85}\x92.",
    "NEWOBJ_EX with words": HEAD + SYSTEM + b")}" + text("cls") + SYSTEM + b"s\x92.",
    "STACK_GLOBAL": HEAD + text("os") + text("system") + b"\x93" + text(RUN) + b"\x85R.",
    "STACK_GLOBAL of numbers": HEAD + RUNS + b"0K\x01K\x02\x93.",
    "STACK_GLOBAL of bytes": HEAD + RUNS + b"0C\x02osC\x06system\x93.",
    "STACK_GLOBAL of a call": HEAD + RUNS + text("system") + b"\x93.",
    "EXT1": HEAD + RUNS + b"0\x82\xf0" + text(RUN) + b"\x85R.",
    "EXT2": HEAD + RUNS + b"0\x83\xf0\0" + text(RUN) + b"\x85R.",
    "EXT4": HEAD + RUNS + b"0\x84\xf0\0\0\0" + text(RUN) + b"\x85R.",
    "BINPERSID": HEAD + RUNS + b"Q.",
    "PERSID": f"(V{RUN}\nios\nsystem\n0Pos.system\n.".encode(),
    "APPENDS to a name": HEAD + SYSTEM + b"(" + text(RUN) + text(RUN) + b"e.",
    "APPEND to a name": HEAD + SYSTEM + text(RUN) + b"a0" + RUNS + b".",
    "SETITEM of a name": HEAD + SYSTEM + text(RUN) + text(RUN) + b"s0" + RUNS + b".",
    "ADDITEMS to a name": HEAD + SYSTEM + b"(" + text(RUN) + b"\x900" + RUNS + b".",
    "a list of a call": HEAD + name_of("builtins.list") + RUNS + b"\x85R.",
    "a buffer that must not grow": HEAD + RUNS + b"0\x96\x01" + bytes(7) + b"a\x94\x98h\0K\x05a.",
    "a buffer from elsewhere": b"\x80\x05" + RUNS + b"0\x97.",
    "no end": HEAD + RUNS,
    "nonsense behind it": HEAD + RUNS + b"0\xff.",
}
"""Pickles that no library writes; each names ``os.system``, and would call it or have it called."""


def in_zip(data: bytes, **parts: bytes) -> bytes:
    """An archive as of torch.save, with a storage of eight zeros."""
    stream = io.BytesIO()
    inside = {"data.pkl": data, "byteorder": b"little", "data/0": bytes(32), "version": b"3\n"}
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part in (inside | parts).items():
            archive.writestr(f"archive/{name}", part)
    return stream.getvalue()


def in_tar(data: bytes) -> bytes:
    """A file of before PyTorch 0.1.10."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def by_torch(thing: Any, **options: Any) -> bytes:
    torch.save(thing, stream := io.BytesIO(), **options)
    return stream.getvalue()


STORAGE = (
    b"(" + text("storage") + name_of("torch.FloatStorage") + text("0") + text("cpu") + b"K\x08t"
)


def attacks() -> dict[str, dict[str, bytes]]:
    """Files that would run something if they could, in groups."""
    in_storage = {k: HEAD + STORAGE + b"Q" + state + b"b0" + RUNS for k, state in STATES.items()}
    not_a_type = STORAGE.replace(name_of("torch.FloatStorage"), SYSTEM)
    scripts = {"constants.pkl": OPCODES["OBJ"]}
    with victim() as thing:
        imported = pickle.dumps(Call(thing), 2)
    return {
        "pickle": {kind: pickle.dumps(thing, 4) for kind, thing in calls().items()},
        "pickle of protocol 0": {kind: pickle.dumps(thing, 0) for kind, thing in calls().items()},
        "zip": {kind: by_torch({"x": thing}) for kind, thing in calls().items()},
        "legacy": {
            kind: by_torch([thing], _use_new_zipfile_serialization=False)
            for kind, thing in calls().items()
        },
        "opcodes": OPCODES,
        "opcodes, zip": {kind: in_zip(data) for kind, data in OPCODES.items()},
        "states of names": IMPOSSIBLE,
        "states of names, zip": {kind: in_zip(data) for kind, data in IMPOSSIBLE.items()},
        "states of a storage": {kind: in_zip(data + b".") for kind, data in in_storage.items()},
        "storages": {"of no type": in_zip(HEAD + not_a_type + b"Q.")},
        "modules": {"one that is beside the file": imported},
        "scripts": {"a command": in_zip(OPCODES["OBJ"], **scripts)},
        "constants": {"of a script": in_zip(b"\x80\x02].", **scripts)},
        "tar": {"of before PyTorch 0.1.10": in_tar(OPCODES["OBJ"])},
        "files in files": {"a hundred": nested(100)},
    }


ATTACKS = attacks()
UNSEEN = ("constants", "tar", "files in files")  # what is never looked at


COMMANDS = {
    "predict": ("predict", "picture.png", "-c", "model"),
    "inspect": ("inspect", "model", "--format", "json"),
    "convert": ("convert", "model", "converted.safetensors"),
    "summary": ("summary", "model"),
}


@pytest.fixture
def watched(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may run, or be imported, or be otherwise than it was."""
    monkeypatch.setitem(vars(copyreg)["_inverted_registry"], 0xF0, ("os", "system"))
    picture(Path("picture.png"))
    Path("model").write_bytes(pickle.dumps(["harmless"]))
    for arguments in COMMANDS.values():  # which import what they need
        run(*arguments)
    Path("victim.py").write_text(OPEN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    before = surroundings()
    yield
    after = surroundings()
    vars(copyreg)["_extension_cache"].clear()
    assert after["modules"] == before["modules"]
    assert [key for key in after if before.get(key) != after[key]] == []


def surroundings() -> dict[Any, Any]:
    """What a file could change."""
    found: dict[Any, Any] = {"modules": {m for m in sys.modules if not m.startswith("encodings.")}}
    for name, module in list(sys.modules.items()):
        # matplotlib's register of colours, which the plot imports, gives copies of what it holds
        if name.partition(".")[0] == "resnet_cli" and not name.endswith(".plot"):
            for key, value in vars(module).items():
                found[name, key] = id(value), *traits(value)
    for thing in (torch._utils._rebuild_tensor_v2, torch.Tensor, OrderedDict, argparse.Namespace):
        found[thing] = traits(thing)
    return found


def traits(value: Any) -> tuple[Any, ...]:
    if isinstance(value, types.FunctionType):
        settings = repr(value.__defaults__), repr(value.__kwdefaults__), repr(vars(value))
        return id(value.__code__), *settings
    if isinstance(value, type):
        return tuple((key, id(inside)) for key, inside in vars(value).items())
    if isinstance(value, Mapping):
        return tuple((str(key), id(v), id(getattr(v, "call", None))) for key, v in value.items())
    return ()


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("group", ATTACKS)
def test_nothing_in_a_file_is_run_or_imported_and_nothing_is_changed(group: str) -> None:
    for name, data in ATTACKS[group].items():
        Path("model").write_bytes(data)
        assert refusal(Path("model")), name
        assert not Path("ran").exists(), name


DANGEROUS = re.compile(r"\.(system|Popen|eval|exec|getattr|open|partial|map|thing)$")


@pytest.mark.parametrize("group", [group for group in ATTACKS if group not in UNSEEN])
def test_inspect_lists_what_a_file_would_import_even_if_it_is_damaged(group: str) -> None:
    for name, data in ATTACKS[group].items():
        Path("model").write_bytes(data)
        listed = inspect_checkpoint(Path("model")).unsafe_globals
        assert any(map(DANGEROUS.search, listed)), name


SOME = [
    ("zip", "a command"),
    ("legacy", "what a call gives"),
    ("pickle of protocol 0", "eval"),
    ("states of a storage", "slots"),
    ("opcodes", "INST"),
    ("modules", "one that is beside the file"),
    *((group, name) for group in UNSEEN for name in ATTACKS[group]),
]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("group", "name"), SOME)
def test_no_command_runs_what_is_in_a_file(run: Run, group: str, name: str) -> None:
    picture(Path("picture.png"))
    Path("model").write_bytes(ATTACKS[group][name])
    for command, arguments in COMMANDS.items():
        result = run(*arguments)
        assert result.exit_code == 1, command
        assert "Error: cannot load model: " in result.stderr
        assert not Path("ran").exists()


def test_a_checkpoint_with_programs_in_it_works_and_they_do_not(run: Run) -> None:
    Path("victim.py").write_text(OPEN)
    picture(Path("picture.png"))
    torch.save({**calls(), "weights": tiny(0.01), "classes": NAMES}, "model")
    results = {name: run(*arguments) for name, arguments in COMMANDS.items()}

    assert {name: result.exit_code for name, result in results.items()} == dict.fromkeys(results, 0)
    assert not Path("ran").exists()
    assert "victim" not in sys.modules
    listed = json.loads(results["inspect"].stdout)["unsafe_globals"]
    assert {"posix.system", "subprocess.Popen", "victim.thing"} <= set(listed)
    assert any(name.endswith(".eval") for name in listed)


# What files claim to hold


def tensor_of(
    size: bytes, stride: bytes, offset: bytes = b"K\0", storage: bytes = STORAGE + b"Q"
) -> bytes:
    """A zip with a tensor of any size, stride and offset, whose storage has eight numbers."""
    start = b"\x80\x02}" + text("layer1.0.conv1.weight")
    rebuild = name_of("torch._utils._rebuild_tensor_v2") + b"(" + storage
    end = b"\x89" + name_of("collections.OrderedDict") + b")RtRs."
    return in_zip(start + rebuild + offset + size + stride + end)


def whole(*values: int) -> bytes:
    """Numbers of any size as a tuple."""
    numbers_ = (value.to_bytes(17, "little", signed=True) for value in values)
    return b"(" + b"".join(b"\x8a\x11" + number for number in numbers_) + b"t"


def array_of(dtype: str, shape: bytes, raw: bytes = b"C\x08" + bytes(8)) -> bytes:
    start = name_of("numpy.core.multiarray._reconstruct") + name_of("numpy.ndarray")
    kind = (
        name_of("numpy.dtype") + text(dtype) + b"\x89\x88\x87R(K\x03" + text("<") + b"NNNJ\xff\xff"
    )
    state = b"(K\x01" + shape + kind + b"\xff\xffJ\xff\xff\xff\xffK\0tb\x89" + raw + b"tb"
    return HEAD + b"}" + text("weight") + start + b"K\0\x85C\x01b\x87R" + state + b"s."


def claimed(opcode: int, bytes_: int, count: int, inside: bytes = b"abc") -> bytes:
    """An opcode that is followed by fewer bytes than it says."""
    return HEAD + bytes([opcode]) + count.to_bytes(bytes_, "little") + inside


def called(name: str, arguments: bytes) -> bytes:
    return HEAD + name_of(name) + arguments + b"R."


def entry_changed(at: int, change: bytes) -> bytes:
    """A zip of torch.save, the directory of which has other bytes at a place of its first entry."""
    data = bytearray(by_torch({"a": torch.zeros(4)}))
    start = data.index(b"PK\x01\x02") + at
    data[start : start + len(change)] = change
    return bytes(data)


def safetensors_of(header: str, length: int | None = None) -> bytes:
    return (
        struct.pack("<Q", len(header) if length is None else length) + header.encode() + bytes(64)
    )


def tensor_entry(dtype: str, shape: list[int], end: int = 64, start: int = 0) -> str:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}})


def exported(**changes: Any) -> bytes:
    """A .pt2 whose description of a weight is changed."""
    meta = {"dtype": 7, "sizes": [{"as_int": 2}], "strides": [{"as_int": 1}],
            "storage_offset": {"as_int": 0}} | changes  # fmt: skip
    entry = {"path_name": "w", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    name = "data/weights/model_weights_config.json"
    return in_zip(
        b"", **{name: json.dumps({"config": {"a": entry}}).encode(), "data/weights/w": bytes(32)}
    )


def deflated(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
    return stream.getvalue()


def of_key(key: str, inside: bytes) -> bytes:
    return HEAD + b"}" + text(key) + inside + b"s."


def repeated(made: bytes, each: bytes, count: int) -> bytes:
    """A dict of things that are made of one another: few bytes say each."""
    start = HEAD + made + b"\x940}("
    return start + b"".join(text(f"{n:05}") + each for n in range(count)) + b"u."


def modules_in_modules(length: int, levels: int) -> bytes:
    """Each is in the next one twice, under long names."""
    names = text("a" * length), text("b" * length)
    empty = text("_parameters") + b"}" + text("_modules")
    data = (
        HEAD
        + name_of("torch.nn.modules.container.Sequential")
        + b"\x940h\0)R}("
        + empty
        + b"}ub\x940"
    )
    for level in range(levels):
        slot = b"j" + struct.pack("<I", level + 1)
        data += b"h\0)R}(" + empty + b"}(" + names[0] + slot + names[1] + slot + b"uub\x940"
    return data + b"j" + struct.pack("<I", levels) + b"."


def repeated_files(levels: int, times: int) -> bytes:
    """A file in a file, each of which is there several times."""
    data = pickle.dumps([[] for _ in range(5000)], 4)
    for _ in range(levels):
        load = name_of("torch.storage._load_from_bytes") + b"\x940"
        held_ = b"B" + struct.pack("<I", len(data)) + data + b"\x940"
        data = HEAD + load + held_ + b"](" + times * b"h\0h\x01\x85R" + b"e."
    return data


VAST = 1 << 60
LIES: dict[str, Build] = {
    "numbers in a storage": lambda: tensor_of(
        whole(4), whole(1), storage=STORAGE.replace(b"K\x08", whole(VAST)[1:-1]) + b"Q"
    ),
    "a storage that is set": lambda: tensor_of(
        whole(4), whole(1), storage=STORAGE + b"QN}" + text("data") + b"K\x05s\x86b"
    ),
    "a type that is set": lambda: tensor_of(
        whole(4), whole(1), storage=STORAGE + b"QN}" + text("dtype") + text("x") + b"s\x86b"
    ),
    "a size beyond": lambda: tensor_of(whole(VAST), whole(1)),
    "a size beyond all": lambda: tensor_of(whole(1 << 70), whole(1)),
    "a negative size": lambda: tensor_of(whole(-4), whole(1)),
    "a stride beyond": lambda: tensor_of(whole(2), whole(VAST)),
    "a stride beyond all": lambda: tensor_of(whole(1), whole(1 << 70)),
    "a negative stride": lambda: tensor_of(whole(3), whole(-1), whole(4)[1:-1]),
    "an offset beyond": lambda: tensor_of(whole(3), whole(1), whole(VAST)[1:-1]),
    "a negative offset": lambda: tensor_of(whole(3), whole(1), whole(-2)[1:-1]),
    "sizes and strides of two lengths": lambda: tensor_of(whole(3, 1), whole(1)),
    "one number repeated": lambda: tensor_of(whole(VAST), whole(0)),
    "one number repeated in all directions": lambda: tensor_of(
        whole(1 << 40, 1 << 40, 1 << 40), whole(0, 0, 0)
    ),
    "nothing, in vast directions": lambda: tensor_of(whole(0, 1 << 40, 1 << 40), whole(1, 1, 1)),
    "nothing, in a direction beyond all": lambda: tensor_of(whole(0, 1 << 70), whole(1, 1)),
    "a thousand dimensions": lambda: tensor_of(whole(*[1] * 1000), whole(*[1] * 1000)),
    "numbers in an older storage": lambda: older_storage(VAST),
    "no number in an older storage": lambda: older_storage(-1),
    "a place in the memo": lambda: HEAD + b"Nr\xff\xff\xff\x7f.",
    "a place in the memo, as text": lambda: b"\x80\x02Np4294967295\n.",
    "a place below the memo": lambda: b"\x80\x02Np-1\n.",
    "text": lambda: claimed(0x8D, 8, VAST),
    "text of 4 GB": lambda: claimed(0x58, 4, (1 << 32) - 1),
    "bytes": lambda: claimed(0x8E, 8, VAST),
    "bytes of 16 GB": lambda: claimed(0x8E, 8, 1 << 34),
    "a bytearray": lambda: claimed(0x96, 8, VAST),
    "a bytearray of 16 GB": lambda: claimed(0x96, 8, 1 << 34),
    "a bytearray by its length": lambda: called("builtins.bytearray", whole(1 << 40)),
    "bytes by their length": lambda: called("builtins.bytes", whole(1 << 40)),
    "a storage by its length": lambda: called("torch.FloatStorage", whole(1 << 40)),
    "a number": lambda: claimed(0x8B, 4, (1 << 31) - 1),
    "a frame": lambda: claimed(0x95, 8, VAST),
    "a string": lambda: claimed(0x54, 4, (1 << 31) - 1),
    "an array": lambda: array_of("f8", whole(VAST)),
    "an array beyond all": lambda: array_of("f8", whole(1 << 70)),
    "an array of vast numbers": lambda: array_of("S1000000000000", whole(1)),
    "an array of arrays": lambda: array_of("f8,(1000000000,)f8", whole(1)),
    "an array of objects": lambda: array_of("i4,O", whole(1)),
    "an array of nothing": lambda: array_of("f8", whole(0, VAST, VAST), b"C\0"),
    "a header": lambda: safetensors_of("{", VAST),
    "a header of 90 MB": lambda: safetensors_of("{", 90 << 20),
    "a safetensors size": lambda: safetensors_of(tensor_entry("F32", [VAST])),
    "a safetensors size of nothing": lambda: safetensors_of(
        tensor_entry("F32", [0, VAST, VAST], 0)
    ),
    "a safetensors offset": lambda: safetensors_of(tensor_entry("F32", [16], VAST + 64, VAST)),
    "safetensors in safetensors": lambda: safetensors_of('{"a":' * 100_000),
    "a part of 4 GB": lambda: entry_changed(20, struct.pack("<II", 0xFFFFFFFE, 0xFFFFFFFE)),
    "a part elsewhere": lambda: entry_changed(42, struct.pack("<I", 0xFFFFFFF0)),
    "a part of a later format": lambda: entry_changed(6, b"\xff"),
    "a part that is packed": lambda: entry_changed(10, b"\x08"),
    "a part that is packed otherwise": lambda: entry_changed(10, b"\x0e"),
    "a part that is locked": lambda: entry_changed(8, b"\x01"),
    "a part of the zip that is packed well": lambda: deflated(HEAD + b"]" * (15 << 20) + b"."),
    "a weight of a .pt2": lambda: exported(sizes=[{"as_int": VAST}]),
    "a weight beyond all of a .pt2": lambda: exported(sizes=[{"as_int": 1 << 70}, {"as_int": 0}],
                                                      strides=[{"as_int": 1}] * 2),
    "a negative weight of a .pt2": lambda: exported(sizes=[{"as_int": -2}]),
    "a weight by its name of a .pt2": lambda: exported(sizes=[{"as_name": "x"}], dtype=[7]),
    "lists in lists": lambda: HEAD + b"]" * 150_000 + b"a" * 149_999 + b".",
    "dicts in dicts": lambda: HEAD + b"}K\x01" * 150_000 + b"}" + b"s" * 150_000 + b".",
    "tuples in tuples": lambda: HEAD + b")" + b"\x85" * 100_000 + b".",
    "tuples in tuples as a key": lambda: HEAD + b"})" + b"\x85" * 400_000 + b"K\x01s.",
    "tuples in tuples in a set": lambda: HEAD + b"\x8f()" + b"\x85" * 400_000 + b"\x90.",
    "tuples in tuples, and something between": lambda: (
        HEAD + b"})" + b"\x85]0" * 160_000 + b"K\x01s."
    ),
    "tuples twice in tuples": lambda: HEAD + b"})" + b"2\x86" * 40 + b"K\x01s.",
    "the same by way of a parameter": lambda: doubled("torch.nn.parameter.Parameter"),
    "the same by way of a list": lambda: (
        HEAD
        + b"}"
        + name_of("builtins.tuple")
        + b"\x940)"
        + b"q\x010]q\x02h\x01ah\x01a0h\0h\x02\x85R" * 40
        + b"K\x01s."
    ),
    "the same in a set": lambda: HEAD + b"\x8f()" + b"2\x86" * 40 + b"\x90.",
    "the same in a set that is called for": lambda: (
        HEAD + name_of("builtins.set") + b"])" + b"2\x86" * 40 + b"a\x85R."
    ),
    "buffers that are no list": lambda: by_torch(
        with_attributes(Small(), _non_persistent_buffers_set=5)
    ),
    "buffers that are a function": lambda: by_torch(
        with_attributes(Small(), _non_persistent_buffers_set=OrderedDict)
    ),
    "calls of calls": lambda: HEAD + name_of("a.b") + b")R" * 100_000 + b".",
    "modules in modules": lambda: modules_in_modules(20_000, 40),
    "a long name over many lists": lambda: of_key("a" * 1_000_000, b"](" + b"]" * 3000 + b"e"),
    "a long name": lambda: of_key("a" * 20_000_000, b"K\x01"),
    "a name of many parts": lambda: of_key("model.1." * 20_000, pickle_of_tensor()),
    "a huge number as a name": lambda: pickle.dumps({2**20_000: 1}),
    "a huge number in a name": lambda: pickle.dumps({(2**20_000,): 1}),
    "a name with a huge number": lambda: by_torch(
        {f"layer1.{number}.conv1.weight": torch.zeros(1) for number in ("0", "1" * 5000)}
    ),
    "an array many times": lambda: pickle.dumps(
        dict.fromkeys(map(str, range(2000)), np.zeros(100_000))
    ),
    "a list of bytes many times": lambda: repeated(
        name_of("builtins.list") + b"\x940B" + struct.pack("<I", 1_000_000) + bytes(1_000_000),
        b"h\0h\x01\x85R", 300,
    ),
    "tensors of one older storage": lambda: by_torch(
        dict(zip(map(str, range(500)), views(300_000), strict=False)),
        _use_new_zipfile_serialization=False,
    ),
    "files in files": lambda: repeated_files(3, 20),
}  # fmt: skip


def views(count: int) -> Iterator[Tensor]:
    """Tensors that have all their numbers in common."""
    values = torch.zeros(count)
    while True:
        yield values.view(-1)


def pickle_of_tensor() -> bytes:
    return pickle.dumps(torch.zeros(1), 4)[2:-1]


def doubled(name: str) -> bytes:
    """Tuples twice in tuples, each given back by a function."""
    start = HEAD + b"}" + name_of(name) + b"\x940" + b"h\0" * 40 + b")"
    return start + b"\x85R2\x86" * 40 + b"K\x01s."


def older_storage(count: int) -> bytes:
    """A file of before 1.6 whose only storage claims so many numbers."""
    data = by_torch({"a": torch.zeros(5)}, _use_new_zipfile_serialization=False)
    return data[:-28] + struct.pack("<q", count) + bytes(20)


READER = """
import json, resource, sys, time
from pathlib import Path
from resnet_cli.checkpoint import Location, load_checkpoint
from resnet_cli.checkpoint.inspection import inspect_checkpoint
from resnet_cli.errors import CheckpointError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for path in map(Path, sys.argv[1:]):
    before, begun = peak(), time.process_time()
    try:
        inspect_checkpoint(path)
        said = repr(load_checkpoint(Location(path, "as named")))
    except CheckpointError as error:
        said = str(error)
    except BaseException as error:
        said = "not clean: " + repr(error)[:200]
    taken = time.process_time() - begun, peak() - before
    print(json.dumps([path.name, said[:2000], *taken]), flush=True)
"""


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, int]]:
    """What was said of each lie, after how many seconds, for how many more KB of memory."""
    folder = tmp_path_factory.mktemp("lies")
    for name, lie in LIES.items():
        (folder / name).write_bytes(lie())
    found: dict[str, tuple[str, float, int]] = {}
    while waiting := [str(folder / name) for name in LIES if name not in found]:
        try:
            done = subprocess.run(
                [sys.executable, "-c", READER, *waiting],
                capture_output=True,
                timeout=30,
                check=False,
            )
            output, ended = done.stdout, f"not clean: the process ended with {done.returncode}"
        except subprocess.TimeoutExpired as error:
            output, ended = error.stdout or b"", "not clean: it takes too long"
        answers = [json.loads(line) for line in output.splitlines()]
        found |= {name: (said, seconds, more) for name, said, seconds, more in answers}
        if len(answers) < len(waiting):
            found[Path(waiting[len(answers)]).name] = ended, 0.0, 0
    return found


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_sizes_is_refused_at_once_and_takes_no_memory(
    readings: dict[str, tuple[str, float, int]], lie: str
) -> None:
    said, seconds, more = readings[lie]

    assert said.startswith("cannot load ")
    assert "\n" not in said
    assert seconds < 2
    assert more < 300 << 10


@pytest.mark.parametrize(
    "data", [b"\xff\xfe{", b'{"id2label": "\xce"}', b"[" * 100_000, b'{"a": 1e999}']
)
@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "model.json", "classes.json", "classes.txt"]
)
def test_a_damaged_file_beside_the_weights_ends_in_a_sentence(name: str, data: bytes) -> None:
    torch.save(tiny(), "model.pth")
    Path(name).write_bytes(data)
    with suppress(CheckpointError, SettingError):
        opened(Path("model.pth"))


# What the user trusts


class Holder:
    """An object that holds a network where only its own class finds it."""

    def __init__(self, **state: Any) -> None:
        self.content = state

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (by_torch(self.content),)


SEEN: list[str] = []
"""What had been said when the class was asked."""


def restore(data: bytes) -> Any:
    SEEN.append(SAID.text)
    content = torch.load(io.BytesIO(data), weights_only=True)
    return types.SimpleNamespace(**content)


class Said(logging.Handler):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


SAID = Said()


@pytest.fixture
def said() -> Iterator[Said]:
    SEEN.clear()
    SAID.text = ""
    logging.getLogger("resnet_cli").addHandler(SAID)
    yield SAID
    logging.getLogger("resnet_cli").removeHandler(SAID)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle of protocol 4"])
def test_what_only_its_own_class_reads_opens_on_the_users_word(container: str, said: Said) -> None:
    CONTAINERS[container](
        {"run": Holder(weights=tiny(), classes=list(NAMES))}, path := Path("model")
    )

    assert "test_pickles.restore" in refusal(path)
    assert SEEN == []
    checkpoint = opened(path, trusted=True)
    assert checkpoint.state_key == "run.weights"
    assert checkpoint.classes.names == NAMES
    require_same({name: checkpoint.state[name] for name in tiny()}, tiny())
    assert "test_pickles.restore" in SEEN[0]  # it was said before it was done


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_trust_is_not_used_where_the_file_opens_without(container: str, said: Said) -> None:
    content = {"run": Holder(), "state_dict": tiny(), "program": Call(os.system, RUN)}
    CONTAINERS[container](content, Path("model"))
    opened(Path("model"), trusted=True)

    assert (SEEN, said.text) == ([], "")
    assert not Path("ran").exists()


def test_the_flag_says_what_it_runs(run: Run, said: Said) -> None:
    torch.save({"run": Holder(weights=tiny(0.01))}, "model")
    picture(Path("picture.png"))
    command = ("predict", "picture.png", "-c", "model")

    assert run(*command).exit_code == 1
    result = run(*command, "--trust-checkpoint")
    assert result.exit_code == 0
    assert "test_pickles.restore" in result.stderr


@pytest.mark.parametrize(("data", "sentence"), [
    (pickle.dumps(Call(torch.load, "nowhere")), "cannot unpickle model: FileNotFoundError"),
    (name_of("no.such.thing") + b".", "cannot unpickle model: ModuleNotFoundError"),
    (in_zip(HEAD + name_of("no.such.thing") + b"."), "cannot unpickle model: "),
])  # fmt: skip
def test_what_cannot_be_unpickled_is_refused_in_a_sentence(data: bytes, sentence: str) -> None:
    Path("model").write_bytes(data)

    assert sentence in refusal(Path("model"), trusted=True)
