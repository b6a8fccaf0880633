"""Archives as INPUT: every image in them, read where it lies."""

import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from resnet_cli.errors import ImageError
from resnet_cli.records import Item, Stored, is_url
from resnet_cli.remote import redact_url
from resnet_cli.sources.ahead import run_ahead
from resnet_cli.sources.inputs import Listing, Search, is_remote
from resnet_cli.sources.members import Archive, Member
from resnet_cli.sources.tars import is_compressed, read_members
from resnet_cli.sources.zips import list_zip

ZIP, TAR = "zip", "tar"  # protocols of fsspec
NESTED = "is in an archive within an archive: unpack the outer one"
SEPARATOR = "::"  # between the name of a member and that of its archive
NO_MEMBER = "the archive has no such file"
MOST_INDEXED = 2  # archives whose members are remembered


def list_items(given: str, search: Search) -> Listing:
    """List the images in an archive: a .zip at once, a .tar as the run goes.

    Whatever is wrong with an archive is an item, so that others are read all the same.

    Args:
        given: a path or a URL.
        search: what is skipped, and counts it.
    """
    timeout = search.options.fetch_timeout
    if is_zip(given):
        zipped = Archive(given, ZIP, timeout)
        return Listing.of(list(zipped.items(list_zip(zipped), search.sieve)))
    return list_tar(Archive(given, TAR, timeout), search)


def is_zip(given: str) -> bool:
    """Return True for the name of a .zip, also before the query of a URL."""
    return given.lower().endswith(".zip") or given.partition("?")[0].lower().endswith(".zip")


def list_tar(archive: Archive, search: Search) -> Listing:
    """List the images in a .tar as it is read; one on this machine is looked at first."""
    if is_remote(archive.place):
        items = archive.items(read_members(archive), search.sieve)
        return Listing(run_ahead(items, search.carried))
    first = list(islice(read_members(archive), 1))
    if first and isinstance(first[0], str):
        return Listing.of([archive.failure(first[0])])
    items = archive.items(read_members(archive), search.sieve)
    return Listing(run_ahead(items, search.carried) if is_compressed(archive.place) else items)


def member_item(path: str, part: str = "") -> Item:
    """Return the item of an image in an archive, named by its path."""
    try:
        return Item(redact_url(path), part, content=stored_member(path))
    except ImageError as error:
        return Item(redact_url(path), part, content=str(error))


def stored_member(path: str) -> Stored:
    """Return the place of an image in an archive by its path, ``zip://a.jpg::x.zip``.

    Raises:
        ImageError: it is no such path, or one of an archive in an archive.
    """
    protocol, mark, rest = path.partition("://")
    if not mark or protocol not in (ZIP, TAR) or SEPARATOR not in rest:
        raise ImageError("is not the path of a file in an archive, such as zip://a.jpg::x.zip")
    name, place = split_names(rest)
    if place.startswith((f"{ZIP}://", f"{TAR}://")):
        raise ImageError(NESTED)
    return NamedMember(Archive(place, protocol), name)


def split_names(text: str) -> tuple[str, str]:
    """Split the name of a member from that of its archive, where either may hold the separator."""
    parts = text.split(SEPARATOR)
    for count in range(1, len(parts)):
        place = SEPARATOR.join(parts[count:])
        if is_url(place) or os.path.isfile(place):
            return SEPARATOR.join(parts[:count]), place
    return SEPARATOR.join(parts[:-1]), parts[-1]


@dataclass(frozen=True, slots=True)
class NamedMember:
    """An image in an archive that is looked for when it is read."""

    archive: Archive
    name: str

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: it is not there, or cannot be read.
        """
        archive = self.archive
        if archive.protocol == TAR and (is_remote(archive.place) or is_compressed(archive.place)):
            passing = (member for member in read_members(archive) if is_named(member, self.name))
            found = next(passing, NO_MEMBER)
        else:
            found = index_members(archive, file_time(archive.place)).get(self.name, NO_MEMBER)
        if isinstance(found, str):
            raise ImageError(found)
        return found.read()


def is_named(member: Member | str, name: str) -> bool:
    """Return True for the member of a name, and for what keeps it from being found."""
    return isinstance(member, str) or member.name == name


def file_time(path: str) -> int:
    """Return when a file was changed; 0 where that is unknown."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@lru_cache(MOST_INDEXED)
def index_members(archive: Archive, _changed: int) -> dict[str, Member]:
    """Return the first member of each name in an archive.

    Raises:
        ImageError: not one was found.
    """
    listed = list_zip(archive) if archive.protocol == ZIP else list(read_members(archive))
    members = [member for member in listed if isinstance(member, Member)]
    if not members and listed:
        raise ImageError(str(listed[-1]))
    return {member.name: member for member in reversed(members)}
