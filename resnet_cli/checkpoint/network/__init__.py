"""The tensors of a file -> Found: torchvision's network, with every tensor in its place."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.models import ResNet

from resnet_cli.checkpoint.network.activations import ENDS
from resnet_cli.checkpoint.network.architectures import (
    DILATED,
    Architecture,
    Head,
    Variant,
    build_network,
)
from resnet_cli.checkpoint.network.backbone import (
    complete_backbone,
    require_fit,
    require_same_convolutions,
    require_whole,
)
from resnet_cli.checkpoint.network.beside import Applied, Beside, is_bookkeeping, sort_tensors
from resnet_cli.checkpoint.network.detect import (
    Detected,
    backbone_parts,
    detect_network,
    variant_of,
)
from resnet_cli.checkpoint.network.heads import (
    FoundHead,
    divide_outputs,
    find_end,
    find_head,
    require_known_code,
)
from resnet_cli.checkpoint.network.identify import refuse_other_pools
from resnet_cli.checkpoint.network.kinds import GENERALISED
from resnet_cli.checkpoint.network.weights import (
    Weights,
    find_weights,
    with_modules,
    with_nameless,
    with_siblings,
    with_temperature,
)
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError
from resnet_cli.text import amount

PRETEXTS = re.compile(
    r"(^|\.)(queue|queue_ptr|encoder_[qk]|base_encoder|momentum_encoder|predictor|projector"
    r"|projection_head|projection|prototypes|online_network|target_network|online_encoder"
    r"|target_encoder)(\.|$)|(^|\.)last_layer\.weight$"
)
"""Names beside networks trained without labels, whose heads do not classify."""

SECOND = re.compile(r"(?:.*\.)?(?:fc|classifier|head|cls|linear)_?[2-9]\.weight")
"""Names of a second head, where it has another number of outputs."""

PROJECTED = (64, 128, 256)  # outputs of the usual heads of contrastive learning


@dataclass(frozen=True, slots=True)
class Found:
    """A network read from a file: its architecture, and its tensors under torchvision's names."""

    architecture: Architecture
    in_channels: int
    head: Head  # empty for a backbone alone
    num_classes: int  # outputs of the head; 0 without one
    assumed: bool  # whether the activations of the head are a convention
    variant: Variant
    state: dict[str, Tensor] = field(repr=False)  # under torchvision's names
    applied: Applied  # tensors beside backbone and head that are used
    end: str | None  # softmax or sigmoid, where the file applies one to its outputs
    unused: tuple[str, ...]  # tensors that are neither used nor harmless
    pretext: str | None  # a name that only networks trained without labels have
    projects: bool  # whether the head is the usual one of such training
    blank: ResNet = field(repr=False)  # on the meta device
    build: Callable[[], ResNet] = field(repr=False)  # makes another such


def find_network(
    tree: Any,
    *,
    state_key: str | None,
    ema: bool,
    parts: Mapping[str, Part] | None,
    default: Variant | None,
    dilated: bool,
) -> tuple[Weights, Found]:
    """Find the network in a file.

    Args:
        tree: what the file holds.
        state_key: which weights of several.
        ema: prefer averaged weights.
        parts: layers of the head that the file records; None where it records none.
        default: variant that is stated outside the tensors; None for that of the layout.
        dilated: layer3 and layer4 dilate instead of striding.

    Returns:
        Its weights as they are in the file, and the network that they are of.

    Raises:
        CheckpointError: none of torchvision's ResNets, or several heads.
        SettingError: ``dilated`` with a network of basic blocks.
    """
    refuse_other_pools(tree)
    weights = with_modules(find_weights(tree, state_key=state_key, ema=ema), tree)
    if parts is not None:
        weights = replace(weights, parts=parts)
    weights = with_temperature(with_nameless(weights, tree), tree)
    found = match_network(weights, default=default, dilated=dilated)
    wider = None if found.head else with_siblings(weights, tree)
    if wider is not None:
        whole = match_network(wider, default=default, dilated=dilated)
        weights, found = (wider, whole) if whole.head else (weights, found)
    refuse_other_strides(weights, found)
    return weights, found


def match_network(weights: Weights, *, default: Variant | None, dilated: bool) -> Found:
    """Match torchvision's network to the tensors of a file.

    Args:
        weights: of one network.
        default: variant that is stated outside the tensors; None for that of the layout.
        dilated: layer3 and layer4 dilate instead of striding.

    Raises:
        CheckpointError: none of torchvision's ResNets, or some tensors do not fit.
    """
    backbone, others = weights.backbone()
    detected = detect_network(backbone)
    stated = default or weights.layout.default
    beside = sort_tensors(weights, others, detected.in_channels)
    applied = beside.applied
    head = head_of(weights, beside.rest, detected)
    end = find_end(weights.parts, head) if head.layers else None
    require_known_code(weights.parts, head, beside, end)
    ours, around = backbone_parts(
        parts_outside(weights.parts, head.root), weights.prefix, weights.layout
    )
    usual = replace(stated, dilated=DILATED) if dilated else stated
    variant = variant_of(detected.architecture, ours, without_ends(around), usual)
    variant = replace(variant, **pool_fields(weights, head, applied, detected.features))
    complete = {**complete_backbone(backbone, weights.layout, ours), **state_behind(head, applied)}
    pretext = pretext_of(weights, sizes_out(head.layers))
    unused = beside.unused(head.names)
    if head.layers and not pretext:
        require_end(head, detected, beside, unused)
    build_another = partial(
        build_network,
        detected.architecture.name,
        in_channels=detected.in_channels,
        head=head.layers or None,
        variant=variant,
    )
    blank = build_another()
    require_same_convolutions(blank, ours)
    names = list(blank.state_dict()) if head.layers else backbone_names(blank)
    # training without labels stores more than one network
    surplus = [] if pretext else beside.inside_network(unused)
    require_whole(detected.architecture.name, names, complete)
    require_fit(blank, names, complete, surplus)
    return Found(
        architecture=detected.architecture,
        in_channels=detected.in_channels,
        head=head.layers,
        num_classes=count_outputs(head.layers),
        assumed=head.assumed,
        variant=variant,
        state=complete,
        applied=applied,
        end=end,
        unused=tuple(unused),
        pretext=pretext,
        projects=is_projector(head.layers),
        blank=blank,
        build=build_another,
    )


def parts_outside(parts: Mapping[str, Part], root: str) -> dict[str, Part]:
    """Return the parts of a network without those of its head."""
    return {name: part for name, part in parts.items() if not is_under(name, root)}


def sizes_out(head: Head) -> set[int]:
    """Return the numbers of outputs of the layers of a head."""
    return {layer.size_out for layer in head if layer.size_out}


def count_outputs(head: Head) -> int:
    """Return the number of outputs of a head; 0 without one."""
    sizes = [layer.size_out for layer in head if layer.size_out]
    return sizes[-1] if sizes else 0


def is_projector(head: Head) -> bool:
    """Return whether a head is the usual one of contrastive learning: F to F, to few outputs."""
    return (
        [layer.kind for layer in head] == ["linear", "relu", "linear"]
        and head[0].size_in == head[0].size_out
        and head[-1].size_out in PROJECTED
    )


def pretext_of(weights: Weights, sizes: set[int]) -> str | None:
    """Return the first name that shows training without labels, or None."""
    for name in filter(PRETEXTS.search, weights.tensors):
        layer, _, own = name.rpartition(".")
        biased = layer.endswith("last_layer") and f"{layer}.bias" in weights.tensors
        queue = own.startswith("queue") and not sizes & set(weights.tensors[name].shape)
        if not biased and not queue:
            return name
    return None


def without_ends(around: Mapping[str, Part]) -> dict[str, Part]:
    """Drop the parts around a backbone that are read elsewhere: ends, and last pools."""
    return {
        name: part
        for name, part in around.items()
        if "." in name or not (part.kind in ENDS or GENERALISED.search(part.kind))
    }


def pool_fields(
    weights: Weights, head: FoundHead, applied: Applied, features: int
) -> dict[str, Any]:
    """Return the fields of a variant for how features are pooled.

    Raises:
        CheckpointError: the way is unknown.
    """
    doubled = takes_both_pools(weights, head, features)
    if applied.exponent is None:
        return {"concat_pool": doubled}
    name, exponent = applied.exponent
    if doubled or len(exponent) not in (1, features):
        raise CheckpointError(
            f"its last pool has {amount(len(exponent), 'exponent')} ({name}): a generalised mean "
            f"of {features} features has one, or one for each"
        )
    return {"exponents": len(exponent)}


def state_behind(head: FoundHead, applied: Applied) -> dict[str, Tensor]:
    """Return the tensors behind a backbone: the head's, and the exponent of the last pool."""
    state = dict(head.state)
    if head.layers and applied.temperature is not None:
        state = divide_outputs(head, applied.temperature)
    if applied.exponent is not None:
        state["avgpool.p"] = applied.exponent[1]
    return state


def require_end(
    head: FoundHead, detected: Detected, beside: Beside, unused: Mapping[str, Tensor]
) -> None:
    """Refuse a network whose head is found in part: with a layer behind, before or beside it.

    Raises:
        CheckpointError: names the layer.
    """
    features, channels = detected.features, detected.in_channels
    outputs = [layer.size_out for layer in head.layers if layer.size_out]
    for name, tensor in unused.items():
        if is_bookkeeping(name) and not name.endswith("weight"):
            continue
        is_layer = tensor.ndim == 2 or (tensor.ndim == 4 and tensor.shape[2:] == (1, 1))
        if not is_layer or not tensor.is_floating_point():
            continue
        size_out, size_in = tensor.shape[:2]
        second = beside.is_branch(name) or (
            SECOND.fullmatch(name) is not None and size_out not in {1, features, outputs[-1]}
        )
        if size_in in outputs or (features in (size_in, size_out) and not second):
            raise CheckpointError(
                f"its head does not end with {head.root}: {name} is behind it or beside it, and "
                "how the two belong together is not in the file"
            )
    beside.require_idle(unused, head.names, features=features, channels=channels)


def takes_both_pools(weights: Weights, head: FoundHead, features: int) -> bool:
    """Return whether a head takes the maxima of the features beside their averages.

    Raises:
        CheckpointError: it takes the features of two networks.
    """
    sizes = [layer.size_in for layer in head.layers if layer.size_in]
    doubled = sizes[:1] == [2 * features]
    if doubled and weights.twins and not f"{head.root}.".startswith(weights.prefix):
        both = f"{weights.prefix[:-1]} and {weights.twins[0][:-1]}"
        raise CheckpointError(f"its head {head.root} takes the features of two networks, {both}")
    return doubled


def is_under(name: str, root: str) -> bool:
    """Return whether a module is the root of a head, or in it."""
    return bool(root) and (name == root or name.startswith(f"{root}."))


NO_HEAD = FoundHead("", (), {}, frozenset())


def head_of(weights: Weights, others: Mapping[str, Tensor], detected: Detected) -> FoundHead:
    """Find the head of a network; ``NO_HEAD`` where there is none."""
    found = find_head(
        others,
        weights.parts,
        prefix=weights.prefix,
        features=detected.features,
        places=weights.layout.heads,
    )
    return found or NO_HEAD


def backbone_names(network: ResNet) -> list[str]:
    """Return the names of all tensors but the head's."""
    return [name for name in network.state_dict() if not name.startswith("fc.")]


def refuse_other_strides(weights: Weights, found: Found) -> None:
    """Refuse Detectron's ResNeXts, which were trained otherwise than the MSRA networks beside them.

    Raises:
        CheckpointError: the network is one.
    """
    if weights.layout.name == "msra" and found.architecture.groups > 1:
        raise CheckpointError(
            f"it is Detectron's {found.architecture.name}, which strides and scales pixels "
            "otherwise than its ResNets"
        )
