"""The tensors around a backbone: harmless, applied, noted or refused; none is ignored silently."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from resnet_cli.checkpoint.network.kinds import (
    BOOKKEEPING,
    BRANCHES,
    DECISIVE,
    EXPONENT,
    GENERALISED,
    HARMLESS,
    INNER,
    ON_THE_WAY,
    TEMPERATURE,
)
from resnet_cli.checkpoint.network.normalisation import Normalisation, find_normalisation
from resnet_cli.checkpoint.network.weights import Weights
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Applied:
    """The tensors beside a backbone that change predictions and are used."""

    normalisation: Normalisation | None = None
    temperature: tuple[str, float] | None = None  # its name, and the number that divides the logits
    exponent: tuple[str, Tensor] | None = None  # of the last pool: one, or one per channel

    @property
    def names(self) -> frozenset[str]:
        """Names of the tensors that are used."""
        found = [one[0] for one in (self.temperature, self.exponent) if one is not None]
        return frozenset(found + list(self.normalisation.names if self.normalisation else ()))


@dataclass(frozen=True, slots=True)
class Beside:
    """The tensors around a backbone, sorted as far as possible without knowing the head."""

    weights: Weights
    own: tuple[str, ...]  # outermost modules of the backbone
    applied: Applied
    rest: Mapping[str, Tensor] = field(repr=False)  # those of the head, and unknown ones

    def unused(self, head: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors that are neither used nor harmless, in the order of the file."""
        return {
            name: tensor
            for name, tensor in self.rest.items()
            if name not in head and not is_harmless(name, tensor)
        }

    def inside_network(self, unused: Iterable[str]) -> list[str]:
        """Return the unused tensors that lie in the network itself."""
        prefix = self.weights.prefix
        return [
            name
            for name in unused
            if is_in(name, self.own) or (name.startswith(prefix) and not self.is_branch(name))
        ]

    def is_branch(self, name: str) -> bool:
        """Return whether a tensor is of a second branch, by its name."""
        inner = name.removeprefix(self.weights.prefix)
        known = BRANCHES.search(inner) is not None or is_bookkeeping(inner)
        return known and not is_in(name, self.own)

    def require_idle(
        self, unused: Mapping[str, Tensor], head: Collection[str], *, features: int, channels: int
    ) -> None:
        """Refuse a network in which an unused tensor takes part.

        Args:
            unused: tensors of ``unused``.
            head: names of the tensors of the head.
            features: size of the backbone's output.
            channels: of its input.

        Raises:
            CheckpointError: names the first such tensor.
        """
        before, between = around_backbone(self.weights, self.own, head)
        for name, tensor in unused.items():
            if self.is_branch(name):
                continue
            if name in between or tensor.shape == (features,) or ON_THE_WAY.search(name):
                raise takes_part(name, "lie between the layers that are used")
            if takes_pixels(tensor, channels, is_first=name in before):
                raise takes_part(name, "lie before the first convolution")
            if is_decisive(name, tensor):
                raise takes_part(name, "scale or shift the outputs")


def sort_tensors(weights: Weights, others: Mapping[str, Tensor], channels: int) -> Beside:
    """Sort the tensors around a backbone.

    Args:
        weights: of one network.
        others: tensors that are not of the backbone, by full names.
        channels: of the network's input.

    Raises:
        CheckpointError: a tensor changes predictions in a way that the file does not state.
    """
    own = backbone_roots(weights)
    rest = {
        name: tensor
        for name, tensor in others.items()
        if is_norm_counter(name) or not is_harmless(name, tensor)
    }
    outside = {name: tensor for name, tensor in rest.items() if not is_in(name, own)}
    parts = {
        name: part
        for name, part in weights.parts.items()
        if not is_in(name, own) and not f"{name}.".startswith(weights.twins)
    }
    applied = Applied(
        find_normalisation(outside, parts, prefix=weights.prefix, channels=channels),
        find_temperature(outside),
        find_exponent(outside, parts),
    )
    return Beside(weights, own, applied, {n: t for n, t in rest.items() if n not in applied.names})


def takes_part(name: str, seems: str) -> CheckpointError:
    """Build the error for a tensor that changes predictions in an unknown way."""
    return CheckpointError(
        f"its {name} would change predictions, and is not supported: it seems to {seems}"
    )


def is_harmless(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor changes no prediction, by its name and shape."""
    return any(kind.holds(name, tensor) for kind in HARMLESS)


def is_bookkeeping(name: str) -> bool:
    """Return whether a tensor only serves training or its metrics, by its name."""
    return BOOKKEEPING.fullmatch(name) is not None


def is_norm_counter(name: str) -> bool:
    """Return whether a tensor is the counter of a batch norm, which a head may have."""
    return name.endswith("num_batches_tracked")


def is_decisive(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor changes the outputs in a way that the file does not state."""
    return not INNER.search(name) and any(kind.holds(name, tensor) for kind in DECISIVE)


def is_in(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a name is that of one of the modules, or lies in one."""
    return f"{name}.".startswith(tuple(f"{module}." for module in modules))


def takes_pixels(tensor: Tensor, channels: int, *, is_first: bool) -> bool:
    """Return whether a tensor may belong to a module between pixels and first convolution."""
    if tensor.numel() == channels > 1 and (is_first or tensor.ndim in (3, 4)):
        return True
    return is_first and tensor.ndim == 4 and tensor.shape[0] == channels


def backbone_roots(weights: Weights) -> tuple[str, ...]:
    """Return the outermost modules of a backbone, by their full names."""
    prefix, translate = weights.prefix, weights.layout.translate
    inside = (n.removeprefix(prefix) for n in weights.tensors if n.startswith(prefix))
    ours = (name for name in inside if translate(name) is not None)
    return tuple(dict.fromkeys(prefix + name.partition(".")[0] for name in ours))


def around_backbone(
    weights: Weights, own: tuple[str, ...], head: Collection[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names before a backbone, and those between it and its head.

    A file with sorted names does not show the order of modules: both are then empty.
    """
    names = [name for name, tensor in weights.tensors.items() if tensor.is_floating_point()]
    ours = [place for place, name in enumerate(names) if is_in(name, own)]
    heads = [place for place, name in enumerate(names) if name in head]
    if names == sorted(names) or not ours:
        return frozenset(), frozenset()
    behind = min(heads, default=0)
    return frozenset(names[: ours[0]]), frozenset(names[ours[-1] + 1 : behind])


def find_temperature(tensors: Mapping[str, Tensor]) -> tuple[str, float] | None:
    """Find the number that divides the outputs of a network.

    Raises:
        CheckpointError: there are several, or one that cannot divide.
    """
    found = {
        name: float(tensor)
        for name, tensor in tensors.items()
        if TEMPERATURE.holds(name, tensor) and not INNER.search(name) and not BRANCHES.search(name)
    }
    if len(set(found.values())) > 1:
        raise CheckpointError(f"it has several temperatures: {', '.join(found)}")
    for name, value in found.items():
        if not isfinite(value) or value <= 0:
            raise CheckpointError(f"its {name} is {value:g}: no temperature that divides logits")
        return name, value
    return None


def find_exponent(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part]
) -> tuple[str, Tensor] | None:
    """Find the exponent of the generalised mean that pools the features.

    Raises:
        CheckpointError: there are several, or one that is not an exponent.
    """
    fixed = {
        f"{name}.p": torch.tensor([float(part.settings["p"])])
        for name, part in parts.items()
        if GENERALISED.search(part.kind) and type(part.settings.get("p")) in (int, float)
    }
    found = {**fixed, **{n: t for n, t in tensors.items() if EXPONENT.holds(n, t)}}
    if len(found) > 1:
        raise CheckpointError(f"it has several pools with exponents: {', '.join(found)}")
    for name, tensor in found.items():
        exponent = tensor.detach().float().flatten()
        if not bool((exponent.isfinite() & (exponent > 0)).all()):
            raise CheckpointError(f"its {name} is not an exponent of a generalised mean (GeM)")
        return name, exponent
    return None
