"""INPUT... as typed -> the items to classify, in natural order.

What holds images without being a folder has a module of its own, which ``SOURCES`` names: to add
one, write ``list_items(given, search)`` there, which returns a ``Listing``, and name it in the
table. An item whose bytes are in no file of their own has a ``Stored`` as its content.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
    "list_input",
    "reopen",
    "skipped_words",
    "source_of",
    "without_pauses",
]

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        ".parquet": "resnet_cli.sources.tables",
    }
)
"""Suffix of a file that holds images: the module that lists them."""

SHOWN = 3  # patterns in a message

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
            search.sieve.holding.update(patterns_of(others))
        else:
            images.append(place)
    if len(places) > 1:  # a pattern may match a folder and what is in it
        images = list(dict.fromkeys(images))
    search.sieve.passed_over += len(set(passed_over) - set(images))
    yield Listing.of(list(map(Item, images)))


def patterns_of(files: Iterable[str]) -> Iterator[str]:
    """Yield a pattern for each file that holds images, which a folder's search skips."""
    for file in files:
        suffix = next((each for each in SOURCES if file.lower().endswith(each)), None)
        if suffix:
            yield os.path.join(os.path.dirname(file), f"*{suffix}")


def source_of(path: str) -> str | None:
    """Return the module that lists what a file holds; None for an image or a folder."""
    name = path.lower()
    module = next((SOURCES[suffix] for suffix in SOURCES if name.endswith(suffix)), None)
    return module if module and os.path.isfile(path) else None


def lister(module: str) -> ListItems:
    """Import a module of a source, which may need an extra, and return what lists its items."""
    return cast(ListItems, import_module(module).list_items)


def reopen(item: Item, options: FindOptions | None = None) -> Item:
    """Return an item of saved results with what it is read from, as its source gave it.

    Raises:
        InputError: its source cannot be read any more.
    """
    if item.part.startswith("row="):
        from resnet_cli.sources.tables import stored_row

        column = None if options is None else options.image_column
        return replace(item, content=stored_row(item.path, item.part, column))
    return item


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
    remedy = "name an image or a folder"
    if sieve.holding:
        patterns = " ".join(map(repr, sorted(sieve.holding)[:SHOWN]))
        remedy = f"name the files that hold images: {patterns}"
    return InputError(f"no images found: {given}{reasons}: {remedy}")
