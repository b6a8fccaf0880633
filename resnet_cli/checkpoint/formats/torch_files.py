"""Files of PyTorch and of pickle -> their contents, with the tensors left in the file.

Formats: the zip archives of ``torch.save`` (since 1.6), TorchScript and ``torch.export``; the older
stream of pickles followed by the values; a plain ``pickle.dump``. TorchScript states the settings
of its modules in code, ``torch.export`` in a graph: both are parsed, not run.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import IO, Any
from zipfile import BadZipFile

import torch

from resnet_cli.checkpoint.formats.archive import Archive, Parts
from resnet_cli.checkpoint.pickle import Reading, read_pickle
from resnet_cli.checkpoint.pickle.stand_ins import PickleError
from resnet_cli.checkpoint.tensors import Storage, Stored
from resnet_cli.checkpoint.tree import Part, StateDict, walk_containers
from resnet_cli.errors import CheckpointError
from resnet_cli.graph.description import DAMAGED, KEY, description_from, is_text

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
DEEPEST = 2  # files in files
PACKED = "__cuda_dependent_attributes__"  # skorch stores a file of torch.save under it, as bytes
MOST_FILES = 2000  # a plain pickle has one per tensor, about 900 for a ResNet-152


class NoCheckpointError(CheckpointError):
    """A zip archive that is not one of PyTorch."""


def read_archive(archive: Parts, reading: Reading) -> tuple[str, Any]:
    """Read an archive: its format, and its contents.

    Raises:
        CheckpointError: it is damaged, or not of PyTorch.
        PickleError: its pickle is damaged.
    """
    for name, kind, read in ARCHIVES:
        if name in archive:
            return kind, read(archive, reading)
    raise NoCheckpointError("it is a zip archive of other things, not a checkpoint")


def read_pickled(archive: Parts, reading: Reading) -> Any:
    """Read what ``torch.save`` or TorchScript put into an archive."""
    swapped = "byteorder" in archive and archive.text("byteorder") == b"big"
    storages: dict[str, Storage] = {}
    tree = read_pickle(BytesIO(archive.text("data.pkl")), reading, storages)
    for key, storage in storages.items():
        storage.data, storage.swapped = archive.values(f"data/{key}"), swapped
    return tree


def read_script(archive: Parts, reading: Reading) -> Any:
    """Read a network of TorchScript; its modules get the settings that its code states."""
    tree = read_pickled(archive, reading)
    # its own classes are defined in the file and import nothing
    reading.imports -= {name for name in reading.imports if name.startswith("__torch__.")}
    for path, stand_in in reading.stand_ins.items():
        name, kind = code_file(path), path.rpartition(".")[2]
        if name in archive:
            stand_in.settings = settings_in(archive.text(name).decode(errors="replace"), kind)
    return tree


def read_exported(archive: Parts, _: Reading) -> Any:
    """Read the weights of ``torch.export.save``, by their names."""
    table = load_json(archive.text("data/weights/model_weights_config.json"))
    swapped = "byteorder" in archive and archive.text("byteorder") == b"big"
    tensors = {}
    for name, entry in table["config"].items():
        data = archive.values(f"data/weights/{entry['path_name']}")
        if entry.get("use_pickle"):
            raise CheckpointError("its weights are pickled: export it from the CPU")
        meta = entry["tensor_meta"]
        storage = Storage(data, EXPORTED_TYPES[meta["dtype"]], swapped=swapped)
        size, stride = ([side["as_int"] for side in meta[key]] for key in ("sizes", "strides"))
        view = Stored.view(storage, meta["storage_offset"]["as_int"], size, stride)
        tensors[name] = view.tensor()
    if RECORD in archive:  # which states what tensors do not show
        return {
            name.rpartition(WRAPPED)[2]: one for name, one in tensors.items() if WRAPPED in name
        }
    return StateDict(tensors, exported_parts(load_json(archive.text("models/model.json"))))


def exported_metadata(archive: Parts) -> dict[str, str]:
    """Return what ``resnet-cli export`` stated in a file of ``torch.export``, if it is one.

    Raises:
        CheckpointError: it is damaged, or of a newer version of this program.
    """
    if RECORD not in archive:
        return {}
    text = archive.text(RECORD).decode(errors="replace")
    description_from({KEY: text})
    metadata = json.loads(text).get("metadata")
    if not isinstance(metadata, dict) or not all(map(is_text, metadata.values())):
        raise CheckpointError(DAMAGED)
    return metadata


def read_exported_of_old(archive: Parts, reading: Reading) -> Any:
    """Read the weights of ``torch.export.save`` before PyTorch 2.7: a checkpoint in the archive."""
    return read_nested(archive.text("serialized_state_dict.pt"), reading)


ARCHIVES: tuple[tuple[str, str, Callable[[Parts, Reading], Any]], ...] = (
    ("constants.pkl", "torchscript", read_script),
    ("data.pkl", "pickle-zip", read_pickled),
    ("data/weights/model_weights_config.json", "pt2", read_exported),
    ("serialized_state_dict.pt", "pt2", read_exported_of_old),
)
"""Archives of PyTorch: a part that only this format has, format, reader."""

RECORD = f"extra/{KEY}"  # of this program, in an archive of ``torch.export``
WRAPPED = "network."  # behind which are the names of its tensors; the others normalise

EXPORTED_TYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""``ScalarType`` of ``torch._export.serde.schema``."""


def load_json(data: bytes) -> Any:
    """Parse a description.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_stream(file: IO[bytes], data: memoryview, reading: Reading) -> tuple[str, Any]:
    """Read a pickle, or the several that ``torch.save`` wrote before 1.6: format and contents.

    Raises:
        PickleError: it is damaged.
        CheckpointError: the values behind the pickles are incomplete.
    """
    tree = read_pickle(file, reading)
    if tree != MAGIC:
        open_packed(tree, reading)
        return "pickle", tree
    return "pickle-legacy", read_legacy(file, data, reading)


def open_packed(tree: Any, reading: Reading) -> None:
    """Replace the bytes in which skorch stores its modules by their contents."""
    for _, container in walk_containers(tree):
        if isinstance(container, dict) and isinstance(container.get(PACKED), bytes):
            container[PACKED] = read_nested(container[PACKED], reading)


def read_legacy(file: IO[bytes], data: memoryview, reading: Reading) -> Any:
    """Read what ``torch.save`` wrote before 1.6, behind its magic number."""
    read_pickle(file, reading)  # version of the protocol
    read_pickle(file, reading)  # the machine; values are little-endian whatever it was
    storages: dict[str, Storage] = {}
    tree = read_pickle(file, reading, storages)
    fill_storages(storages, read_pickle(file, reading), data[file.tell() :])
    return tree


def fill_storages(storages: Mapping[str, Storage], keys: Any, data: memoryview) -> None:
    """Give the values behind the pickles to their storages, in the order of the keys.

    Raises:
        CheckpointError: there are fewer than the file announces.
    """
    at = 0
    for key in keys if isinstance(keys, list) else ():
        if key not in storages:
            raise CheckpointError("it has values that belong to nothing: it is damaged")
        storage = storages[key]
        width = 1 if storage.dtype is None else storage.dtype.itemsize
        size = int.from_bytes(data[at : at + 8], "little", signed=True) * width
        at += 8
        if size < 0 or at + size > len(data):
            raise CheckpointError("the file is cut off: copy or download it again")
        storage.data = data[at : at + size]
        at += size


def read_nested(data: Any, reading: Reading) -> Any:
    """Read the contents of a file in a file.

    Raises:
        TypeError, PickleError, CheckpointError: it cannot be read.
    """
    reading.files += 1
    if not isinstance(data, bytes) or reading.nested >= DEEPEST or reading.files > MOST_FILES:
        raise TypeError("no file in the file")
    reading.nested += 1
    try:
        stream, view = BytesIO(data), memoryview(data)
        if data.startswith(b"PK"):
            return read_archive(Archive(stream, view), reading)[1]
        return read_stream(stream, view, reading)[1]
    except BadZipFile as error:
        raise PickleError(str(error)) from error
    finally:
        reading.nested -= 1


SIDES = r"\[(\d+), \d+\]"

CONVOLUTION = re.compile(rf"(?:conv2d|_convolution)\(\w+, \w+, \w+, {SIDES}, {SIDES}, {SIDES}")
POOL = re.compile(rf"\(\w+, {SIDES}, {SIDES}, {SIDES}, {SIDES}(?:, (True|False))?")
NORM = re.compile(r"batch_norm\([^()]*?, ([\d.]+(?:e-\d+)?)(?:, (?:True|False))?,? ?\)")


CALL = re.compile(r"\b(?:torch|ops\.\w+)\.([a-z]\w*)\(")
RETURN = re.compile(r"\n\s+return ([^\n]*)")


def code_file(path: str) -> str:
    """Return the file in an archive that defines a class.

    ``__torch__.torch.nn.modules.conv.Conv2d`` is in ``code/__torch__/torch/nn/modules/conv.py``.
    """
    return "code/" + path.rpartition(".")[0].replace(".", "/") + ".py"


def settings_in(code: str, kind: str) -> dict[str, Any]:
    """Read the settings of a class of modules from its code."""
    body = code.partition(f"class {kind}(")[2].partition("\nclass ")[0]
    for ending, (pattern, read) in READERS.items():
        match = pattern.search(body) if kind.startswith(ending) else None
        if match:
            return read(match)
    return read_calls(body.partition("def forward(")[2].partition("\n  def ")[0])


def read_calls(forward: str) -> dict[str, Any]:
    """Return the operators that the code of a module calls, and the one whose value it returns."""
    calls = tuple(dict.fromkeys(name.rstrip("_") for name in CALL.findall(forward)))
    if not calls:
        return {}
    returned = RETURN.findall(forward)
    value = returned[-1] if returned else ""
    assigned = re.findall(rf"\n\s+{re.escape(value)} = ([^\n]*)", forward) if value else []
    last = CALL.match(assigned[-1] if assigned else value)
    return {"calls": calls, "returns": last[1].rstrip("_") if last else ""}


def read_convolution(match: re.Match[str]) -> dict[str, Any]:
    """Read stride, padding and dilation."""
    stride, padding, dilation = map(int, match.groups())
    return {"stride": stride, "padding": padding, "dilation": dilation}


def read_pool(match: re.Match[str]) -> dict[str, Any]:
    """Read kernel, stride, padding, and whether sizes are rounded up."""
    kernel, stride, padding, _ = map(int, match.groups()[:4])
    return {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": match[5] == "True",
    }


def read_norm(match: re.Match[str]) -> dict[str, Any]:
    """Read epsilon."""
    return {"eps": float(f"{float(match[1]):.12g}")}  # 1.0000000000000001e-05


READERS: Mapping[str, tuple[re.Pattern[str], Callable[[re.Match[str]], dict[str, Any]]]] = {
    "Conv2d": (CONVOLUTION, read_convolution),
    "MaxPool2d": (POOL, read_pool),
    "BatchNorm": (NORM, read_norm),
}
"""Classes whose settings are read, by the beginning of their names."""


WANTED = {
    "torch.ops.aten.conv2d.default": ("Conv2d", ("stride", "padding", "dilation")),
    "torch.ops.aten.batch_norm.default": ("BatchNorm2d", ("eps",)),
    "torch.ops.aten.max_pool2d.default": (
        "MaxPool2d",
        ("kernel_size", "stride", "padding", "ceil_mode"),
    ),
}
"""Operators whose settings are read: the module they come from, and their arguments."""

DEFAULTS: Mapping[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
"""Defaults of torch's operators; the graph leaves out arguments that were not given."""


PASSED_ON = frozenset({"dropout", "flatten", "view", "reshape", "squeeze", "alias", "contiguous"})
"""Operators that do not change values."""


def exported_parts(model: Mapping[str, Any]) -> dict[str, Part]:
    """Return the modules of an exported network by name; a pool has the name of its node.

    Args:
        model: the description in the archive.
    """
    module = model["graph_module"]
    names = dict(weight_names(module["signature"]["input_specs"]))
    nodes = module["graph"]["nodes"]
    calls = [operator_name(node) for node in nodes]
    last = next((name for name in reversed(calls) if name not in PASSED_ON), "")
    whole = Part("ExportedProgram", {"calls": tuple(dict.fromkeys(calls)), "returns": last})
    return {"": whole} | {
        name: part
        for node in nodes
        if node["target"] in WANTED
        for name, part in [describe_node(node, names)]
    }


def operator_name(node: Mapping[str, Any]) -> str:
    """Return the bare name of a node's operator: ``relu`` for ``torch.ops.aten.relu_.default``."""
    return str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0].strip("_")


def weight_names(specs: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the names of weights in the graph, and in the network."""
    for spec in specs:
        parameter = spec.get("parameter")
        if parameter is not None:
            yield parameter["arg"]["name"], parameter["parameter_name"]


def describe_node(node: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, Part]:
    """Return name and settings of the module behind a node."""
    kind, wanted = WANTED[node["target"]]
    given = {entry["name"]: entry["arg"] for entry in node["inputs"]}
    weight = given.get("weight", {}).get("as_tensor", {}).get("name")
    name = names.get(weight, "")
    settings = {key: argument_value(given[key]) for key in wanted if key in given}
    settings = {key: DEFAULTS[key] for key in wanted if key in DEFAULTS} | settings
    own = name.removesuffix(".weight") or node["outputs"][0]["as_tensor"]["name"]
    return own, Part(kind, settings)


def argument_value(argument: Mapping[str, Any]) -> Any:
    """Return the value of an argument: a number, or one for each side."""
    value = next(iter(argument.values()))
    return tuple(value) if isinstance(value, list) else value
