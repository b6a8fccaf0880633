"""A checkpoint file -> Contents: its tree of tensors and metadata, running nothing.

FORMATS tells a format by the first bytes of the file, never by its name.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from safetensors import SafetensorError, safe_open

from resnet_cli.checkpoint.formats.archive import Archive, Unpacked, map_file
from resnet_cli.checkpoint.formats.caffe import apply_prototxt, is_caffemodel, read_caffemodel
from resnet_cli.checkpoint.formats.identify import UNKNOWN, identify_head, identify_zip
from resnet_cli.checkpoint.formats.torch_files import (
    NoCheckpointError,
    exported_metadata,
    read_archive,
    read_nested,
    read_stream,
)
from resnet_cli.checkpoint.pickle import Reading
from resnet_cli.checkpoint.pickle.stand_ins import PickleError
from resnet_cli.checkpoint.tensors import name_sharded
from resnet_cli.checkpoint.tree import Contents
from resnet_cli.errors import CheckpointError, describe


class UnreadableError(CheckpointError):
    """A file of a known format that cannot be read completely."""

    def __init__(self, message: str, format: str, imports: Iterable[str] = ()) -> None:
        """Store what is known of the file.

        Args:
            message: for the user.
            format: of the file.
            imports: what unpickling would import.
        """
        super().__init__(message)
        self.format, self.imports = format, tuple(sorted(imports))


ZIP = b"PK\x03\x04"
HEAD = 1536  # bytes that show the format; the tar of the oldest checkpoints needs 1286
SAFETENSORS_HEADER = 100 << 20  # bytes at most, as its library has it
PICKLE_STARTS = b"(]}c"  # of protocol 0, which is text: a tuple, list, dict, or an object

DAMAGED = (
    "it is not a readable torch checkpoint (is it damaged?): save a state dict with torch.save"
)
JOBLIB = b"joblib.numpy_pickle"
BY_JOBLIB = (
    "it holds arrays of NumPy as joblib keeps them: load it with joblib.load, make tensors of them "
    "and save those with torch.save"
)
CUT_OFF = "the file is cut off: copy or download it again"


DAMAGES = (PickleError, LookupError, ValueError, TypeError, AttributeError, NotImplementedError,
           RuntimeError, zlib.error)  # fmt: skip
"""Exceptions that damaged archives cause in their readers, such as Python's zipfile."""


def is_safetensors(head: bytes) -> bool:
    """Return whether a file starts with eight bytes of length and a JSON header of that length.

    A header that claims to be longer than the library allows still counts if it lists tensors.
    """
    short = int.from_bytes(head[:8], "little") <= SAFETENSORS_HEADER
    return head[8:9] == b"{" and (short or b'"data_offsets"' in head)


def is_pickle(head: bytes) -> bool:
    """Return whether a file starts as a pickle of protocols 2 to 5, or of protocol 0."""
    return (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head[:1] in tuple(
        bytes([start]) for start in PICKLE_STARTS
    )


def read_contents(path: Path) -> Contents:
    """Read a checkpoint file.

    Raises:
        CheckpointError: it is not a checkpoint; the message says what it is.
        OSError: the file cannot be opened.
    """
    if path.name.endswith(INDEX):
        return read_named(path, read_shards)
    if is_unpacked(path.parent) and path.name == PICKLED:
        return read_named(path, read_unpacked)
    refuse_part(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    for recognises, read in FORMATS:
        if recognises(head):
            return read_named(path, read)
    if path.suffix.lower() == ".safetensors" and identify_head(head) == UNKNOWN:
        return read_named(path, read_safetensors)
    raise CheckpointError(f"cannot load {path}: {identify_head(head)}")


def read_named(path: Path, read: Callable[[Path], Contents]) -> Contents:
    """Read a file, and put its name in front of the message of any error."""
    try:
        return read(path)
    except UnreadableError as error:
        message = f"cannot load {path}: {error}"
        raise UnreadableError(message, error.format, error.imports) from error
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error


INDEX = ".index.json"

PICKLED = "data.pkl"  # the pickle in an archive of torch.save
OF_DEEPSPEED = "mp_rank_*_model_states.pt"

DISTRIBUTED = (
    "it is of torch.distributed.checkpoint: make one file of it with 'python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch {0} model.pth'"
)
PARTITIONED = (
    "it is of DeepSpeed's ZeRO-3, which keeps a part of the weights a process: put them together "
    "with 'python zero_to_fp32.py . model', whose script is in the folder above"
)


def is_unpacked(folder: Path) -> bool:
    """Return whether an archive of torch.save was unpacked into a folder."""
    return (folder / PICKLED).is_file() and (folder / "data").is_dir()


def refuse_part(path: Path) -> None:
    """Refuse a file that holds a part of a checkpoint.

    Raises:
        CheckpointError: it is such a part.
    """
    if path.suffix == ".distcp":
        folder = path.absolute().parent
        raise CheckpointError(f"cannot load {path}: {DISTRIBUTED.format(folder)}")
    if fnmatch(path.name, f"zero_pp_rank_*_{OF_DEEPSPEED}"):
        raise CheckpointError(f"cannot load {path}: {PARTITIONED}")


def shards_of_index(index: Path) -> list[Path]:
    """Return the files that an index of shards names, each once.

    Raises:
        CheckpointError: it is not such an index, or names files in other folders.
    """
    try:
        table: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = list(dict.fromkeys(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("it is not an index of the shards of a checkpoint") from error
    paths = [index.with_name(name) for name in names if is_plain_name(name)]
    if len(paths) < len(names) or not paths:
        raise CheckpointError("its index names files that are not beside it")
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"its shard {path.name} is missing")
    return paths


def is_plain_name(name: Any) -> bool:
    """Return whether a name is that of a file in the same folder."""
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", "..")
        and not name.endswith(INDEX)
    )


def read_shards(path: Path) -> Contents:
    """Read the files that an index names into one tree."""
    files = shards_of_index(path)
    parts = [read_contents(file) for file in files]
    if not all(isinstance(part.tree, Mapping) for part in parts):
        raise CheckpointError("its shards hold no state dicts")
    return Contents(
        parts[0].format,
        {key: value for part in parts for key, value in part.tree.items()},
        imports=tuple(sorted({name for part in parts for name in part.imports})),
        files=(path, *files),
    )


def read_safetensors(path: Path) -> Contents:
    """Map the tensors of a safetensors file into memory."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            return Contents("safetensors", tensors, dict(file.metadata() or {}))
    except SafetensorError as error:
        damage = describe_damage(path) or describe(error)
        raise CheckpointError(
            f"a damaged safetensors file ({damage}): copy or download it again"
        ) from error


def describe_damage(path: Path) -> str | None:
    """Say by how much a safetensors file is too short; None where it is not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > max(size - 8, 0):
        return f"its header should be {length:,} bytes long, and the file has {size:,}"
    return None


def read_zip(path: Path) -> Contents:
    """Read an archive of torch.save, TorchScript or torch.export."""
    reading = Reading(read_nested)
    with path.open("rb") as file:
        try:
            archive = Archive(file, map_file(path))
            kind, tree = read_archive(archive, reading)
            metadata = exported_metadata(archive)
        except BadZipFile as error:
            raise CheckpointError(CUT_OFF) from error
        except NoCheckpointError as error:
            raise CheckpointError(identify_zip(archive.names) or str(error)) from error
        except DAMAGES as error:
            message = name_sharded(reading.imports) or DAMAGED
            raise UnreadableError(message, "pickle-zip", reading.imports) from error
    return Contents(kind, tree, metadata, imports=tuple(sorted(reading.imports)))


def read_pickle(path: Path) -> Contents:
    """Read a pickle, of torch.save before 1.6 or of pickle.dump."""
    reading = Reading(read_nested)
    with path.open("rb") as file:
        try:
            kind, tree = read_stream(file, map_file(path), reading)
        except (PickleError, TypeError) as error:
            file.seek(0)
            head = file.read(HEAD)
            if JOBLIB in head:
                raise CheckpointError(BY_JOBLIB) from error
            if head[:1] == b"\x80" or reading.imports:
                raise UnreadableError(DAMAGED, "pickle", reading.imports) from error
            raise CheckpointError(identify_head(head)) from error
    return Contents(kind, tree, imports=tuple(sorted(reading.imports)))


def read_caffe(path: Path) -> Contents:
    """Read a model of Caffe, and the .prototxt beside it, which has strides and pools too."""
    state = read_caffemodel(path)
    stem = path.stem.removesuffix("-model")
    for name in (f"{path.stem}.prototxt", f"{stem}-deploy.prototxt", "deploy.prototxt"):
        beside = path.with_name(name)
        if beside.is_file():
            try:
                state = apply_prototxt(state, beside.read_text(encoding="utf-8", errors="replace"))
            except CheckpointError as error:
                raise CheckpointError(f"{beside} does not describe it: {error}") from error
            break
    return Contents("caffemodel", state)


def read_unpacked(path: Path) -> Contents:
    """Read the folder around a ``data.pkl`` into which an archive was unpacked."""
    reading = Reading(read_nested)
    try:
        kind, tree = read_archive(Unpacked(path.parent), reading)
    except DAMAGES as error:
        raise UnreadableError(DAMAGED, "unpacked", reading.imports) from error
    files = (path, *sorted(file for file in (path.parent / "data").rglob("*") if file.is_file()))
    return Contents(kind, tree, imports=tuple(sorted(reading.imports)), files=files)


FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[Path], Contents]], ...] = (
    (is_safetensors, read_safetensors),
    (lambda head: head.startswith(ZIP), read_zip),
    (is_pickle, read_pickle),
    (is_caffemodel, read_caffe),
)
"""Formats in the order they are tried: test of the first bytes, reader."""
