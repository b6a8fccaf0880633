"""The class names of a network: what the user gives, what its file holds, the files beside it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_cli import imagenet
from resnet_cli.checkpoint.locate import local_file
from resnet_cli.checkpoint.metadata.class_names import (
    READERS,
    is_key,
    names_from,
    pairs_in,
    read_file,
    read_json,
    read_names,
    unwrap_value,
)
from resnet_cli.checkpoint.tree import (
    OPTIMIZER_KEYS,
    Contents,
    items_inside,
    walk_containers,
)
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.records import is_url
from resnet_cli.remote import redact_url

NAMES_BESIDE = tuple(
    stem + suffix for stem in ("classes", "labels", "class_names") for suffix in (".txt", ".json")
)
"""Names of files beside a checkpoint, in the order of choice."""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """A name for each output, in order."""

    names: tuple[str, ...]
    source: str  # in words
    made_up: bool = False  # placeholders, as there are none


def find_classes(
    given: Sequence[str] | str | Path | None, contents: Contents, path: Path, num_classes: int
) -> ClassNames:
    """Find the class names of a checkpoint.

    Args:
        given: names, a file that holds them, or text as of ``--classes``; None searches.
        contents: what the checkpoint holds.
        path: of the checkpoint, for the files beside it.
        num_classes: outputs of the network.

    Raises:
        SettingError: ``given`` cannot be read, or has not one name per output.
        CheckpointError: what was found has not one name per output.
    """
    if given is not None:
        names, source = read_given(given)
        if not fits_outputs(names, num_classes):
            wanted = "give one name an output" if num_classes > 1 else "give one name, or two"
            raise SettingError(f"{describe_mismatch(names, source, num_classes)}: {wanted}")
        return ClassNames(names, source)
    for place in (in_file(contents), lists_in_files(path)):
        found = [classes for classes in place if not is_placeholder(classes.names, num_classes)]
        fitting = [classes for classes in found if fits_outputs(classes.names, num_classes)]
        if fitting:
            return take_agreed(fitting)
        if found:
            names, source = found[0].names, found[0].source
            raise CheckpointError(
                f"{describe_mismatch(names, source, num_classes)}: give --classes"
            )
    if num_classes == 1000:
        return ClassNames(imagenet.imagenet_categories(), "ImageNet, as there are 1000 outputs")
    count = max(num_classes, 2)  # one output distinguishes two classes
    return ClassNames(
        tuple(f"class_{index}" for index in range(count)),
        f"{find_misnumbered(contents.tree) or 'none found'}: give --classes",
        made_up=True,
    )


def take_agreed(found: Sequence[ClassNames]) -> ClassNames:
    """Take the first of several lists; its source mentions another one that differs.

    Raises:
        CheckpointError: another has the same names in another order.
    """
    first = found[0]
    others = [other for other in found if other.names != first.names]
    for other in others:
        if sorted(other.names) == sorted(first.names):
            raise CheckpointError(
                f"{first.source} and {other.source} order the same class names differently: "
                "give --classes"
            )
    return replace(first, source=f"{first.source}, unlike {others[0].source}") if others else first


def find_misnumbered(tree: Any) -> str | None:
    """Say which names in a checkpoint are not numbered from 0 on; None where none are."""
    for key, value in walk_entries(tree):
        found = pairs_in(unwrap_value(value)) if is_key(key.rpartition(".")[2]) else None
        if found and all(str(index).isdigit() for index, _ in found):
            return f"{key} in the checkpoint does not number its names from 0 on"
    return None


def is_placeholder(names: Sequence[str], num_classes: int) -> bool:
    """Return whether names are the placeholders of transformers for ImageNet's 1000 classes."""
    return num_classes == 1000 and tuple(names[:2]) == ("LABEL_0", "LABEL_1")


def fits_outputs(names: Sequence[str], num_classes: int) -> bool:
    """Return whether there is one name per output; a single output takes one name or two."""
    return len(names) in ((1, 2) if num_classes == 1 else (num_classes,))


def describe_mismatch(names: Sequence[str], source: str, num_classes: int) -> str:
    """Say how many names there are for how many outputs."""
    outputs = f"{num_classes} output" + ("s" if num_classes != 1 else "")
    count = f"{len(names)} class name" + ("s" if len(names) != 1 else "")
    return f"{count} ({source}) for a network of {outputs}"


def read_given(given: Sequence[str] | str | Path) -> tuple[tuple[str, ...], str]:
    """Take names from a sequence, a file or its URL, or text with commas; with their source."""
    if not isinstance(given, str | Path):
        return tuple(map(str, given)), "given"
    if is_url(str(given)):
        return read_file(local_file(given)), redact_url(str(given))
    path = Path(given)
    is_file = os.path.isfile(given)  # Path.is_file raises on a long list of names
    if path.suffix.lower() in READERS and (is_file or "," not in str(given)):
        return read_file(path), str(path)
    if is_file:
        raise SettingError(
            f"cannot read class names from {path}: the suffix must be one of {', '.join(READERS)}"
        )
    return tuple(name.strip() for name in str(given).split(",") if name.strip()), "--classes"


def in_file(contents: Contents) -> Iterator[ClassNames]:
    """Yield the lists of names inside a checkpoint, at any depth."""
    for key in contents.metadata:
        if is_key(key):
            names = names_from(contents.metadata_json(key))
            if names:
                yield ClassNames(names, f"{key} in the metadata of the checkpoint")
    yield from lists_under_keys(contents.tree, "the checkpoint")


def lists_under_keys(tree: Any, place: str) -> Iterator[ClassNames]:
    """Yield the lists of names under the usual keys of nested dicts."""
    for key, value in walk_entries(tree):
        if is_key(key.rpartition(".")[2]):
            names = names_from(value)
            if names:
                yield ClassNames(names, f"{key} in {place}")


def walk_entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of nested dicts with its value, except in the state of optimizers."""
    for path, container in walk_containers(tree):
        outside = not OPTIMIZER_KEYS & set(path.lower().split("."))
        if outside and isinstance(container, Mapping):
            start = f"{path}." if path else ""
            yield from (
                (f"{start}{key}", value)
                for key, value in items_inside(container)
                if key.lower() not in OPTIMIZER_KEYS
            )


def lists_in_files(path: Path) -> Iterator[ClassNames]:
    """Yield the lists of names in files beside a checkpoint."""
    config = path.with_name("config.json")
    if config.is_file():
        yield from lists_under_keys(read_json(config), str(config))
    for name in (f"{path.stem}.classes.txt", f"{path.stem}.json", *NAMES_BESIDE):
        candidate = path.with_name(name)
        if candidate.is_file():
            names = read_names(candidate)
            if names:  # <stem>.json may also be a log of the training
                yield ClassNames(names, str(candidate))
