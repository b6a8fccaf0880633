"""Where the class names are: first what the user says, then the file, then what stands beside."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.formats import Contents, metadata_json
from resnet_cli.checkpoint.tree import containers, items, plain
from resnet_cli.errors import CheckpointError, SettingError, describe

KEYS = frozenset(
    {
        "classes",
        "class_names",
        "names",
        "labels",
        "label_names",
        "class_to_idx",
        "idx_to_class",
        "id2label",
    }
)
"""Keys under which people keep class names, whatever their case."""

NAMES_BESIDE = tuple(
    stem + suffix for stem in ("classes", "labels", "class_names") for suffix in (".txt", ".json")
)
"""Files beside a checkpoint, in the order they are looked at."""

HEADERS = frozenset({
    "category", "class", "classes", "classid", "classname", "id", "idx", "index", "label",
    "labels", "labelname", "name", "names",
})  # fmt: skip
"""What stands above a column of class names or indices."""

NOT_SEARCHED = frozenset({"optimizer", "optimizer_states", "optimizer_state_dict", "optim"})


@dataclass(frozen=True, slots=True)
class ClassNames:
    """A name for each output, in their order."""

    names: tuple[str, ...]
    source: str  # where they were found, in words
    made_up: bool = False  # only numbers, as there were none


def find_classes(
    given: Sequence[str] | str | Path | None, contents: Contents, path: Path, num_classes: int
) -> ClassNames:
    """Find the class names of a checkpoint.

    Args:
        given: names, or a file that holds them, or text as of ``--classes``; None to look.
        contents: what the checkpoint holds.
        path: of the checkpoint, for the files beside it.
        num_classes: outputs of the network.

    Raises:
        SettingError: ``given`` cannot be read, or has not one name an output.
        CheckpointError: what was found has not one name an output.
    """
    if given is not None:
        names, source = read_given(given)
        if not fits(names, num_classes):
            wanted = "give one name an output" if num_classes > 1 else "give one name, or two"
            raise SettingError(f"{mismatch(names, source, num_classes)}: {wanted}")
        return ClassNames(names, source)
    for place in (in_file(contents), beside(path)):
        found = [classes for classes in place if not is_placeholder(classes.names, num_classes)]
        fitting = [classes for classes in found if fits(classes.names, num_classes)]
        if fitting:
            return fitting[0]
        if found:
            names, source = found[0].names, found[0].source
            raise CheckpointError(f"{mismatch(names, source, num_classes)}: give --classes")
    if num_classes == 1000:
        return ClassNames(imagenet_categories(), "ImageNet, as there are 1000 outputs")
    count = max(num_classes, 2)  # one output tells two classes apart
    return ClassNames(
        tuple(f"class_{index}" for index in range(count)),
        f"{misnumbered(contents.tree) or 'none found'}: give --classes",
        made_up=True,
    )


def misnumbered(tree: Any) -> str | None:
    """Say which names in a checkpoint have numbers that are none of its outputs."""
    for key, value in entries(tree):
        found = unwrapped(value) if key.rpartition(".")[2].lower() in KEYS else None
        if not isinstance(found, Mapping) or not found:
            continue
        by_name = all(isinstance(inner, int) for inner in found.values())
        by_index = all(str(inner).isdigit() for inner in found)
        if by_name or by_index:
            return f"{key} in the checkpoint does not number its names from 0 on"
    return None


def is_placeholder(names: Sequence[str], num_classes: int) -> bool:
    """Whether names are the numbers that transformers writes for ImageNet's thousand."""
    return num_classes == 1000 and tuple(names[:2]) == ("LABEL_0", "LABEL_1")


def fits(names: Sequence[str], num_classes: int) -> bool:
    """One name an output; a single output takes one name or two."""
    return len(names) in ((1, 2) if num_classes == 1 else (num_classes,))


def mismatch(names: Sequence[str], source: str, num_classes: int) -> str:
    """Say how many names there are, and for how many outputs."""
    outputs = f"{num_classes} output" + ("s" if num_classes != 1 else "")
    count = f"{len(names)} class name" + ("s" if len(names) != 1 else "")
    return f"{count} ({source}) for a network of {outputs}"


def imagenet_categories() -> tuple[str, ...]:
    """The thousand names that torchvision's weights carry."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def read_given(given: Sequence[str] | str | Path) -> tuple[tuple[str, ...], str]:
    """Take names from a sequence, a file, or text with commas."""
    if not isinstance(given, str | Path):
        return tuple(map(str, given)), "given"
    path = Path(given)
    is_file = os.path.isfile(given)  # a long list of names is no path that can be asked for
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
        if key.lower() in KEYS:
            names = names_from(metadata_json(contents.metadata, key))
            if names:
                yield ClassNames(names, f"{key} in the metadata of the checkpoint")
    yield from named(contents.tree, "the checkpoint")


def named(tree: Any, place: str) -> Iterator[ClassNames]:
    """Yield the lists of names under their usual keys in nested dicts."""
    for key, value in entries(tree):
        if key.rpartition(".")[2].lower() in KEYS:
            names = names_from(value)
            if names:
                yield ClassNames(names, f"{key} in {place}")


def entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of nested dicts with its value, outside optimizer state."""
    for path, container in containers(tree):
        outside = not NOT_SEARCHED & set(path.lower().split("."))
        if outside and isinstance(container, Mapping):
            start = f"{path}." if path else ""
            yield from (
                (f"{start}{key}", value)
                for key, value in items(container)
                if key.lower() not in NOT_SEARCHED
            )


def beside(path: Path) -> Iterator[ClassNames]:
    """Yield the lists of names in files that stand beside a checkpoint."""
    config = path.with_name("config.json")
    if config.is_file():
        yield from named(read_json(config), str(config))
    for name in (f"{path.stem}.classes.txt", f"{path.stem}.json", *NAMES_BESIDE):
        candidate = path.with_name(name)
        if candidate.is_file():
            names = read_names(candidate)
            if names:  # <stem>.json may as well be a log of the training
                yield ClassNames(names, str(candidate))


def names_from(value: Any) -> tuple[str, ...] | None:
    """Turn a list, name -> index or index -> name into names in order; None if it is neither."""
    value = unwrapped(value)
    if isinstance(value, Mapping) and value:
        pairs = list(value.items())
        if all(isinstance(index, int) for index in value.values()):
            pairs = [(index, name) for name, index in pairs]
        value = in_order(pairs)
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def unwrapped(value: Any) -> Any:
    """A list or dict without what other libraries wrap around it and its values."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {name_of(key): name_of(inner) for key, inner in value.items()}
    return [name_of(inner) for inner in value] if isinstance(value, list | tuple) else value


def name_of(value: Any) -> Any:
    """A name or number without what may be wrapped around it, such as an enum."""
    value = plain(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
        value = value[0]
    return value if isinstance(value, str | int | float | bool) else None


def in_order(pairs: Sequence[tuple[Any, Any]]) -> list[Any] | None:
    """Names by their indices, which must be 0, 1, 2 … each once."""
    try:
        by_index = {int(index): name for index, name in pairs}
    except (TypeError, ValueError, OverflowError):
        return None
    if sorted(by_index) != list(range(len(pairs))):
        return None
    return [by_index[index] for index in range(len(pairs))]


def read_file(path: Path) -> tuple[str, ...]:
    """Read class names from .txt, .json or .csv.

    Raises:
        SettingError: it cannot be opened, or holds no class names.
    """
    names = read_names(path) or (under_a_key(path) if path.suffix.lower() == ".json" else None)
    if not names:
        raise SettingError(
            f"cannot read class names from {path}: a name for each output is wanted, in their "
            "order, or each with its index from 0 on"
        )
    return names


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read class names from .txt, .json or .csv; None where there are none.

    Raises:
        SettingError: it cannot be opened, or is no text.
    """
    try:
        return READERS[path.suffix.lower()](path)
    except OSError as error:
        raise SettingError(f"cannot read class names from {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"cannot read class names from {path}: {describe(error)}") from error


def read_text(path: Path) -> tuple[str, ...]:
    """A name a line; blank lines are passed over."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # not even UTF-8, or no JSON
        return None


def read_json_names(path: Path) -> tuple[str, ...] | None:
    """A list, name -> index or index -> name."""
    return names_from(read_json(path))


def under_a_key(path: Path) -> tuple[str, ...] | None:
    """Names in a JSON file under one of the usual keys."""
    value = read_json(path)
    found = [names_from(inner) for key, inner in items(value) if key.lower() in KEYS]
    return next(filter(None, found), None)


def read_table(path: Path) -> tuple[str, ...] | None:
    """Names in a column or a row, or beside a column of indices; a header is passed over."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    if len(rows) > 1 and HEADERS & {re.sub("[ _-]", "", cell.lower()) for cell in rows[0]}:
        rows = rows[1:]
    if all(len(row) == 1 for row in rows):
        return tuple(row[0] for row in rows)
    if len(rows) == 1 and (len(rows[0]) > 2 or not any(cell.isdigit() for cell in rows[0])):
        return tuple(filter(None, rows[0]))
    for index, name in ((0, 1), (1, 0)):
        if all(len(row) == 2 and row[index].isdigit() for row in rows):
            return names_from(in_order([(row[index], row[name]) for row in rows]))
    return None


READERS: dict[str, Callable[[Path], tuple[str, ...] | None]] = {
    ".txt": read_text,
    ".json": read_json_names,
    ".csv": read_table,
}
