"""A file of any kind -> what is in it: the network, and what stands around it."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnet_cli.checkpoint.formats import Contents
from resnet_cli.checkpoint.identify import identify_network
from resnet_cli.checkpoint.metadata.configs import Config, find_config
from resnet_cli.checkpoint.network import Found, find_network
from resnet_cli.checkpoint.network.architectures import PLAIN, Variant
from resnet_cli.checkpoint.network.beside import name_unused
from resnet_cli.checkpoint.network.kinds import TEMPERATURE
from resnet_cli.checkpoint.network.modules import with_modules
from resnet_cli.checkpoint.network.naming import Role, role_of
from resnet_cli.checkpoint.network.weights import FEWEST, Weights, find_weights, with_siblings
from resnet_cli.checkpoint.pickle.stand_ins import OTHER_NAMES
from resnet_cli.checkpoint.pickle.subclasses import name_unreadable
from resnet_cli.checkpoint.recorded import parts_from, read_record, require_recorded, variant_from
from resnet_cli.checkpoint.tree import Foreign, as_container, items_of, tensors_in, walk_containers
from resnet_cli.errors import CheckpointError, SettingError

SHOWN = 5  # of many names

OTHER_POOLS = re.compile(r"(?:.*/)?(resnet(?:aa|blur)\w*)(?:\.\w+)?")
"""Networks of timm whose tensors are torchvision's, and whose strides are not."""

UNSAID_STRIDES = {"detectron2": "3x3, as torchvision's", "msra": "1x1, as MSRA's"}
"""Layouts of networks that stride either way, and which way is more likely."""

HARMLESS = frozenset(
    {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions", "pathlib",
     "types", "uuid"}
)  # fmt: skip
"""Modules of the standard library whose objects people keep in checkpoints."""

MULTI_LABEL = "multi-label: each probability is the output's own sigmoid; they do not sum to 1"

CAFFE_STYLE = re.compile(r"""\bstyle\W{1,5}caffe\b""")
"""In the configuration that OpenMMLab's libraries keep in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What is in a file."""

    weights: Weights
    found: Found
    config: Config
    record: Mapping[str, Any]  # what the file says of itself
    told: bool  # whether anything but tensors says where the network strides

    @property
    def layout(self) -> str:
        """Whose naming of tensors it is."""
        name, prefix = self.weights.layout.name, self.weights.prefix
        if name == "sequential" and self.found.variant.concat_pool:
            return "fastai"
        if name == "torchvision" and prefix.endswith("backbone.") and self.has_mm_head:
            return "mmpretrain"
        if name == "torchvision" and self.config.library == "timm":
            return "timm"
        return name

    @property
    def has_mm_head(self) -> bool:
        """Whether the head is where OpenMMLab has it."""
        start = self.weights.prefix.removesuffix("backbone.")
        return f"{start}head.fc.weight" in self.weights.tensors

    @property
    def activation(self) -> str:
        """What makes probabilities of the outputs: ``softmax``, or ``sigmoid`` for each alone."""
        said = (self.record.get("activation"), self.found.end, self.config.activation)
        return "sigmoid" if "sigmoid" in said or self.found.num_classes == 1 else "softmax"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted, in words."""
        variant, found = self.found.variant, list(self.weights.notes)
        if self.found.assumed:
            found.append("the activations of the head are not in the file: taken for ReLU")
        bottlenecks = self.found.architecture.block == "Bottleneck"
        if self.layout in UNSAID_STRIDES and bottlenecks and not self.told:
            found.append(
                "whether bottlenecks stride in the 1x1 or the 3x3 convolution is not in the file: "
                f"taken for the {UNSAID_STRIDES[self.layout]}"
            )
        if variant.concat_pool:
            found.append("the head takes the maxima of the features, then their averages")
        if variant.stride_in_1x1:
            found.append("bottlenecks stride in their first 1x1 convolution")
        if variant.ceil_pool:
            found.append("the max pool rounds up and does not pad, as Caffe's")
        if any(variant.dilated):
            found.append("layers " + dilated_layers(variant) + " dilate instead of striding")
        found += beside_notes(self.found, self.weights.prefix)
        if self.activation == "sigmoid" and self.found.num_classes > 1:
            found.append(MULTI_LABEL)
        return tuple(found)


def beside_notes(found: Found, prefix: str) -> Iterator[str]:
    """Yield what became of the tensors beside a network, in words."""
    applied = found.applied
    if applied.exponent is not None:
        name, exponent = applied.exponent
        value = f"{float(exponent):.4g}" if len(exponent) == 1 else "one a channel"
        yield f"the last pool is a generalised mean, exponent {value} ({name})"
    if applied.temperature is not None and found.head:
        name, divisor = applied.temperature
        yield f"the outputs are divided by the temperature {divisor:.4g} ({name})"
    if found.unused:
        yield f"unused: {name_unused(found.unused, prefix)}"


def dilated_layers(variant: Variant) -> str:
    """Numbers of the layers that dilate."""
    return ", ".join(str(n) for n, on in zip((2, 3, 4), variant.dilated, strict=True) if on)


def examine_contents(
    contents: Contents, path: Path, *, state_key: str | None, ema: bool, dilated: bool
) -> Examination:
    """Find the network in a file.

    Args:
        contents: of the file.
        path: of the file, for the settings beside it.
        state_key: which weights of several.
        ema: prefer averaged weights.
        dilated: layer3 and layer4 dilate, says the user.

    Raises:
        CheckpointError: there is none; the message says what there is instead.
    """
    try:
        weights = find_weights(contents.tree, state_key=state_key, ema=ema)
        weights = with_modules(weights, contents.tree)
        record = read_record(contents)
        if record.get("head") is not None:
            weights = replace(weights, parts=parts_from(record["head"]))
        config = find_config(path)
        refuse_other_pools(contents.tree)
        default = (
            variant_from(record.get("variant")) or config.variant or variant_of_style(contents.tree)
        )
        weights = with_temperature(with_nameless(weights, contents.tree), contents.tree)
        weights, found = with_head(weights, contents.tree, default=default, dilated=dilated)
        require_recorded(record, found.architecture.name, found.head)
        refuse_other_strides(weights, found)
    except CheckpointError as error:
        clause = what_else(contents.tree) if state_key is None else name_unreadable(contents.tree)
        reason = f"it is {clause}" if clause else str(error)
        if contents.imports and not clause:
            reason += (
                f" ({describe_unrun(contents.imports, hidden=not holds_tensors(contents.tree))})"
            )
        raise CheckpointError(f"cannot load {path}: {reason}") from error
    except SettingError as error:  # a variant that its network has not
        raise CheckpointError(f"cannot load {path}: {error}") from error
    return Examination(weights, found, config, record, default is not None)


def with_temperature(weights: Weights, tree: Any) -> Weights:
    """The weights with a temperature that stands beside their dict, in the dict around it.

    A calibration may keep it as a plain float; an integer is rather a setting of a training.
    """
    around, _, key = weights.state_key.rpartition(".")
    if not key:
        return weights
    parent = dict(walk_containers(tree)).get(around)
    floats = {name: torch.tensor(one) for name, one in items_of(parent) if type(one) is float}
    found = {**floats, **tensors_in(parent)}
    near = {name: one for name, one in found.items() if TEMPERATURE.holds(name, one)}
    return replace(weights, tensors={**weights.tensors, **near})


def with_nameless(weights: Weights, tree: Any) -> Weights:
    """The weights with a note of averaged ones that have no names, as torch_ema keeps them."""
    lists = (
        path
        for path, container in walk_containers(tree)
        if isinstance(container, list | tuple) and role_of(path) == Role.AVERAGE
        if len(tensors_in(dict(items_of(container)))) > FEWEST
    )
    notes = (f"unused: {path}, averaged weights without names" for path in lists)
    return replace(weights, notes=(*weights.notes, *notes))


def with_head(
    weights: Weights, tree: Any, *, default: Variant | None, dilated: bool
) -> tuple[Weights, Found]:
    """The network of weights; with the head beside them where they have none in themselves.

    Raises:
        CheckpointError: it is no ResNet, or there are several heads.
    """
    found = find_network(weights, default=default, dilated=dilated)
    wider = None if found.head else with_siblings(weights, tree)
    if wider is not None:
        whole = find_network(wider, default=default, dilated=dilated)
        if whole.head:
            return wider, whole
    return weights, found


def holds_tensors(tree: Any) -> bool:
    """Whether tensors of a network can be read: then running the file shows no others."""
    return any(len(tensors_in(container)) > 1 for _, container in walk_containers(tree))


def describe_unrun(imports: Sequence[str], *, hidden: bool) -> str:
    """Say what was not run, and how to run it where that may open the file.

    What only a program would name, such as ``os.system``, is no hindrance to be taken away.

    Args:
        imports: what unpickling would import.
        hidden: no tensors can be read without.
    """
    said = f"it would import {list_few(imports)}: nothing of it was run"
    strange = [name for name in imports if name not in OTHER_NAMES]
    modules = {name.partition(".")[0] for name in strange}
    if not hidden or not strange or modules & (sys.stdlib_module_names - HARMLESS):
        return said
    return f"{said}; if you trust who made it, predict and convert do with --trust-checkpoint"


def refuse_other_pools(tree: Any) -> None:
    """Refuse a checkpoint that says it is a network which its tensors do not tell from ours.

    Raises:
        CheckpointError: names it.
    """
    if not isinstance(tree, Mapping):
        return
    arguments = as_container(tree.get("args"))
    named = arguments.get("model") if isinstance(arguments, Mapping) else None
    for name in (tree.get("arch"), named):
        match = OTHER_POOLS.fullmatch(name) if isinstance(name, str) else None
        if match:
            raise CheckpointError(
                f"it is timm's {match[1]}, which is another network than torchvision's"
            )


def refuse_other_strides(weights: Weights, found: Found) -> None:
    """Refuse Detectron's ResNeXts, which were not trained as MSRA's networks beside them were.

    Raises:
        CheckpointError: it is one.
    """
    if weights.layout.name == "msra" and found.architecture.groups > 1:
        raise CheckpointError(
            f"it is Detectron's {found.architecture.name}, which strides and scales pixels "
            "otherwise than its ResNets"
        )


def variant_of_style(tree: Any) -> Variant | None:
    """The variant of OpenMMLab's ``style="caffe"``, or of torchvision's files in detectron2.

    None where the file says neither.
    """
    if not isinstance(tree, Mapping):
        return None
    if tree.get("__author__") == "torchvision":
        return PLAIN
    meta = tree.get("meta")
    for key, value in items_of(meta):
        if key in ("config", "cfg") and isinstance(value, str) and CAFFE_STYLE.search(value):
            return Variant(stride_in_1x1=True)
    return None


def list_few(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def without_head(found: Found, tree: Any) -> str:
    """Say what a file is whose backbone has no head: a detector, or a backbone alone."""
    clause = what_else(tree)
    return f"it is {clause}" if clause else f"{found.architecture.name} is in it, but no head"


def what_else(tree: Any) -> str | None:
    """A clause that names what a file holds in place of a ResNet; None when that is unknown."""
    fullest: dict[str, tuple[int, ...]] = {}
    kinds = set()
    for _, container in walk_containers(tree):
        try:
            tensors = tensors_in(container)
        except CheckpointError:  # of tensors that are not whole
            return None
        if len(tensors) > len(fullest):
            fullest = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        kinds |= {value.path for _, value in items_of(container) if isinstance(value, Foreign)}
    if isinstance(tree, Foreign):
        kinds.add(tree.path)
    if "torch._utils._rebuild_qtensor" in kinds:
        return "quantised: save the float weights that it was made from"
    if clause := name_unreadable(tree):
        return clause
    keys = [key for key, _ in items_of(tree)] if isinstance(tree, Mapping) else []
    return identify_network(fullest, kinds, keys)
