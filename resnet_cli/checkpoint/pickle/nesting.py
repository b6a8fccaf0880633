"""How deep the tuples of a pickle nest, and how long its keys take to hash, before it is read.

CPython hashes a tuple by hashing what is in it, tuples too, without a look at the stack that this
takes: some ten thousand levels end the process. It also does so anew each time, so that thirty
tuples, each twice in the next, take an hour. What the standard machine would do is therefore
followed on a stack of sizes first.

Keys of one hash are each compared with all others, so that a hundred thousand take minutes. Text is
hashed with a secret of the process, and an integer below a certain prime is its own hash: only
tuples, frozen sets and larger integers can be chosen so, and few of them may be keys.
"""

import pickletools
import sys
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from resnet_cli.errors import CheckpointError

DEEPEST = 1000  # tuples in tuples; Python's own pickler stops before that
MOST_WORK = 20_000_000  # items that are hashed or copied, which takes half a second
MOST_CHOSEN = 4000  # items of keys whose hashes can be chosen, which takes a tenth of a second
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
"""Which of its operands an opcode takes for keys of a dict or a set."""


class Nesting:
    """Follows the opcodes of a pickle with the sizes of things in place of the things."""

    def __init__(self) -> None:
        self.stack: list[Size | None] = []  # None is a mark
        self.memo: dict[int, Size] = {}
        self.work = 0
        self.chosen = 0  # items of keys whose hashes can be chosen

    def see(self, opcode: str, argument: Any) -> None:
        """Follow one opcode.

        Raises:
            ValueError: tuples that no honest program writes, or an opcode that lacks its operands.
            CheckpointError: keys that may take long to read.
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
        """Pop all above the last mark, and the mark."""
        taken: list[Size] = []
        while self.stack:
            size = self.stack.pop()
            if size is None:
                return taken
            taken.append(size)
        raise ValueError("no mark")

    def push_tuple(self, items: list[Size]) -> None:
        """Push a tuple: each time it is hashed, so is all that is in it."""
        depth = 1 + max(map(levels, items), default=0)
        size = 1 + sum(map(visits, items))
        if depth > DEEPEST or size > MOST_WORK:
            raise ValueError("tuples in tuples in tuples")
        self.stack.append((depth, size, True))

    def consume(self, opcode: str, below: int, *, marked: bool) -> None:
        """Push what an opcode makes of its operands: it may hash them, and may hold any of them."""
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
        """Put the uppermost into the memo."""
        self.memo[int(place)] = self.top()

    def fetch(self, place: Any) -> None:
        """Push what is in the memo."""
        if int(place) not in self.memo:
            raise ValueError("nothing in the memo")
        self.stack.append(self.memo[int(place)])

    def top(self) -> Size:
        """The uppermost."""
        size = self.stack[-1] if self.stack else None
        if size is None:
            raise ValueError("an opcode without its operands")
        return size

    def pop(self, _: Any) -> None:
        """Drop the uppermost, or a mark."""
        if not self.stack:
            raise ValueError("an opcode without its operands")
        self.stack.pop()


def tuple_opcodes() -> Mapping[str, Callable[[Nesting, Any], None]]:
    """Opcodes that make a tuple."""
    return {
        "EMPTY_TUPLE": lambda nesting, _: nesting.stack.append(ATOM),
        "TUPLE1": lambda nesting, _: nesting.push_tuple(nesting.take(1)),
        "TUPLE2": lambda nesting, _: nesting.push_tuple(nesting.take(2)),
        "TUPLE3": lambda nesting, _: nesting.push_tuple(nesting.take(3)),
        "TUPLE": lambda nesting, _: nesting.push_tuple(nesting.to_mark()),
    }


def consumer_opcodes() -> Iterable[tuple[str, Callable[[Nesting, Any], None]]]:
    """Opcodes that make one thing of several, by what the standard library says of them."""
    for opcode in pickletools.opcodes:
        before, after = opcode.stack_before, opcode.stack_after
        if before and len(after) == 1:
            marked = pickletools.markobject in before
            yield opcode.name, make_consumer(opcode.name, len(before) - 2 * marked, marked=marked)


def make_consumer(opcode: str, below: int, *, marked: bool) -> Callable[[Nesting, Any], None]:
    """What takes so many operands, and those above a mark and the mark where there is one."""
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
"""What opcodes do to the stack; all others push a constant."""
