"""A pickle -> plain containers, tensors and stand-ins, without importing or calling anything.

The standard library's machine is used with a ``find_class`` that never imports. The few names
that tensors, arrays and containers are made of lead to functions of this package; every other name
leads to a stand-in that keeps what it is given and does nothing.
"""

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import torch

from resnet_cli.checkpoint.pickle.nesting import Nesting
from resnet_cli.checkpoint.pickle.stand_ins import (
    TENSOR_NAMES,
    Known,
    PickleError,
    StorageType,
    known_name,
    modern_name,
)
from resnet_cli.checkpoint.tree import Foreign

SPARE = 1 << 20  # items and bytes that functions are handed in any file, however short
HANDED = 4  # times its length in bytes; an honest pickle hands on what it holds once a level

Persistent = Callable[[Any], Any]


@dataclass(slots=True)
class Reading:
    """What reading a file has come upon besides its contents."""

    imports: set[str] = field(default_factory=set)  # names that unpickling would import
    stand_ins: dict[str, type[Foreign]] = field(default_factory=dict)  # by module.Class
    nested: int = 0  # levels of files in files
    files: int = 0  # files in the file
    room: int = SPARE  # items and bytes that functions may still be handed

    def note(self, module: str, name: str) -> None:
        """Keep a name, unless it is of tensors and containers alone."""
        module, name = modern_name(module, name)
        path = f"{module}.{name}"
        known = known_name(module, name)
        if path not in TENSOR_NAMES and not isinstance(known, StorageType | torch.dtype):
            self.imports.add(path)


def read_pickle(stream: IO[bytes], reading: Reading, persistent: Persistent | None = None) -> Any:
    """Read one pickle, and leave the stream behind it.

    Args:
        stream: at the start of the pickle; its ``read`` gives no more than there is.
        reading: takes the names that it would import.
        persistent: what stands for a persistent id, such as the storage of a tensor.

    Raises:
        PickleError: it is no pickle.
    """
    start = stream.tell()
    try:
        check_opcodes(stream, reading)
        if not reading.nested:  # those are in the bytes of the outermost
            reading.room += HANDED * (stream.tell() - start)
        stream.seek(start)
        return Machine(stream, reading, persistent).load()
    # damaged opcodes call our own stand-ins, and the machine's containers, with anything at all
    except (pickle.UnpicklingError, ValueError, TypeError, LookupError, EOFError, AttributeError,
            ArithmeticError, MemoryError, ImportError, RecursionError,
            BufferError) as error:  # fmt: skip
        raise PickleError(str(error)) from error


def check_opcodes(stream: IO[bytes], reading: Reading) -> None:
    """Read the opcodes through once, doing nothing.

    The machine would make room for as many memo entries as an opcode says, up to 64 GB. Names are
    noted even if the machine never comes to them.

    Raises:
        ValueError: a truncated or unknown opcode, a memo index that does not follow, or tuples
            that nest too deep.
    """
    nesting = Nesting()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        match opcode.name:
            # BINPUT counts to 255; an honest memo has no more entries than there were opcodes
            case "LONG_BINPUT" | "PUT" if int(argument or 0) > count + 256:
                raise ValueError("a memo index out of line")
            case "NEXT_BUFFER" | "READONLY_BUFFER":
                raise ValueError("values outside of the pickle, which no file has")
            case "GLOBAL" | "INST":
                reading.note(*str(argument).rsplit(" ", 1))
        nesting.see(opcode.name, argument)


SIZED = (list, tuple, set, frozenset, dict, str, bytes, bytearray)


class Machine(pickle.Unpickler):
    """The standard machine, cut off from every module."""

    def __init__(self, stream: IO[bytes], reading: Reading, persistent: Persistent | None) -> None:
        # text of Python 2 may hold any bytes: kept, so that arrays can have them back
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self.reading, self.persistent = reading, persistent

    def find_class(self, module: str, name: str) -> Any:
        """What a global name stands for here."""
        module, name = modern_name(module, name)
        path = f"{module}.{name}"
        known = known_name(module, name)
        self.reading.note(module, name)
        if path == "torch.storage._load_from_bytes":
            known = Known(self.load_storage)
        if isinstance(known, Known):
            return Known(partial(self.handed, known.call))
        if known is not None:
            return known
        stand_ins = self.reading.stand_ins
        if path not in stand_ins:
            stand_ins[path] = type("StandIn", (Foreign,), {"path": path})
        return stand_ins[path]

    def handed(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function, which may copy what it is handed.

        Raises:
            PickleError: a few bytes have come to copy the same again and again.
        """
        self.reading.room -= sum(len(value) for value in args if isinstance(value, SIZED))
        if self.reading.room < 0:
            raise PickleError("the same is copied again and again")
        return call(*args, **options)

    def persistent_load(self, identity: Any) -> Any:
        """What a persistent id stands for."""
        if self.persistent is None:
            return Foreign(identity)
        return self.persistent(identity)

    def load_storage(self, data: Any) -> Any:
        """The storage of a tensor that was pickled without torch.save: a file in the file."""
        from resnet_cli.checkpoint.formats.torch_files import read_nested

        return read_nested(data, self.reading)


def storage_of(identity: Any) -> tuple[StorageType, str, int]:
    """Type, key and length of the storage that a persistent id names.

    Raises:
        TypeError: an id that torch never writes.
    """
    match identity:
        case ("storage", StorageType() as kind, str(key), _, int(count), *_) if count >= 0:
            return kind, key, count
    raise TypeError("a persistent id of no storage")
