"""Batches on their way from one process to another: pixels through memory that both share."""

import pickle
from io import BytesIO
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Packer(pickle.Pickler):
    """Pickles what was loaded, with its pixels in the shared memory instead.

    Attributes:
        data: the pickle.
        ends: where the tensors begin in the memory, and where the last one ends.
    """

    def __init__(self, memory: memoryview, *, pinned: bool) -> None:
        self.data = BytesIO()
        self.ends = [0]
        self.memory = memory
        self.pinned = pinned
        super().__init__(self.data, protocol=5, buffer_callback=self.lay)

    def lay(self, buffer: pickle.PickleBuffer) -> None:
        """Put the bytes of an array behind those of the last."""
        bytes_ = buffer.raw()
        start = self.ends[-1]
        self.ends.append(start + bytes_.nbytes)
        self.memory[start : self.ends[-1]] = bytes_

    def reducer_override(self, thing: Any) -> Any:
        """Let NumPy, which knows how, take a tensor apart."""
        if isinstance(thing, Tensor):
            return unpacked, (thing.permute(0, 2, 3, 1).numpy(), self.pinned)
        return NotImplemented


def unpacked(pixels: NDArray[Any], pinned: bool) -> Tensor:
    """Copy pixels [N, H, W, C] out of the shared memory, whose next pixels may come.

    Returns:
        The same as [N, C, H, W], channels last.
    """
    shared = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return shared.pin_memory() if pinned else shared.clone()
