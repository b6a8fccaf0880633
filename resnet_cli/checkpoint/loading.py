"""Any file of torch -> Checkpoint: network, class names and preprocessing, and their sources."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet

from resnet_cli.checkpoint.examine import (
    Examination,
    describe_headless,
    examine_contents,
)
from resnet_cli.checkpoint.folders import find_weights_file
from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.formats.trusted import read_or_trust, read_trusted
from resnet_cli.checkpoint.locate import LoadOptions, Location
from resnet_cli.checkpoint.metadata.classes import ClassNames, find_classes
from resnet_cli.checkpoint.metadata.preprocessing import find_preprocess
from resnet_cli.checkpoint.network import Found
from resnet_cli.checkpoint.network.architectures import Head, Variant
from resnet_cli.checkpoint.tensors import require_finite
from resnet_cli.checkpoint.tree import Contents
from resnet_cli.errors import CheckpointError
from resnet_cli.preprocess import Preprocess

DEFAULTS = LoadOptions()

OWNED = ("fc.", "avgpool.")
"""Tensors that a network gets in memory of its own, as nothing copies them later."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights, class names and preprocessing of a network, before it runs anywhere."""

    path: Path  # of the weights, or of the index of several files
    files: tuple[Path, ...]  # every file that was read
    format: str  # pickle-zip, safetensors …
    layout: str  # naming of the tensors: torchvision, timm, caffe …
    state_key: str  # path of keys to the weights in the file, "" at its top
    stripped_prefix: str  # removed from their names, such as "module."
    model: str  # torchvision's name of the architecture
    num_classes: int  # outputs of the head
    in_channels: int  # of conv1
    head: Head
    assumed: bool  # whether the activations of the head are a convention
    variant: Variant
    classes: ClassNames
    preprocess: Preprocess
    preprocess_source: str  # in words
    notes: tuple[str, ...]  # assumptions, in words
    activation: str  # turns outputs into probabilities: softmax or sigmoid
    # under torchvision's names, mapped from the file
    state: dict[str, Tensor] = field(repr=False)
    blanks: Iterator[ResNet] = field(repr=False)  # a new network each time, on the meta device

    # sizes and times of the files when they were read
    stamps: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def is_multi_label(self) -> bool:
        """Whether each of several outputs has a probability of its own."""
        return self.activation == "sigmoid" and self.num_classes > 1

    @property
    def whereabouts(self) -> list[str]:
        """Where in the file the weights were, in words; empty for a plain state dict."""
        found = [f"layout of {self.layout}"] if self.layout != "torchvision" else []
        found += [f"weights under {self.state_key}"] if self.state_key else []
        if self.stripped_prefix:
            found.append(f"prefix {self.stripped_prefix} removed")
        return found

    def require_untouched(self) -> None:
        """Refuse a file that was written to since it was read.

        Raises:
            CheckpointError: the file has changed.
        """
        if file_stamps(self.files) != self.stamps:
            raise CheckpointError(f"cannot use {self.path}: it was written to while it was read")

    def release(self) -> None:
        """Free the weights once every network that is needed exists.

        Those networks keep what they copied; no other can be made. This saves the size of the
        weights.
        """
        self.state.clear()

    def network(self) -> ResNet:
        """Make torchvision's network with these weights, in evaluation mode, on the CPU, in fp32.

        The head has memory of its own; all other tensors are still mapped from the file. Code that
        keeps the network copies them, as folding its batch norms does.

        Raises:
            CheckpointError: the file was written to since it was read.
        """
        self.require_untouched()
        network = next(self.blanks)
        state = {
            name: tensor.to(torch.float32, copy=name.startswith(OWNED))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in self.state.items()
        }
        network.load_state_dict(state, strict=True, assign=True)
        return network.requires_grad_(requires_grad=False)


def file_stamps(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return size in bytes and modification time in nanoseconds of each file."""
    found = [file.stat() for file in files]
    return tuple((one.st_size, one.st_mtime_ns) for one in found)


def load_checkpoint(location: Location, options: LoadOptions = DEFAULTS) -> Checkpoint:
    """Load a checkpoint: read its file, match a network to its tensors, name its classes.

    Args:
        location: a file, or a folder with one.
        options: what is wanted of it.

    Raises:
        CheckpointError: unreadable, not a ResNet, not ``options.model``, or weights that are not
            finite.
        SettingError: ``options.classes`` do not fit.
    """
    path = find_weights_file(location.path) if location.path.is_dir() else location.path
    contents = read_or_trust(path) if options.trusted else read_contents(path)
    files = contents.files or (path,)
    stamps = file_stamps(files)
    contents, examined = examine_or_trust(contents, path, options)
    found = examined.found
    require_model(found, options.model, path)
    require_finite(found.state, path)
    names = name_outputs(examined, contents, path, options)
    preprocess, preprocess_source = find_preprocess(examined, contents.tree, location)
    return Checkpoint(
        path=path,
        files=files,
        format=contents.format,
        layout=examined.layout,
        state_key=examined.weights.state_key,
        stripped_prefix=examined.weights.prefix,
        model=found.architecture.name,
        num_classes=found.num_classes,
        in_channels=found.in_channels,
        head=found.head,
        assumed=found.assumed,
        variant=found.variant,
        classes=names,
        preprocess=preprocess,
        preprocess_source=preprocess_source,
        notes=examined.notes,
        activation=examined.activation,
        state=found.state,
        blanks=chain([found.blank], iter(found.build, None)),
        stamps=stamps,
    )


def examine_or_trust(
    contents: Contents, path: Path, options: LoadOptions
) -> tuple[Contents, Examination]:
    """Find the network in a file; unpickle the file where that fails and the user trusts it.

    Raises:
        CheckpointError: there is no ResNet in it.
    """
    try:
        return contents, examine_contents(contents, path, options)
    except CheckpointError:
        if not options.trusted:
            raise
    contents = read_trusted(path, contents)
    return contents, examine_contents(contents, path, options)


def name_outputs(
    examined: Examination, contents: Contents, path: Path, options: LoadOptions
) -> ClassNames:
    """Find a name for each output of the network; none for a backbone alone, where that is wanted.

    Raises:
        CheckpointError: the network has no head, or one that does not classify.
        SettingError: ``options.classes`` do not fit.
    """
    found = examined.found
    if not found.head:
        if options.headless and options.classes is None:
            return ClassNames((), "it has no head", made_up=True)
        what = describe_headless(found, contents.tree)
        raise CheckpointError(f"cannot load {path}: {what}: it cannot tell classes apart")
    if options.classes is None and options.state_key is None:
        require_labels(found, path)
    return find_classes(options.classes, contents, path, found.num_classes)


def require_model(found: Found, model: str | None, path: Path) -> None:
    """Refuse another architecture than the user asked for.

    Raises:
        CheckpointError: the architecture differs.
    """
    if model is not None and model != found.architecture.name:
        raise CheckpointError(
            f"cannot load {path} as {model}: it is a {found.architecture.name} of "
            f"{found.num_classes} classes: leave --model out"
        )


def require_labels(found: Found, path: Path) -> None:
    """Refuse the head of a network that was trained without labels.

    Naming the weights or the classes overrides this: the user then knows what the head is for.

    Raises:
        CheckpointError: the head is for such training.
    """
    if found.pretext or found.projects:
        sign = found.pretext or "two layers onto a few numbers"
        raise CheckpointError(
            f"cannot load {path}: {found.architecture.name} is in it, but no head that tells "
            f"classes apart: its own is for learning without labels ({sign}): name the classes if "
            "it is not"
        )
