"""URLs -> the images that they name: on web servers, and in object stores as they are listed.

A row names an image by its URL without what is secret in it; only the content of its item has the
whole URL. Stores are listed by a thread, while those that are known are classified.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.errors import ImageError, InputError, UserError
from resnet_cli.records import Item, Pause
from resnet_cli.remote import (
    DIGITS,
    QUERY,
    WEB,
    explain_error,
    open_file_system,
    redact_text,
    redact_url,
    scheme_of,
    version_of,
)
from resnet_cli.sources.ahead import run_ahead
from resnet_cli.sources.fetch import SHARE, RemoteObject, ask_again
from resnet_cli.sources.folders import ANY_DEPTH, matches_pattern, natural_key
from resnet_cli.sources.inputs import FindOptions, Listing, Search
from resnet_cli.sources.lists import elsewhere_lines
from resnet_cli.sources.local import SUFFIXES, fixed_part

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK = 10_000  # names of a folder that are sorted together
AHEAD = 20_000  # items that are listed before they are needed

NAMED_ELSEWHERE = ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf")
"""Schemes that a list from a server may name: what needs no file of this machine."""


def list_items(given: str, search: Search) -> Listing:
    """List the images of a URL: an image, a glob, or all below a prefix.

    Raises:
        InputError: there is nothing, or it cannot be listed.
        ExtraError: a package is missing.
    """
    system = open_file_system(given, timeout=search.options.fetch_timeout / SHARE)
    if scheme_of(given) in WEB:
        return Listing.of([item_of_url(given, "", search.options)])
    info = None if given.endswith("/") else find_object(system, given)
    if info is not None and info["type"] != "directory":
        return Listing.of([stored_item(given, info.get("size"), version_of(info), search.options)])
    pattern: tuple[str, ...] = ()
    start = given
    if info is None and glob.has_magic(given):
        start = fixed_part(given)
        pattern = tuple(filter(None, given[len(start) :].split("/")))
    elif info is None and not given.endswith("/"):
        raise InputError(f"cannot find {redact_url(given)}: there is no such object or prefix")
    images = StoreWalk(system, start.rstrip("/"), pattern, search).images()
    first = list(islice(images, 1))  # so that a refusal comes before the network is loaded
    return Listing(chain(first, run_ahead(images, most=AHEAD)))


def find_object(system: "AbstractFileSystem", url: str) -> dict[str, Any] | None:
    """Return what a store says of an object or a prefix; None where there is none.

    Raises:
        InputError: the store refuses.
    """
    with naming_url("read", url):
        try:
            found: dict[str, Any] = ask_again(lambda: system.info(url))
        except FileNotFoundError:
            return None
    return found


@contextmanager
def naming_url(verb: str, url: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line.

    Raises:
        InputError: names the URL.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise InputError(f"cannot {verb} {redact_url(url)}: {explain_error(error)}") from None


def stored_item(url: str, size: int | None, version: str, options: FindOptions) -> Item:
    """Return the item of an object that a store has listed."""
    content = RemoteObject(url, size, options.fetch_timeout)
    return Item(redact_url(url), content=content, size=size, version=version)


def item_of_url(url: str, part: str, options: FindOptions) -> Item:
    """Return the item of a URL about which nothing is known yet."""
    place, mark, digest = url.rpartition(QUERY)
    if mark and "?" not in place and len(digest) == DIGITS:  # a row of saved results
        reason = "its address had a query, which results do not keep: name it by the whole address"
        return Item(url, part, content=reason)
    return Item(redact_url(url), part, content=RemoteObject(url, timeout=options.fetch_timeout))


def suffixed_part(url: str) -> str:
    """Return what of a URL has the suffix of its file."""
    return url.partition("#")[0].partition("?")[0] if scheme_of(url) in WEB else url


def items_of_list(url: str, search: Search) -> Iterator[Item | Pause]:
    """Yield the items of a list on a server or in a store, which may name no files here.

    Raises:
        InputError: it cannot be read.
    """
    open_file_system(url)  # without which no line could be read either
    try:
        data = RemoteObject(url, timeout=search.options.fetch_timeout).read()
    except ImageError as error:
        raise InputError(f"cannot read the list {redact_url(url)}: {error}") from None
    for line in elsewhere_lines(data):
        if isinstance(line, Pause):
            yield line
        elif not search.sieve.drops_line(line):
            yield item_from_elsewhere(line, search.options)


def item_from_elsewhere(line: str, options: FindOptions) -> Item:
    """Return the item of a line of a list from a server: an error, unless it is a plain URL."""
    if "://" in line and scheme_of(line) in NAMED_ELSEWHERE and "::" not in line:
        return item_of_url(line, "", options)
    reason = "a list from elsewhere names it, which may name images on servers and in stores only"
    return Item(redact_text(line), content=reason)


class RemoteEntry(NamedTuple):
    """One name in a folder of a store."""

    name: str
    is_folder: bool = False
    size: int | None = None  # bytes
    version: str = ""


class StoreWalk:
    """Walks the folders below a prefix, each in natural order as far as it is sorted at once."""

    def __init__(
        self, system: "AbstractFileSystem", base: str, pattern: Sequence[str], search: Search
    ) -> None:
        """Set what is taken.

        Args:
            system: of the store.
            base: URL of the folder where the walk begins, without a slash at its end.
            pattern: of a glob below it; empty takes all images.
            search: decides what is skipped, and counts it.
        """
        self.system = system
        self.base = base
        self.pattern = pattern
        self.search = search

    def images(self) -> Iterator[Item]:
        """Yield the images; a folder that the store refuses to list has an error row.

        Raises:
            InputError: a folder cannot be listed, now or at all.
        """
        levels: list[tuple[tuple[str, ...], Iterator[RemoteEntry]]] = [((), self.entries(()))]
        while levels:
            above, entries = levels[-1]
            place = "/".join([self.base, *above])
            entry: RemoteEntry | str | None
            with naming_url("list", place):
                entry = next_entry(entries, refused=bool(above))
            if isinstance(entry, str):
                yield Item(redact_url(place), content=entry)
                entry = None
            if entry is None:
                levels.pop()
            elif entry.is_folder:
                levels += self.folder_below(above, entry)
            elif self.takes(above, entry):
                yield self.item(above, entry)

    def item(self, above: Sequence[str], entry: RemoteEntry) -> Item:
        """Return the item of an object."""
        url = "/".join([self.base, *above, entry.name])
        return stored_item(url, entry.size, entry.version, self.search.options)

    def folder_below(
        self, above: tuple[str, ...], entry: RemoteEntry
    ) -> Iterator[tuple[tuple[str, ...], Iterator[RemoteEntry]]]:
        """Yield a folder to walk, unless it is skipped."""
        parts = (*above, entry.name)
        leads = self.is_inside(parts) or matches_pattern(parts, self.pattern[: len(parts)])
        if not (leads or ANY_DEPTH in self.pattern):
            return
        if not self.search.sieve.drops_name(above, entry.name, is_folder=True):
            yield parts, self.entries(parts)

    def takes(self, above: tuple[str, ...], entry: RemoteEntry) -> bool:
        """Return True for an image that is not skipped; what a glob matches is always tried."""
        parts = (*above, entry.name)
        named = bool(self.pattern) and matches_pattern(parts, self.pattern)
        if not (named or self.is_inside(above)):
            return False
        if self.search.sieve.drops_name(above, entry.name, is_folder=False):
            return False
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        self.search.sieve.passed_over += not (named or is_image)
        return named or is_image

    def is_inside(self, parts: Sequence[str]) -> bool:
        """Return True for a folder all of whose images are wanted."""
        return not self.pattern or any(
            matches_pattern(parts[:depth], self.pattern) for depth in range(1, len(parts) + 1)
        )

    def entries(self, above: Sequence[str]) -> Iterator[RemoteEntry]:
        """Yield what is in a folder, in natural order, or in blocks of it where there is much."""
        block: list[RemoteEntry] = []
        for page in list_pages(self.system, "/".join([self.base, *above])):
            block += page
            while len(block) >= BLOCK:
                yield from sorted(block[:BLOCK], key=natural_order)
                del block[:BLOCK]
        yield from sorted(block, key=natural_order)


def next_entry(entries: Iterator[RemoteEntry], *, refused: bool) -> RemoteEntry | str | None:
    """Return the next entry, None after the last, or words where the store refuses to list it.

    Args:
        entries: of a folder.
        refused: a refusal is no error.
    """
    try:
        return next(entries, None)
    except PermissionError:
        if not refused:
            raise
        return "is a folder that may not be read"


def natural_order(entry: RemoteEntry) -> tuple[str, str]:
    """Return the key by which a folder is sorted."""
    return natural_key(entry.name), entry.name


def list_pages(system: "AbstractFileSystem", url: str) -> Iterator[list[RemoteEntry]]:
    """Yield what is in a folder of a store, page by page from S3, else in one."""
    if hasattr(system, "call_s3"):
        yield from list_s3(system, url)
        return
    root = system._strip_protocol(url).rstrip("/")
    found = ask_again(lambda: system.ls(url, detail=True))
    names = [(info["name"].rstrip("/")[len(root) + 1 :], info) for info in found]
    yield [
        RemoteEntry(name, info["type"] == "directory", info.get("size"), version_of(info))
        for name, info in names
        if name
    ]


def list_s3(system: Any, url: str) -> Iterator[list[RemoteEntry]]:
    """Yield what is in a folder of S3, as ``ListObjectsV2`` gives it."""
    bucket, prefix, _ = system.split_path(f"{url}/")
    after: dict[str, str] = {}
    while True:
        page = ask_again(
            partial(
                system.call_s3,
                "list_objects_v2",
                Bucket=bucket,
                Prefix=prefix,
                Delimiter="/",
                **after,
            )
        )
        yield [
            *(RemoteEntry(each["Prefix"][len(prefix) : -1], is_folder=True)
              for each in page.get("CommonPrefixes", ())),
            *(RemoteEntry(each["Key"][len(prefix) :], size=each["Size"], version=version_of(each))
              for each in page.get("Contents", ()) if each["Key"] != prefix),
        ]  # fmt: skip
        if not page.get("IsTruncated"):
            return
        after = {"ContinuationToken": page["NextContinuationToken"]}
