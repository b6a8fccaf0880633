"""What is measured: a checkpoint, or a network of random weights."""

from functools import partial
from pathlib import Path

import torch
from torchvision.models import get_model

from resnet_cli.architectures import ARCHITECTURES, PLAIN, build, unknown
from resnet_cli.checkpoint import Checkpoint, Location, load_checkpoint
from resnet_cli.checkpoint.classes import ClassNames
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
    if given and Path(given).exists():
        return load_checkpoint(Location(Path(given), "given"))
    raise unknown(given, ARCHITECTURES, f"the models are {', '.join(ARCHITECTURES)}")


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
        activation="softmax",
        state=network.state_dict(),
        blanks=iter(partial(build, name, num_classes=OUTPUTS), None),
    )
