"""A checkpoint of any kind -> a file that describes itself, or one that torchvision loads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from resnet_cli.checkpoint.loading import Checkpoint, load_checkpoint
from resnet_cli.checkpoint.locate import LoadOptions, Location, local_file
from resnet_cli.checkpoint.recorded import MARK, as_metadata, record_of
from resnet_cli.checkpoint.tensors import describe_unsound
from resnet_cli.errors import CheckpointError, OutputError, describe
from resnet_cli.files import check_new, check_suffix, whole_path
from resnet_cli.graph import is_graph
from resnet_cli.preprocess import adjust_preprocess
from resnet_cli.text import first_few

Save = Callable[[Mapping[str, Tensor], Mapping[str, Any], Path], None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What ``convert_checkpoint`` wrote."""

    path: Path
    bytes: int
    model: str
    num_classes: int  # 0 for a backbone without a head
    classes: tuple[str, ...] | None  # None where the checkpoint has no names
    notes: tuple[str, ...]  # what was read and written, in words
    warnings: tuple[str, ...]


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    options: LoadOptions | None = None,
    *,
    preset: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint of any kind under torchvision's names, with everything known about it.

    Args:
        checkpoint: a file or its URL, or a folder with one.
        output: ``.safetensors`` or ``.pth``.
        options: how the checkpoint is loaded; one without a head is accepted.
        preset: preprocessing to record, in place of the one that was found.
        half: write the weights in fp16; the statistics of batch norms stay as they are.
        overwrite: replace an existing file.

    Raises:
        OutputError: an unknown suffix, an existing file, or one that cannot be written.
        CheckpointError: the checkpoint cannot be read, or a weight is too large for fp16.
        SettingError: an unknown preset, or class names that do not fit.
    """
    path = Path(output)
    check_suffix(path, SAVERS, otherwise="; .onnx, .xml and .pt2 are written by export")
    check_new(path, overwrite=overwrite)
    source = local_file(checkpoint)
    refuse_network_file(source)
    loading = replace(options or LoadOptions(), headless=True)
    loaded = load_checkpoint(Location(source, "given"), loading)
    if preset is not None:
        preprocess = adjust_preprocess(loaded.preprocess, preset=preset, given={})
        loaded = replace(loaded, preprocess=preprocess)
    write_checkpoint(loaded, path, half=half)
    made_up = loaded.classes.made_up
    return Conversion(
        path,
        path.stat().st_size,
        loaded.model,
        loaded.num_classes,
        None if made_up else tuple(loaded.classes.names),
        tuple(describe_conversion(loaded)),
        (warn_unnamed(loaded, path),) if loaded.head and made_up else (),
    )


def refuse_network_file(path: Path) -> None:
    """Refuse a file whose weights no longer have the form of a checkpoint.

    Raises:
        CheckpointError: it is a network of ONNX or OpenVINO.
    """
    if is_graph(path):
        raise CheckpointError(
            f"cannot convert {path}: its weights are those of {path.suffix} alone: convert the "
            "checkpoint that it was made of; for int8 use export"
        )


def describe_conversion(loaded: Checkpoint) -> Iterator[str]:
    """Yield what was read from a checkpoint, and what another program must know of it."""
    names, head = loaded.classes, loaded.head
    yield f"{loaded.path} ({loaded.format}): {', '.join([loaded.model, *loaded.whereabouts])}"
    if not head:
        yield "a backbone alone: torchvision's network takes it with strict=False, all but its fc"
    else:
        yield f"{loaded.num_classes:,} outputs: {first_few(names.names)} ({names.source})"
    if len(head) > 1:
        layers = ", ".join(layer.kind for layer in head)
        yield f"its head is {layers}: that of torchvision's own network is a single linear layer"
    for sentence in loaded.notes:
        yield f"recorded beside the weights: {sentence}"


def warn_unnamed(loaded: Checkpoint, output: Path) -> str:
    """Say which labels a checkpoint without class names will give."""
    names = first_few(loaded.classes.names)
    return f"no class names in {output}: labels will be {names}: give --classes"


def write_checkpoint(checkpoint: Checkpoint, output: Path, *, half: bool = False) -> None:
    """Write a checkpoint that was loaded; an existing file is replaced once all is written.

    Args:
        checkpoint: to write.
        output: ``.safetensors`` or ``.pth``.
        half: write the weights in fp16; the statistics of batch norms stay as they are.

    Raises:
        OutputError: another suffix, or it cannot be written.
        CheckpointError: a weight too large for fp16, or its file was written to meanwhile.
    """
    check_suffix(output, SAVERS)
    save = SAVERS[output.suffix.lower()]
    checkpoint.require_untouched()
    state = copy_shared(checkpoint.state)
    if half:
        state = halve_weights(state)
        require_fp16(state, checkpoint.path)
    try:
        with whole_path(output) as new:
            save(state, describe_metadata(checkpoint), new)
            checkpoint.require_untouched()  # its tensors are still mapped from its file
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"cannot write {output}: {describe(error)}") from error


def copy_shared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own: safetensors refuses tensors that share theirs."""
    found: dict[str, Tensor] = {}
    places = set()
    for name, tensor in state.items():
        own = tensor.contiguous()
        found[name] = own.clone() if own.data_ptr() in places else own
        places.add(own.data_ptr())
    return found


def require_fp16(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights beyond the range of fp16.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, tensor in state.items():
        if describe_unsound(name, tensor):
            raise CheckpointError(
                f"cannot write {path} in fp16: {name} holds a number above 65504: leave --half out"
            )


def halve_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in fp16, without batch-norm statistics: small variances would become 0."""
    return {
        name: tensor.half() if tensor.is_floating_point() and "running_" not in name else tensor
        for name, tensor in state.items()
    }


def describe_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what is known of a checkpoint besides its tensors, without made-up class names."""
    names = {} if checkpoint.classes.made_up else {"classes": list(checkpoint.classes.names)}
    return {
        "model": checkpoint.model,
        **names,
        "preprocess": checkpoint.preprocess.record(),
        **({"activation": checkpoint.activation} if checkpoint.is_multi_label else {}),
        # what was only assumed is not recorded, and will be assumed again
        **record_of(() if checkpoint.assumed else checkpoint.head, checkpoint.variant),
    }


def save_safetensors(state: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write tensors, and their description as metadata."""
    metadata = {"format": "pt", "written_by": MARK, **as_metadata(about)}
    save_file(dict(state), path, metadata=metadata)


def save_pth(state: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write a dict for ``torch.load`` with the weights under ``state_dict``."""
    torch.save({"state_dict": dict(state), **about, "written_by": MARK}, path)


SAVERS: Mapping[str, Save] = {".safetensors": save_safetensors, ".pth": save_pth}
