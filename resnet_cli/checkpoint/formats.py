"""A checkpoint file -> the tensors and extras in it, running nothing.

A format is told by the first bytes of the file, never by its name.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open

from resnet_cli.errors import CheckpointError, describe


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, before anyone says what it means."""

    format: str
    tree: Any  # tensors in dicts and lists, as they were saved
    metadata: dict[str, str]  # of a safetensors file


LFS_POINTER = b"version https://git-lfs"
ZIP = b"PK\x03\x04"
SAFETENSORS_HEADER = 100 << 20  # bytes at most, says its library


def is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, and the JSON header that is so long."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= SAFETENSORS_HEADER


def read_contents(path: Path) -> Contents:
    """Read a checkpoint file.

    Raises:
        CheckpointError: it is no checkpoint; the message says what it is instead.
        OSError: it cannot be opened.
    """
    if path.is_dir():
        raise CheckpointError(f"cannot load {path}: it is a folder, name a checkpoint file")
    with path.open("rb") as file:
        head = file.read(512)
    for name, recognises, read in FORMATS:
        if recognises(head):
            return read(path, name)
    raise CheckpointError(f"cannot load {path}: {nature(head)}")


def read_safetensors(path: Path, kind: str) -> Contents:
    """Map the tensors of a safetensors file into memory."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            return Contents(kind, tensors, dict(file.metadata() or {}))
    except SafetensorError as error:
        raise CheckpointError(
            f"cannot load {path}: a damaged safetensors file ({describe(error)}): "
            "copy or download it again"
        ) from error


def read_torch(path: Path, name: str) -> Contents:
    """Read what ``torch.save`` wrote; only tensors and plain containers are ever built."""
    if name == "pickle-zip":
        check_archive(path)
    try:
        tree = torch.load(
            path, map_location="cpu", weights_only=True, mmap=True if name == "pickle-zip" else None
        )
    # torch.load raises nearly anything on bytes that are no checkpoint
    except (UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, TypeError,
            AttributeError, ImportError, MemoryError, AssertionError) as error:  # fmt: skip
        raise CheckpointError(f"cannot load {path}: {complaint(error)}") from error
    return Contents(name, tree, {})


def check_archive(path: Path) -> None:
    """Refuse a zip archive that is cut off, or that holds a program instead of tensors."""
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except BadZipFile as error:
        raise CheckpointError(
            f"cannot load {path}: the file is cut off: copy or download it again"
        ) from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointError(
            f"cannot load {path}: it is a TorchScript archive: save a state dict, "
            "torch.save(model.state_dict(), …)"
        )
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"cannot load {path}: its parts are compressed, which torch.save never does: "
            "is it an archive around a checkpoint?"
        )


def complaint(error: Exception) -> str:
    """Turn torch.load's essays into a sentence."""
    if name := re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error)):
        return f"it would import {name[1]}, and nothing in a checkpoint is run: save a state dict"
    return "it is no readable torch checkpoint (is it damaged?): save a state dict with torch.save"


FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[Path, str], Contents]], ...] = (
    ("safetensors", is_safetensors, read_safetensors),
    ("pickle-zip", lambda head: head.startswith(ZIP), read_torch),
    # protocols 2 to 5; torch.save writes 2
    ("pickle-legacy", lambda head: head[:1] == b"\x80" and head[1:2] <= b"\x05", read_torch),
)
"""Formats in the order they are tried: name, how the first bytes tell, reader."""


def nature(head: bytes) -> str:
    """Say what a file is that is no checkpoint."""
    start = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if head.startswith(LFS_POINTER):
        return "it is a git-lfs pointer, not the checkpoint itself: run 'git lfs pull'"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page, not a checkpoint: download the file behind its link"
    if is_text(head):
        return "it is a text file, not a checkpoint"
    return "it is no checkpoint of a known format: .pth, .pt, .pkl, .ckpt or .safetensors"


def is_text(head: bytes) -> bool:
    """Whether the bytes read as UTF-8 text without control characters."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that the cut at 512 bytes split
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


def metadata_json(metadata: dict[str, str], key: str) -> Any:
    """Decode one JSON value of safetensors metadata; None when it is not there."""
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError):
        return metadata[key]
