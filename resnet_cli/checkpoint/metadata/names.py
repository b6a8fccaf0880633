"""Class names in whatever form they are kept -> names in the order of the outputs."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from resnet_cli.checkpoint.tree import Foreign, as_container

THINGS = ("category", "cat", "class", "label", "name", "target")
NUMBERS = ("id", "idx", "index", "int")
PLURALS = {"category": "categories", "class": "classes"}
"""Plurals that do not take an s alone."""

LISTS = frozenset(
    form
    for thing in ("category", "class", "label")
    for form in (PLURALS.get(thing, f"{thing}s"), f"{thing}names", f"{thing}map")
)

PAIRS = frozenset(
    form
    for thing, number, to in product(THINGS, NUMBERS, ("to", "2"))
    for form in (f"{thing}{to}{number}", f"{number}{to}{thing}")
)

KEYS = LISTS | PAIRS | {
    "classdict", "classindex", "classindices", "classlabels", "classmapping",
    "labelmapping", "labelsmap", "names", "targetnames", "vocab",
}  # fmt: skip
"""Keys under which people keep class names, without case, ``_`` and ``-``."""

WORDNET = re.compile(r"n\d{8}")
SYNSET = re.compile(rf"{WORDNET.pattern}[\s,:]+(?=\S)")
"""What stands before the names of a class of ImageNet: its number in WordNet."""

LISTED = frozenset({"CategoryMap", "L"})
"""Lists of fastai, which keep their elements under ``items``."""


def is_key(key: str) -> bool:
    """Whether people keep class names under a key."""
    return re.sub("[_ -]", "", key.lower()) in KEYS


def names_from(value: Any) -> tuple[str, ...] | None:
    """Turn any form of class names into names in order; None if there are none.

    Args:
        value: a list of names, or of pairs or records that number them; name -> index, or
            index -> name.
    """
    value = unwrap_value(value)
    pairs = pairs_in(value)
    if pairs is not None:
        value = in_order(pairs)
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return without_synsets(value)
    return None


def pairs_in(value: Any) -> list[tuple[Any, Any]] | None:
    """Index and name of each class; None where nothing numbers them."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list) and all(is_numbered(item) for item in value):
        pairs = [(item[0], item[1]) for item in value]
    else:
        return None
    if pairs and all(type(index) is int for _, index in pairs):
        return [(index, name) for name, index in pairs]
    return pairs or None


def is_numbered(item: Any) -> bool:
    """Whether an element of a list is a name with its index."""
    return isinstance(item, list) and sorted(map(type, item), key=str) == [int, str]


def without_synsets(names: Sequence[str]) -> tuple[str, ...]:
    """Names without the numbers of WordNet, where each begins with one and says more."""
    if all(SYNSET.match(name) for name in names):
        return tuple(SYNSET.sub("", name, count=1) for name in names)
    return tuple(names)


def unwrap_value(value: Any) -> Any:
    """A list or dict without what other libraries wrap around it and its values."""
    value = open_container(value)
    if isinstance(value, Mapping):
        return {name_of(key): name_of(inner) for key, inner in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 1 and isinstance(open_container(value[0]), list | tuple):  # of OrdinalEncoder
        value = open_container(value[0])
    return [numbered_name(inner) or name_of(inner) for inner in value]


def open_container(value: Any) -> Any:
    """The container that something stands for."""
    for _ in range(len(LISTED)):  # a CategoryMap keeps an L
        if isinstance(value, Foreign) and value.kind in LISTED:
            value = value.attributes.get("items", ())
    return as_container(value)


def numbered_name(value: Any) -> list[Any] | None:
    """A class of a list that says both, its name and its index; None where it does not."""
    value = as_container(value)
    if isinstance(value, Mapping):  # as in the annotations of COCO
        value = [value.get("id"), value.get("name")]
    if isinstance(value, list | tuple) and len(value) == 2:
        pair = [name_of(inner) for inner in value]
        return pair if is_numbered(pair) else None
    return None


def name_of(value: Any) -> Any:
    """A name or number without what may be wrapped around it, such as an enum or synonyms."""
    value = as_container(value)
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        value = value[1] if len(value) > 1 and WORDNET.fullmatch(value[0]) else value[0]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], int):
        value = value[0]
    return value if isinstance(value, str | int | float | bool) else None


def in_order(pairs: Sequence[tuple[Any, Any]]) -> list[Any] | None:
    """Names by their indices, which must be 0, 1, 2 … each once."""
    try:
        by_index = {int(index): name for index, name in pairs}
    except (TypeError, ValueError, OverflowError):
        return None
    if sorted(by_index) != list(range(len(pairs))):
        return None
    return [by_index[index] for index in range(len(pairs))]
