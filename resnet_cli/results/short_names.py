"""Short names: the part of a path that tells the images of a run apart. report.js has its own.

``cam1/IMG_0000.JPEG`` where each camera has a file of that name, else ``IMG_0000.JPEG``.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from string import ascii_letters, digits

from resnet_cli.text import cut_end, cut_middle, cut_start, escape_unprintable

GAP = "…"


def end_of_path(path: Path, most: int) -> str:
    """Return the end of a path in at most ``most`` characters, if other paths are unknown."""
    return cut_start(escape_unprintable(str(path)), most)


def names_for(paths: Sequence[str] | None) -> Callable[[Path, int], str]:
    """Return a function that names images: by short names, if all paths are known beforehand."""
    return end_of_path if paths is None else ShortNames(paths)


class ShortNames:
    """Names the images of a run; nothing is computed before the first call."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Keep the paths of all images; some may be equal."""
        self.paths = paths

    def __call__(self, path: Path, most: int) -> str:
        """Return the name of one image in at most ``most`` characters, 2 or more."""
        return shorten_to(self.whole(str(path)), most, *self.ends)

    def whole(self, path: str) -> str:
        """Return the name of one image at full length."""
        parts = PurePath(path).parts[-self.depth :]
        said = [GAP if len(parts) - n in self.shared else part for n, part in enumerate(parts)]
        kept = (part for n, part in enumerate(said) if not part == GAP == said[n - 1])
        return escape_unprintable(str(PurePath(*kept)))

    @cached_property
    def depth(self) -> int:
        """The smallest number of last parts that tell all paths apart."""
        paths, depth = {PurePath(path).parts for path in self.paths}, 1
        while len({parts[-depth:] for parts in paths}) < len(paths):
            depth += 1
        return depth

    @cached_property
    def shared(self) -> frozenset[int]:
        """Positions, counted from the end, of folders in between that all paths share."""
        folders: dict[int, set[str]] = {place: set() for place in range(2, self.depth)}
        for path in self.paths:
            for place, part in enumerate(PurePath(path).parts[: -self.depth : -1], start=1):
                folders.get(place, set()).add(part)
        return frozenset(place for place, names in folders.items() if len(names) == 1)

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The lengths, in whole words and numbers, of what all names begin and end with."""
        names = {self.whole(path) for path in self.paths}
        if len(names) < 2:
            return 0, 0
        before = whole_words(common_start(names))
        after = whole_words(common_start({name[::-1] for name in names}))
        return before, min(after, min(map(len, names)) - before)


def common_start(names: set[str]) -> str:
    """Return what all names begin with."""
    first, last = min(names), max(names)  # the others lie between
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((place for place, (a, b) in pairs if a != b), len(first))]


def whole_words(start: str) -> int:
    """Count the characters of a common start up to its last whole word or number."""
    return len(start.rstrip(ascii_letters + digits))


def shorten_to(name: str, most: int, before: int, after: int) -> str:
    """Shorten a name; what all names begin and end with is cut first.

    Args:
        name: of one of several images.
        most: characters that have room.
        before: characters that all names begin with.
        after: characters that all names end with.
    """
    if len(name) <= most:
        return name
    end = len(name) - after
    room = most - (end - before)
    if room < 2:  # not even for two ellipses
        return cut_middle(name[before:end], most)
    head = min(before, max(room // 2, room - after))
    return cut_end(name[:before], head) + name[before:end] + cut_start(name[end:], room - head)
