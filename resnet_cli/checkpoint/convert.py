"""A checkpoint of any kind -> a file that describes itself, or one that torchvision loads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from resnet_cli.checkpoint import Checkpoint
from resnet_cli.checkpoint.recorded import MARK, as_metadata, record_of
from resnet_cli.checkpoint.tensors import describe_unsound
from resnet_cli.errors import CheckpointError, OutputError, OutputNameError, describe

Save = Callable[[Mapping[str, Tensor], Mapping[str, Any], Path], None]


def write_checkpoint(checkpoint: Checkpoint, output: Path, *, half: bool = False) -> None:
    """Write a checkpoint under torchvision's names, with all that is known of it.

    Args:
        checkpoint: what to write.
        output: ``.safetensors`` or ``.pth``; a file that exists is replaced once all is written.
        half: turn the weights into fp16; the statistics of batch norms stay as they are.

    Raises:
        OutputError: another suffix, or it cannot be written.
        CheckpointError: a weight too large for fp16, or its file was written to meanwhile.
    """
    save = choose_saver(output)
    checkpoint.require_untouched()
    state = copy_shared(checkpoint.state)
    if half:
        state = halve_weights(state)
        require_fp16(state, checkpoint.path)
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode  # safetensors would let nobody else read it
        save(state, describe_metadata(checkpoint), unfinished)
        checkpoint.require_untouched()  # what was written is still mapped from its file
        unfinished.chmod(mode)
        unfinished.replace(output)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"cannot write {output}: {describe(error)}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def choose_saver(output: Path) -> Save:
    """What writes a file of this suffix.

    Raises:
        OutputError: nothing does.
    """
    save = SAVERS.get(output.suffix.lower())
    if save is None:
        raise OutputNameError(
            f"cannot write {output}: the suffix must be one of {', '.join(SAVERS)}"
        )
    return save


def copy_shared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own: safetensors writes none that share theirs."""
    found: dict[str, Tensor] = {}
    places = set()
    for name, tensor in state.items():
        own = tensor.contiguous()
        found[name] = own.clone() if own.data_ptr() in places else own
        places.add(own.data_ptr())
    return found


def require_fp16(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what fp16 has no number for.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, tensor in state.items():
        if describe_unsound(name, tensor):
            raise CheckpointError(
                f"cannot write {path} in fp16: {name} holds a number above 65504: leave --half out"
            )


def halve_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in fp16; a variance in fp16 would round small ones to nothing."""
    return {
        name: tensor.half() if tensor.is_floating_point() and "running_" not in name else tensor
        for name, tensor in state.items()
    }


def describe_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is known of a checkpoint besides its tensors; names that were made up are left out."""
    names = {} if checkpoint.classes.made_up else {"classes": list(checkpoint.classes.names)}
    return {
        "model": checkpoint.model,
        **names,
        "preprocess": checkpoint.preprocess.record(),
        **({"activation": checkpoint.activation} if checkpoint.is_multi_label else {}),
        # what was only assumed is assumed of the new file as well
        **record_of(() if checkpoint.assumed else checkpoint.head, checkpoint.variant),
    }


def save_safetensors(state: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write tensors and, as metadata, what they are."""
    metadata = {"format": "pt", "written_by": MARK, **as_metadata(about)}
    save_file(dict(state), path, metadata=metadata)


def save_pth(state: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write what ``torch.load`` gives back as a dict with the weights under ``state_dict``."""
    torch.save({"state_dict": dict(state), **about, "written_by": MARK}, path)


SAVERS: Mapping[str, Save] = {".safetensors": save_safetensors, ".pth": save_pth}
