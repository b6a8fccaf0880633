"""What is measured: a checkpoint, or a network of random weights."""

import logging
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from resnet_cli.runtimes import Runtime
from resnet_cli.sources import find_inputs
from resnet_cli.sources.folders import Sieve
from resnet_cli.system import cpu_name

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
    raise unknown_model_error(given, ARCHITECTURES, f"the models are {', '.join(ARCHITECTURES)}")


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
        blanks=iter(partial(build_network, name, num_classes=OUTPUTS), None),
    )


log = logging.getLogger("resnet_cli")


class Photographs:
    """Pictures without an end; what cannot be read is tried once and then left out.

    Attributes:
        source: the folder, or one file.
        items: all of them.
        unreadable: those that are left out.
    """

    def __init__(self, source: Path, sieve: Sieve | None = None) -> None:
        """Find the images, and see that there is one that can be read.

        Args:
            source: a folder, or one file.
            sieve: says what is passed over.

        Raises:
            InputError: there is none.
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
                self.leave_out(item, str(error))
            else:
                return
        raise InputError(
            f"cannot measure with {source}: none of its images can be read "
            f"({len(self.unreadable)} tried)"
        )

    def leave_out(self, item: Item, reason: str) -> None:
        """Leave an image out from now on, and say so once."""
        if item.identity not in self.unreadable:
            self.unreadable.add(item.identity)
            log.warning("left out of what is measured: %s: %s", item.path, reason)

    def endless(self) -> Iterator[Item]:
        """Yield items, again from the first after the last, for as long as any can be read."""
        while readable := [item for item in self.items if item.identity not in self.unreadable]:
            yield from readable


DRIVER = Path("/proc/driver/nvidia/version")


def describe_environment(runtime: Runtime, workers: int) -> dict[str, Any]:
    """The machine, the versions, and how the network runs."""
    return {
        "device": runtime.hardware,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": workers,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("resnet-cli", "torch", "torchvision")},
        "memory_format": "channels_last",
        "batch_norm": "folded",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def driver_version() -> str | None:
    """Version of NVIDIA's driver; None where there is none."""
    try:
        match = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text())
    except OSError:
        return None
    return match[0] if match else None
