"""Which checkpoint a run uses when it is not told, and why."""

from dataclasses import dataclass
from pathlib import Path

from torchvision.models import WeightsEnum

from resnet_cli.checkpoint.folders import SUFFIXES
from resnet_cli.checkpoint.formats import FORMATS, HEAD
from resnet_cli.checkpoint.hub import fetch, find_published
from resnet_cli.errors import CheckpointError, OptionError

FOLDER = Path("checkpoints")


@dataclass(frozen=True, slots=True)
class Location:
    """The file to load, and what is known about it beforehand."""

    path: Path
    reason: str  # why this one, in words
    published: WeightsEnum | None = None  # when they are torchvision's


def locate(
    given: str | Path | None, *, model: str | None, weights: str | None, progress: bool
) -> Location:
    """Find the checkpoint of a run.

    Args:
        given: the file that the user named; all else is asked only when it is None.
        model: architecture that the user named; then ``./checkpoints`` is not looked at.
        weights: torchvision's weights that the user named; likewise.
        progress: let a download draw its bar.

    Raises:
        CheckpointError: several in ``./checkpoints``, a missing file, or a failed download.
        SettingError: there is no such model or weights.
    """
    if model is not None and Path(model).suffix.lower() in SUFFIXES:
        raise OptionError(f"{model} is a checkpoint, not the name of a model: use -c {model}")
    if given is not None:
        if weights is not None:
            raise CheckpointError(f"two sources of weights: {given} and {weights}: name one")
        if not Path(given).exists():
            raise CheckpointError(f"cannot load {given}: there is no such file")
        return Location(Path(given), "given")
    if model is None and weights is None and (only := the_only_one()) is not None:
        return Location(only, f"the only checkpoint in ./{FOLDER}")
    published = find_published(model, weights or "DEFAULT")
    reason = "given" if weights else "the ImageNet weights of torchvision"
    if model is None and weights is None:
        reason += f", as there is no checkpoint in ./{FOLDER}"
    return Location(fetch(published, progress=progress), f"{published}, {reason}", published)


def is_checkpoint(path: Path) -> bool:
    """Return True if a file has the suffix and the first bytes of a checkpoint."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(recognises(head) for recognises, _ in FORMATS)


def the_only_one() -> Path | None:
    """The checkpoint in ``./checkpoints``; None when there is none.

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
