"""A bound on the scans of a JPEG, each of which costs a pass over all of its pixels."""

import re

from resnet_cli.errors import ImageError

MOST_SCANS = 100  # a progressive picture has about ten; libtiff stops here, too

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""What ends compressed pixels: they hold 0xff only before a zero or a restart marker."""

SCAN, END = 0xDA, 0xD9
BARE = frozenset({0x01, 0xD8, END})  # markers that no length follows


def check_scans(encoded: bytes | bytearray) -> None:
    """Refuse a JPEG that a few bytes a scan would keep a decoder busy with for hours.

    Raises:
        ImageError: it has more than ``MOST_SCANS``.
    """
    if encoded.count(bytes((0xFF, SCAN))) > MOST_SCANS and has_many_scans(encoded):
        raise ImageError(f"has over {MOST_SCANS} scans, more than a JPEG needs")


def has_many_scans(encoded: bytes | bytearray) -> bool:
    """Follow the markers of a JPEG; other segments and what follows its end may hold anything."""
    scans = place = 0
    while scans <= MOST_SCANS:
        found = MARKER.search(encoded, place)
        if found is None or found[1][0] == END:
            return False
        place = found.end()
        if found[1][0] not in BARE:
            place += int.from_bytes(encoded[place : place + 2], "big")
        scans += found[1][0] == SCAN
    return True
