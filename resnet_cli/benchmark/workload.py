"""What is measured: a checkpoint or a network of random weights, and images for it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torchvision.models import get_model

from resnet_cli.checkpoint import Checkpoint, Location, load_checkpoint
from resnet_cli.checkpoint.metadata import ClassNames
from resnet_cli.checkpoint.network.architectures import (
    ARCHITECTURES,
    PLAIN,
    build_network,
    unknown_model_error,
)
from resnet_cli.errors import ImageError, InputError
from resnet_cli.images import Decoder
from resnet_cli.preprocess import PRESETS
from resnet_cli.records import Item
from resnet_cli.sources import find_inputs
from resnet_cli.sources.folders import Sieve

SEED = 0
OUTPUTS = 1000

log = logging.getLogger("resnet_cli")


def find_measured_network(given: str) -> Checkpoint:
    """Load a checkpoint, or build a model by name with random weights: nothing is downloaded.

    Raises:
        SettingError: no such model or file.
        CheckpointError: the file holds no ResNet.
    """
    if given in ARCHITECTURES:
        return random_checkpoint(given)
    if given and Path(given).exists():
        return load_checkpoint(Location(Path(given), "given"))
    raise unknown_model_error(given, ARCHITECTURES, f"the models are {', '.join(ARCHITECTURES)}")


def random_checkpoint(name: str) -> Checkpoint:
    """Build a model with random weights, which are as fast as trained ones."""
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
        blanks=iter(partial(build_network, name, num_classes=OUTPUTS), None),
    )


class EndlessImages:
    """Image files that repeat for as long as a measurement lasts.

    A file that cannot be read is tried once and then excluded.

    Attributes:
        source: the folder, or a single file.
        items: all of them.
        unreadable: identities of those that are excluded.
    """

    def __init__(self, source: Path, sieve: Sieve | None = None) -> None:
        """Find the images, and check that at least one can be read.

        Args:
            source: a folder, or a single file.
            sieve: which files to skip.

        Raises:
            InputError: none can be read.
        """
        self.source = source
        found = find_inputs([str(source)], sieve)
        for sentence in found.notes:
            log.info(sentence)
        self.items = [replace(item, path=str(Path(item.path))) for item in found.known]
        self.unreadable: set[tuple[str, str]] = set()
        decode = Decoder("RGB", upright=True, exact=False)
        for item in self.items:
            try:
                decode(item.source)
            except ImageError as error:
                self.exclude(item, str(error))
            else:
                return
        raise InputError(
            f"cannot measure with {source}: none of its images can be read "
            f"({len(self.unreadable)} tried)"
        )

    def exclude(self, item: Item, reason: str) -> None:
        """Skip an image from now on, and log that once."""
        if item.identity not in self.unreadable:
            self.unreadable.add(item.identity)
            log.warning("left out of what is measured: %s: %s", item.path, reason)

    def cycle(self) -> Iterator[Item]:
        """Yield the images again and again, for as long as any can be read."""
        while readable := [item for item in self.items if item.identity not in self.unreadable]:
            yield from readable
