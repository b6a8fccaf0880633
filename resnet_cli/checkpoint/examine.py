"""The contents of a file -> Examination: its network, and what is stated about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.formats.trusted import describe_unrun, holds_tensors
from resnet_cli.checkpoint.locate import LoadOptions
from resnet_cli.checkpoint.network import Found, find_network
from resnet_cli.checkpoint.network.architectures import Head, Variant
from resnet_cli.checkpoint.network.identify import identify_other
from resnet_cli.checkpoint.network.weights import Weights
from resnet_cli.checkpoint.recorded import EPS, Recorded, read_recorded
from resnet_cli.checkpoint.tensors import name_unreadable
from resnet_cli.checkpoint.tree import Contents
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.text import amount, first_few

UNSAID_STRIDES = {"detectron2": "3x3, as torchvision's", "msra": "1x1, as MSRA's"}
"""Layouts whose networks stride in either convolution, and which one is assumed."""

MULTI_LABEL = "multi-label: each probability is the output's own sigmoid; they do not sum to 1"


@dataclass(frozen=True, slots=True)
class Examination:
    """The network in a file, and what is stated about it."""

    weights: Weights
    found: Found
    recorded: Recorded
    layout: str  # name of the layout, or of the library that uses the layout in this form
    activation: str  # turns outputs into probabilities: softmax, or sigmoid for each output
    notes: tuple[str, ...]  # assumptions, and deviations from torchvision's network, in words


def name_layout(weights: Weights, found: Found, library: str | None) -> str:
    """Name the layout of weights, or the library that uses the layout in this form."""
    name, prefix = weights.layout.name, weights.prefix
    if name == "sequential" and found.variant.concat_pool:
        return "fastai"
    if name == "torchvision" and prefix.endswith("backbone."):
        start = prefix.removesuffix("backbone.")
        if f"{start}head.fc.weight" in weights.tensors:
            return "mmpretrain"
    return "timm" if name == "torchvision" and library == "timm" else name


def choose_activation(found: Found, recorded: Recorded) -> str:
    """Return what turns outputs into probabilities: ``softmax``, or ``sigmoid`` for each output."""
    stated = (recorded.record.get("activation"), found.end, recorded.config.activation)
    return "sigmoid" if "sigmoid" in stated or found.num_classes == 1 else "softmax"


def assumption_notes(found: Found, recorded: Recorded, layout: str) -> Iterator[str]:
    """Yield what was assumed of a network, as its file does not show it, in words."""
    if found.assumed:
        yield "the activations of the head are not in the file: taken for ReLU"
    bottlenecks = found.architecture.block == "Bottleneck"
    if layout in UNSAID_STRIDES and bottlenecks and recorded.variant is None:
        yield (
            "whether bottlenecks stride in the 1x1 or the 3x3 convolution is not in the file: "
            f"taken for the {UNSAID_STRIDES[layout]}"
        )


def variant_notes(variant: Variant) -> Iterator[str]:
    """Yield how a network deviates from torchvision's, in words."""
    if variant.concat_pool:
        yield "the head takes the maxima of the features, then their averages"
    if variant.stride_in_1x1:
        yield "bottlenecks stride in their first 1x1 convolution"
    if variant.ceil_pool:
        yield "the max pool rounds up and does not pad, as Caffe's"
    if any(variant.dilated):
        yield "layers " + dilated_layers(variant) + " dilate instead of striding"


def beside_notes(found: Found, prefix: str) -> Iterator[str]:
    """Yield what was done with the tensors beside a network, in words."""
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
    """List the numbers of the layers that dilate."""
    return ", ".join(str(n) for n, on in zip((2, 3, 4), variant.dilated, strict=True) if on)


def name_unused(unused: Iterable[str], prefix: str) -> str:
    """List unused tensors: a single one by its name, several of one module by the module's."""
    groups: dict[str, list[str]] = {}
    for name in unused:
        groups.setdefault(outermost_module(name, prefix), []).append(name)
    return first_few(
        [
            names[0] if len(names) == 1 else f"{group} ({amount(len(names), 'tensor')})"
            for group, names in groups.items()
        ]
    )


def outermost_module(name: str, prefix: str) -> str:
    """Return the outermost module of a name that does not contain the backbone too."""
    words, ours = name.split("."), prefix.split(".")
    shared = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, ours, strict=False))
    )
    return ".".join(words[: shared + 1])


def examine_contents(contents: Contents, path: Path, options: LoadOptions) -> Examination:
    """Find the network in a file.

    Args:
        contents: of the file.
        path: of the file, for the settings beside it.
        options: which weights to take.

    Raises:
        CheckpointError: there is none; the message says what there is instead.
    """
    try:
        recorded = read_recorded(contents, path)
        weights, found = find_network(
            contents.tree,
            state_key=options.state_key,
            ema=options.ema,
            parts=recorded.parts,
            default=recorded.variant,
            dilated=options.dilated,
        )
        require_recorded(recorded.record, found.architecture.name, found.head)
    except CheckpointError as error:
        reason = explain_error(error, contents, options)
        raise CheckpointError(f"cannot load {path}: {reason}") from error
    except SettingError as error:  # a variant that this network cannot have
        raise CheckpointError(f"cannot load {path}: {error}") from error
    layout = name_layout(weights, found, recorded.config.library)
    activation = choose_activation(found, recorded)
    notes = (
        *weights.notes,
        *assumption_notes(found, recorded, layout),
        *variant_notes(found.variant),
        *beside_notes(found, weights.prefix),
        *([MULTI_LABEL] if activation == "sigmoid" and found.num_classes > 1 else []),
    )
    return Examination(weights, found, recorded, layout, activation, notes)


def explain_error(error: CheckpointError, contents: Contents, options: LoadOptions) -> str:
    """Say what a file is in place of a network; the error itself where that is unknown."""
    tree = contents.tree
    clause = identify_other(tree) if options.state_key is None else name_unreadable(tree)
    if clause:
        return f"it is {clause}"
    if contents.imports:
        return f"{error} ({describe_unrun(contents.imports, hidden=not holds_tensors(tree))})"
    return str(error)


def require_recorded(record: Mapping[str, Any], model: str, head: Head) -> None:
    """Refuse a network that is not the one that the file records.

    Args:
        record: what the file states about itself.
        model: architecture read off the tensors.
        head: layers read off the tensors.

    Raises:
        CheckpointError: they differ, or the record is not one of this program.
    """
    if "head" not in record:  # written by another program
        return
    if record["activation"] not in (None, "softmax", "sigmoid"):
        raise CheckpointError(f"its recorded activation is not supported: {record['activation']}")
    if record["model"] not in (None, model):
        raise CheckpointError(
            f"its record says {record['model']}, its tensors are of a {model}: was it edited?"
        )
    if record["head"] is None:
        return
    said = [(layer["kind"], layer.get("eps", EPS)) for layer in record["head"]]
    there = [(layer.kind, layer.eps) for layer in head]
    if said != there:
        raise CheckpointError(
            f"its recorded head is {list_kinds(said)}, its tensors are of {list_kinds(there)}: was "
            "it edited?"
        )


def list_kinds(layers: Sequence[tuple[str, float]]) -> str:
    """List the kinds of layers."""
    return ", ".join(kind for kind, _ in layers) or "none"


def describe_headless(found: Found, tree: Any) -> str:
    """Say what a file holds that has a backbone and no head: a detector, or a backbone alone."""
    clause = identify_other(tree)
    return f"it is {clause}" if clause else f"{found.architecture.name} is in it, but no head"
