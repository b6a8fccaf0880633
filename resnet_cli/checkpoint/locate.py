"""Which file is the checkpoint of a run, and why: a given path, a folder, or published weights."""

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.error import URLError

import torch
from torchvision.models import Weights, WeightsEnum, get_model_weights

from resnet_cli.checkpoint.formats import (
    DISTRIBUTED,
    FORMATS,
    HEAD,
    INDEX,
    OF_DEEPSPEED,
    PARTITIONED,
    PICKLED,
    is_plain_name,
    is_unpacked,
)
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import CheckpointError, InputError, OptionError, describe

FOLDER = Path("checkpoints")


@dataclass(frozen=True, slots=True)
class Location:
    """The file or folder to load, and what is known before it is read."""

    path: Path
    reason: str  # why this file, in words
    published: WeightsEnum | None = None  # weights of torchvision, where they are


def locate_checkpoint(
    given: str | Path | None, *, model: str | None, weights: str | None, progress: bool
) -> Location:
    """Find the checkpoint of a run.

    Args:
        given: the user's file or folder; the other arguments matter only where it is None.
        model: architecture that the user asked for; ``./checkpoints`` is then ignored.
        weights: torchvision's weights that the user asked for; likewise.
        progress: let a download draw its bar.

    Raises:
        CheckpointError: several in ``./checkpoints``, a missing file, or a failed download.
        SettingError: unknown model or weights.
    """
    if model is not None and Path(model).suffix.lower() in SUFFIXES:
        raise OptionError(f"{model} is a checkpoint, not the name of a model: use -c {model}")
    if given is not None:
        if weights is not None:
            raise CheckpointError(f"two sources of weights: {given} and {weights}: name one")
        if not Path(given).exists():
            raise CheckpointError(f"cannot load {given}: there is no such file")
        return Location(Path(given), "given")
    if model is None and weights is None and (only := find_only_checkpoint()) is not None:
        return Location(only, f"the only checkpoint in ./{FOLDER}")
    published = find_published(model, weights or "DEFAULT")
    reason = "given" if weights else "the ImageNet weights of torchvision"
    if model is None and weights is None:
        reason += f", as there is no checkpoint in ./{FOLDER}"
    return Location(
        fetch_weights(published, progress=progress), f"{published}, {reason}", published
    )


def is_checkpoint(path: Path) -> bool:
    """Return True if a file has the suffix and the first bytes of a checkpoint."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(recognises(head) for recognises, _ in FORMATS)


def refuse_checkpoints_among(inputs: Sequence[str], *, beside: bool) -> None:
    """Refuse a checkpoint in place of an image.

    Args:
        inputs: files and folders of images, as typed.
        beside: also refuse one directly in a folder of images, unless ``./checkpoints`` has one.

    Raises:
        InputError: names the option.
    """
    for given in inputs:
        if is_checkpoint(Path(given)):
            raise InputError(f"{given} is a checkpoint, not an image: use -c {shlex.quote(given)}")
    if not beside or find_only_checkpoint():
        return
    folders = (Path(given) for given in inputs if Path(given).is_dir())
    found = [path for folder in folders for path in sorted(folder.iterdir()) if is_checkpoint(path)]
    if found:
        raise InputError(
            f"{', '.join(map(str, found))} is a checkpoint beside the images: use -c "
            f"{shlex.quote(str(found[0]))}, or --model resnet18 for the ImageNet weights"
        )


def find_only_checkpoint() -> Path | None:
    """Return the checkpoint in ``./checkpoints``, or None.

    Raises:
        CheckpointError: there are several.
    """
    if not FOLDER.is_dir():
        return None
    found = sorted(path for path in FOLDER.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"several checkpoints in ./{FOLDER}: {names}: choose one with -c")
    return found[0] if found else None


log = logging.getLogger("resnet_cli")

WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "pytorch_model.safetensors",
)
"""Names that Hugging Face's libraries give to files of weights, in the order of choice."""

SUFFIXES = frozenset(
    {".safetensors", ".pth", ".pt", ".pt2", ".pkl", ".ckpt", ".bin", ".tar", ".th", ".caffemodel"}
)
"""Suffixes of checkpoints; other files of a folder are ignored."""

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
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_other(path.name)
    )
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

DEFAULT_MODEL = "resnet18"

BLOCK = 1 << 20  # bytes read at a time


def find_published(model: str | None, name: str) -> WeightsEnum:
    """Find weights by name.

    Args:
        model: architecture; None takes it from ``name``, or else ``resnet18``.
        name: ``DEFAULT``, ``IMAGENET1K_V1`` or ``ResNet50_Weights.IMAGENET1K_V2``.

    Raises:
        OptionError: no such weights exist.
    """
    enum, _, entry = name.rpartition(".")
    tables = {published_weights(known).__name__: known for known in ARCHITECTURES}
    if enum and enum not in tables:
        raise OptionError(f"cannot find the weights {name}: one of {', '.join(tables)}")
    of_model = tables.get(enum, model or DEFAULT_MODEL)
    if model is not None and model != of_model:
        raise OptionError(f"cannot load {name} into {model}: they are weights of {of_model}")
    table = published_weights(of_model)
    if entry not in table.__members__:
        raise OptionError(
            f"cannot find the weights {entry} of {of_model}: one of {', '.join(table.__members__)}"
        )
    return table[entry]


def published_weights(model: str) -> type[WeightsEnum]:
    """Return the weights that torchvision published for one of the ten ResNets.

    Raises:
        OptionError: it is not one of them.
    """
    if model not in ARCHITECTURES:
        raise OptionError(f"cannot find the model {model!r}: one of {', '.join(ARCHITECTURES)}")
    table: type[WeightsEnum] = get_model_weights(model)
    return table


def fetch_weights(weights: Weights, *, progress: bool) -> Path:
    """Return the file of published weights, downloading it when it is not in the cache.

    Args:
        weights: what to fetch.
        progress: let torch.hub draw its bar on stderr.

    Raises:
        CheckpointError: the download failed, or the file is not the published one.
    """
    name = weights.url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    checksum = Path(name).stem.rpartition("-")[2]  # resnet18-f37072fd.pth
    if not path.exists():
        download_file(weights.url, path, checksum, progress=progress)
    elif not sha256_of_files(path).startswith(checksum):
        raise CheckpointError(
            f"cannot load {path}: its sha256 is not {checksum}…: delete it and try again"
        )
    return path


def download_file(url: str, path: Path, checksum: str, *, progress: bool) -> None:
    """Download to ``path`` through a temporary file whose hash is checked.

    Raises:
        CheckpointError: no connection, or not the published file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot download {url}: {path.parent} cannot be created ({error.strerror}): set "
            "TORCH_HOME to a folder that can be written, or name a checkpoint with -c"
        ) from error
    try:
        torch.hub.download_url_to_file(url, str(path), checksum, progress)
    except URLError as error:
        raise CheckpointError(
            f"cannot download {url} ({describe(error)}): without a network, put the file at "
            f"{path}, or name a checkpoint with -c"
        ) from error
    except RuntimeError as error:  # the hash is wrong
        raise CheckpointError(f"cannot download {url}: {describe(error)}: try again") from error


def sha256_of_files(*paths: Path) -> str:
    """Return the SHA-256 of the files' bytes, one file after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
