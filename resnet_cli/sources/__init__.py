"""INPUT... as typed -> the items to classify, in natural order.

What holds images without being a folder has a module of its own, which ``SOURCES`` names: to add
one, write ``list_items(given, search)`` there, which returns a ``Listing``, and name it in the
table. An item whose bytes are in no file of their own has a ``Stored`` as its content.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain, islice
from types import MappingProxyType
from typing import cast

from resnet_cli.errors import InputError
from resnet_cli.records import Item, Pause, is_url
from resnet_cli.remote import redact_text, redact_url
from resnet_cli.sources import remote
from resnet_cli.sources.boxes import BoxSource
from resnet_cli.sources.folders import Sieve
from resnet_cli.sources.inputs import (
    FindOptions,
    Inputs,
    Listing,
    ListItems,
    Search,
    excluded_words,
    list_patterns,
    skipped_words,
    without_pauses,
)
from resnet_cli.sources.lists import is_stream, read_lines
from resnet_cli.sources.local import SUFFIXES, expand_input, list_folder
from resnet_cli.sources.pages import expand_pages

__all__ = [
    "SOURCES",
    "SUFFIXES",
    "FindOptions",
    "Inputs",
    "Listing",
    "Search",
    "excluded_words",
    "find_inputs",
    "item_of",
    "list_input",
    "reopen",
    "select_parts",
    "skipped_words",
    "source_of",
    "without_pauses",
]

ARCHIVES = "resnet_cli.sources.archives"
FRAMES = "resnet_cli.sources.frames"

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        ".zip": ARCHIVES,
        ".tar": ARCHIVES,
        ".tar.gz": ARCHIVES,
        ".tgz": ARCHIVES,
        ".tar.bz2": ARCHIVES,
        ".tar.xz": ARCHIVES,
        ".parquet": "resnet_cli.sources.tables",
        ".mp4": FRAMES,
        ".mov": FRAMES,
        ".avi": FRAMES,
        ".mkv": FRAMES,
        ".webm": FRAMES,
    }
)
"""Suffix of a file that holds images: the module that lists them."""

HOLDS = "holds images: name it as INPUT, or in a list that is a file"


MEMBERS = ("zip://", "tar://")  # before the name of an image in an archive


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
    whole = Inputs(
        chain.from_iterable(listing.items for listing in listings),
        None,
        search.sieve,
        listed=any(given.startswith("@") for given in inputs),
        parts=any(listing.parts for listing in listings),
        connections=search.options.fetch,
    )
    if any(listing.total is None for listing in listings):
        whole = replace(whole, items=require_some(whole.items, inputs, search.sieve), listed=False)
        return select_parts(whole, inputs, search.options)
    if not any(listing.total for listing in listings):
        raise no_images_error(inputs, search.sieve)
    refuse_unreadable(listings, [*map(redact_url, inputs)])
    known = listings[0].items if len(listings) == 1 else list(whole.items)
    whole = replace(whole, items=known, total=len(cast(Sequence[Item], known)))
    return select_parts(whole, inputs, search.options)


def select_parts(whole: Inputs, inputs: Sequence[str], options: FindOptions) -> Inputs:
    """Replace images by their pages or boxes, where the options ask for them.

    Args:
        whole: the images.
        inputs: as typed.
        options: which parts.

    Raises:
        InputError: a file of boxes cannot be read, or fits none of the images.
    """
    if options.pages == "all":
        items = expand_pages(whole.items)
        pages = replace(whole, parts=True)
        if whole.total is None:
            return replace(pages, items=items)
        known = list(items)
        return replace(pages, items=known, total=len(known))
    if not options.boxes:
        return whole
    remarks: list[str] = []
    source = BoxSource(inputs, options, remarks)
    boxes = replace(whole, parts=True, boxes=True, remarks=remarks)
    if whole.total is None:
        return replace(boxes, items=source.stream(whole.items))
    found = source.expand(whole.known)
    return replace(boxes, items=found, total=len(found))


def refuse_unreadable(listings: Sequence[Listing], inputs: Sequence[str]) -> None:
    """Refuse inputs that are nothing but one that holds images and cannot be read.

    Raises:
        InputError: says why.
    """
    items = [item for listing in listings for item in islice(listing.items, 2)]
    only = items[0] if len(items) == 1 else None
    if isinstance(only, Item) and isinstance(only.content, str) and only.path in inputs:
        raise InputError(f"cannot read {only.path}: {only.content}")


def list_input(given: str, search: Search) -> Iterator[Listing]:
    """Yield the listings of one argument: several, where a glob matches what holds images.

    Raises:
        InputError: it names nothing.
    """
    if given == "-" or given.startswith("@"):
        yield from list_lines(given, search)
    elif is_member(given):
        yield Listing.of([item_of(given)])
    elif is_url(given) and not os.path.lexists(given):
        module = module_for(remote.suffixed_part(given))
        yield (lister(module) if module else remote.list_items)(given, search)
    else:
        yield from list_places(given, search)


def list_places(given: str, search: Search) -> Iterator[Listing]:
    """Yield the listings of folders and files on this machine.

    Raises:
        InputError: there are none.
    """
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


def list_lines(given: str, search: Search) -> Iterator[Listing]:
    """Yield the listings of a list, in a file, on a server or as it comes.

    Raises:
        InputError: it cannot be read.
    """
    if is_url(given[1:]):
        yield Listing.of(list(without_pauses(remote.items_of_list(given[1:], search))))
        return
    items = left_by(search, read_lines(given))
    if is_stream(given):
        yield Listing(map(whole_image, items))
    else:
        yield from expand_lines(without_pauses(items), search)


def expand_lines(items: Iterable[Item], search: Search) -> Iterator[Listing]:
    """Yield the listings of a list, where a file that holds images stands for them."""
    images: list[Item] = []
    for item in items:
        module = source_of(item.path)
        if module is None:
            images.append(item)
            continue
        yield Listing.of(images)
        images = []
        yield lister(module)(item.path, search)
    yield Listing.of(images)


def whole_image(item: Item | Pause) -> Item | Pause:
    """Return an item of a stream; of a file that holds images the columns would come too late."""
    if isinstance(item, Item) and source_of(item.path):
        return replace(item, content=HOLDS)
    return item


def source_of(path: str) -> str | None:
    """Return the module that lists what a file holds; None for an image or a folder."""
    module = module_for(path)
    return module if module and os.path.isfile(path) else None


def module_for(name: str) -> str | None:
    """Return the module of the ``SOURCES`` for a name; None where its suffix is in none."""
    name = name.lower()
    return next((SOURCES[suffix] for suffix in SOURCES if name.endswith(suffix)), None)


def is_member(path: str) -> bool:
    """Return True for a path that names an image in an archive, ``zip://a.jpg::x.zip``."""
    return path.startswith(MEMBERS) and not os.path.lexists(path)


def lister(module: str) -> ListItems:
    """Import a module of a source, which may need an extra, and return what lists its items."""
    return cast(ListItems, import_module(module).list_items)


def reopen(item: Item, options: FindOptions | None = None) -> Item:
    """Return an item of saved results with what it is read from, as its source gave it.

    Raises:
        InputError: its source cannot be read any more.
    """
    by_source = item.part.partition("&")[0]  # what follows is left to the decoder
    if by_source.startswith("row="):
        from resnet_cli.sources.tables import stored_row

        column = None if options is None else options.image_column
        return replace(item, content=stored_row(item.path, by_source, column))
    if by_source.startswith("t="):
        from resnet_cli.sources.frames import StoredFrame

        return replace(item, content=StoredFrame(item.path, by_source))
    return replace(item, content=item_of(item.path, options=options).content)


def left_by(search: Search, lines: Iterator[str | Pause]) -> Iterator[Item | Pause]:
    """Yield the items of a list that no pattern excludes."""
    for line in lines:
        if isinstance(line, Pause):
            yield line
        elif not search.sieve.drops_line(line):
            yield item_of(line, options=search.options)


def item_of(path: str, part: str = "", *, options: FindOptions | None = None) -> Item:
    """Return the item of a path or a URL, such as a row of saved results names it.

    Args:
        path: of a file, or a URL.
        part: what inside it.
        options: how it is fetched.
    """
    if is_member(path):
        from resnet_cli.sources.archives import member_item

        return member_item(path, part)
    if is_url(path) and not os.path.lexists(path):
        return remote.item_of_url(path, part, options or FindOptions())
    return Item(path, part)


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
    given = ", ".join(map(redact_text, inputs)) or "an empty list"
    listed = any(one == "-" or one.startswith("@") for one in inputs)
    if listed and not left_out:
        return InputError(f"no images found: {given} is empty: give a path a line")
    reasons = f" ({'; '.join(left_out)})" if left_out else ""
    remedy = "name an image or a folder"
    if sieve.holding:
        remedy = f"name the files that hold images: {list_patterns(sieve)}"
    elif any(map(is_url, inputs)):
        remedy = "name an image, or a prefix with images below it"
    return InputError(f"no images found: {given}{reasons}: {remedy}")
