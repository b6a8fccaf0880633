"""Files whose sizes, headers or neighbours are false: refused at once, in one sentence."""

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pickled import (
    HEAD,
    STORAGE,
    Build,
    Small,
    by_torch,
    in_zip,
    name_of,
    of_one_hash,
    opened,
    text,
    tiny,
    with_attributes,
)
from resnet_cli.errors import CheckpointError, SettingError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


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


def packed(numbers: bytes, more: int = 0) -> bytes:
    """A packed archive of torch.save, whose storage may claim more bytes than it has."""
    stream = io.BytesIO()
    tensor = tensor_of(whole(2), whole(1))
    with zipfile.ZipFile(io.BytesIO(tensor)) as plain:
        data = plain.read("archive/data.pkl")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", numbers)
        archive.infolist()[1].file_size += more
    return stream.getvalue()


def tuples_of(between: bytes) -> bytes:
    """A key that is a tuple in a tuple in a tuple, with something else made before each."""
    return HEAD + b"}K\x01" + (between + b"\x86") * 100_000 + b"Ns."


def spelt() -> bytes:
    """A list of thirty lists, each twice in the next, that is to be turned into bytes."""
    data = HEAD + b"]q\x00"
    for level in range(1, 31):
        data += b"0]q" + bytes([level]) + b"(" + 2 * (b"h" + bytes([level - 1])) + b"e"
    return data + b"0c_codecs\nencode\nh\x1e\x85R."


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
    "tuples in tuples with calls between": lambda: tuples_of(name_of("builtins.list") + b")R"),
    "tuples in tuples with lists between": lambda: tuples_of(b"]"),
    "a long tuple as many keys": lambda: (
        HEAD + b"}(" + b"K\x01" * 100_000 + b"tq\x000" + b"h\x00Ns" * 100_000 + b"."
    ),
    "tuples that a function hands on": lambda: doubled("numpy.core.multiarray.scalar"),
    "a list of lists spelt as bytes": spelt,
    "numbers in a zip that are packed well": lambda: packed(bytes(64 << 20)),
    "numbers in a packed zip that are fewer than it says": lambda: packed(bytes(8), more=1 << 50),
    "a part of the zip that is packed well": lambda: deflated(HEAD + b"]" * (15 << 20) + b"."),
    "a weight of a .pt2": lambda: exported(sizes=[{"as_int": VAST}]),
    "a weight beyond all of a .pt2": lambda: exported(sizes=[{"as_int": 1 << 70}, {"as_int": 0}],
                                                      strides=[{"as_int": 1}] * 2),
    "a negative weight of a .pt2": lambda: exported(sizes=[{"as_int": -2}]),
    "a weight by its name of a .pt2": lambda: exported(sizes=[{"as_name": "x"}], dtype=[7]),
    "lists in lists": lambda: HEAD + b"]" * 60_000 + b"a" * 59_999 + b".",
    "dicts in dicts": lambda: HEAD + b"}K\x01" * 60_000 + b"}" + b"s" * 60_000 + b".",
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
    "calls of calls": lambda: HEAD + name_of("a.b") + b")R" * 50_000 + b".",
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
    "keys of one hash": lambda: HEAD + b"}(" + b"".join(of_one_hash(30_000, b"N")) + b"u.",
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
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import Location
from resnet_cli.checkpoint.inspect import inspect_checkpoint
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
def test_a_false_size_is_refused_at_once_without_memory(
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
