"""What can be said of a file of tensors without running anything in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from resnet_cli.checkpoint.examine import (
    Examination,
    describe_headless,
    examine_contents,
)
from resnet_cli.checkpoint.folders import find_weights_file
from resnet_cli.checkpoint.formats import UnreadableError, read_contents
from resnet_cli.checkpoint.locate import LoadOptions, Location
from resnet_cli.checkpoint.metadata.classes import ClassNames, find_classes
from resnet_cli.checkpoint.metadata.preprocessing import find_preprocess
from resnet_cli.checkpoint.network import Found
from resnet_cli.checkpoint.network.weights import find_candidates
from resnet_cli.checkpoint.tensors import describe_unsound
from resnet_cli.checkpoint.tree import Contents
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.files import measure_files
from resnet_cli.preprocess import Preprocess
from resnet_cli.text import list_few


def inspect_tensors(given: Path, options: LoadOptions) -> dict[str, Any]:
    """Report what is in a file of tensors, as fields of ``Inspection``.

    Args:
        given: a file, or a folder with one.
        options: which weights of several.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        path = find_weights_file(given) if given.is_dir() else given
    except CheckpointError as error:
        return {"path": str(given), "error": str(error)}
    facts: dict[str, Any] = {"path": str(path)}
    try:
        contents = read_contents(path)
    except UnreadableError as error:
        facts |= {"format": error.format, "unsafe_globals": error.imports}
        return facts | measure_files((path,)) | {"error": str(error)}
    except CheckpointError as error:
        return facts | measure_files((path,)) | {"error": str(error)}
    facts |= measure_files(contents.files or (path,))
    facts |= {"format": contents.format, "unsafe_globals": contents.imports}
    try:
        examined = examine_contents(contents, path, options)
    except CheckpointError as error:
        return facts | {"error": str(error)}
    return facts | describe_network(examined, contents, path)


def describe_network(examined: Examination, contents: Contents, path: Path) -> dict[str, Any]:
    """Return what is known of the network in a file."""
    found = examined.found
    warnings, error = list(find_warnings(examined, contents)), None
    names: ClassNames | None = None
    preprocess: Preprocess | None = None
    with as_warnings(warnings):
        preprocess = find_preprocess(examined, contents.tree, Location(path, ""))[0]
    if preprocess is not None and preprocess.channels != found.in_channels:
        preprocess = None  # it is known for the channels of colour images only
    if found.head:
        with as_warnings(warnings):
            names = find_classes(None, contents, path, found.num_classes)
    else:
        error = f"cannot load {path}: {describe_headless(found, contents.tree)}: only a backbone"
    return {
        "layout": examined.layout,
        "state_key": examined.weights.state_key,
        "stripped_prefix": examined.weights.prefix,
        "model": found.architecture.name,
        "num_classes": found.num_classes or None,
        "in_channels": found.in_channels,
        "classes": names and names.names,
        "classes_source": names and names.source,
        "preprocess": preprocess and preprocess.record(),
        "parameters": count_parameters(found),
        "dtype": list_dtypes(found.state),
        "warnings": tuple(warnings),
        "error": error,
    }


@contextmanager
def as_warnings(warnings: list[str]) -> Iterator[None]:
    """Turn an error that would stop a prediction into a warning."""
    try:
        yield
    except (CheckpointError, SettingError) as error:
        warnings.append(str(error))


def count_parameters(found: Found) -> int:
    """Count weights and biases, without the statistics of batch norms."""
    inside = found.state.keys()
    return sum(p.numel() for name, p in found.blank.named_parameters() if name in inside)


def list_dtypes(state: Mapping[str, Tensor]) -> str:
    """List the types of the numbers, the most frequent first."""
    counts: dict[str, int] = {}
    for tensor in state.values():
        if tensor.is_floating_point():
            name = str(tensor.dtype).removeprefix("torch.")
            counts[name] = counts.get(name, 0) + tensor.numel()
    return ", ".join(sorted(counts, key=lambda name: -counts[name]))


def find_warnings(examined: Examination, contents: Contents) -> Iterator[str]:
    """Yield what is unusual about the weights."""
    found = examined.found
    yield from examined.notes
    if (inside := found.applied.normalisation) is not None:
        yield f"it normalises pixels itself: mean and std are {inside.where}"
    for name, tensor in found.state.items():
        if sentence := describe_unsound(name, tensor):
            yield sentence
    if sentence := untrained_statistics(found.state):
        yield sentence
    if found.head and (found.pretext or found.projects):
        yield "its head seems to be for learning without labels: it may not tell classes apart"
    titles = [weights.title for weights in find_candidates(contents.tree)]
    if len(titles) > 1:
        yield f"several weights: {list_few(titles)}; these are {examined.weights.title}"


def untrained_statistics(state: Mapping[str, Tensor]) -> str | None:
    """Return a sentence if no batch norm was ever updated, else None."""
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    for norm in norms:
        mean, variance = state[f"{norm}running_mean"], state.get(f"{norm}running_var")
        if variance is None or bool((mean != 0).any()) or bool((variance != 1).any()):
            return None
    return (
        "batch-norm statistics were never updated (mean 0, variance 1): an untrained network, or "
        "one whose batch norms are folded"
    )
