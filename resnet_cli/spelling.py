"""Paths as they stand in lists and tables of other programs and systems."""

import os
import re
from collections.abc import Iterator

QUOTES = ("'", '"')

UNUSUAL = re.compile(r"""^[\s"']|[\s"']$|\\|[\ud800-\udfff]""")
"""What a path that may be spelt in another way begins with, ends with, or holds."""

WINDOWS = re.compile(r"\s*[\"']?([A-Za-z]:[\\/]|\\\\[^\\])")
"""How an absolute path begins on Windows."""

NOT_HERE = "%s: absolute paths of Windows lead nowhere here: %d, such as %s"


def as_found(path: str, folder: str = "") -> str:
    """Return a path in the spelling that exists: as it stands, or else the first that is a file.

    Names of files may begin with quotes, end with blanks and hold backslashes. So a path that
    exists as it stands is never changed, nor is one that exists in no spelling.

    Args:
        path: as it was read.
        folder: that it is seen from.
    """
    if not UNUSUAL.search(path) or os.path.lexists(os.path.join(folder, path)):
        return path
    others = (each for each in spellings(path) if os.path.isfile(os.path.join(folder, each)))
    return next(others, path)


def spellings(path: str) -> Iterator[str]:
    """Yield other ways to read a path, with the fewest changes first."""
    for text in dict.fromkeys((path, as_western(path))):
        trimmed = text.strip()
        for plain in (text, trimmed, unquoted(trimmed)):
            yield from (plain, plain.replace("\\", "/")) if plain else ()


def unquoted(text: str) -> str:
    """Return a text without the quotes around it."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES
    return text[1:-1].strip() if is_quoted else text


def as_western(text: str) -> str:
    """Read the bytes of a text that is not UTF-8 as Western European Windows writes them."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def is_windows(path: str) -> bool:
    """Return whether a path is an absolute one of Windows, which leads nowhere elsewhere."""
    return os.name != "nt" and WINDOWS.match(path) is not None
