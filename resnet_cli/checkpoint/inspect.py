"""A checkpoint -> everything that can be said about it without running anything in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.exported import load_exported
from resnet_cli.checkpoint.locate import LoadOptions, local_file
from resnet_cli.errors import CheckpointError
from resnet_cli.files import measure_files
from resnet_cli.graph import Graph, is_graph
from resnet_cli.records import is_url
from resnet_cli.remote import redact_url

OF_NETWORK_FILES = ("input", "output", "operations", "calibration", "agreement", "metadata")
"""Fields that a file of tensors alone does not have."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What ``inspect_checkpoint`` found; None for what the file does not have."""

    path: str
    bytes: int | None = None  # of all its files
    sha256: str | None = None  # of its files, one after the other
    format: str | None = None
    layout: str | None = None
    state_key: str | None = None
    stripped_prefix: str | None = None
    model: str | None = None
    num_classes: int | None = None
    in_channels: int | None = None
    classes: tuple[str, ...] | None = None
    classes_source: str | None = None
    preprocess: Mapping[str, Any] | None = None
    parameters: int | None = None
    dtype: str | None = None
    input: str | None = None  # of a network file: its name, shape and type
    output: str | None = None  # likewise
    operations: Mapping[str, int] | None = None  # of a network file, by kind
    calibration: Mapping[str, Any] | None = None  # of int8, where this program wrote the file
    agreement: Mapping[str, Any] | None = None  # with its checkpoint in fp32, likewise
    metadata: Mapping[str, str] | None = None  # that another program wrote into a network file
    unsafe_globals: tuple[str, ...] = ()  # what unpickling would import, besides tensors
    warnings: tuple[str, ...] = ()
    error: str | None = None  # why no prediction can be made with it

    def record(self) -> dict[str, Any]:
        """Return the inspection for JSON; what only network files have is left out of others."""
        record = asdict(self)
        if self.operations is None:
            for name in OF_NETWORK_FILES:
                del record[name]
        return record


def inspect_checkpoint(
    checkpoint: str | Path, *, state_key: str | None = None, ema: bool = True
) -> Inspection:
    """Report what is in a checkpoint; a file that holds no ResNet has its ``error`` set.

    Args:
        checkpoint: a file or its URL, or a folder with one.
        state_key: which weights of several.
        ema: prefer averaged weights.

    Raises:
        CheckpointError: it cannot be downloaded.
        OSError: it cannot be opened.
    """
    path = local_file(checkpoint)
    found = inspect_local(path, LoadOptions(state_key=state_key, ema=ema))
    return replace(found, path=redact_url(str(checkpoint))) if is_url(str(checkpoint)) else found


def inspect_local(path: Path, options: LoadOptions) -> Inspection:
    """Report what is in a checkpoint on this machine."""
    if is_graph(path):
        return inspect_exported(path)
    from resnet_cli.checkpoint.inspect_tensors import inspect_tensors

    return Inspection(**inspect_tensors(path, options))


def inspect_exported(path: Path) -> Inspection:
    """Report what is in a network file of ONNX or OpenVINO."""
    try:
        found = load_exported(path, LoadOptions())
    except CheckpointError as error:
        return Inspection(str(path), **measure_files((path,)), error=str(error))
    graph = found.graph
    described = graph.description
    return Inspection(
        path=str(path),
        **measure_files(graph.files),
        format=graph.format,
        model=found.model,
        num_classes=graph.num_classes,
        in_channels=graph.channels,
        classes=found.classes.names,
        classes_source=found.classes.source,
        preprocess=found.preprocess.record(),
        parameters=graph.parameters,
        dtype=graph.precision,
        input=describe_input(graph),
        output=f"{graph.output} [{graph.batch or 'N'}, {graph.num_classes}]",
        operations=dict(graph.operations),
        calibration=dict(described.calibration) if described else None,
        agreement=dict(described.agreement) if described else None,
        metadata=dict(graph.metadata),
        warnings=found.notes,
    )


def describe_input(graph: Graph) -> str:
    """Say what images a network file takes."""
    height, width = graph.size or ("H", "W")
    sizes = {"N": graph.batch or "N", "C": graph.channels, "H": height, "W": width}
    shape = ", ".join(str(sizes[axis]) for axis in graph.layout)
    return f"{graph.input} {graph.dtype} [{shape}]"
