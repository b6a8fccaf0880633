"""What the global names in a pickle resolve to: functions and classes that import nothing."""

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from resnet_cli.checkpoint.tensors import Array, ArrayType, Distributed, Stored, read_scalar
from resnet_cli.checkpoint.tree import Foreign
from resnet_cli.errors import CheckpointError

MOST_ALIKE = 16  # keys with the same hash, which are all compared


class PickleError(Exception):
    """Not a pickle, or one that no regular program writes."""


class Known:
    """A function that a pickle may call; no attribute can be set on it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        """Call it; unsuitable arguments give a stand-in, as any unknown name does."""
        try:
            return self.call(*args)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, PickleError,
                CheckpointError):  # fmt: skip
            return Foreign(*args)

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a function has no state")


class StorageType:
    """A class such as ``torch.FloatStorage``."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a storage type has no state")


class CalledTuple(tuple[Any, ...]):
    """A tuple made by a call: as a key it equals only itself; no file can choose its hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return id(self)


class CalledSet(frozenset[Any]):
    """A frozen set made by a call; likewise."""

    __slots__ = ()

    def __hash__(self) -> int:
        return id(self)


class PlainDict(dict[Any, Any]):
    """A dict without the attributes that an OrderedDict may have."""

    def __setstate__(self, state: Any) -> None: ...


def ordered_dict(items: Any = ()) -> PlainDict:
    """Make an OrderedDict; every dict keeps the order of insertion."""
    pairs = items.items() if isinstance(items, dict) else [(key, value) for key, value in items]
    require_spread([key for key, _ in pairs])
    return PlainDict(pairs)


def default_dict(_: Any = None, items: Any = ()) -> PlainDict:
    """Make a defaultdict, without its default."""
    return ordered_dict(items)


def require_spread(keys: Collection[Any]) -> None:
    """Refuse keys that take long to hash, or to compare because their hashes are equal.

    Raises:
        ValueError: they take long.
    """
    if any(isinstance(key, tuple) for key in keys):
        raise ValueError("tuples for keys, which are hashed again each time")
    if keys and max(Counter(map(hash, keys)).values()) > MOST_ALIKE:
        raise ValueError("keys of one hash")


def container_of_items(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """Make a container from another container, from nothing that could grow without limit."""

    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | set | frozenset | dict):
            raise TypeError("a container of no items")
        if any(isinstance(item, tuple) for item in items):
            raise TypeError("tuples made of tuples, which may nest without end")
        if kind in (set, CalledSet):
            require_spread(items)
        return kind(items)

    return make


def encode_text(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that protocols up to 2 write as text."""
    if encoding != "latin1" or not isinstance(text, str):  # a list may contain itself
        raise TypeError("bytes of no known spelling")
    return text.encode("latin1")


def byte_array(data: Any = b"") -> bytes:
    """Make a bytearray of bytes; one of a given length could be as large as the file says."""
    if not isinstance(data, bytes | bytearray):
        raise TypeError("a bytearray of no bytes")
    return bytes(data)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
    """``torch._utils._rebuild_tensor``, and ``_v2`` with the arguments for training.

    The last argument of ``_v2`` states whether the numbers stand for their negatives.
    """
    tensor = Stored.view(storage, offset, size, stride)
    signs = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
    tensor.negative = signs.get("neg") is True
    tensor.conjugate = signs.get("conj") is True
    return tensor


def rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Any:
    """``torch._utils._rebuild_tensor_v3``: the storage has bytes, the tensor states the type."""
    if not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor of no type")
    return Stored.view(storage, offset, size, stride, dtype)


def first_argument(value: Any, *_: Any) -> Any:
    """Return the tensor itself: a parameter is a tensor that requires gradients."""
    if not isinstance(value, Foreign):
        raise TypeError("a parameter of no tensor")
    return value


def from_type(function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """``torch._tensor._rebuild_from_type_v2``: a tensor of a class of its own."""
    if isinstance(function, Known):
        return function(*args)
    made = kind(*args) if is_stand_in(kind) else Foreign(function, *args)
    made.state = state
    return made


def is_stand_in(kind: Any) -> bool:
    """Return whether a value stands for a class."""
    return isinstance(kind, type) and issubclass(kind, Foreign)


def remake_object(kind: Any, _: Any, state: Any) -> Foreign:
    """``copyreg._reconstructor``: an object of a class that extends a list or a dict."""
    made = kind() if is_stand_in(kind) else Foreign(kind)
    if isinstance(state, dict):
        made.entries.update(ordered_dict(state))
    elif isinstance(state, list | tuple | set | frozenset):
        made.elements.extend(state)
    return made


def reconstruct_array(*_: Any) -> Array:
    """``numpy._core.multiarray._reconstruct``: an array whose state follows."""
    return Array()


TENSOR_NAMES: Mapping[str, Any] = {
    "collections.OrderedDict": Known(ordered_dict),
    "collections.Counter": Known(ordered_dict),
    "torch.Size": Known(container_of_items(CalledTuple)),
    "torch._utils._rebuild_tensor": Known(rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Known(rebuild_tensor),
    "torch._utils._rebuild_tensor_v3": Known(rebuild_tensor_v3),
    "torch._utils._rebuild_parameter": Known(first_argument),
    "torch._utils._rebuild_parameter_with_state": Known(first_argument),
    "torch._tensor._rebuild_from_type": Known(from_type),
    "torch._tensor._rebuild_from_type_v2": Known(from_type),
    "torch.nn.parameter.Parameter": Known(first_argument),
    "torch.storage._load_from_bytes": None,  # RestrictedUnpickler.load_storage
    "torch.device": None,
    "torch.serialization._get_layout": None,
    "builtins.set": Known(container_of_items(set)),
    "builtins.bytearray": Known(byte_array),
    "_codecs.encode": Known(encode_text),
}
"""Names behind tensors and containers; ``torch.load`` allows these by default too."""

OTHER_NAMES: Mapping[str, Any] = {
    "copyreg._reconstructor": Known(remake_object),
    "torch._utils._rebuild_device_tensor_from_numpy": Known(first_argument),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": Known(first_argument),
    "torch._utils._rebuild_xla_tensor": Known(first_argument),
    "collections.defaultdict": Known(default_dict),
    "builtins.list": Known(container_of_items(list)),
    "builtins.dict": Known(ordered_dict),
    "builtins.tuple": Known(container_of_items(CalledTuple)),
    "builtins.frozenset": Known(container_of_items(CalledSet)),
    "builtins.bytes": Known(byte_array),
    **{
        f"torch.distributed.{module}.DTensor": Distributed
        for module in ("tensor", "tensor._api", "tensor.api", "_tensor", "_tensor.api")
    },
    "numpy.ndarray": Array,
    "numpy.dtype": ArrayType,
    **{
        f"numpy.{core}.{name}": value
        for core in ("core", "_core")
        for name, value in (
            ("multiarray._reconstruct", Known(reconstruct_array)),
            ("multiarray.scalar", Known(read_scalar)),
            ("numeric._frombuffer", Known(Array.flat)),
        )
    },
}
"""Other names that are read here, though importing them would not be safe."""

STORAGES: Mapping[str, torch.dtype | None] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": None,  # quantised tensors are not read, values beside them are
    "QUInt8Storage": None,
    "QInt32Storage": None,
    "QUInt4x2Storage": None,
    "QUInt2x4Storage": None,
    "UntypedStorage": None,
    "_UntypedStorage": None,
}
"""Classes of storages, and the type of their numbers; None where the tensor states it."""

DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}

STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})


def modern_name(module: str, name: str) -> tuple[str, str]:
    """Return a name of Python 2, as in protocols up to 2, as Python 3 has it."""
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[module, name]
    return IMPORT_MAPPING.get(module, module), name


def known_name(module: str, name: str) -> Any:
    """Return what a known name resolves to; None for any other name."""
    if module in STORAGE_MODULES and name in STORAGES:
        return StorageType(STORAGES[name])
    path = f"{module}.{name}"
    return TENSOR_NAMES.get(path) or OTHER_NAMES.get(path) or DTYPES.get(path)
