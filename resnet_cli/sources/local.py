"""Folders, files and globs on this machine -> the images that they name."""

import glob
import os

from resnet_cli.errors import InputError
from resnet_cli.sources.folders import Sieve, natural_key, path_parts, walk_folder

# fmt: off
SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".cur", ".dds", ".dib", ".gif", ".heic", ".heif", ".hif",
    ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras",
    ".sgi", ".tga", ".tif", ".tiff", ".webp",
})
# fmt: on
"""Suffixes by which a file in a folder is an image; a file named outright is always tried."""


def expand_input(given: str, sieve: Sieve) -> tuple[list[str], str]:
    """Return the files and folders that one argument names, and where their search begins.

    Raises:
        InputError: it names nothing.
    """
    if os.path.lexists(given):
        return [given], given
    matches = glob.glob(given, recursive=True, include_hidden=sieve.hidden)
    if not matches:
        raise InputError(
            f"cannot find {given or 'an empty name'}: name a file, a folder, a glob, @list.txt or -"
        )
    start = fixed_part(given)
    taken = (match for match in matches if not sieve.drops_match(match, start))
    return sorted(taken, key=lambda name: (natural_key(name), name)), start


def fixed_part(pattern: str) -> str:
    """Return the folder before the first wildcard of a glob."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def list_folder(folder: str, start: str, sieve: Sieve) -> tuple[list[str], list[str]]:
    """List the images below a folder, and the files of other suffixes.

    Args:
        folder: where to begin.
        start: the folder before the first wildcard of the glob that matched it.
        sieve: says what is skipped, and counts it.
    """
    images: list[str] = []
    passed_over: list[str] = []
    for file in walk_folder(folder, sieve, path_parts(folder[len(start) :])):
        is_image = os.path.splitext(file)[1].lower() in SUFFIXES
        (images if is_image or os.path.isdir(file) else passed_over).append(file)
    return images, passed_over
