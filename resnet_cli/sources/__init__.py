"""INPUT... as typed -> the items to classify, in natural order.

What holds images without being a folder has a module of its own, which ``SOURCES`` names: to add
one, write ``list_items(given, search)`` there, which returns a ``Listing``, and name it in the
table. An item whose bytes are in no file of their own has a ``Stored`` as its content.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import chain
from types import MappingProxyType
from typing import cast

from resnet_cli.errors import InputError
from resnet_cli.records import Item, Pause, is_url
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.inputs import (
    FindOptions,
    Inputs,
    Listing,
    ListItems,
    Search,
    excluded_words,
    skipped_words,
    without_pauses,
)
from resnet_cli.sources.lists import is_stream, read_lines
from resnet_cli.sources.local import SUFFIXES, expand_input, list_folder

__all__ = [
    "SOURCES",
    "SUFFIXES",
    "FindOptions",
    "Inputs",
    "Listing",
    "Search",
    "excluded_words",
    "find_inputs",
    "skipped_words",
    "without_pauses",
]

SOURCES: Mapping[str, str] = MappingProxyType({
    ".mp4": "resnet_cli.sources.frames",
    ".mov": "resnet_cli.sources.frames",
    ".avi": "resnet_cli.sources.frames",
    ".mkv": "resnet_cli.sources.frames",
    ".webm": "resnet_cli.sources.frames",
})  # fmt: skip
"""Suffix of a file that holds images: the module that lists them."""

URLS = "resnet_cli.sources.remote"  # the module for what has a scheme


def find_inputs(inputs: Sequence[str], options: FindOptions | None = None) -> Inputs:
    """Find the images that ``inputs`` name, in the order of ``inputs``.

    An input is a folder (searched recursively; links to files are followed, links to folders are
    not), a file, a glob pattern, ``@list.txt`` (one path a line) or ``-`` (paths on stdin), or a
    file of one of the ``SOURCES``. What can be listed at once is; stdin, lists that are pipes and
    other streams are read as the run goes.

    Args:
        inputs: as typed.
        options: what to take in folders, globs and lists.

    Raises:
        InputError: an input is missing, or there is no image at all.
        OSError: a folder or list that cannot be read.
    """
    search = Search(options or FindOptions())
    if inputs.count("-") > 1:
        raise InputError("cannot read stdin twice: name - once")
    listings = [listing for given in inputs for listing in list_input(given, search)]
    parts = any(listing.parts for listing in listings)
    found = chain.from_iterable(listing.items for listing in listings)
    if any(listing.total is None for listing in listings):
        items = require_some(found, inputs, search.sieve)
        return Inputs(items, None, search.sieve, parts=parts)
    if not any(listing.total for listing in listings):
        raise no_images_error(inputs, search.sieve)
    known = listings[0].items if len(listings) == 1 else list(found)
    listed = any(given.startswith("@") for given in inputs)
    return Inputs(known, len(cast(Sequence[Item], known)), search.sieve, listed, parts)


def list_input(given: str, search: Search) -> Iterator[Listing]:
    """Yield the listings of one argument: several, where a glob matches what holds images.

    Raises:
        InputError: it names nothing.
    """
    if given == "-" or given.startswith("@"):
        items = left_by(search.sieve, read_lines(given))
        yield Listing(items) if is_stream(given) else Listing.of(list(without_pauses(items)))
        return
    if is_url(given) and not os.path.lexists(given):
        yield lister(URLS)(given, search)
        return
    images: list[str] = []
    places, start = expand_input(given, search.sieve)
    passed_over: list[str] = []
    for place in places:
        if module := source_of(place):
            yield Listing.of(list(map(Item, images)))
            images = []
            yield lister(module)(place, search)
        elif os.path.isdir(place):
            found, others = list_folder(place, start, search.sieve)
            images += found
            passed_over += others
        else:
            images.append(place)
    if len(places) > 1:  # a pattern may match a folder and what is in it
        images = list(dict.fromkeys(images))
    search.sieve.passed_over += len(set(passed_over) - set(images))
    yield Listing.of(list(map(Item, images)))


def source_of(path: str) -> str | None:
    """Return the module that lists what a file holds; None for an image or a folder."""
    name = path.lower()
    module = next((SOURCES[suffix] for suffix in SOURCES if name.endswith(suffix)), None)
    return module if module and os.path.isfile(path) else None


def lister(module: str) -> ListItems:
    """Import a module of a source, which may need an extra, and return what lists its items."""
    return cast(ListItems, import_module(module).list_items)


def left_by(sieve: Sieve, lines: Iterator[str | Pause]) -> Iterator[Item | Pause]:
    """Yield the items of a list that no pattern excludes."""
    for line in lines:
        if isinstance(line, Pause):
            yield line
        elif not sieve.drops_line(line):
            yield Item(line)


def require_some(
    items: Iterable[Item | Pause], inputs: Sequence[str], sieve: Sieve
) -> Iterator[Item | Pause]:
    """Yield ``items``, and refuse to end without one.

    Raises:
        InputError: there was none.
    """
    empty = True
    for item in items:
        empty = empty and isinstance(item, Pause)
        yield item
    if empty:
        raise no_images_error(inputs, sieve)


def no_images_error(inputs: Sequence[str], sieve: Sieve) -> InputError:
    """Build the error for inputs without a single image."""
    left_out = [*skipped_words(sieve), *excluded_words(sieve)]
    listed = any(given == "-" or given.startswith("@") for given in inputs)
    if listed and not left_out:
        return InputError(f"no images found: {', '.join(inputs)} is empty: give a path a line")
    reasons = f" ({'; '.join(left_out)})" if left_out else ""
    given = ", ".join(inputs) or "an empty list"
    return InputError(f"no images found: {given}{reasons}: name an image or a folder")
