"""Which file is the checkpoint of a run, and why: a given one, by URL too, or a published one."""

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli import graph
from resnet_cli.cache import user_cache
from resnet_cli.errors import CheckpointError, InputError, OptionError
from resnet_cli.files import sha256_of_files
from resnet_cli.records import is_url
from resnet_cli.remote import fetch_file, redact_url

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

FOLDER = Path("checkpoints")

SUFFIXES = frozenset(graph.FORMATS) | {
    ".safetensors", ".pth", ".pt", ".pt2", ".pkl", ".ckpt", ".bin", ".tar", ".th", ".caffemodel",
}  # fmt: skip
"""Suffixes of checkpoints; other files of a folder are ignored."""

HEAD = 1 << 12  # bytes by which a kind of file is known

OF_OPENVINO = re.compile(r"\.xml(?=$|[?#])", re.IGNORECASE)  # in a URL; its weights end in .bin


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a checkpoint is loaded; the defaults take it as it is."""

    model: str | None = None  # architecture that it must have, by torchvision's name
    classes: Sequence[str] | str | Path | None = None  # names or a file; None searches
    state_key: str | None = None  # which weights of a file that holds several
    ema: bool = True  # prefer averaged weights
    dilated: bool = False  # layer3 and layer4 dilate instead of striding, which tensors do not show
    trusted: bool = False  # unpickle the file, which may run code, where nothing else opens it
    headless: bool = False  # load a backbone without a head too; it has no classes


@dataclass(frozen=True, slots=True)
class Location:
    """The file or folder to load, and what is known before it is read."""

    path: Path
    reason: str  # why this file, in words
    published: "WeightsEnum | None" = None  # weights of torchvision, where they are
    url: str = ""  # where it was downloaded from, without what is secret


def locate_checkpoint(
    given: str | Path | None, *, model: str | None, weights: str | None, progress: bool
) -> Location:
    """Find the checkpoint of a run.

    Args:
        given: the user's file, folder or URL; the other arguments matter only where it is None.
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
        if is_url(str(given)):
            url = redact_url(str(given))
            return Location(local_file(given), f"from {url}", url=url)
        if not Path(given).exists():
            raise CheckpointError(f"cannot load {given}: there is no such file")
        return Location(Path(given), "given")
    if model is None and weights is None and (only := find_only_checkpoint()) is not None:
        return Location(only, f"the only checkpoint in ./{FOLDER}")
    from resnet_cli.checkpoint.published import fetch_weights, find_published

    published = find_published(model, weights or "DEFAULT")
    reason = "given" if weights else "the ImageNet weights of torchvision"
    if model is None and weights is None:
        reason += f", as there is no checkpoint in ./{FOLDER}"
    return Location(
        fetch_weights(published, progress=progress), f"{published}, {reason}", published
    )


def local_file(given: str | Path) -> Path:
    """Return where a checkpoint is on this machine; one by URL is downloaded once, to the cache.

    Raises:
        CheckpointError: it cannot be downloaded.
        ExtraError: a package is missing.
    """
    url = str(given)
    if not is_url(url):
        return Path(given)
    try:
        path = fetch_file(url)
        beside = fetch_file(OF_OPENVINO.sub(".bin", url)) if OF_OPENVINO.search(url) else None
    except InputError as error:
        raise CheckpointError(str(error)) from error
    return path if beside is None else bring_together(path, beside)


def bring_together(path: Path, weights: Path) -> Path:
    """Return an .xml in a folder of the cache in which its .bin stands beside it."""

    def copy(new: Path) -> None:
        shutil.copyfile(path, new)
        shutil.copyfile(weights, new.with_suffix(".bin"))

    key = {"made": "brought together", "sha256": sha256_of_files(path, weights)}
    return user_cache().fetch(key, copy, name=path.name)


def is_checkpoint(path: Path) -> bool:
    """Return True if a file has the suffix and the first bytes of a checkpoint."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    if graph.is_graph(path):
        return graph.starts_graph(path, head)
    from resnet_cli.checkpoint.formats import FORMATS

    return any(recognises(head) for recognises, _ in FORMATS)


def list_checkpoints(folder: Path) -> list[Path]:
    """List what has the suffix of a checkpoint in a folder, without the weights beside an .xml."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [path for path in found if not graph.holds_weights(path)]


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
    found = list_checkpoints(FOLDER)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"several checkpoints in ./{FOLDER}: {names}: choose one with -c")
    return found[0] if found else None
