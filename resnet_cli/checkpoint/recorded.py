"""What this program writes into its own checkpoints, so that they need nothing beside them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from resnet_cli.checkpoint.formats import Contents, metadata_json
from resnet_cli.checkpoint.network.activations import ACTIVATION_KINDS
from resnet_cli.checkpoint.network.architectures import ACTIVATIONS, PLAIN, Head, Variant
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError

MARK = "resnet-cli"  # under "written_by"

KEYS = ("model", "classes", "preprocess", "variant", "head", "activation")

SHARED = ("model", "classes", "preprocess")  # what others may write in the same form

KNOWN = frozenset(field.name for field in fields(Variant))

EPS = 1e-5  # of a norm that records none

KINDS = {
    "linear": "Linear",
    "batch_norm": "BatchNorm1d",
    "layer_norm": "LayerNorm",
    **{ours: theirs for theirs, ours in ACTIVATION_KINDS.items() if ours in ACTIVATIONS},
}
"""Layers of a head by the classes of torch.nn."""


def read_record(contents: Contents) -> Mapping[str, Any]:
    """What a file says of itself: in the metadata of safetensors, or in a .pth of this program."""
    if contents.metadata:
        mine = contents.metadata.get("written_by") == MARK
        keys = KEYS if mine else SHARED
        return {key: metadata_json(contents.metadata, key) for key in keys}
    tree = contents.tree
    if isinstance(tree, Mapping) and tree.get("written_by") == MARK:
        return {key: tree.get(key) for key in KEYS}
    return {}


def record_of(head: Head, variant: Variant) -> dict[str, Any]:
    """What tensors cannot say of a network, fit for JSON; empty for torchvision's own."""
    record: dict[str, Any] = {}
    if variant != Variant():
        record["variant"] = asdict(variant)
    if len(head) > 1:
        record["head"] = [{"kind": layer.kind, "eps": layer.eps} for layer in head]
    return record


def variant_from(record: Any) -> Variant | None:
    """The variant that was recorded; None where none was.

    Raises:
        CheckpointError: one that this program does not know.
    """
    if record is None:
        return None
    if not isinstance(record, Mapping) or not all(
        isinstance(record.get(field.name, field.default), type(field.default))
        for field in fields(Variant)
        if field.name != "dilated"
    ):
        raise CheckpointError(f"its recorded variant is unknown here: {record}")
    dilated = record.get("dilated", PLAIN.dilated)
    if set(record) - KNOWN or not isinstance(dilated, list | tuple) or len(dilated) != 3:
        raise CheckpointError(f"its recorded variant is unknown here: {record}")
    first, second, third = map(bool, dilated)
    return Variant(**{**record, "dilated": (first, second, third)})


def parts_from(record: Any) -> dict[str, Part]:
    """The parts of the head that was recorded.

    Raises:
        CheckpointError: a kind of layer that this program does not know.
    """
    if record is None:
        return {}
    if not isinstance(record, Sequence) or not all(
        isinstance(layer, Mapping)
        and isinstance(layer.get("kind"), str)
        and layer["kind"] in KINDS
        and isinstance(layer.get("eps", EPS), float)
        for layer in record
    ):
        raise CheckpointError(f"its recorded head is unknown here: {record}")
    parts = {"fc": Part("Sequential")}
    for index, layer in enumerate(record):
        parts[f"fc.{index}"] = Part(KINDS[layer["kind"]], {"eps": layer.get("eps", EPS)})
    return parts


def require_recorded(record: Mapping[str, Any], model: str, head: Head) -> None:
    """Refuse a network that is not the one which the file says it holds.

    Args:
        record: what a file says of itself.
        model: architecture, as its tensors show it.
        head: the same.

    Raises:
        CheckpointError: the record of this program is of another.
    """
    if "head" not in record:  # written by another program
        return
    if record["activation"] not in (None, "softmax", "sigmoid"):
        raise CheckpointError(f"its recorded activation is unknown here: {record['activation']}")
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
            f"its recorded head is {kinds_of(said)}, its tensors are of {kinds_of(there)}: was it "
            "edited?"
        )


def kinds_of(layers: Sequence[tuple[str, float]]) -> str:
    """The kinds of layers."""
    return ", ".join(kind for kind, _ in layers) or "none"


def as_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """The same as safetensors can hold it: text alone."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in record.items()
    }
