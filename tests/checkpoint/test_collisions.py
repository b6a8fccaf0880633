"""Pickles whose keys were chosen to collide, and such as copy the same again and again."""

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from pickled import HEAD, PRIME, name_of, of_one_hash
from resnet_cli.checkpoint.pickle import MOST_CHOSEN, Reading, read_pickle
from resnet_cli.checkpoint.tree import Foreign, walk_containers
from resnet_cli.errors import CheckpointError

MANY = MOST_CHOSEN + 1
NUMBERS = b"".join(of_one_hash(MANY))
AS_TEXT = b"".join(b"L%dL\nN" % (n * PRIME) for n in range(MANY + 1))
FROZEN = b"".join(b"(" + number + b"\x91N" for number in of_one_hash(MANY))


def small(count: int, between: bytes = b"") -> Iterator[bytes]:
    """Integers from 0, each with something behind it."""
    for n in range(count):
        yield b"M" + struct.pack("<H", n) + between


def read(data: bytes) -> Any:
    return read_pickle(BytesIO(data), Reading())


KEYS = {
    "a dict": b"}(" + b"".join(of_one_hash(MANY, b"N")) + b"u.",
    "a dict, key by key": b"}" + b"".join(of_one_hash(MANY, b"Ns")) + b".",
    "a dict of protocol 0": b"(" + AS_TEXT + b"d.",
    "a set": b"\x8f(" + NUMBERS + b"\x90.",
    "a frozen set": b"(" + NUMBERS + b"\x91.",
    "frozen sets in a dict": b"}(" + FROZEN + b"u.",
    "tuples in a dict": b"}(" + b"".join(of_one_hash(MANY, b"\x85N")) + b"u.",
    "tuples in a set": b"\x8f(" + b"".join(of_one_hash(MANY, b"\x85")) + b"\x90.",
    "few and long tuples": b"}(" + b"".join(b"(" + 50 * n + b"tN" for n in of_one_hash(90)) + b"u.",
    "few and large sets": b"}(" + 90 * (b"(" + b"".join(small(50)) + b"\x91N") + b"u.",
    "one tuple from the memo": b"K\x01\x85\x940}(" + MANY * b"h\0N" + b"u.",
    "keys of an object": name_of("a.b") + b")R(" + b"".join(of_one_hash(MANY, b"N")) + b"u.",
}  # fmt: skip


@pytest.mark.parametrize("keys", KEYS)
def test_many_keys_whose_hashes_can_be_chosen_are_refused(keys: str) -> None:
    with pytest.raises(CheckpointError, match="it has thousands of tuples, sets or vast numbers"):
        read(HEAD + KEYS[keys])


@pytest.mark.parametrize(
    "honest",
    [
        {n * PRIME: None for n in range(1, 1000)},
        {(n, n + 1): None for n in range(1000)},
        {n: (n, n) for n in range(20_000)},
        {str(n): n << 70 for n in range(20_000)},
        {n - 10_000 for n in range(20_000)},
        {-n << 40: n for n in range(20_000)},
        {n / 7: None for n in range(20_000)},
        OrderedDict((f"layer{n}", n) for n in range(20_000)),
        [frozenset({"a", n}) for n in range(3000)],
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_keys_of_honest_files_are_read(honest: Any, protocol: int) -> None:
    assert read(pickle.dumps(honest, protocol)) == honest


@pytest.mark.parametrize("kind", [np.int64, np.str_, np.float32])
def test_keys_of_numpy_are_read(kind: Any) -> None:
    classes = {kind(n): n for n in range(MANY)}

    assert read(pickle.dumps(classes)) == classes


def test_counters_and_sets_that_are_called_for_are_read() -> None:
    honest = [Counter("abracadabra"), {1, "two"}, frozenset({3}), OrderedDict(a=1)]

    assert read(pickle.dumps(honest, 2)) == honest


CALLED = {
    "builtins.set": b"](" + b"".join(of_one_hash(20)) + b"e\x85",
    "builtins.frozenset": b"](" + b"".join(of_one_hash(20)) + b"e\x85",
    "builtins.dict": b"](" + b"".join(b"]" + n + b"aNa" for n in of_one_hash(20)) + b"e\x85",
    "collections.OrderedDict": b"}(" + b"".join(of_one_hash(20, b"N")) + b"u\x85",
    "collections.Counter": b"}(" + b"".join(of_one_hash(20, b"N")) + b"u\x85",
    "collections.defaultdict": b"N](" + b"".join(of_one_hash(20, b"N\x86")) + b"e\x86",
    "copyreg._reconstructor": b"NN}(" + b"".join(of_one_hash(20, b"N")) + b"u\x87",
}
"""What a function is called with: keys of one hash."""


@pytest.mark.parametrize("name", CALLED)
def test_a_function_makes_no_container_of_keys_of_one_hash(name: str) -> None:
    made = read(HEAD + name_of(name) + CALLED[name] + b"R.")

    assert isinstance(made, Foreign)
    assert not made.entries


def test_a_long_tuple_is_not_hashed_for_each_pair() -> None:
    pairs = b"(" + 1000 * b"K\x01" + b"t\x94N\x86\x940](" + 20 * b"h\x01" + b"e\x85"

    assert isinstance(read(HEAD + name_of("collections.OrderedDict") + pairs + b"R."), Foreign)


@pytest.mark.parametrize("name", ["torch.Size", "builtins.tuple", "builtins.frozenset"])
def test_the_hash_of_what_a_function_makes_cannot_be_chosen(name: str) -> None:
    made = read(HEAD + name_of(name) + b"\x940](" + 2 * b"h\0]K\x05a\x85R" + b"e.")

    assert made[0] == made[1]
    assert hash(made[0]) != hash(made[1])


@pytest.mark.parametrize("key", [b"(K\x01t", b"(K\x01\x91", b"".join(of_one_hash(1))])
def test_a_function_passes_on_no_key(key: bytes) -> None:
    scalar = name_of("numpy.core.multiarray.scalar")

    assert isinstance(read(HEAD + scalar + b"N" + key + b"\x86R."), Foreign)


COPIED = {
    "builtins.list": b"](" + 50_000 * b"N" + b"e",
    "builtins.set": b"\x8f(" + b"".join(small(20_000)) + b"\x90",
    "builtins.bytes": b"\x96" + struct.pack("<Q", 100_000) + bytes(100_000),
    "_codecs.encode": b"X" + struct.pack("<I", 100_000) + bytes(100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIED)
def test_repeated_copies_are_limited(name: str) -> None:
    data = HEAD + name_of(name) + b"\x940" + COPIED[name] + b"\x940]("
    data += 2000 * b"h\0h\x01\x85R" + b"e."
    copies = [made for made in read(data) if not isinstance(made, Foreign)]

    assert sum(map(len, copies)) < 5 * len(data) + (1 << 20)
    assert copies


STATES = {
    "attributes": b"}(" + b"".join(small(50_000, b"N")) + b"u",
    "slots": b"}NNs}(" + b"".join(small(50_000, b"N")) + b"u\x86",
    "a module": b"}(\x8c\x0b_parametersN\x8c\x08_modules}("
    + b"".join(small(20_000, b"h\0)R")) + b"uu",
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_values_shared_by_objects_are_read_once(state: str) -> None:
    data = HEAD + name_of("a.B") + b"\x940" + STATES[state] + b"\x940]("
    data += 2000 * b"h\0)Rh\x01b" + b"e."
    seen = sum(len(one) for _, one in walk_containers(read(data)) if isinstance(one, dict))

    assert seen < 500_000


def test_slots_are_read_with_the_attributes() -> None:
    made = read(HEAD + name_of("a.B") + b")R}K\x01Ns}K\x02Ns\x86b.")

    assert made.attributes == {1: None, 2: None}
