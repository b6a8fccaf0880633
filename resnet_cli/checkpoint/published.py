"""The weights that torchvision publishes: their names, and their files in the cache."""

from pathlib import Path
from urllib.error import URLError

import torch
from torchvision.models import Weights, WeightsEnum, get_model_weights

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import CheckpointError, OptionError, describe
from resnet_cli.files import sha256_of_files

DEFAULT_MODEL = "resnet18"


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
