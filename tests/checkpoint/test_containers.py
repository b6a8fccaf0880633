"""Every container of tensors: the numbers are those of the library that wrote the file."""

import io
import json
import pickletools
import re
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from conftest import picture
from pickled import (
    CONTAINERS,
    NAMES,
    Save,
    Small,
    State,
    at,
    held,
    legacy,
    names_in,
    numbers,
    own_reading,
    refusal,
    require_same,
    tiny,
)
from resnet_cli.checkpoint.formats import read_contents

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


AROUND: dict[str, Callable[[Any], Any]] = {
    "": lambda s: s,
    "state_dict": lambda s: OrderedDict(epoch=3, state_dict=OrderedDict(s)),
    "0": lambda s: (s,),
    "2.1": lambda s: [None, "x", (1, s, 2.5)],
    "a.0.b": lambda s: {"a": [{"b": s}]},
}


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


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11's own reader
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


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_repacked_checkpoint_opens(method: int) -> None:
    torch.save({"weights": numbers()}, "plain")
    with zipfile.ZipFile("plain") as plain, zipfile.ZipFile("model", "w", method) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))

    assert read_contents(Path("model")).format == "pickle-zip"
    require_same(held(Path("model"), "weights"), held(Path("plain"), "weights"))


WRITTEN_MEANWHILE = """
import sys
from pathlib import Path
from resnet_cli import Classifier
from resnet_cli.errors import CheckpointError
from resnet_cli.run.verify import verify_classifier
classifier = Classifier.load("model", device="cpu")
expected = [p.prob for p in classifier.predict("picture.png")]
Path("model").write_bytes(b"")
assert [p.prob for p in classifier.predict("picture.png")] == expected
try:
    verify_classifier(classifier, ["picture.png"])
except CheckpointError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_run_outlives_its_checkpoint(container: str) -> None:
    CONTAINERS[container](tiny(0.01), Path("model"))
    picture(Path("picture.png"))
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN_MEANWHILE], capture_output=True, text=True, check=False
    )

    assert done.stderr.splitlines()[-1] == "cannot use model: it was written to while it was read"
    assert done.returncode == 1
