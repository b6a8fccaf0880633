"""The search for images in folders: natural order, and what is skipped by rule or by pattern."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Self

SYSTEM_FILES = frozenset({".ds_store", "desktop.ini", "ehthumbs.db", "thumbs.db"})

# fmt: off
SYSTEM_FOLDERS = frozenset({
    "#recycle", "$recycle.bin", "@eadir", "@recycle", "__macosx", "recycler",
    "system volume information",
})
# fmt: on
"""Folders that Windows, macOS and network drives create: copies, previews, waste bins."""

RESOURCE_FORK = "._"  # begins a file that macOS writes beside another one, with the same suffix

ANY_DEPTH = "**"  # in a pattern: any number of folders


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of ``--exclude``, split into the parts of a path."""

    text: str
    parts: tuple[str, ...]
    only_folders: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a pattern; without a slash, or with one at its end only, it fits at any depth."""
        words = text.replace(os.sep, "/").removeprefix("./")
        parts = tuple(filter(None, words.split("/")))
        anywhere = bool(parts) and "/" not in words.removesuffix("/")
        return cls(text, (ANY_DEPTH, *parts) if anywhere else parts, words.endswith("/"))

    def matches(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        """Return True if it fits a path below an INPUT."""
        return (is_folder or not self.only_folders) and matches_pattern(parts, self.parts)


def matches_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Compare the parts of a path with those of a pattern; the steps are at most their product."""
    depths = {0}  # how many parts the pattern so far may have taken
    for wanted in pattern:
        if wanted == ANY_DEPTH:
            depths = set(range(min(depths), len(parts) + 1))
        else:
            depths = {at + 1 for at in depths if at < len(parts) and fnmatch(parts[at], wanted)}
        if not depths:
            return False
    return len(parts) in depths


@dataclass
class Sieve:
    """Decides what a search takes, and counts what it skips.

    Attributes:
        hidden: take hidden and system files as well.
        exclude: patterns of files and folders to leave out.
        passed_over: files in folders without an image suffix.
        skipped: hidden and system files that were skipped.
        excluded: files and folders that a pattern left out, by what they are.
        irregular: what is neither file nor folder and was skipped, by kind.
        used: the patterns that matched something.
        dropped: what was skipped among the matches of globs.
    holding: patterns for the files in folders that hold images, if they are named.
    """

    hidden: bool = False
    exclude: Sequence[str] = ()
    passed_over: int = 0
    skipped: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    irregular: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    holding: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.patterns = tuple(map(Pattern.parse, self.exclude))

    @property
    def unused(self) -> list[str]:
        """Return the patterns that matched nothing."""
        return [pattern for pattern in self.exclude if pattern not in self.used]

    def drops(self, folder: str, above: Sequence[str], name: str, *, is_folder: bool) -> bool:
        """Return True if a file or folder is skipped, and count it then.

        Args:
            folder: path of the folder that it is in.
            above: names of the folders between the INPUT and it.
            name: its own.
            is_folder: what it is.
        """
        before = self.skipped
        dropped = self.drops_name(above, name, is_folder=is_folder)
        if is_folder and self.skipped > before:
            self.skipped = before + count_files_below(os.path.join(folder, name))
        return dropped

    def drops_name(self, above: Sequence[str], name: str, *, is_folder: bool) -> bool:
        """Return True if a file or folder is skipped, and count it then, the folder as one file.

        Args:
            above: names of the folders between the INPUT and it.
            name: its own.
            is_folder: what it is.
        """
        if self.patterns and self.excludes((*above, name), is_folder=is_folder):
            return True
        if self.hidden or not is_system(name, is_folder=is_folder):
            return False
        self.skipped += 1
        return True

    def drops_match(self, path: str, start: str) -> bool:
        """Return True if a match of a glob is skipped, or a folder on the way to it.

        Args:
            path: the match.
            start: the folder before the first wildcard of the glob.
        """
        folder = start
        *above, last = path_parts(path[len(start) :]) or [""]
        for depth, name in enumerate((*above, last)):
            place = os.path.join(folder, name)
            is_folder = depth < len(above) or os.path.isdir(path)
            if place in self.dropped or self.drops(
                folder, above[:depth], name, is_folder=is_folder
            ):
                self.dropped.add(place)
                return True
            folder = place
        return False

    def drops_member(self, archive: str, name: str) -> bool:
        """Return True if a member of an archive is skipped, or a folder on the way to it."""
        parts = [part for part in path_parts(name) if part != ".."]
        last = len(parts) - 1
        for depth in range(len(parts) if self.patterns else 0):
            place = os.path.join(archive, *parts[: depth + 1])
            if place in self.dropped:
                return True
            if self.excludes(parts[: depth + 1], is_folder=depth < last):
                self.dropped.add(place)
                return True
        system = not self.hidden and any(
            is_system(part, is_folder=depth < last) for depth, part in enumerate(parts)
        )
        self.skipped += system
        return system

    def drops_line(self, path: str) -> bool:
        """Return True if a pattern excludes a path of a list, or a folder on the way to it."""
        if not self.patterns:
            return False
        parts = path_parts(path)
        dropped = any(
            self.hits(parts[:length], is_folder=length < len(parts))
            for length in range(1, len(parts) + 1)
        )
        self.excluded["file"] += dropped
        return dropped

    def excludes(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        """Return True if a pattern excludes a file or folder, and count it then."""
        excluded = bool(self.hits(parts, is_folder=is_folder))
        self.excluded["folder" if is_folder else "file"] += excluded
        return excluded

    def hits(self, parts: Sequence[str], *, is_folder: bool) -> list[str]:
        """Return the patterns that fit a path, and note that they are used."""
        found = [each.text for each in self.patterns if each.matches(parts, is_folder=is_folder)]
        self.used.update(found)
        return found


def path_parts(path: str) -> list[str]:
    """Split a path into its parts."""
    return [part for part in path.replace(os.sep, "/").split("/") if part not in ("", ".")]


def is_system(name: str, *, is_folder: bool) -> bool:
    """Return True if a name is one of the system's, or of a hidden folder."""
    if is_folder:
        return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
    return name.startswith(RESOURCE_FORK) or name.lower() in SYSTEM_FILES


def count_files_below(folder: str) -> int:
    """Count the files below a folder, as far as it may be read."""
    count, folders = 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        count += 1
        except OSError:  # its files are skipped anyway, and only their number is unknown
            continue
    return count


FILE, FOLDER = "", "/"  # appended to a name
LINK, DEVICE = "links to folders", "pipes and devices"

DIGITS = re.compile(r"\d+")


def walk_folder(folder: str, sieve: Sieve, above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the files below ``folder``, every level in natural order.

    Args:
        folder: where to begin; links to folders below it are not followed.
        sieve: says what is skipped, and counts it.
        above: names of the folders from the INPUT to this one, this one included.
    """
    levels = [
        (folder, list_children(folder, sieve, above))
    ]  # a stack: folders nest deeper than calls
    below = [*above]
    while levels:
        place, names = levels[-1]
        if not names:
            levels.pop()
            del below[-1:]
            continue
        name = names.pop()
        path = os.path.join(place, name)
        if not name.endswith(FOLDER):
            yield path
            continue
        path = path[:-1]
        try:
            found = list_children(path, sieve, [*below, name[:-1]])
        except PermissionError:
            yield path  # its images are unknown, and a row must say so
        else:
            levels.append((path, found))
            below.append(name[:-1])


def list_children(folder: str, sieve: Sieve, above: Sequence[str]) -> list[str]:
    """List the names in a folder, the last one first, with a slash after those of folders.

    A name takes a tenth of the memory of the system's entry with a sort key.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = kind_of(entry)
            if kind not in (FILE, FOLDER):
                sieve.irregular[kind] += 1
            elif not sieve.drops(folder, above, entry.name, is_folder=kind == FOLDER):
                names.append(entry.name + kind)
    names.sort(reverse=True)  # for names that differ in zeros alone; the next sort is stable
    names.sort(key=natural_key, reverse=True)
    return names


def kind_of(entry: os.DirEntry[str]) -> str:
    """Return the kind of an entry; a broken link counts as a file, so that it gets a row."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return FOLDER
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            return FILE
        return LINK if entry.is_dir() else DEVICE
    except OSError:  # a loop of links, or one into a folder that may not be read
        return FILE


def natural_key(name: str) -> str:
    """Return a sort key that puts img2 before img10: each number is preceded by its length.

    The zero character, which no name can hold, sorts a prefix before longer names.
    """
    return DIGITS.sub(counted_digits, name.removesuffix(FOLDER))


def counted_digits(digits: re.Match[str]) -> str:
    """Return a number as text that sorts as the number does."""
    number = str(int(digits.group()))
    return f"\0{chr(len(number))}{number}"
