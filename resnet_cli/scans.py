"""A bound on the scans of a JPEG, each of which costs a pass over all of its pixels."""

import re
from collections.abc import Iterator
from itertools import islice

from resnet_cli.errors import ImageError

MOST_SCANS = 100  # a progressive picture has about ten; libtiff stops here, too

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""What ends compressed pixels: they hold 0xff only before a zero or a restart marker."""

SCAN, END = 0xDA, 0xD9
BARE = frozenset({0x01, 0xD8, END})  # markers that no length follows

SEQUENTIAL = frozenset({0xC0, 0xC1})  # frames whose pixels are whole after a scan
OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_scans(encoded: bytes | bytearray) -> None:
    """Refuse a JPEG that a few bytes a scan would keep a decoder busy with for hours.

    Raises:
        ImageError: it has more than ``MOST_SCANS``.
    """
    if has_one_scan(encoded) or encoded.count(bytes((0xFF, SCAN))) <= MOST_SCANS:
        return
    scans = (place for kind, place in markers(encoded) if kind == SCAN)
    if next(islice(scans, MOST_SCANS, None), None) is not None:
        raise ImageError(f"has over {MOST_SCANS} scans, more than a JPEG needs")


def has_one_scan(encoded: bytes | bytearray) -> bool:
    """Whether the first scan holds all components for good: libjpeg takes no second one then.

    This is so of nearly every photograph, and needs no look at its pixels.
    """
    components: bytes | bytearray = b""
    for kind, place in markers(encoded):
        if kind in SEQUENTIAL and not components:
            components = encoded[place + 7 : place + 8]
        elif kind in SEQUENTIAL or kind in OTHER_FRAMES:
            return False
        elif kind == SCAN:
            return encoded[place + 2 : place + 3] == components != b""
    return False


def markers(encoded: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG up to its end, and the place after each.

    Other segments, and what follows the end, may hold anything.
    """
    place = 0
    while (found := MARKER.search(encoded, place)) is not None and found[1][0] != END:
        kind, place = found[1][0], found.end()
        yield kind, place
        if kind not in BARE:
            place += int.from_bytes(encoded[place : place + 2], "big")
