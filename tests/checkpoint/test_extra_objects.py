"""Objects beside the weights in a pickle do not prevent loading, and may hold class names."""

import argparse
import array
import functools
import logging
import re
import sys
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pickled import (
    CONTAINERS,
    NAMES,
    Small,
    held,
    names_in,
    numbers,
    opened,
    own_reading,
    require_same,
    tiny,
    with_attributes,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


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


BESIDE = ("zip", "legacy", "pickle of protocol 0", "pickle of protocol 4")


HELD = {(holder, container) for holder in HOLDERS for container in BESIDE} - {
    ("an object with slots", "pickle of protocol 0")  # which cannot hold it
}


@pytest.mark.parametrize(("holder", "container"), sorted(HELD))
def test_class_names_are_found_in_any_container(holder: str, container: str) -> None:
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
def test_objects_beside_the_weights_do_not_prevent_loading(extra: str, container: str) -> None:
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


def test_names_in_the_state_of_an_optimizer_are_not_class_names() -> None:
    with lost() as module:
        wrong = module.Optimizer(["x", "y", "z"])
        torch.save({"optimizer": wrong, "classes": NAMES}, path := Path("model"))

    assert names_in(path) == NAMES


def test_mean_and_deviation_in_an_omegaconf_are_found() -> None:
    with lost() as module:
        config = omegaconf(module, {"data": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}})
        torch.save({"hyper_parameters": config, "state_dict": tiny()}, path := Path("model"))
    checkpoint = opened(path)

    assert checkpoint.preprocess.mean == (0.5, 0.4, 0.3)
    assert checkpoint.preprocess.std == (0.2, 0.2, 0.1)
    assert checkpoint.preprocess_source.endswith("under hyper_parameters.data.mean")


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
