"""A folder of a checkpoint -> its file of weights, or the several that an index names."""

import json
from pathlib import Path
from typing import Any

from resnet_cli.errors import CheckpointError

INDEX = ".index.json"

WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "pytorch_model.safetensors",
)
"""Names that Hugging Face's libraries give to weights, in the order they are looked for."""

SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".ckpt", ".bin"})

OTHER_FILES = frozenset(
    {"optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt", "scaler.pt",
     "training_args.bin", "random_states_0.pkl", "rng_state.pth"}
)  # fmt: skip
"""What training keeps beside the weights."""


def weights_in(folder: Path) -> Path:
    """The file of weights in a folder.

    Raises:
        CheckpointError: none, or several.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.name not in OTHER_FILES and path.is_file()
    )
    if not found:
        raise CheckpointError(
            f"cannot load {folder}: it is a folder without weights ({', '.join(WEIGHTS)}): name a "
            "checkpoint file"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"cannot load {folder}: it holds {names}: name one of them")
    return found[0]


def shards(index: Path) -> list[Path]:
    """The files that an index of shards names, each once.

    Raises:
        CheckpointError: it is no such index, or names files elsewhere.
    """
    try:
        table: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = list(dict.fromkeys(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("it is no index of the shards of a checkpoint") from error
    paths = [index.with_name(name) for name in names if is_plain(name)]
    if len(paths) < len(names) or not paths:
        raise CheckpointError("its index names files that are not beside it")
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"its shard {path.name} is missing")
    return paths


def is_plain(name: Any) -> bool:
    """Whether a name is one of a file in the same folder."""
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", "..")
        and not name.endswith(INDEX)
    )
