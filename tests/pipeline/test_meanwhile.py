"""A checkpoint that is written to while it is converted: its tensors are still mapped from it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pickled import opened, tiny
from resnet_cli.checkpoint.convert import write_checkpoint
from resnet_cli.errors import CheckpointError

SENTENCE = "cannot use model.pth: it was written to while it was read"


def touch() -> None:
    os.utime("model.pth", ns=(1, 1))


class Touching(dict[str, Tensor]):
    """Tensors whose file is written to as they are asked for."""

    def items(self) -> Any:
        touch()
        return super().items()


@pytest.mark.parametrize("during", [False, True])
def test_what_is_written_to_meanwhile_is_not_converted(*, during: bool) -> None:
    torch.save(tiny(), "model.pth")
    loaded = opened(Path("model.pth"))
    if during:
        loaded = replace(loaded, state=Touching(loaded.state))
    else:
        touch()
    with pytest.raises(CheckpointError, match=SENTENCE):
        write_checkpoint(loaded, Path("converted.pth"))
    assert [path.name for path in Path().iterdir()] == ["model.pth"]
