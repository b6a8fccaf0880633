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
"""What stands beside a mean, and how its name reads; the first that matches counts."""

INVERSE_FIRST = ("inverse", "std", "variance")  # inv_std would pass for a std

ELSEWHERE = re.compile(
    r"target|label|embed|feat|loss|criterion|metric|output|logit|reward|latent", re.IGNORECASE
)
"""Words in the names of what is a mean of something else than pixels."""

NORMALISERS = re.compile(r"\w*normali[sz](?:e|er|ation)(?:layer|module)?", re.IGNORECASE)
"""Classes of modules that normalise pixels."""

DARKEST = 16  # mean of pixels from 0 to 255: a smaller one is of something else
BGR = tuple(reversed(Preprocess().mean))  # of ImageNet, blue first
NEAR = 0.01  # to that, on the scale from 0 to 1
SAME = 1e-5  # part by which numbers in fp32 differ from those that they were

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What a network takes off its pixels, and divides them by, on the scale from 0 to 1."""

    mean: Numbers
    std: Numbers
    names: tuple[str, str]  # of the two in the file, in full
    changed: bool = False  # by a Normalize that the transforms have before it

    @property
    def where(self) -> str:
        """The names of the two in the file, in words."""
        before = "that Normalize, then " if self.changed else ""
        return f"{before}{self.names[0]} and {self.names[1]}"

    @property
    def color(self) -> str | None:
        """``bgr`` where the mean is ImageNet's in that order; None where nothing tells."""
        near = len(self.mean) == 3 and all(
            abs(one - other) < NEAR for one, other in zip(self.mean, BGR, strict=True)
        )
        return "bgr" if near else None


def find_normalisation(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], *, prefix: str, channels: int
) -> Normalisation | None:
    """Find the mean and deviation in front of a backbone.

    Args:
        tensors: those that are not of the backbone, by full names.
        parts: what the file says of modules, by full names.
        prefix: of the names of the backbone.
        channels: of its input.

    Raises:
        CheckpointError: half a pair, several pairs, or numbers that cannot be of pixels.
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
    """Yield each module with the numbers that it holds, one for all channels or one for each."""
    held: dict[str, dict[str, Numbers]] = {}
    settings = ((f"{m}.{own}", v) for m, part in parts.items() for own, v in part.settings.items())
    for name, value in (*settings, *tensors.items()):
        module, _, own = name.rpartition(".")
        known = MEAN.fullmatch(own) or divisor_of(own)
        if known and not ELSEWHERE.search(name) and (numbers := one_a_channel(value, channels)):
            held.setdefault(module, {})[own] = numbers
    yield from held.items()


def one_a_channel(value: Any, channels: int) -> Numbers | None:
    """The numbers of a tensor or a list, if there is one a channel or one for all."""
    if isinstance(value, Tensor):
        if value.is_meta or value.numel() not in (1, channels) or value.ndim > 4:
            return None
        value = value.flatten().tolist()
    numbers = value if isinstance(value, list | tuple) else (value,)
    if not all(type(number) in (int, float) and isfinite(number) for number in numbers):
        return None
    return tuple(map(float, numbers)) if len(numbers) in (1, channels) else None


def divisor_of(own: str) -> str | None:
    """What divides the pixels by the name of a number; None for any other."""
    for kind in INVERSE_FIRST:
        if re.fullmatch(DIVISORS[kind], own, re.IGNORECASE):
            return kind
    return None


def pair_of(module: str, values: Mapping[str, Numbers], channels: int) -> Iterator[Normalisation]:
    """Yield the mean and deviation that a module holds.

    Raises:
        CheckpointError: it holds one of the two alone, or they cannot be of pixels.
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
"""The deviation, by what the file holds of it."""


def on_scale_of_one(mean: Numbers, std: Numbers) -> tuple[Numbers, Numbers] | None:
    """Mean and deviation of values from 0 to 1, also where they are of values from 0 to 255."""
    if min(mean) >= 0 and max(*mean, *std) <= 1:
        return mean, std
    of_bytes = min(mean) >= DARKEST or max(mean) == 0
    if of_bytes and min(std) >= 1 and max(*mean, *std) <= 255:
        return tuple(number / 255 for number in mean), tuple(number / 255 for number in std)
    return None


def closeness_to_backbone(module: str, prefix: str) -> int:
    """How near a module is to a backbone: in the innermost module around both is the nearest."""
    if not module or prefix.startswith(f"{module}."):
        return len(module)
    around, _, _ = module.rpartition(".")
    return len(around) if not around or prefix.startswith(f"{around}.") else -1


def require_no_normaliser(parts: Mapping[str, Part], prefix: str) -> None:
    """Refuse a module that normalises by numbers which the file does not hold where they are known.

    Raises:
        CheckpointError: names it.
    """
    for name, part in parts.items():
        if NORMALISERS.fullmatch(part.kind) and closeness_to_backbone(name, prefix) >= 0:
            raise CheckpointError(
                f"its {name} is a {part.kind}: what it computes is not known here"
            )
