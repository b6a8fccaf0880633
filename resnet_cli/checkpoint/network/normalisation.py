"""The normalisation that a network does itself, before its first convolution.

Such a network takes pixels from 0 to 1 (or 0 to 255): its numbers are the preprocessing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError
from resnet_cli.preprocess import Preprocess

MEAN = re.compile(r"(?!running_)(?:\w*_)?(?:means?|mu|avg)_?", re.IGNORECASE)
DIVISORS = {
    "std": r"(?:\w*_)?(?:stds?|std_?dev|stdv|sigmas?|sds?|deviations?)_?",
    "variance": r"(?!running_)(?:\w*_)?(?:vars?|variances?)_?",
    "inverse": r"(?:\w*_)?(?:inv_?stds?|stds?_inv|inverse_std|istd|rstd)_?",
}
"""What divides the pixels, and patterns of its names."""

INVERSE_FIRST = ("inverse", "std", "variance")  # inv_std also matches std

ELSEWHERE = re.compile(
    r"target|label|embed|feat|loss|criterion|metric|output|logit|reward|latent", re.IGNORECASE
)
"""Words in the names of means that are not of pixels."""

NORMALISERS = re.compile(r"\w*normali[sz](?:e|er|ation)(?:layer|module)?", re.IGNORECASE)
"""Classes of modules that normalise pixels."""

DARKEST = 16  # mean of pixels from 0 to 255; a smaller one belongs to something else
BGR = tuple(reversed(Preprocess().mean))  # of ImageNet, blue first
NEAR = 0.01  # tolerance for that, on the scale from 0 to 1
SAME = 1e-5  # relative difference of numbers after rounding to fp32

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The mean and std that a network normalises its pixels with, on the scale from 0 to 1."""

    mean: Numbers
    std: Numbers
    names: tuple[str, str]  # full names of both in the file
    changed: bool = False  # combined with a Normalize of the transforms before it

    @property
    def where(self) -> str:
        """Names of mean and std in the file, in words."""
        before = "that Normalize, then " if self.changed else ""
        return f"{before}{self.names[0]} and {self.names[1]}"

    @property
    def color(self) -> str | None:
        """``bgr`` where the mean is ImageNet's in that order; None where it does not show."""
        near = len(self.mean) == 3 and all(
            abs(one - other) < NEAR for one, other in zip(self.mean, BGR, strict=True)
        )
        return "bgr" if near else None


def find_normalisation(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], *, prefix: str, channels: int
) -> Normalisation | None:
    """Find the mean and std in front of a backbone; None where there are none.

    Args:
        tensors: those that are not of the backbone, by full names.
        parts: modules that the file describes, by full names.
        prefix: of the names of the backbone.
        channels: of its input.

    Raises:
        CheckpointError: one of the two is missing, there are several, or they are not of pixels.
    """
    held = dict(numbers_of(tensors, parts, channels))
    pairs: dict[int, list[Normalisation]] = {}
    for module, values in held.items():
        for found in pair_of(module, values, channels):
            pairs.setdefault(closeness_to_backbone(module, prefix), []).append(found)
    if not pairs:
        require_no_normaliser(parts, prefix)
        return None
    nearest = pairs[max(pairs)]
    if len({(one.mean, one.std) for one in nearest}) > 1:
        places = ", ".join(one.names[0] for one in nearest)
        raise CheckpointError(f"it normalises pixels in several ways ({places}): which one counts?")
    return nearest[0]


def numbers_of(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], channels: int
) -> Iterator[tuple[str, dict[str, Numbers]]]:
    """Yield each module with its numbers: one for all channels, or one for each."""
    held: dict[str, dict[str, Numbers]] = {}
    settings = ((f"{m}.{own}", v) for m, part in parts.items() for own, v in part.settings.items())
    for name, value in (*settings, *tensors.items()):
        module, _, own = name.rpartition(".")
        known = MEAN.fullmatch(own) or divisor_of(own)
        if known and not ELSEWHERE.search(name) and (numbers := one_a_channel(value, channels)):
            held.setdefault(module, {})[own] = numbers
    yield from held.items()


def one_a_channel(value: Any, channels: int) -> Numbers | None:
    """Return the numbers of a tensor or a list, if there is one per channel or one for all."""
    if isinstance(value, Tensor):
        if value.is_meta or value.numel() not in (1, channels) or value.ndim > 4:
            return None
        value = value.flatten().tolist()
    numbers = value if isinstance(value, list | tuple) else (value,)
    if not all(type(number) in (int, float) and isfinite(number) for number in numbers):
        return None
    return tuple(map(float, numbers)) if len(numbers) in (1, channels) else None


def divisor_of(own: str) -> str | None:
    """Return what a number of this name divides by; None for any other name."""
    for kind in INVERSE_FIRST:
        if re.fullmatch(DIVISORS[kind], own, re.IGNORECASE):
            return kind
    return None


def pair_of(module: str, values: Mapping[str, Numbers], channels: int) -> Iterator[Normalisation]:
    """Yield the mean and std that a module holds.

    Raises:
        CheckpointError: it holds only one of them, or they are not of pixels.
    """
    start = f"{module}." if module else ""
    means = [own for own in values if MEAN.fullmatch(own)]
    others = [own for own in values if own not in means]
    if not means or not others:
        lone = [own for own in values if len(values[own]) == channels > 1]
        if lone:
            raise CheckpointError(
                f"its {start}{lone[0]} seems to normalise pixels, and nothing beside it is "
                f"{'the mean' if others else 'the deviation'}"
            )
        return
    mean, other = means[0], others[0]
    std = DEVIATIONS[divisor_of(other) or "std"](values[other]) if min(values[other]) > 0 else None
    scaled = None if std is None else on_scale_of_one(values[mean], std)
    if len(means) + len(others) > 2 or scaled is None:
        raise CheckpointError(
            f"its {start}{mean} and {start}{other} seem to normalise pixels: numbers of no known "
            "scale"
        )
    wide = [spread if len(spread) == channels else spread * channels for spread in scaled]
    yield Normalisation(wide[0], wide[1], (f"{start}{mean}", f"{start}{other}"))


DEVIATIONS: Mapping[str, Callable[[Numbers], Numbers]] = {
    "std": lambda values: values,
    "variance": lambda values: tuple(map(sqrt, values)),
    "inverse": lambda values: tuple(1 / value for value in values),
}
"""How the std is computed from what the file holds."""


def on_scale_of_one(mean: Numbers, std: Numbers) -> tuple[Numbers, Numbers] | None:
    """Return mean and std for values from 0 to 1, scaled if they are for 0 to 255; else None."""
    if min(mean) >= 0 and max(*mean, *std) <= 1:
        return mean, std
    of_bytes = min(mean) >= DARKEST or max(mean) == 0
    if of_bytes and min(std) >= 1 and max(*mean, *std) <= 255:
        return tuple(number / 255 for number in mean), tuple(number / 255 for number in std)
    return None


def closeness_to_backbone(module: str, prefix: str) -> int:
    """Return how near a module is to a backbone: deeper common modules are nearer."""
    if not module or prefix.startswith(f"{module}."):
        return len(module)
    around, _, _ = module.rpartition(".")
    return len(around) if not around or prefix.startswith(f"{around}.") else -1


def require_no_normaliser(parts: Mapping[str, Part], prefix: str) -> None:
    """Refuse a module that normalises by numbers that the file does not show.

    Raises:
        CheckpointError: names the module.
    """
    for name, part in parts.items():
        if NORMALISERS.fullmatch(part.kind) and closeness_to_backbone(name, prefix) >= 0:
            raise CheckpointError(f"its {name} is a {part.kind}: what it computes is unknown")
