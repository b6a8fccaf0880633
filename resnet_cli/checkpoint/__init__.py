"""Any checkpoint file -> Checkpoint: network, class names, preprocessing, and where from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet

from resnet_cli.architectures import build
from resnet_cli.checkpoint.classes import ClassNames, find_classes
from resnet_cli.checkpoint.detect import Detected, detect
from resnet_cli.checkpoint.formats import Contents, metadata_json, read_contents
from resnet_cli.checkpoint.hub import preprocess_of, sha256
from resnet_cli.checkpoint.layouts import find_weights
from resnet_cli.checkpoint.locate import Location, locate
from resnet_cli.errors import CheckpointError
from resnet_cli.preprocess import PRESETS, Preprocess

__all__ = ["Checkpoint", "Location", "load_checkpoint", "locate", "sha256"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network that is known, with its weights, before it runs anywhere."""

    path: Path
    format: str  # pickle-zip, pickle-legacy, safetensors
    state_key: str  # where in the file the weights were, "" at its top
    stripped_prefix: str  # what was taken off their names, such as "module."
    model: str  # torchvision's name of the architecture
    num_classes: int  # outputs of fc
    in_channels: int  # of conv1
    classes: ClassNames
    preprocess: Preprocess
    preprocess_source: str  # in words
    # under torchvision's names, still mapped from the file
    state: Mapping[str, Tensor] = field(repr=False)

    @property
    def whereabouts(self) -> list[str]:
        """Where in the file the weights were, in words; nothing when they were its all."""
        found = [f"weights under {self.state_key}"] if self.state_key else []
        if self.stripped_prefix:
            found.append(f"prefix {self.stripped_prefix} taken off")
        return found

    def network(self) -> ResNet:
        """Torchvision's network with these weights, in evaluation mode, on the CPU, in fp32.

        Raises:
            CheckpointError: a tensor is missing, left over, or of another shape.
        """
        network = build(
            self.model,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            fc_bias="fc.bias" in self.state,
        )
        state = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self.state.items()
        }
        try:
            network.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            lines = str(error).splitlines()[1:]
            raise CheckpointError(
                f"cannot load {self.path} as {self.model}: {lines[0].strip()}"
                + (f" and {len(lines) - 1} more complaints" if len(lines) > 1 else "")
            ) from error
        return network.requires_grad_(requires_grad=False)


def load_checkpoint(
    location: Location,
    *,
    classes: Sequence[str] | str | Path | None = None,
    model: str | None = None,
    state_key: str | None = None,
    ema: bool = True,
) -> Checkpoint:
    """Load a checkpoint and find out what it is.

    Args:
        location: which file.
        classes: class names, or where they are; None to look for them.
        model: architecture that it has to be; None takes whatever is there.
        state_key: which weights of a file that holds several.
        ema: prefer averaged weights.

    Raises:
        CheckpointError: unreadable, no ResNet, not ``model``, or weights that are not numbers.
        SettingError: ``classes`` do not fit.
    """
    path = location.path
    contents = read_contents(path)
    try:
        weights = find_weights(contents.tree, state_key=state_key, ema=ema)
        detected = detect(weights.state)
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error
    if model is not None and model != detected.architecture.name:
        raise CheckpointError(
            f"cannot load {path} as {model}: it is a {detected.architecture.name} of "
            f"{detected.num_classes} classes: leave --model out"
        )
    require_finite(weights.state, path)
    preprocess, preprocess_source = find_preprocess(contents, location, detected)
    return Checkpoint(
        path=path,
        format=contents.format,
        state_key=weights.state_key,
        stripped_prefix=weights.prefix,
        model=detected.architecture.name,
        num_classes=detected.num_classes,
        in_channels=detected.in_channels,
        classes=find_classes(classes, contents, path, detected.num_classes),
        preprocess=preprocess,
        preprocess_source=preprocess_source,
        state=weights.state,
    )


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that hold NaN or infinity: every prediction would be wrong.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, tensor in state.items():
        if oddity := odd(tensor):
            raise CheckpointError(
                f"cannot use {path}: {name} is {oddity}: save plain float weights"
            )
        # a sum is finite only where every term is, and is quicker than looking at each
        if not torch.isfinite(tensor.sum(dtype=torch.float64)):
            raise CheckpointError(f"cannot use {path}: {name} holds NaN or infinity")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise CheckpointError(f"cannot use {path}: {name} holds a negative variance")


LARGEST_REPEATED = 1 << 26  # bytes, more than any layer of a ResNet but a huge head


def odd(tensor: Tensor) -> str | None:
    """What sets a tensor apart from plain numbers in memory of their own; None for nothing."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "without values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.is_complex():
        return "complex"
    # a few bytes can claim to be a tensor of terabytes by repeating themselves
    if tensor.nbytes > max(LARGEST_REPEATED, tensor.untyped_storage().nbytes()):
        return "larger than its values in the file"
    return None


def find_preprocess(
    contents: Contents, location: Location, detected: Detected
) -> tuple[Preprocess, str]:
    """What the checkpoint or the published weights record, else ``imagenet-v1``."""
    recorded = metadata_json(contents.metadata, "preprocess")
    if isinstance(recorded, Mapping):
        return Preprocess.from_record(recorded), "recorded in the checkpoint"
    if location.published is not None:
        return preprocess_of(location.published), f"of {location.published}"
    default = PRESETS["imagenet-v1"]
    grey = detected.in_channels == 1
    return default.with_channels(1) if grey else default, "imagenet-v1, as none is recorded"
