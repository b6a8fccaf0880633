"""Items and their paths, for tests that are about one of the two."""

from collections.abc import Iterable, Iterator

from resnet_cli.records import Item, Pause
from resnet_cli.sources import Inputs, without_pauses


def paths_of(inputs: Inputs) -> Iterator[str]:
    """Yield the path of each item as it comes."""
    return (item.path for item in without_pauses(inputs.items))


def arrivals_of(inputs: Inputs) -> Iterator[str | Pause]:
    """Yield the path of each item as it comes, and each pause."""
    return (item if isinstance(item, Pause) else item.path for item in inputs.items)


def items_of(paths: Iterable[object]) -> list[Item]:
    """Return whole images at paths."""
    return [Item(str(path)) for path in paths]
