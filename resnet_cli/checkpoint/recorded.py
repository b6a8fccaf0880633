"""What a checkpoint, and the files beside it, state about the network; read before the tensors.

This program records in its own checkpoints what tensors do not show, so that they stand alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.configs import Config, find_config
from resnet_cli.checkpoint.network.activations import ACTIVATION_KINDS
from resnet_cli.checkpoint.network.architectures import (
    ACTIVATIONS,
    PLAIN,
    Head,
    Variant,
)
from resnet_cli.checkpoint.tree import Contents, Part, items_of
from resnet_cli.errors import CheckpointError

MARK = "resnet-cli"  # under "written_by"

KEYS = ("model", "classes", "preprocess", "variant", "head", "activation")

SHARED = ("model", "classes", "preprocess")  # keys that other programs write in the same form

KNOWN = frozenset(field.name for field in fields(Variant))

EPS = 1e-5  # of a norm without a recorded one

KINDS = {
    "linear": "Linear",
    "batch_norm": "BatchNorm1d",
    "layer_norm": "LayerNorm",
    **{ours: theirs for theirs, ours in ACTIVATION_KINDS.items() if ours in ACTIVATIONS},
}
"""Kinds of layers in a head, and their classes in torch.nn."""


def read_record(contents: Contents) -> Mapping[str, Any]:
    """Read what a file states about itself: safetensors metadata, or a .pth of this program."""
    if contents.metadata:
        mine = contents.metadata.get("written_by") == MARK
        keys = KEYS if mine else SHARED
        return {key: contents.metadata_json(key) for key in keys}
    tree = contents.tree
    if isinstance(tree, Mapping) and tree.get("written_by") == MARK:
        return {key: tree.get(key) for key in KEYS}
    return {}


def record_of(head: Head, variant: Variant) -> dict[str, Any]:
    """Return what tensors do not show of a network, fit for JSON; empty for torchvision's own."""
    record: dict[str, Any] = {}
    if variant != Variant():
        record["variant"] = asdict(variant)
    if len(head) > 1:
        record["head"] = [{"kind": layer.kind, "eps": layer.eps} for layer in head]
    return record


def variant_from(record: Any) -> Variant | None:
    """Turn a recorded variant into one; None where there is no record.

    Raises:
        CheckpointError: the record is not one of this program.
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
    """Turn a recorded head into its parts, by the names of its modules.

    Raises:
        CheckpointError: an unknown kind of layer.
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


def as_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """Turn a record into the text values that safetensors metadata can hold."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in record.items()
    }


CAFFE_STYLE = re.compile(r"""\bstyle\W{1,5}caffe\b""")
"""Appears in the configuration that OpenMMLab's libraries store in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is stated about a network outside its tensors."""

    record: Mapping[str, Any]  # in the file itself; empty where it has none
    config: Config  # in the files beside it
    variant: Variant | None  # None where nothing states it
    parts: Mapping[str, Part] | None  # layers of the head; None where they are not recorded


def read_recorded(contents: Contents, path: Path) -> Recorded:
    """Read what a checkpoint and the files beside it state about the network.

    Raises:
        CheckpointError: damaged, of another network, or beyond what this program can do.
    """
    record, config = read_record(contents), find_config(path)
    head = record.get("head")
    return Recorded(
        record,
        config,
        variant_from(record.get("variant")) or config.variant or variant_of_style(contents.tree),
        None if head is None else parts_from(head),
    )


def variant_of_style(tree: Any) -> Variant | None:
    """Return the variant of OpenMMLab's ``style="caffe"``, or of torchvision's files in detectron2.

    None where the file states neither.
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
