"""Class names in whatever form they are kept -> names in the order of the outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_cli.checkpoint.tree import plain

KEYS = frozenset(
    {
        "classes",
        "class_names",
        "names",
        "labels",
        "label_names",
        "class_to_idx",
        "idx_to_class",
        "id2label",
    }
)
"""Keys under which people keep class names, whatever their case."""


def names_from(value: Any) -> tuple[str, ...] | None:
    """Turn a list, name -> index or index -> name into names in order; None if it is neither."""
    value = unwrapped(value)
    if isinstance(value, Mapping) and value:
        pairs = list(value.items())
        if all(isinstance(index, int) for index in value.values()):
            pairs = [(index, name) for name, index in pairs]
        value = in_order(pairs)
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def unwrapped(value: Any) -> Any:
    """A list or dict without what other libraries wrap around it and its values."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {name_of(key): name_of(inner) for key, inner in value.items()}
    return [name_of(inner) for inner in value] if isinstance(value, list | tuple) else value


def name_of(value: Any) -> Any:
    """A name or number without what may be wrapped around it, such as an enum."""
    value = plain(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
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
