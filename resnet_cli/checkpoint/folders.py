"""A folder -> the file of weights in it, by the habits of the libraries that save folders."""

import json
import logging
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from resnet_cli.checkpoint.formats import (
    DISTRIBUTED,
    INDEX,
    OF_DEEPSPEED,
    PARTITIONED,
    PICKLED,
    is_plain_name,
    is_unpacked,
)
from resnet_cli.checkpoint.locate import list_checkpoints
from resnet_cli.errors import CheckpointError

log = logging.getLogger("resnet_cli")

WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "pytorch_model.safetensors",
)
"""Names that Hugging Face's libraries give to files of weights, in the order of choice."""

OTHER_FILES = ("optimizer*", "scheduler*", "scaler*", "training_args.bin", "random_states_*.pkl",
               "rng_state*", "*_optim_states.pt")  # fmt: skip
"""Files that training writes beside the weights."""

STEP = re.compile(r"(?:checkpoint|epoch|global_step|step)[-_]?(\d{1,18})")

STATE = "trainer_state.json"  # of transformers' Trainer

FOREIGN = {
    "saved_model.pb": "it is a SavedModel of TensorFlow, not a PyTorch checkpoint",
    "saved_model.pbtxt": "it is a SavedModel of TensorFlow, not a PyTorch checkpoint",
    "Data/com.apple.CoreML": "it is a network in Core ML, not a PyTorch checkpoint",
}
"""A path in a folder of another system, and what the folder is."""


def find_weights_file(folder: Path) -> Path:
    """Find the file of weights in a folder.

    Raises:
        CheckpointError: there is none, or there are several; the message says what the folder is.
    """
    for find in FOLDERS:
        if (path := find(folder)) is not None:
            return path
    found = [
        path for path in list_checkpoints(folder) if path.is_file() and not is_other(path.name)
    ]
    last = None if found else find_last_step(folder)
    if last is not None:
        return find_weights_file(last)
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
    """Return whether training writes a file of this name beside the weights."""
    return any(fnmatch(name, pattern) for pattern in OTHER_FILES)


def find_usual_weights(folder: Path) -> Path | None:
    """Find weights by the names that Hugging Face's libraries give them."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def find_unpacked(folder: Path) -> Path | None:
    """Find the pickle of an archive of torch.save that was unpacked into the folder."""
    return folder / PICKLED if is_unpacked(folder) else None


def find_mlflow(folder: Path) -> Path | None:
    """Find the weights in a model logged by MLflow."""
    path = folder / "data" / "model.pth"
    return path if (folder / "MLmodel").is_file() and path.is_file() else None


def find_deepspeed(folder: Path) -> Path | None:
    """Find the weights that DeepSpeed saved, in the folder that ``latest`` names.

    Raises:
        CheckpointError: they are split over several files.
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


def find_last_step(folder: Path) -> Path | None:
    """Find the last of the folders that training saved at its steps."""
    steps = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := STEP.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
    }
    if not steps:
        return None
    last = steps[max(steps)]
    if len(steps) > 1:
        best = read_best_name(last)
        said = f"; {best} is recorded as the best" if best and best != last.name else ""
        log.info(
            "%s holds %d checkpoints: took the last, %s%s", folder, len(steps), last.name, said
        )
    return last


def read_best_name(checkpoint: Path) -> str | None:
    """Return the name of the checkpoint that transformers' Trainer found best, or None."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        return Path(state["best_model_checkpoint"]).name
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def refuse_other_folder(folder: Path) -> Path | None:
    """Refuse a folder of another system.

    Raises:
        CheckpointError: it is a folder of another system.
    """
    for name, sentence in FOREIGN.items():
        if (folder / name).exists():
            raise CheckpointError(f"cannot load {folder}: {sentence}")
    if any(folder.glob("*.distcp")):
        raise CheckpointError(f"cannot load {folder}: {DISTRIBUTED.format(folder)}")
    return None


FOLDERS: tuple[Callable[[Path], Path | None], ...] = (
    find_usual_weights, find_unpacked, find_mlflow, find_deepspeed, refuse_other_folder,
)  # fmt: skip
"""Each finds the weights in one kind of folder, returns None, or refuses it."""
