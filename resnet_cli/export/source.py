"""What is exported: a checkpoint of torch, or a network file, and how each becomes a file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from resnet_cli.checkpoint import open_checkpoint
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.locate import locate_checkpoint
from resnet_cli.classifier import choose_preprocess
from resnet_cli.errors import CheckpointError
from resnet_cli.export.options import QUANTIZED, ExportOptions
from resnet_cli.files import sha256_of_files
from resnet_cli.graph import NORMALIZED, PIXELS, Description, Graph, read_graph
from resnet_cli.graph.libraries import describe_onnx_again, describe_openvino_again
from resnet_cli.preprocess import Preprocess

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Format of a network file: its suffix."""

DESCRIBE_AGAIN = {".onnx": describe_onnx_again, ".xml": describe_openvino_again}
"""Suffix of a network file: what replaces our record in it."""


def load_source(
    checkpoint: str | Path, output: Path, options: ExportOptions
) -> "Checkpoint | ExportedCheckpoint":
    """Load a checkpoint, with the preprocessing that goes into the file.

    Raises:
        CheckpointError: it cannot be read, or not be written so.
        SettingError: a value that does not fit.
    """
    location = locate_checkpoint(checkpoint, model=None, weights=None, progress=False)
    loaded = open_checkpoint(location, options.load)
    if isinstance(loaded, ExportedCheckpoint):
        check_network_file(loaded, output, options)
    preprocess, source = choose_preprocess(options.preprocess, loaded)
    return replace(loaded, preprocess=preprocess, preprocess_source=source)


def check_network_file(loaded: ExportedCheckpoint, output: Path, options: ExportOptions) -> None:
    """Check that a network file is quantised in its own format, and not otherwise changed.

    Raises:
        CheckpointError: says what is possible.
    """
    graph = loaded.graph
    suffix = SUFFIXES[graph.format]
    asked = "" if options.quantizes else f"in {options.precision} "
    if output.suffix.lower() != suffix:
        problem = f"a {suffix} becomes no {output.suffix}"
    elif not options.quantizes:
        problem = f"it is in {graph.precision} already"
    elif graph.precision == QUANTIZED:
        problem = "it is in int8 already"
    elif options.batch is not None or options.input != PIXELS:
        problem = "its input stays as it is"
    else:
        return
    raise CheckpointError(
        f"cannot export {loaded.path} {asked}to {output}: {problem}: export the checkpoint that it "
        f"was made of, or write {suffix} with --precision int8"
    )


def describe_source(loaded: "Checkpoint | ExportedCheckpoint") -> Description:
    """Return what a file states that is made of a checkpoint."""
    if not isinstance(loaded, ExportedCheckpoint):
        from resnet_cli.conversion import describe_checkpoint

        return describe_checkpoint(loaded, loaded.preprocess)
    graph = loaded.graph
    described = graph.description or Description(
        model=loaded.model,
        class_names=(),
        classes_source="",
        preprocess={},
        preprocess_source="",
        input=PIXELS if graph.takes_pixels else NORMALIZED,
        activation=graph.activation or loaded.activation,
        source=loaded.path.name,
        sha256=sha256_of_files(*loaded.files),
        notes=loaded.notes,
    )
    return replace(
        described,
        class_names=loaded.classes.names,
        classes_source=loaded.classes.source,
        made_up=loaded.classes.made_up,
        preprocess=loaded.preprocess.record(),
        preprocess_source=loaded.preprocess_source,
    )


def preprocess_of_input(loaded: "Checkpoint | ExportedCheckpoint") -> Preprocess:
    """Return how images are prepared for the file: it takes RGB, unless another program wrote it.

    The numbers are in the order of its channels.
    """
    if isinstance(loaded, ExportedCheckpoint):
        return loaded.preprocess
    from resnet_cli.graph.convert import in_rgb

    return in_rgb(loaded.preprocess)


def write_network(
    loaded: "Checkpoint", path: Path, *, description: Description, batch: int | None
) -> None:
    """Write a checkpoint of torch into a file, in fp32 or fp16.

    Raises:
        ExtraError: a library is missing.
        OutputError: it cannot be written.
    """
    if path.suffix == ".pt2":
        from resnet_cli.export.programs import save_program

        save_program(loaded, path, description=description, batch=batch)
    else:
        from resnet_cli.graph.convert import convert_network

        convert_network(loaded.network(), path, description=description, batch=batch)


def describe_again(
    loaded: "Checkpoint | ExportedCheckpoint", path: Path, description: Description
) -> None:
    """Replace what a file states that was just written of a checkpoint.

    Raises:
        OutputError: it cannot be written.
    """
    if path.suffix == ".pt2":
        from resnet_cli.export.programs import describe_program_again

        describe_program_again(cast("Checkpoint", loaded), path, description)
    else:
        DESCRIBE_AGAIN[path.suffix](path, description)


def graph_in_fp32(
    loaded: "Checkpoint | ExportedCheckpoint",
    path: Path,
    *,
    description: Description,
    batch: int | None,
) -> Graph:
    """Return a network file in fp32: a checkpoint of torch is written to ``path`` for it."""
    if isinstance(loaded, ExportedCheckpoint):
        return loaded.graph
    write_network(loaded, path, description=description, batch=batch)
    return read_graph(path)
