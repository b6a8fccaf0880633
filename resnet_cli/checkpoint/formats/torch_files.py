"""Files of PyTorch and of pickle -> what is in them, with the tensors left in the file.

Formats: the zip archives of ``torch.save`` (since 1.6), TorchScript and ``torch.export``; the older
stream of pickles with the values behind them; a plain ``pickle.dump``.
"""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import IO, Any
from zipfile import BadZipFile

import torch

from resnet_cli.checkpoint.formats.archive import Archive, Parts
from resnet_cli.checkpoint.formats.torch_exports import code_file, exported_parts, settings_in
from resnet_cli.checkpoint.pickle import Reading, read_pickle, storage_of
from resnet_cli.checkpoint.pickle.stand_ins import PickleError
from resnet_cli.checkpoint.pickle.values import Storage, Stored
from resnet_cli.checkpoint.tree import StateDict, walk_containers
from resnet_cli.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older format
DEEPEST = 2  # files in files
PACKED = "__cuda_dependent_attributes__"  # of skorch: a file of torch.save, as bytes
MOST_FILES = 2000  # a plain pickle has one for each tensor, some nine hundred for a ResNet-152


class NoCheckpointError(CheckpointError):
    """An archive of anything else."""


def read_archive(archive: Parts, reading: Reading) -> tuple[str, Any]:
    """Format and contents of an archive.

    Raises:
        CheckpointError: it is damaged, or none of PyTorch.
        PickleError: its pickle is damaged.
    """
    for name, kind, read in ARCHIVES:
        if name in archive:
            return kind, read(archive, reading)
    raise NoCheckpointError("it is a zip archive of other things, no checkpoint")


def read_pickled(archive: Parts, reading: Reading) -> Any:
    """What ``torch.save`` or TorchScript put into an archive."""
    swapped = "byteorder" in archive and archive.text("byteorder") == b"big"
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        kind, key, _ = storage_of(identity)
        if key not in storages:
            storages[key] = Storage(archive.values(f"data/{key}"), kind.dtype, swapped=swapped)
        return storages[key]

    return read_pickle(BytesIO(archive.text("data.pkl")), reading, persistent)


def read_script(archive: Parts, reading: Reading) -> Any:
    """A network of TorchScript; its modules have settings where its code states them."""
    tree = read_pickled(archive, reading)
    # its own classes are defined in the file, and import nothing
    reading.imports -= {name for name in reading.imports if name.startswith("__torch__.")}
    for path, stand_in in reading.stand_ins.items():
        name, kind = code_file(path), path.rpartition(".")[2]
        if name in archive:
            stand_in.settings = settings_in(archive.text(name).decode(errors="replace"), kind)
    return tree


def read_exported(archive: Parts, _: Reading) -> Any:
    """The weights of ``torch.export.save``, by their names."""
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
    return StateDict(tensors, exported_parts(load_json(archive.text("models/model.json"))))


def read_exported_of_old(archive: Parts, reading: Reading) -> Any:
    """The weights of ``torch.export.save`` before PyTorch 2.7: a checkpoint in the archive."""
    return read_nested(archive.text("serialized_state_dict.pt"), reading)


ARCHIVES: tuple[tuple[str, str, Callable[[Parts, Reading], Any]], ...] = (
    ("constants.pkl", "torchscript", read_script),
    ("data.pkl", "pickle-zip", read_pickled),
    ("data/weights/model_weights_config.json", "pt2", read_exported),
    ("serialized_state_dict.pt", "pt2", read_exported_of_old),
)
"""Archives of PyTorch: a part that only they have, format, reader."""

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
    """The value of a description.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_stream(file: IO[bytes], data: memoryview, reading: Reading) -> tuple[str, Any]:
    """Format and contents of a pickle, or of the several that ``torch.save`` wrote before 1.6.

    Raises:
        PickleError: it is damaged.
        CheckpointError: the values behind the pickles are not whole.
    """
    tree = read_pickle(file, reading)
    if tree != MAGIC:
        open_packed(tree, reading)
        return "pickle", tree
    return "pickle-legacy", read_legacy(file, data, reading)


def open_packed(tree: Any, reading: Reading) -> None:
    """Put what is in the bytes that skorch keeps its modules in where the bytes were."""
    for _, container in walk_containers(tree):
        if isinstance(container, dict) and isinstance(container.get(PACKED), bytes):
            container[PACKED] = read_nested(container[PACKED], reading)


def read_legacy(file: IO[bytes], data: memoryview, reading: Reading) -> Any:
    """What ``torch.save`` wrote before 1.6, behind its magic number."""
    read_pickle(file, reading)  # version of the protocol
    read_pickle(file, reading)  # the machine: whatever it was, values are in little-endian order
    storages: dict[str, tuple[Storage, int]] = {}

    def persistent(identity: Any) -> Any:
        match identity:
            case ("module", type() as container, *_):  # a class, with its source
                return container
            case (*_, view) if len(identity) == 6 and view is not None:
                raise TypeError("a view of a storage")
        kind, key, _ = storage_of(identity)
        if key not in storages:
            width = 1 if kind.dtype is None else kind.dtype.itemsize
            storages[key] = Storage(None, kind.dtype), width
        return storages[key][0]

    tree = read_pickle(file, reading, persistent)
    fill_storages(storages, read_pickle(file, reading), data[file.tell() :])
    return tree


def fill_storages(storages: Mapping[str, tuple[Storage, int]], keys: Any, data: memoryview) -> None:
    """Hand the values behind the pickles to their storages, in the order of the keys.

    Raises:
        CheckpointError: there are fewer than announced.
    """
    at = 0
    for key in keys if isinstance(keys, list) else ():
        if key not in storages:
            raise CheckpointError("it has values that belong to nothing: it is damaged")
        storage, width = storages[key]
        size = int.from_bytes(data[at : at + 8], "little", signed=True) * width
        at += 8
        if size < 0 or at + size > len(data):
            raise CheckpointError("the file is cut off: copy or download it again")
        storage.data = data[at : at + size]
        at += size


def read_nested(data: Any, reading: Reading) -> Any:
    """Contents of a file in a file.

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
