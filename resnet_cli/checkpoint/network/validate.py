"""Whether weights are numbers that a network can use."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from resnet_cli.errors import CheckpointError

LARGEST_REPEATED = 1 << 26  # bytes, more than any layer of a ResNet but a huge head


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that hold NaN or infinity: every prediction would be wrong.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, tensor in state.items():
        if sentence := describe_unsound(name, tensor):
            raise CheckpointError(f"cannot use {path}: {sentence}")


def describe_unsound(name: str, tensor: Tensor) -> str | None:
    """A sentence on a tensor that would spoil every prediction; None if it is sound."""
    if oddity := unusual_storage(tensor):
        return f"{name} is {oddity}: save plain float weights"
    if not tensor.is_floating_point():
        return None if name.endswith("num_batches_tracked") else f"{name} holds whole numbers"
    least, largest = map(float, torch.aminmax(tensor))  # NaN is both, where there is one
    if not (isfinite(least) and isfinite(largest)):
        return f"{name} holds NaN or infinity"
    if name.endswith("running_var") and least < 0:
        return f"{name} holds a negative variance"
    return None


def unusual_storage(tensor: Tensor) -> str | None:
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
