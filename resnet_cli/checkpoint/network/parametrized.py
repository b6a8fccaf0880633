"""Weights stored in parts -> the weights that the network computes from them.

``torch.nn.utils`` has three such forms: a pruned weight and its mask; weight norm, a length and a
direction; spectral norm, a weight and two vectors. Each was made by hooks (``weight_orig``,
``weight_g``) and is now a parametrization (``parametrizations.weight.original``). They are computed
here as in evaluation mode.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from resnet_cli.checkpoint.tensors import unusual_storage
from resnet_cli.errors import CheckpointError
from resnet_cli.text import first_few

State = Mapping[str, Tensor]
Compute = Callable[..., Tensor]

MOST = 1 << 29  # numbers in parts of weights; a wide ResNet-101 with masks has half as many

PROFILERS = re.compile(
    r"(?:.*\.)?(?:total_(?:ops|params)|__(?:flops|params|macs)__|input_shape|output_shape"
    r"|parameter_quantity|inference_memory|MAdd|duration|Flops|Memory)"
)
"""Buffers that thop, ptflops and torchstat leave beside every layer; they change no prediction."""

ENDINGS = re.compile(r"(?<![^.])(weight|bias)(?:_orig|_[gv])+$")
STAGED = re.compile(r"(?P<layer>(?:.*\.)?)parametrizations\.(?P<own>\w+)\.(?P<part>.+)")
ORIGINAL = re.compile(r"(?<![^.])parametrizations\.(\w+)\.original[01]?(?:_orig)?$")

LEFT = re.compile(r"(?:.*\.)?(?:parametrizations\..+|(?:weight|bias)(?:_orig|_mask|_[guv])+)")
"""Names of parts of a weight."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way of storing a weight in parts."""

    title: str  # for a note
    main: str  # ending of the part that has the size of the weight
    partners: tuple[str, ...]  # endings of the others
    compute: Compute


def plain_name(name: str) -> str:
    """Return the name of the weight of which a tensor is the main part; other names unchanged."""
    return ENDINGS.sub(r"\1", ORIGINAL.sub(r"\1", name))


def without_profilers(tensors: State) -> dict[str, Tensor]:
    """Drop the counters of profilers."""
    return {name: tensor for name, tensor in tensors.items() if not PROFILERS.fullmatch(name)}


def compute_weights(tensors: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Compute all weights that are stored in parts.

    Args:
        tensors: of one network, by name.

    Returns:
        The tensors of the network without these forms, in their order; and what was computed, in
        words.

    Raises:
        CheckpointError: parts that do not fit each other, more of them than any network has, or
            an unknown form.
    """
    if sum(t.numel() for name, t in tensors.items() if LEFT.fullmatch(name)) > MOST:
        raise CheckpointError("it has more masks and norms than any ResNet")
    state, notes = dict(tensors), []
    for form in FORMS:
        state, names = join_form(state, form)
        notes += [f"{form.title}: {first_few(names)}"] if names else []
    state, titles = remove_parametrizations(state)
    notes += [f"{title}: {first_few(names)}" for title, names in titles.items()]
    state = without_spent_masks(state)
    require_plain(state)
    return state, tuple(notes)


def join_form(state: State, form: Form) -> tuple[dict[str, Tensor], list[str]]:
    """Compute all weights of one form, each in the place of its main part."""
    mains = (name for name in state if name.endswith(form.main) and LEFT.fullmatch(name))
    found = {
        name: [name + end for end in (form.main, *form.partners)]
        for name in (main.removesuffix(form.main) for main in mains)
        if all(name + end in state for end in form.partners)
    }
    weights = {
        parts[0]: (name, compute_weight(form.compute, state, parts))
        for name, parts in found.items()
    }
    spent = {part for parts in found.values() for part in parts[1:]}
    kept = (weights.get(name, (name, t)) for name, t in state.items() if name not in spent)
    return dict(kept), list(found)


def compute_weight(compute: Compute, state: State, names: Sequence[str]) -> Tensor:
    """Compute a weight from its parts, in fp32 or better.

    Raises:
        CheckpointError: parts without values, or of shapes that do not fit each other.
    """
    parts = [state[name] for name in names]
    for name, part in zip(names, parts, strict=True):
        if problem := unusual_storage(part):
            raise CheckpointError(f"{name} is {problem}: save plain float weights")
    kind = torch.promote_types(parts[0].dtype, torch.float32)
    try:
        return compute(*(part.to(kind) for part in parts))
    except (ValueError, RuntimeError) as error:
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise CheckpointError(
            f"{', '.join(names)} do not belong together: their shapes are {shapes}"
        ) from error


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """Compute a pruned weight.

    Raises:
        ValueError: the mask has another shape.
    """
    if weight.shape != mask.shape:
        raise ValueError("a mask of another shape")
    return weight * mask


def weight_normed(direction: Tensor, length: Tensor) -> Tensor:
    """Compute a weight of weight norm; the shape of the lengths shows their dimension.

    Raises:
        ValueError: the lengths are neither of one dimension nor a single one.
    """
    sides = length.shape or (1,) * direction.ndim
    own = [index for index, side in enumerate(sides) if side != 1]
    wanted = [direction.shape[index] if index in own else 1 for index in range(direction.ndim)]
    if list(sides) != wanted or len(own) > 1:
        raise ValueError("lengths of no dimension")
    others = [index for index in range(direction.ndim) if index not in own]
    # an empty list of dimensions would mean all of them
    norm = (
        torch.linalg.vector_norm(direction, dim=others, keepdim=True) if others else abs(direction)
    )
    return direction * (length / norm)


def spectrally_normed(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Compute a weight of spectral norm.

    The vectors may fit several dimensions. They belong to the one where they come near the largest
    singular value; for any other they are as good as random.

    Raises:
        ValueError: they fit no dimension.
    """
    if weight.ndim < 2 or u.ndim != 1 or v.ndim != 1:
        raise ValueError("no matrix, or no vectors")
    sigmas = [
        u @ (matrix_of(weight, dim) @ v)
        for dim in range(weight.ndim)
        if (len(u), len(v)) == (weight.shape[dim], weight.numel() // max(len(u), 1))
    ]
    return weight / max(sigmas)


def matrix_of(weight: Tensor, dim: int) -> Tensor:
    """Flatten all dimensions but one, which comes first."""
    return weight.movedim(dim, 0).flatten(1)


FORMS = (
    Form("pruning masks applied", "_orig", ("_mask",), apply_mask),
    Form("spectral norm computed", "_orig", ("_u", "_v"), spectrally_normed),
    Form("weight norm computed", "_v", ("_g",), weight_normed),
)
"""Forms made by hooks, in the order in which one may be inside another."""

STAGES: Mapping[frozenset[str], Form] = {
    frozenset({"_u", "_v"}): FORMS[1],
    frozenset({"mask"}): FORMS[0],  # of torch.ao.pruning
}
"""Parametrizations of one tensor, by their buffers."""


@dataclass(slots=True)
class Staged:
    """The tensors of one parametrized weight: names of the originals, and those of each stage."""

    originals: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, part: str, name: str) -> None:
        """Add one of its tensors."""
        stage, _, own = part.partition(".")
        if own:
            self.stages.setdefault(stage, {})[own] = name
        else:
            self.originals[part] = name


def remove_parametrizations(state: State) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Compute all parametrized weights; return them, and the names of the weights of each form."""
    groups: dict[str, Staged] = {}
    places: dict[str, str] = {}
    for name in state:
        if match := STAGED.fullmatch(name):
            weight = f"{match['layer']}{match['own']}"
            groups.setdefault(weight, Staged()).add(match["part"], name)
            places[name] = weight
    titles: dict[str, list[str]] = {}
    weights = {}
    for weight, staged in groups.items():
        weights[weight], forms = compute_staged(state, weight, staged)
        for form in forms:
            titles.setdefault(form.title, []).append(weight)
    renamed = {places.get(name, name): tensor for name, tensor in state.items()}
    return {**renamed, **weights}, titles


def compute_staged(state: State, weight: str, staged: Staged) -> tuple[Tensor, list[Form]]:
    """Compute a parametrized weight, one parametrization after the other.

    Raises:
        CheckpointError: an unknown parametrization.
    """
    stages = dict(staged.stages)
    forms: list[Form] = []
    if staged.originals.keys() == {"original0", "original1"}:
        length, direction = (staged.originals[f"original{index}"] for index in range(2))
        value, forms = compute_weight(weight_normed, state, [direction, length]), [FORMS[2]]
    elif staged.originals.keys() == {"original"}:
        value = state[staged.originals["original"]]
    else:
        raise CheckpointError(f"{weight} is parametrized, and its original is not in the file")
    while stages or not forms:
        tensors = stages.pop(str(len(forms)), {})
        form = STAGES.get(frozenset(tensors))
        if form is None:
            raise CheckpointError(
                f"{weight} has a parametrization that is not known: call "
                "torch.nn.utils.parametrize.remove_parametrizations before saving"
            )
        names = [tensors[end] for end in sorted(tensors)]
        value = compute_weight(form.compute, {**state, weight: value}, [weight, *names])
        forms.append(form)
    return value, forms


def without_spent_masks(state: State) -> dict[str, Tensor]:
    """Drop masks that are already applied to the weights beside them.

    Raises:
        CheckpointError: the mask would change the weight.
    """
    kept = dict(state)
    for name in state:
        weight = name.removesuffix("_mask")
        if weight == name or weight not in state or not LEFT.fullmatch(name):
            continue
        applied = compute_weight(apply_mask, state, [weight, name])
        if not torch.equal(applied, state[weight].to(applied.dtype)):
            raise CheckpointError(
                f"{name} is beside {weight}, and whether the network applies it is not in the file"
            )
        del kept[name]
    return kept


def require_plain(state: State) -> None:
    """Refuse a part of a weight without the other parts.

    Raises:
        CheckpointError: names the part.
    """
    left = next(filter(LEFT.fullmatch, state), None)
    if left is not None:
        raise CheckpointError(
            f"{left} is a part of a pruned or normed weight, and the other parts are not in the "
            "file: save all of model.state_dict()"
        )
