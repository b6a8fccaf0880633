"""Nothing in a file is run or imported, whatever it contains."""

import argparse
import copyreg
import functools
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import Run, picture
from pickled import (
    HEAD,
    NAMES,
    RUN,
    STORAGE,
    Call,
    by_torch,
    in_zip,
    name_of,
    refusal,
    text,
    tiny,
)
from resnet_cli.checkpoint.inspect import inspect_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


class Stateful(Call):
    """The same, with a state, elements and entries for what the call gives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, {"a": 1}, iter([1, 2]), iter([("a", 1)])


class SetBy(Call):
    """What has its state set by a call of any function, as it may be since Python 3.8."""

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), self.arguments[0], None, None, self.function


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


def in_tar(data: bytes) -> bytes:
    """A file of before PyTorch 0.1.10."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


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
    "evaluate": ("evaluate", "photos", "-c", "model"),
}


def photos() -> None:
    """What the commands look at: a picture, and a folder of them for each class."""
    picture(Path("picture.png"))
    Path("photos/ant").mkdir(parents=True, exist_ok=True)
    picture(Path("photos/ant/one.png"))


@pytest.fixture
def watched(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may run, or be imported, or be otherwise than it was."""
    monkeypatch.setitem(vars(copyreg)["_inverted_registry"], 0xF0, ("os", "system"))
    photos()
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
    photos()
    Path("model").write_bytes(ATTACKS[group][name])
    for command, arguments in COMMANDS.items():
        result = run(*arguments)
        assert result.exit_code == 1, command
        assert "Error: cannot load model: " in result.stderr
        assert not Path("ran").exists()


def test_a_checkpoint_with_programs_loads_without_running_them(run: Run) -> None:
    Path("victim.py").write_text(OPEN)
    photos()
    torch.save({**calls(), "weights": tiny(0.01), "classes": NAMES}, "model")
    results = {name: run(*arguments) for name, arguments in COMMANDS.items()}

    assert {name: result.exit_code for name, result in results.items()} == dict.fromkeys(results, 0)
    assert not Path("ran").exists()
    assert "victim" not in sys.modules
    listed = json.loads(results["inspect"].stdout)["unsafe_globals"]
    assert {"posix.system", "subprocess.Popen", "victim.thing"} <= set(listed)
    assert any(name.endswith(".eval") for name in listed)
