"""A pickle -> plain containers, tensors and stand-ins, without importing or running anything.

The unpickler of the standard library runs with a ``find_class`` that never imports. The few names
that tensors, arrays and containers need resolve to functions of this package; every other name
resolves to a stand-in that keeps its arguments and does nothing.
"""

import pickle
import pickletools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import IO, Any

import torch

from resnet_cli.checkpoint.pickle.stand_ins import (
    TENSOR_NAMES,
    Known,
    PickleError,
    StorageType,
    known_name,
    modern_name,
)
from resnet_cli.checkpoint.tensors import Storage
from resnet_cli.checkpoint.tree import Foreign
from resnet_cli.errors import CheckpointError

SPARE = 1 << 20  # items and bytes that functions may receive in any file, however short
MOST_PASSED = 4  # times its length in bytes; a regular pickle passes each item once per level

Storages = dict[str, Storage]  # by key; whoever opened the file gives them their bytes


@dataclass(slots=True)
class Reading:
    """What reading a file collects besides its contents, and the limits that it keeps."""

    open_nested: "Callable[[Any, Reading], Any] | None" = None  # reads a file in the file
    imports: set[str] = field(default_factory=set)  # names that unpickling would import
    stand_ins: dict[str, type[Foreign]] = field(default_factory=dict)  # by module.Class
    nested: int = 0  # levels of files in files
    files: int = 0  # files in the file
    room: int = SPARE  # items and bytes that functions may still receive

    def note(self, module: str, name: str) -> None:
        """Record a name, unless it only serves tensors and containers."""
        module, name = modern_name(module, name)
        path = f"{module}.{name}"
        known = known_name(module, name)
        if path not in TENSOR_NAMES and not isinstance(known, StorageType | torch.dtype):
            self.imports.add(path)


def read_pickle(stream: IO[bytes], reading: Reading, storages: Storages | None = None) -> Any:
    """Read one pickle, and leave the stream behind it.

    Args:
        stream: at the start of the pickle; its ``read`` returns no more than there is.
        reading: collects the names that the pickle would import.
        storages: receives the storages that persistent ids name, still without bytes; None where
            no file of torch.save is read.

    Raises:
        PickleError: it is not a pickle.
    """
    start = stream.tell()
    try:
        check_opcodes(stream, reading)
        if not reading.nested:  # nested files are part of the outermost one
            reading.room += MOST_PASSED * (stream.tell() - start)
        stream.seek(start)
        return RestrictedUnpickler(stream, reading, storages).load()
    # damaged opcodes call our own stand-ins, and containers, with arbitrary arguments
    except (pickle.UnpicklingError, ValueError, TypeError, LookupError, EOFError, AttributeError,
            ArithmeticError, MemoryError, ImportError, RecursionError,
            BufferError) as error:  # fmt: skip
        raise PickleError(str(error)) from error


def check_opcodes(stream: IO[bytes], reading: Reading) -> None:
    """Read all opcodes once without running them.

    The unpickler would allocate as many memo entries as an opcode says, up to 64 GB. Names are
    noted even if the unpickler never reaches them.

    Raises:
        ValueError: a truncated or unknown opcode, a memo index that does not follow, or tuples
            that nest too deep.
    """
    nesting = Nesting()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        match opcode.name:
            # BINPUT counts to 255; a regular memo has no more entries than there were opcodes
            case "LONG_BINPUT" | "PUT" if int(argument or 0) > count + 256:
                raise ValueError("a memo index out of line")
            case "NEXT_BUFFER" | "READONLY_BUFFER":
                raise ValueError("values outside of the pickle, which no file has")
            case "GLOBAL" | "INST":
                reading.note(*str(argument).rsplit(" ", 1))
        nesting.see(opcode.name, argument)


SIZED = (list, tuple, set, frozenset, dict, str, bytes, bytearray)


class RestrictedUnpickler(pickle.Unpickler):
    """The unpickler of the standard library, cut off from every module."""

    def __init__(self, stream: IO[bytes], reading: Reading, storages: Storages | None) -> None:
        # text of Python 2 may hold any bytes: kept, so that arrays can be decoded from it
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self.reading, self.storages = reading, storages

    def find_class(self, module: str, name: str) -> Any:
        """Return what a global name resolves to."""
        module, name = modern_name(module, name)
        path = f"{module}.{name}"
        known = known_name(module, name)
        self.reading.note(module, name)
        if path == "torch.storage._load_from_bytes":
            known = Known(self.load_storage)
        if isinstance(known, Known):
            return Known(partial(self.call_limited, known.call))
        if known is not None:
            return known
        stand_ins = self.reading.stand_ins
        if path not in stand_ins:
            stand_ins[path] = type("StandIn", (Foreign,), {"path": path})
        return stand_ins[path]

    def call_limited(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function, which may copy its arguments.

        Raises:
            PickleError: a few bytes copy the same items again and again.
        """
        self.reading.room -= sum(len(value) for value in args if isinstance(value, SIZED))
        if self.reading.room < 0:
            raise PickleError("the same is copied again and again")
        return call(*args)

    def persistent_load(self, identity: Any) -> Any:
        """Return the storage, or the class, that a persistent id names.

        Raises:
            TypeError: an id that torch never writes, or a view of a storage.
        """
        if self.storages is None:
            return Foreign(identity)
        match identity:
            case ("module", type() as container, *_):  # a class, with its source code
                return container
            case (*_, view) if len(identity) == 6 and view is not None:
                raise TypeError("a view of a storage")
            case ("storage", StorageType() as kind, str(key), _, int(count), *_) if count >= 0:
                return self.storages.setdefault(key, Storage(None, kind.dtype))
        raise TypeError("a persistent id of no storage")

    def load_storage(self, data: Any) -> Any:
        """Return the storage of a tensor pickled without torch.save: a file in the file.

        Raises:
            TypeError: nothing here can open it.
        """
        if self.reading.open_nested is None:
            raise TypeError("no files in files")
        return self.reading.open_nested(data, self.reading)


DEEPEST = 1000  # levels of tuples; Python's own pickler stops before that
MOST_WORK = 20_000_000  # items hashed or copied: half a second
MOST_CHOSEN = 4000  # items of keys whose hashes can be chosen: a tenth of a second
PRIME = sys.hash_info.modulus  # integers that differ by it share their hash

# levels of tuples, items that hashing it would visit, and whether its hash can be chosen
Size = tuple[int, int, bool]
ATOM: Size = (0, 1, False)
LARGE: Size = (0, 1, True)

levels, visits, is_chosen = itemgetter(0), itemgetter(1), itemgetter(2)

KEYS = {
    "SETITEM": slice(1, None, 2),
    "SETITEMS": slice(1, None, 2),  # popped from the top: the last value, its key …
    "DICT": slice(1, None, 2),
    "ADDITEMS": slice(None),
    "FROZENSET": slice(None),
}
"""The operands that an opcode uses as keys of a dict or a set."""


class Nesting:
    """Follows the opcodes of a pickle with sizes in place of values, before it is read.

    CPython hashes a tuple by hashing its items, nested tuples too, without checking the stack: some
    ten thousand levels end the process. It also hashes it again each time, so that thirty tuples,
    each twice in the next, take an hour.

    Keys with the same hash are all compared with each other, so that a hundred thousand take
    minutes. Text is hashed with a secret of the process, and an integer below a certain prime is
    its own hash: only tuples, frozen sets and larger integers can be chosen to collide, and few may
    be keys.
    """

    def __init__(self) -> None:
        self.stack: list[Size | None] = []  # None is a mark
        self.memo: dict[int, Size] = {}
        self.work = 0
        self.chosen = 0  # items of keys whose hashes can be chosen

    def see(self, opcode: str, argument: Any) -> None:
        """Follow one opcode.

        Raises:
            ValueError: tuples that no regular program writes, or an opcode without its operands.
            CheckpointError: keys that may take hours to read.
        """
        step = STEPS.get(opcode)
        if step is None:  # a constant
            large = isinstance(argument, int) and abs(argument) >= PRIME
            self.stack.append(LARGE if large else ATOM)
        else:
            step(self, argument)

    def take(self, count: int) -> list[Size]:
        """Pop operands."""
        taken = self.stack[len(self.stack) - count :] if count else []
        sizes = [size for size in taken if size is not None]
        if len(sizes) < count:
            raise ValueError("an opcode without its operands")
        del self.stack[len(self.stack) - count :]
        return sizes

    def to_mark(self) -> list[Size]:
        """Pop everything above the last mark, and the mark."""
        taken: list[Size] = []
        while self.stack:
            size = self.stack.pop()
            if size is None:
                return taken
            taken.append(size)
        raise ValueError("no mark")

    def push_tuple(self, items: list[Size]) -> None:
        """Push a tuple: hashing it hashes everything in it."""
        depth = 1 + max(map(levels, items), default=0)
        size = 1 + sum(map(visits, items))
        if depth > DEEPEST or size > MOST_WORK:
            raise ValueError("tuples in tuples in tuples")
        self.stack.append((depth, size, True))

    def consume(self, opcode: str, below: int, *, marked: bool) -> None:
        """Push the result of an opcode, which may hash its operands and may hold any of them."""
        items = self.to_mark() if marked else []
        items += self.take(below)
        all_visits = sum(map(visits, items))
        self.work += all_visits
        if self.work > MOST_WORK:
            raise ValueError("tuples that take too long to hash")
        self.chosen += sum(map(visits, filter(is_chosen, items[KEYS.get(opcode, slice(0))])))
        if self.chosen > MOST_CHOSEN:
            raise CheckpointError(
                "it has thousands of tuples, sets or vast numbers for keys, which may take hours "
                "to read: save the state dict alone"
            )
        frozen = opcode == "FROZENSET"
        most = 1 + all_visits if frozen else max(map(visits, items), default=1)
        self.stack.append((max(map(levels, items), default=0), most, frozen))

    def keep(self, place: Any) -> None:
        """Store the top of the stack in the memo."""
        self.memo[int(place)] = self.top()

    def fetch(self, place: Any) -> None:
        """Push an entry of the memo."""
        if int(place) not in self.memo:
            raise ValueError("nothing in the memo")
        self.stack.append(self.memo[int(place)])

    def top(self) -> Size:
        """Return the top of the stack."""
        size = self.stack[-1] if self.stack else None
        if size is None:
            raise ValueError("an opcode without its operands")
        return size

    def pop(self, _: Any) -> None:
        """Drop the top of the stack, or a mark."""
        if not self.stack:
            raise ValueError("an opcode without its operands")
        self.stack.pop()


def tuple_opcodes() -> Mapping[str, Callable[[Nesting, Any], None]]:
    """Return the opcodes that make a tuple, and their effects."""
    return {
        "EMPTY_TUPLE": lambda nesting, _: nesting.stack.append(ATOM),
        "TUPLE1": lambda nesting, _: nesting.push_tuple(nesting.take(1)),
        "TUPLE2": lambda nesting, _: nesting.push_tuple(nesting.take(2)),
        "TUPLE3": lambda nesting, _: nesting.push_tuple(nesting.take(3)),
        "TUPLE": lambda nesting, _: nesting.push_tuple(nesting.to_mark()),
    }


def consumer_opcodes() -> Iterable[tuple[str, Callable[[Nesting, Any], None]]]:
    """Yield the opcodes that make one value of several, as pickletools describes them."""
    for opcode in pickletools.opcodes:
        before, after = opcode.stack_before, opcode.stack_after
        if before and len(after) == 1:
            marked = pickletools.markobject in before
            yield opcode.name, make_consumer(opcode.name, len(before) - 2 * marked, marked=marked)


def make_consumer(opcode: str, below: int, *, marked: bool) -> Callable[[Nesting, Any], None]:
    """Make the effect of an opcode on ``below`` operands, and those above a mark if it has one."""
    return lambda nesting, _: nesting.consume(opcode, below, marked=marked)


STEPS: Mapping[str, Callable[[Nesting, Any], None]] = {
    **dict(consumer_opcodes()),
    **tuple_opcodes(),
    "MARK": lambda nesting, _: nesting.stack.append(None),
    "DUP": lambda nesting, _: nesting.stack.append(nesting.top()),
    "POP": Nesting.pop,
    "POP_MARK": lambda nesting, _: nesting.to_mark().clear(),
    "MEMOIZE": lambda nesting, _: nesting.keep(len(nesting.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Nesting.keep),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Nesting.fetch),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
}
"""Effects of opcodes on the stack; all others push a constant."""
