"""The tensors of a file: read when they are asked for, and never past their end.

Those that cannot be read as plain numbers are named, with what the user can do about them.
"""

import re
from collections.abc import Collection, Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_cli.checkpoint.tree import Foreign, items_of, walk_containers
from resnet_cli.errors import CheckpointError

MOST = 1 << 48  # numbers that a tensor may claim; torch counts bytes in 63 bits


class Storage:
    """A run of bytes that tensors are views of."""

    __slots__ = ("data", "dtype", "swapped")

    def __init__(
        self, data: memoryview | None, dtype: torch.dtype | None, *, swapped: bool = False
    ) -> None:
        """Store where the numbers are.

        Args:
            data: the bytes; None until whoever opened the file adds them.
            dtype: of the numbers; None where the tensor states it.
            swapped: written on a machine of the other byte order.
        """
        self.data, self.dtype, self.swapped = data, dtype, swapped

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a storage has no state")

    def make_readable(self, width: int) -> None:
        """Copy the bytes, once, where torch cannot read them: constant ones, or misaligned ones."""
        if not self.data:
            return
        there = np.frombuffer(self.data, dtype=np.uint8)
        if self.data.readonly or there.ctypes.data % width:
            self.data = there.copy().data


class Stored(Foreign):
    """A tensor whose numbers are still in its file."""

    path = "torch.Tensor"

    storage: Storage
    offset: int  # numbers, from the start of the storage
    size: tuple[int, ...]
    stride: tuple[int, ...]  # numbers
    dtype: torch.dtype
    negative = False  # the numbers stand for their negatives
    conjugate = False

    @classmethod
    def view(
        cls,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        dtype: torch.dtype | None = None,
    ) -> "Stored":
        """Make a view of a storage from the arguments of ``torch._utils._rebuild_tensor``.

        Raises:
            TypeError: arguments that no program writes for a tensor.
        """
        counts = (offset, *size, *stride)
        numbers = prod(max(side, 1) for side in size if isinstance(side, int))
        chosen = dtype or getattr(storage, "dtype", None)
        if (
            not isinstance(storage, Storage)
            or not all(isinstance(count, int) and 0 <= count < MOST for count in counts)
            or numbers >= MOST
            or len(size) != len(stride)
            or chosen is None
        ):
            raise TypeError("a tensor of no storage, of an impossible size or of no type")
        made = cls()
        made.storage, made.offset, made.dtype = storage, offset, chosen
        made.size, made.stride = tuple(size), tuple(stride)
        return made

    def tensor(self) -> Tensor:
        """Return the tensor, as a view of the file where the file allows it.

        Raises:
            CheckpointError: the file holds fewer numbers.
        """
        if 0 in self.size:
            return torch.empty(self.size, dtype=self.dtype)
        last = self.offset + sum((n - 1) * by for n, by in zip(self.size, self.stride, strict=True))
        self.storage.make_readable(self.dtype.itemsize)
        data, width = self.storage.data, self.dtype.itemsize
        if data is None or (last + 1) * width > len(data):
            raise CheckpointError(
                f"a tensor of {list(self.size)} reaches past the end of its values: "
                "the file is damaged"
            )
        numbers = self.numbers(data, last + 1 - self.offset)
        tensor = numbers.as_strided(self.size, self.stride)
        tensor = tensor.conj() if self.conjugate else tensor
        return -tensor if self.negative else tensor

    def numbers(self, data: memoryview, count: int) -> Tensor:
        """Return ``count`` consecutive numbers of ``data``."""
        start, width = self.offset * self.dtype.itemsize, self.dtype.itemsize
        part = data[start : start + count * width]
        if self.storage.swapped and width > 1:
            raw = np.frombuffer(part, dtype=f"u{width}").byteswap()
            return torch.from_numpy(raw).view(self.dtype)
        return torch.frombuffer(part, dtype=self.dtype)


class Distributed(Foreign):
    """Stands in for a ``DTensor``, of which each process stores its own part."""

    path = "torch.distributed.tensor.DTensor"

    def tensor(self) -> Tensor | None:
        """Return the tensor where this process had all of it; None for a part, or a summand."""
        local, spec = (self.attributes.get(name) for name in ("_local_tensor", "_spec"))
        whole = self.args[2:3]  # an argument of _rebuild_wrapper_subclass
        if not isinstance(local, Stored) or not whole or whole[0] != local.size:
            return None
        placements = spec.attributes.get("placements") if isinstance(spec, Foreign) else None
        if not isinstance(placements, tuple | list) or any(map(is_summand, placements)):
            return None
        return local.tensor()


def is_summand(placement: Any) -> bool:
    """Return whether the parts of a DTensor are summands, or their placement is unknown."""
    return not isinstance(placement, Foreign) or "Partial" in placement.kind


class ArrayType(Foreign):
    """Stands in for ``numpy.dtype``."""

    path = "numpy.dtype"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type, of numbers or text.

        Raises:
            TypeError: any other type, such as objects.
        """
        name, state = self.args[0], self.state
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
        if not isinstance(name, str) or name[:1] not in "biufSU" or order not in (*"<>|=",):
            raise TypeError(f"an array of {name!r}")
        dtype = np.dtype(name)
        if order in ("|", "="):
            return dtype
        return dtype.newbyteorder(">" if order == ">" else "<")


class Array(Foreign):
    """Stands in for ``numpy.ndarray``."""

    path = "numpy.ndarray"

    read: Tensor | None = None  # read once, however often the file refers to it
    axes: Any = None  # their order in the file, where it is neither C's nor Fortran's

    @classmethod
    def flat(
        cls, raw: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None, *_: Any
    ) -> "Array":
        """Make an array from the arguments of ``numpy._core.numeric._frombuffer`` (protocol 5)."""
        made = cls()
        made.state = (1, tuple(shape), dtype, order == "F", raw)
        made.axes = axes
        return made

    def array(self) -> np.ndarray[Any, Any] | list[Any]:
        """Return the array; an array of objects as a list.

        Raises:
            TypeError, ValueError: no array has such a state.
        """
        _, shape, kind, by_column, raw = self.state
        if isinstance(raw, list):
            return raw
        if isinstance(raw, str):  # of Python 2
            raw = raw.encode("utf-8", "surrogateescape")
        flat = np.frombuffer(raw, dtype=kind.dtype) if raw else np.empty(0, kind.dtype)
        array = flat.reshape(shape, order="F" if by_column else "C")
        return array if self.axes is None else array.transpose(self.axes)

    def contents(self) -> Any:
        """Return text and objects as a list, and numbers as an empty one."""
        array = self.whole()
        if isinstance(array, np.ndarray):
            if array.dtype.kind == "S":
                array = np.char.decode(array, "utf-8", "replace")
            return array.ravel().tolist() if array.dtype.kind == "U" else []
        return array or []

    def tensor(self) -> Tensor | None:
        """Return the numbers as a tensor; None for text and objects."""
        if self.read is not None:
            return self.read
        array = self.whole()
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            return None
        native = array.astype(array.dtype.newbyteorder("="))  # a copy, which is writable
        self.read = torch.from_numpy(native)
        return self.read

    def whole(self) -> np.ndarray[Any, Any] | list[Any] | None:
        """Return the array; None where its description is invalid."""
        try:
            return self.array()
        except (TypeError, ValueError, AttributeError):
            return None


def read_scalar(kind: Any, raw: Any = b"") -> Any:
    """Return a scalar of NumPy as a number or text of Python."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    if not isinstance(kind, ArrayType) or not isinstance(raw, bytes):
        return Foreign(kind, raw)  # an object
    try:
        return np.frombuffer(raw, dtype=kind.dtype)[0].item()
    except (TypeError, ValueError, IndexError):  # a date, for example
        return Foreign(kind, raw)


FULL = (
    "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))"
    " of torch.distributed.checkpoint.state_dict"
)

FORMS = (
    ("sharded over several processes, and holds the part of one ({kind}): save the full state "
     f"dict, {FULL}", r"DTensor|ShardedTensor|FlatParameter"),
    ("quantised ({path}): save the float weights that it was made from",
     r"torchao\.|quanto\.|bitsandbytes\.|_rebuild_qtensor"),
    ("made of sparse tensors: save them dense, as to_dense() gives them", r"sparse"),
    ("made of nested tensors: save plain ones", r"nested"),
    ("without values, which were on the meta device: load them before saving", r"meta_tensor"),
    ("made of objects of {path}, not of tensors: save plain float tensors", r""),
)  # fmt: skip
"""What a file is, and a pattern of the class of its tensors, or of the function that makes them."""

ENDS = ("weight", "flat_param", "_flat_param")  # last parts of the names of weights


def name_unreadable(tree: Any) -> str | None:
    """Return a clause on weights that cannot be read as tensors; None where there are none."""
    for _, container in walk_containers(tree):
        for name, value in items_of(container):
            if name.rpartition(".")[2] in ENDS and isinstance(value, Foreign) and is_unread(value):
                return clause_of(value)
    return None


def is_unread(value: Foreign) -> bool:
    """Return whether a value cannot be read as a tensor; a damaged tensor is still one."""
    try:
        return value.tensor() is None
    except CheckpointError:
        return False


def name_sharded(imports: Collection[str]) -> str | None:
    """Say that a file is sharded, by the names it would import; None where it is not."""
    clause, sign = FORMS[0]
    path = next((path for path in imports if re.search(sign, path)), None)
    return path and f"it is {clause.format(kind=path.rpartition('.')[2])}"


def clause_of(value: Foreign) -> str:
    """Return a clause to follow "it is"."""
    clauses = (clause for clause, sign in FORMS if re.search(sign, value.path))
    return next(clauses).format(kind=value.kind, path=value.path)


LARGEST_REPEATED = 1 << 26  # bytes; only the layer of a huge head has more


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights with NaN or infinity: every prediction would be wrong.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, tensor in state.items():
        if sentence := describe_unsound(name, tensor):
            raise CheckpointError(f"cannot use {path}: {sentence}")


def describe_unsound(name: str, tensor: Tensor) -> str | None:
    """Say why a tensor would spoil every prediction; None where it would not."""
    if problem := unusual_storage(tensor):
        return f"{name} is {problem}: save plain float weights"
    if not tensor.is_floating_point():
        return None if name.endswith("num_batches_tracked") else f"{name} holds whole numbers"
    least, largest = map(float, torch.aminmax(tensor))  # both are NaN where there is one
    if not (isfinite(least) and isfinite(largest)):
        return f"{name} holds NaN or infinity"
    if name.endswith("running_var") and least < 0:
        return f"{name} holds a negative variance"
    return None


def unusual_storage(tensor: Tensor) -> str | None:
    """Say how a tensor differs from plain numbers in memory; None where it does not."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "without values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.is_complex():
        return "complex"
    # a stride of 0 lets a few bytes claim to be terabytes
    if tensor.nbytes > max(LARGEST_REPEATED, tensor.untyped_storage().nbytes()):
        return "larger than its values in the file"
    return None
