"""Folders listed in natural order, lean enough for millions of files."""

import os
import re
from collections.abc import Iterator, Sequence

from resnet_cli.sieve import Sieve

FILE, FOLDER = "", "/"  # what stands after a name
LINK, DEVICE = "links to folders", "pipes and devices"

DIGITS = re.compile(r"\d+")


def walk(folder: str, sieve: Sieve, above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the files below ``folder``, every level in natural order.

    Args:
        folder: where to begin; links to folders below it are not followed.
        sieve: says what is passed over, and counts it.
        above: the folders between the INPUT and this one, with this one.
    """
    levels = [(folder, children(folder, sieve, above))]  # a stack: folders nest deeper than calls
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
            found = children(path, sieve, [*below, name[:-1]])
        except PermissionError:
            yield path  # its pictures are unknown, which a row has to say
        else:
            levels.append((path, found))
            below.append(name[:-1])


def children(folder: str, sieve: Sieve, above: Sequence[str]) -> list[str]:
    """Names in a folder, the last one first, with a slash after those of folders.

    A name is a tenth of what the system's entry and a key of parts take.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = kind_of(entry)
            if kind not in (FILE, FOLDER):
                sieve.odd[kind] += 1
            elif not sieve.drops(folder, above, entry.name, is_folder=kind == FOLDER):
                names.append(entry.name + kind)
    names.sort(reverse=True)  # for names that differ in zeros alone; the next sort is stable
    names.sort(key=natural, reverse=True)
    return names


def kind_of(entry: os.DirEntry[str]) -> str:
    """What something in a folder is; a link that leads nowhere is owed a row, as a file."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return FOLDER
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            return FILE
        return LINK if entry.is_dir() else DEVICE
    except OSError:  # a knot of links, or one into a folder that may not be read
        return FILE


def natural(name: str) -> str:
    """Sort key that puts img2 before img10: before a number stands how many digits it has.

    The zero character, which no name can hold, puts what ends before what goes on.
    """
    return DIGITS.sub(counted, name.removesuffix(FOLDER))


def counted(digits: re.Match[str]) -> str:
    """A number as text that sorts as the number does."""
    number = str(int(digits.group()))
    return f"\0{chr(len(number))}{number}"
