"""A checkpoint -> a network file for another runtime, kept in the cache for the next time."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.cache import choose_cache, versions_of
from resnet_cli.files import sha256_of_files
from resnet_cli.graph import Description, Graph, read_graph
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint

LIBRARIES = {".xml": ("openvino",), ".onnx": ("onnx",)}
"""Suffix of a network file: the libraries whose release may change what is in it."""


def describe_checkpoint(checkpoint: "Checkpoint", preprocess: Preprocess) -> Description:
    """Return what a network file of a checkpoint states of itself."""
    return Description(
        model=checkpoint.model,
        class_names=checkpoint.classes.names,
        classes_source=checkpoint.classes.source,
        made_up=checkpoint.classes.made_up,
        preprocess=preprocess.record(),
        preprocess_source=checkpoint.preprocess_source,
        activation=checkpoint.activation,
        source=checkpoint.path.name,
        sha256=sha256_of_files(*checkpoint.files),
        notes=checkpoint.notes,
    )


def convert_for(
    suffix: str, checkpoint: "Checkpoint", preprocess: Preprocess, *, cache: bool
) -> Graph:
    """Return a network file in fp32 that a runtime loads, made now or taken from the cache.

    Args:
        suffix: of the file.
        checkpoint: of torch.
        preprocess: its normalisation goes into the file; the order of colours does not, as images
            are loaded in it.
        cache: keep the file for the next time.

    Raises:
        ExtraError: the library that writes such files is not installed.
    """
    as_loaded = replace(preprocess, color="rgb")
    description = describe_checkpoint(checkpoint, as_loaded)

    def make(path: Path) -> None:
        convert_network(checkpoint.network(), path, description=description)

    key = {
        "made": "converted",
        "suffix": suffix,
        "sha256": description.sha256,
        "state_key": checkpoint.state_key,
        "classes": list(description.class_names),
        "preprocess": dict(description.preprocess),
        "versions": versions_of("torch", *LIBRARIES[suffix]),
    }
    return read_graph(choose_cache(keep=cache).fetch(key, make, name=f"network{suffix}"))
