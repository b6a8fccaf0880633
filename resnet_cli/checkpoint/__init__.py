"""Any checkpoint file -> Checkpoint: network, class names, preprocessing, and where from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import ResNet

from resnet_cli.checkpoint.examine import Examination, examine_contents, without_head
from resnet_cli.checkpoint.folders import weights_in
from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.locate import Location, locate_checkpoint, preprocess_of, sha256_of_files
from resnet_cli.checkpoint.metadata.classes import ClassNames, find_classes
from resnet_cli.checkpoint.metadata.statistics import find_statistics
from resnet_cli.checkpoint.metadata.transforms import find_transforms
from resnet_cli.checkpoint.network import Found
from resnet_cli.checkpoint.network.architectures import Head, Variant
from resnet_cli.checkpoint.network.normalisation import apply_normalisation
from resnet_cli.checkpoint.network.validate import require_finite
from resnet_cli.checkpoint.pickle.trusted import read_or_trust, read_trusted
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.preprocess import CAFFE, MSRA, PRESETS, Preprocess

__all__ = ["Checkpoint", "Location", "load_checkpoint", "locate_checkpoint", "sha256_of_files"]


OWNED = ("fc.", "avgpool.")
"""Tensors that a network has in memory of its own: nothing copies them later."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network that is known, with its weights, before it runs anywhere."""

    path: Path  # of the weights; an index where they are in several files
    files: tuple[Path, ...]  # all that were read
    format: str  # pickle-zip, safetensors …
    layout: str  # whose naming of tensors
    state_key: str  # where in the file the weights were, "" at its top
    stripped_prefix: str  # what was taken off their names, such as "module."
    model: str  # torchvision's name of the architecture
    num_classes: int  # outputs of the head
    in_channels: int  # of conv1
    head: Head
    assumed: bool  # whether the activations of the head are a convention
    variant: Variant
    classes: ClassNames
    preprocess: Preprocess
    preprocess_source: str  # in words
    notes: tuple[str, ...]  # what was taken for granted, in words
    activation: str  # what makes probabilities of the outputs: one of ACTIVATIONS in backend
    # under torchvision's names, still mapped from the file
    state: dict[str, Tensor] = field(repr=False)
    blanks: Iterator[ResNet] = field(repr=False)  # each a new one, on the meta device

    # sizes and times of the files when they were read
    stamps: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def is_multi_label(self) -> bool:
        """Whether each of several outputs has a probability of its own."""
        return self.activation == "sigmoid" and self.num_classes > 1

    @property
    def whereabouts(self) -> list[str]:
        """Where in the file the weights were, in words; nothing when they were its all."""
        found = [f"named as by {self.layout}"] if self.layout != "torchvision" else []
        found += [f"weights under {self.state_key}"] if self.state_key else []
        if self.stripped_prefix:
            found.append(f"prefix {self.stripped_prefix} taken off")
        return found

    def require_untouched(self) -> None:
        """Refuse to go on with a file that was written to since it was read.

        Raises:
            CheckpointError: it was.
        """
        if file_stamps(self.files) != self.stamps:
            raise CheckpointError(f"cannot use {self.path}: it was written to while it was read")

    def release(self) -> None:
        """Let go of the weights, once every network that is wanted has been made.

        Those keep what they copied; no other can be made. What is saved is the size of the weights.
        """
        self.state.clear()

    def network(self) -> ResNet:
        """Torchvision's network with these weights, in evaluation mode, on the CPU, in fp32.

        The head is in memory of its own, all else is still mapped from the file: who uses the
        network for long copies it, as folding its batch norms does.

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
    """Bytes, and nanoseconds of the last change, of each file."""
    found = [file.stat() for file in files]
    return tuple((one.st_size, one.st_mtime_ns) for one in found)


def load_checkpoint(
    location: Location,
    *,
    classes: Sequence[str] | str | Path | None = None,
    model: str | None = None,
    state_key: str | None = None,
    ema: bool = True,
    dilated: bool = False,
    trusted: bool = False,
    headless: bool = False,
) -> Checkpoint:
    """Load a checkpoint and find out what it is.

    Args:
        location: which file, or a folder with one.
        classes: class names, or where they are; None to look for them.
        model: architecture that it has to be; None takes whatever is there.
        state_key: which weights of a file that holds several.
        ema: prefer averaged weights.
        dilated: its layer3 and layer4 dilate instead of striding, which tensors do not show.
        trusted: run what the file says where nothing else opens it.
        headless: take a backbone alone as well, which has no classes.

    Raises:
        CheckpointError: unreadable, no ResNet, not ``model``, or weights that are not numbers.
        SettingError: ``classes`` do not fit.
    """
    path = weights_in(location.path) if location.path.is_dir() else location.path
    contents = read_or_trust(path) if trusted else read_contents(path)
    look = partial(examine_contents, path=path, state_key=state_key, ema=ema, dilated=dilated)
    before = file_stamps(contents.files or (path,))
    try:
        examined = look(contents)
    except CheckpointError:
        if not trusted:
            raise
        contents = read_trusted(path, contents)
        examined = look(contents)
    found = examined.found
    require_model(found, model, path)
    require_finite(found.state, path)
    if headless and not found.head and classes is None:
        names = ClassNames((), "it has no head", made_up=True)
    else:
        told = classes is not None or state_key is not None
        if not found.head:
            raise CheckpointError(
                f"cannot load {path}: {without_head(found, contents.tree)}: it cannot tell classes "
                "apart"
            )
        require_labels(found, path, told=told)
        names = find_classes(classes, contents, path, found.num_classes)
    preprocess, preprocess_source = find_preprocess(examined, contents.tree, location)
    return Checkpoint(
        path=path,
        files=contents.files or (path,),
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
        stamps=before,
    )


def require_model(found: Found, model: str | None, path: Path) -> None:
    """Refuse another architecture than the user names.

    Raises:
        CheckpointError: it is another.
    """
    if model is not None and model != found.architecture.name:
        raise CheckpointError(
            f"cannot load {path} as {model}: it is a {found.architecture.name} of "
            f"{found.num_classes} classes: leave --model out"
        )


def require_labels(found: Found, path: Path, *, told: bool) -> None:
    """Refuse a head of a network that learned without labels.

    Args:
        found: in the file.
        path: of the file.
        told: the user named the weights or the classes, and so must know what the head is for.

    Raises:
        CheckpointError: it is one.
    """
    if not told and (found.pretext or found.projects):
        sign = found.pretext or "two layers onto a few numbers"
        raise CheckpointError(
            f"cannot load {path}: {found.architecture.name} is in it, but no head that tells "
            f"classes apart: its own is for learning without labels ({sign}): name the classes if "
            "it is not"
        )


def find_preprocess(examined: Examination, tree: Any, location: Location) -> tuple[Preprocess, str]:
    """What the checkpoint or the published weights record, else ``imagenet-v1``.

    The mean and deviation of a network that normalises by itself go before all others: what it
    was fed is not normalised.

    Args:
        examined: what is in the file.
        tree: all that is in it.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    inside = examined.found.applied.normalisation
    base, source = around_network(examined, tree, location)
    if inside is None:
        return base, source
    transforms, _ = find_transforms(tree, examined.found.in_channels) or (None, "")
    return apply_normalisation(
        base, source, inside.after(transforms) if transforms == base else inside
    )


def around_network(examined: Examination, tree: Any, location: Location) -> tuple[Preprocess, str]:
    """The same, but for what the network does by itself.

    Args:
        examined: what is in the file.
        tree: all that is in it.
        location: of the file.

    Returns:
        The settings, and where they are from, in words.
    """
    record, config = examined.record.get("preprocess"), examined.config
    if isinstance(record, Mapping):
        return Preprocess.from_record(record), "recorded in the checkpoint"
    if location.published is not None:
        return preprocess_of(location.published), f"of {location.published}"
    if config.preprocess is not None:
        return config.preprocess, config.source
    if examined.weights.layout.name == "caffe":
        return CAFFE, "of Caffe's ResNets"
    if examined.weights.layout.name == "msra":
        return MSRA, "of Detectron's ResNets"
    default, channels = PRESETS["imagenet-v1"], examined.found.in_channels
    transforms, reason = find_transforms(tree, channels) or (None, "")
    if transforms is not None:
        return transforms, reason
    unless = f"; {reason}" if reason else ""
    kept = find_statistics(tree, channels)
    if kept is not None:
        found, where = kept
        source = f"imagenet-v1 with the mean and std in the checkpoint, under {where}{unless}"
        return with_kept_statistics(default, found), source
    grey = default.with_channels(1) if channels == 1 else default
    return grey, f"imagenet-v1{unless}" if unless else "imagenet-v1, as none is recorded"


def with_kept_statistics(default: Preprocess, kept: Mapping[str, Any]) -> Preprocess:
    """Settings with a mean and deviation, and with what stands beside them if it is of use."""
    with suppress(SettingError, TypeError):
        return replace(default, **kept)
    return replace(default, mean=kept["mean"], std=kept["std"])
