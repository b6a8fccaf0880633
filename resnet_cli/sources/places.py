"""Where images lie below an INPUT, and what tables of labels call them.

A place is an absolute path, or a URL whose archive, if it is on this machine, has one.
"""

import os
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from resnet_cli.records import Item, is_url
from resnet_cli.remote import redact_url
from resnet_cli.sources.inputs import folder_name
from resnet_cli.sources.lists import as_found
from resnet_cli.sources.local import fixed_part

INSIDE = "::"  # between a member of an archive and the archive, in a URL


def base_of(given: str) -> str | None:
    """Return the folder that the places of an INPUT start from; None for a list of paths."""
    if given == "-" or given.startswith("@"):
        return None
    if os.path.isdir(given):
        return given
    if not is_url(given) or os.path.lexists(given):
        return (os.path.dirname(given) if os.path.lexists(given) else fixed_part(given)) or "."
    folder = redact_url(given).rpartition("/")[0]
    while has_magic(folder):
        folder = folder.rpartition("/")[0]
    return f"{folder}/"


def is_missing(given: str) -> bool:
    """Return True for an INPUT that is neither a file, a folder, a URL, a glob nor a list."""
    return not (
        base_of(given) is None or is_url(given) or has_magic(given) or os.path.lexists(given)
    )


def is_inside(item: Item) -> bool:
    """Return True for an image in an archive."""
    return is_url(item.path) and INSIDE in item.path


def parts_below(item: Item, base: str | None) -> Sequence[str]:
    """Return the folders from an INPUT to an image, and its name; nothing if it is elsewhere.

    Args:
        item: the image.
        base: what the places of the INPUT start from; None for the folder that the image is in.
    """
    if is_inside(item):
        return item.path.partition(INSIDE)[0].partition("://")[2].split("/")
    if base is not None:
        if is_url(item.path):
            return item.path[len(base) :].split("/") if item.path.startswith(base) else ()
        below = Path(item.path).is_relative_to(base)
        return Path(item.path).relative_to(base).parts if below else ()
    return folder_name(item), os.path.basename(item.path)


def place_of(path: str, folder: str = ".") -> str:
    """Return the place of a path that starts from ``folder``."""
    if not is_url(path):
        return str(Path(folder, path).absolute())
    member, inside, archive = path.rpartition(INSIDE)
    return path if not inside or is_url(archive) else f"{member}{inside}{place_of(archive, folder)}"


def find_labelled_image(path: str, folder: str) -> str:
    """Return the path of an image in a table: below ``folder``, unless it is only found here."""
    if is_url(path):
        return path
    inside = Path(folder) / as_found(path, folder)
    here = Path(as_found(path))
    return str(here if not inside.exists() and here.exists() else inside)
