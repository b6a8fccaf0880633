"""What is measured: a checkpoint, or a network of random weights."""

from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from torchvision.models import get_model

from resnet_cli.architectures import ARCHITECTURES, PLAIN, build
from resnet_cli.checkpoint import Checkpoint, Location, load_checkpoint
from resnet_cli.checkpoint.classes import ClassNames
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import PRESETS

SEED = 0
OUTPUTS = 1000


def find_measured(given: str) -> Checkpoint:
    """The network that a name or a checkpoint stands for; for a name nothing is downloaded.

    Raises:
        SettingError: there is no such model or file.
        CheckpointError: the file holds no ResNet.
    """
    if given in ARCHITECTURES:
        return random_checkpoint(given)
    if Path(given).exists():
        return load_checkpoint(Location(Path(given), "as named"))
    if Path(given).suffix or len(Path(given).parts) > 1:
        raise SettingError(f"cannot load {given}: there is no such file")
    near = get_close_matches(given, ARCHITECTURES, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(ARCHITECTURES)}"
    raise SettingError(f"cannot find a model or a checkpoint file {given!r}: {hint}")


def random_checkpoint(name: str) -> Checkpoint:
    """A network of random weights, which is as fast as any other."""
    torch.manual_seed(SEED)
    network = get_model(name, weights=None, num_classes=OUTPUTS)
    return Checkpoint(
        path=Path(name),
        files=(),
        format="",
        layout="torchvision",
        state_key="",
        stripped_prefix="",
        model=name,
        num_classes=OUTPUTS,
        in_channels=3,
        head=(),
        assumed=False,
        variant=PLAIN,
        classes=ClassNames(tuple(map(str, range(OUTPUTS))), "random weights", made_up=True),
        preprocess=PRESETS["imagenet-v1"],
        preprocess_source="imagenet-v1",
        notes=(),
        state=network.state_dict(),
        blanks=iter(partial(build, name, num_classes=OUTPUTS), None),
    )
