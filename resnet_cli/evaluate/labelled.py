"""Items, found by what a table of labels calls them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from resnet_cli.records import Item, is_url
from resnet_cli.sources import item_of
from resnet_cli.sources.places import find_labelled_image, parts_below, place_of
from resnet_cli.sources.truth import Labelled


@dataclass(slots=True)
class Places:
    """Items, found by what a table of labels calls them."""

    base: str | None  # what their places start from
    whole: dict[tuple[str, str], Item] = field(default_factory=dict)  # by place and part
    inside: dict[tuple[str, str], Item] = field(default_factory=dict)  # by path below and part
    parts: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))  # by place

    def add(self, items: Iterable[Item]) -> None:
        """Take items in."""
        for item in items:
            place = place_of(item.path)
            self.whole[place, item.part] = item
            if item.part:
                self.parts[place].append(item)
            if is_url(item.path):
                self.inside["/".join(parts_below(item, self.base)), item.part] = item

    def find(self, row: Labelled) -> Sequence[Item]:
        """Return the items that a row of a table is about: all parts of an image without one.

        An image that is not among the items, such as one in another folder, is one nevertheless.
        """
        path = find_labelled_image(row.path, self.base or ".")
        place = place_of(path)
        found = self.whole.get((place, row.part)) or self.inside.get((row.path, row.part))
        if found is not None:
            return [found]
        if not row.part:
            return self.parts.get(place) or [item_of(path)]
        return [Item(path, row.part, content=f"{path} has no {row.part} among the images")]
