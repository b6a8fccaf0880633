"""What a writer is given: its options, short names of the images, the verdict on a prediction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any

from resnet_cli.records import Item, Prediction, is_url, part_words, tidy_path
from resnet_cli.results.columns import RowLayout
from resnet_cli.text import cut_end, cut_middle, cut_start, escape_unprintable

GAP = "…"
BETWEEN = ", "  # a name and its part


def end_of_name(item: Item, most: int) -> str:
    """Return the end of a path, and the part, in at most ``most`` characters.

    It is for runs whose other paths are unknown.
    """
    return with_part(escape_unprintable(tidy_path(item.path)), item, most, cut_start)


def names_for(items: Sequence[Item] | None) -> Callable[[Item, int], str]:
    """Return a function that names items: by short names, if all are known beforehand."""
    return end_of_name if items is None else ShortNames([item.path for item in items])


def with_part(name: str, item: Item, most: int, shorten: Callable[[str, int], str]) -> str:
    """Add its part in words to the name of an image; the name is shortened first.

    Args:
        name: of the whole image.
        item: that is named.
        most: characters that have room.
        shorten: cuts the name to so many characters, 2 or more.
    """
    words = escape_unprintable(part_words(item.part))
    if not words:
        return shorten(name, most)
    room = most - len(words) - len(BETWEEN)
    return cut_start(words, most) if room < 2 else shorten(name, room) + BETWEEN + words


class ShortNames:
    """Names the items of a run; nothing is computed before the first call."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Keep the paths of all images; some may be equal."""
        self.paths = frozenset(paths)

    def __call__(self, item: Item, most: int) -> str:
        """Return the name of one item in at most ``most`` characters, 2 or more."""
        return with_part(
            self.whole(item.path), item, most, lambda name, room: shorten_to(name, room, *self.ends)
        )

    def whole(self, path: str) -> str:
        """Return the name of one image at full length."""
        names = split_path(path)[-self.depth :]
        said = [GAP if len(names) - n in self.shared else name for n, name in enumerate(names)]
        return escape_unprintable(
            join_path([name for n, name in enumerate(said) if not name == GAP == said[n - 1]])
        )

    @cached_property
    def depth(self) -> int:
        """The smallest number of last names in a path that tell all paths apart."""
        paths, depth = {split_path(path) for path in self.paths}, 1
        while len({names[-depth:] for names in paths}) < len(paths):
            depth += 1
        return depth

    @cached_property
    def shared(self) -> frozenset[int]:
        """Positions, counted from the end, of folders in between that all paths share."""
        folders: dict[int, set[str]] = {place: set() for place in range(2, self.depth)}
        for path in self.paths:
            for place, name in enumerate(split_path(path)[: -self.depth : -1], start=1):
                folders.get(place, set()).add(name)
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


def split_path(path: str) -> tuple[str, ...]:
    """Split a path into names: an archive before what is in it, a server before its folders."""
    if not is_url(path):
        return PurePath(path).parts
    inside, _, archive = path.partition("::")
    if archive:
        return (*split_path(archive), *inside.partition("://")[2].split("/"))
    scheme, _, place = inside.partition("://")
    first, *others = place.split("/")
    return (f"{scheme}://{first}", *others)


def join_path(names: Sequence[str]) -> str:
    """Join names of a path, from any of them on."""
    return "/".join(names) if any(map(is_url, names[:1])) else str(PurePath(*names))


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


if TYPE_CHECKING:
    from resnet_cli.results.files.resume import SavedRows

Write = Callable[[Prediction], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a CSV is written. The decimal point is a point, and lines end in a line feed."""

    separator: str = ","
    bom: bool = False  # begins with the byte order mark by which Excel recognises UTF-8

    @property
    def mark(self) -> str:
        """The text before the header."""
        return "\ufeff" if self.bom else ""

    def record(self) -> dict[str, Any]:
        """Return the settings as they stand in FILE.run.json."""
        return {f"csv_{name}": value for name, value in asdict(self).items()}


COMMA = Dialect()
"""What programs read."""


def unknown_truth(_: Item) -> str | None:
    """Return None: the true label of no image is known."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """How results are laid out."""

    topk: int  # classes of an image
    grid_rows: int = 4  # of a page
    grid_columns: int = 4
    caption: str = ""  # under each page
    overwrite: bool = False  # replace an existing file
    saved: "SavedRows | None" = None  # rows of the file that is resumed
    truth: Callable[[Item], str | None] = unknown_truth  # the true label of an image
    name: Callable[[Item, int], str] = end_of_name  # of an image, in at most N characters
    record: Callable[[], Mapping[str, Any]] = dict  # of the run so far, as in FILE.run.json
    report_limit: int = 10_000  # images in a report
    decides: bool = False  # there is a column for the decision
    parts: bool = False  # there is a column for the part of an image
    boxes: bool = False  # there are columns for what a detector said of a box
    dialect: Dialect = COMMA  # of a .csv

    @property
    def layout(self) -> RowLayout:
        """The columns of a row."""
        return RowLayout(topk=self.topk, decides=self.decides, parts=self.parts, boxes=self.boxes)

    def after(self, saved: "SavedRows | None") -> "WriterOptions":
        """Return a copy for a file that is resumed, if any, which keeps its columns."""
        return replace(self, saved=saved, decides=self.decides and (saved is None or saved.decides))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about one prediction."""

    best: str | None = None  # name of the best class
    uncertain: bool = False
    truth: str | None = None  # None if unknown
    right: bool | None = None  # None if the truth is unknown, or for an error


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares the best class of each prediction with the true one."""

    truth: Callable[[Item], str | None]
    names: dict[int, str] = field(default_factory=dict)
    """Class names by index; grows as predictions come, if they are not known from the start."""

    @classmethod
    def of(cls, options: WriterOptions) -> "Judge":
        """Build a judge that knows the truth and the class names of a writer's options."""
        return cls(options.truth, dict(enumerate(options.record().get("classes", ()))))

    def __call__(self, prediction: Prediction) -> Verdict:
        """Return the verdict on the next prediction."""
        for score in prediction.scores:
            self.names.setdefault(score.index, score.label)
        truth = self.truth(prediction.item)
        if prediction.index is None:
            return Verdict(truth=truth)
        best = self.names.get(prediction.index)
        return Verdict(
            best=best,
            uncertain=prediction.uncertain,
            truth=truth,
            right=None if truth is None or best is None else best == truth,
        )
