"""A folder of a checkpoint -> its file of weights, or the several that an index names."""

import json
import logging
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from resnet_cli.errors import CheckpointError

log = logging.getLogger("resnet_cli")

INDEX = ".index.json"

WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "pytorch_model.safetensors",
)
"""Names that Hugging Face's libraries give to weights, in the order they are looked for."""

SUFFIXES = frozenset(
    {".safetensors", ".pth", ".pt", ".pt2", ".pkl", ".ckpt", ".bin", ".tar", ".th", ".caffemodel"}
)
"""Suffixes that make a file in a folder a checkpoint; others may stand beside it."""

OTHER_FILES = ("optimizer*", "scheduler*", "scaler*", "training_args.bin", "random_states_*.pkl",
               "rng_state*", "*_optim_states.pt")  # fmt: skip
"""What training keeps beside the weights."""

PICKLED = "data.pkl"  # the description in an archive of torch.save
OF_DEEPSPEED = "mp_rank_*_model_states.pt"
STEP = re.compile(r"(?:checkpoint|epoch|global_step|step)[-_]?(\d{1,18})")
STATE = "trainer_state.json"  # of transformers' Trainer

DISTRIBUTED = (
    "it is of torch.distributed.checkpoint: make one file of it with 'python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch {0} model.pth'"
)
PARTITIONED = (
    "it is of DeepSpeed's ZeRO-3, which keeps a part of the weights a process: put them together "
    "with 'python zero_to_fp32.py . model', whose script is in the folder above"
)

FOREIGN = {
    "saved_model.pb": "it is a SavedModel of TensorFlow, no checkpoint of PyTorch",
    "saved_model.pbtxt": "it is a SavedModel of TensorFlow, no checkpoint of PyTorch",
    "Data/com.apple.CoreML": "it is a network in Core ML, no checkpoint of PyTorch",
}
"""What is in a folder of another system, and what the folder is."""


def weights_in(folder: Path) -> Path:
    """Find the file of weights in a folder.

    Raises:
        CheckpointError: none, or several; the message says what the folder is instead.
    """
    for find in FOLDERS:
        if (path := find(folder)) is not None:
            return path
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_other(path.name)
    )
    last = None if found else last_step(folder)
    if last is not None:
        return weights_in(last)
    if not found:
        raise CheckpointError(
            f"cannot load {folder}: it is a folder without weights ({', '.join(WEIGHTS)}): name a "
            "checkpoint file"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"cannot load {folder}: it holds {names}: name one of them")
    return found[0]


def is_other(name: str) -> bool:
    """Whether a file is one that training keeps beside the weights."""
    return any(fnmatch(name, pattern) for pattern in OTHER_FILES)


def find_usual_weights(folder: Path) -> Path | None:
    """Find weights by the names that Hugging Face's libraries give them."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def is_unpacked(folder: Path) -> bool:
    """Whether a folder was an archive of torch.save."""
    return (folder / PICKLED).is_file() and (folder / "data").is_dir()


def find_unpacked(folder: Path) -> Path | None:
    """Find the description in what was an archive of torch.save."""
    return folder / PICKLED if is_unpacked(folder) else None


def of_mlflow(folder: Path) -> Path | None:
    """Find the weights in a model that MLflow has logged."""
    path = folder / "data" / "model.pth"
    return path if (folder / "MLmodel").is_file() and path.is_file() else None


def of_deepspeed(folder: Path) -> Path | None:
    """Find the weights that DeepSpeed has saved, in the folder that ``latest`` names.

    Raises:
        CheckpointError: they are in parts.
    """
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < 256:
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        if is_plain_name(name) and (folder / name).is_dir():
            folder /= name
    found = sorted(folder.glob(OF_DEEPSPEED))
    if len(found) > 1:
        raise CheckpointError(
            f"cannot load {folder}: DeepSpeed has split its weights over {len(found)} files, "
            f"{found[0].name} and so on: save the whole network with torch.save"
        )
    if not found and any(folder.glob(f"zero_pp_rank_*_{OF_DEEPSPEED}")):
        raise CheckpointError(f"cannot load {folder}: {PARTITIONED}")
    return found[0] if found else None


def last_step(folder: Path) -> Path | None:
    """Find the last of the folders that a training saves one after the other."""
    steps = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := STEP.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
    }
    if not steps:
        return None
    last = steps[max(steps)]
    if len(steps) > 1:
        best = trainers_best(last)
        said = f"; {best} is recorded as the best" if best and best != last.name else ""
        log.info(
            "%s holds %d checkpoints: took the last, %s%s", folder, len(steps), last.name, said
        )
    return last


def trainers_best(checkpoint: Path) -> str | None:
    """Return the name of the checkpoint that the Trainer found best; None where it says none."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        return Path(state["best_model_checkpoint"]).name
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def of_others(folder: Path) -> Path | None:
    """Refuse the folders of other systems.

    Raises:
        CheckpointError: it is one.
    """
    for name, sentence in FOREIGN.items():
        if (folder / name).exists():
            raise CheckpointError(f"cannot load {folder}: {sentence}")
    if any(folder.glob("*.distcp")):
        raise CheckpointError(f"cannot load {folder}: {DISTRIBUTED.format(folder)}")
    return None


FOLDERS: tuple[Callable[[Path], Path | None], ...] = (
    find_usual_weights, find_unpacked, of_mlflow, of_deepspeed, of_others,
)  # fmt: skip
"""What finds the weights in a folder of its kind, or refuses it."""


def refuse_part(path: Path) -> None:
    """Refuse a file that holds a part of a checkpoint.

    Raises:
        CheckpointError: it is one.
    """
    if path.suffix == ".distcp":
        folder = path.absolute().parent
        raise CheckpointError(f"cannot load {path}: {DISTRIBUTED.format(folder)}")
    if fnmatch(path.name, f"zero_pp_rank_*_{OF_DEEPSPEED}"):
        raise CheckpointError(f"cannot load {path}: {PARTITIONED}")


def shards_of_index(index: Path) -> list[Path]:
    """The files that an index of shards names, each once.

    Raises:
        CheckpointError: it is no such index, or names files elsewhere.
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
    """Whether a name is one of a file in the same folder."""
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", "..")
        and not name.endswith(INDEX)
    )
