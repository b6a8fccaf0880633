"""Keep from decoders what could occupy them for hours: long texts in a PNG, scans in a JPEG."""

import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from typing import BinaryIO

from resnet_cli.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

LONGEST = 1 << 20  # bytes of a text or a colour profile, unpacked, that Pillow accepts

MOST_CHUNKS = 1 << 20  # a file with more is left to Pillow

FRAME = 12  # bytes of a chunk beside its data: length and type before, a checksum behind

ORIENTING = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif"})
"""Texts that may hold the orientation of an image; no other text concerns its pixels."""

Chunk = tuple[bytes, int, int]  # type, place in the file, bytes of its data


def without_texts(file: BinaryIO) -> tuple[BinaryIO, bool]:
    """Remove from a PNG the texts that Pillow need not, or will not, read.

    Args:
        file: of any format; one without such texts is returned as it is.

    Returns:
        A file with the same pixels, and True if its colour profile was removed as too long.
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return file, False
    out = [chunk for chunk in islice(png_chunks(file), MOST_CHUNKS) if is_text_chunk(file, chunk)]
    if not out:
        return file, False
    kept, place = BytesIO(), 0
    for _, start, size in out:
        file.seek(place)
        kept.write(file.read(start - place))
        place = start + size + FRAME
    file.seek(place)
    kept.write(file.read())
    return kept, any(kind == b"iCCP" for kind, *_ in out)


def png_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a PNG, up to its end or to where it is truncated."""
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        yield head[4:], place, size
        place += size + FRAME


def is_text_chunk(file: BinaryIO, chunk: Chunk) -> bool:
    """Return True for a text without an orientation, and for any long text or profile."""
    kind, place, size = chunk
    if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
        return False
    file.seek(place + 8)
    keyword, _, rest = file.read(min(size, LONGEST + 1)).partition(b"\0")
    if kind != b"iCCP" and keyword not in ORIENTING:
        return True
    return size > LONGEST or unpacked_size(kind, rest) > LONGEST


def unpacked_size(kind: bytes, rest: bytes) -> int:
    """Return the bytes that a chunk unpacks to, counted up to one over ``LONGEST``.

    Args:
        kind: type of the chunk.
        rest: its data after the keyword.
    """
    packed = rest[1:]  # after the method
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return len(rest)
    if kind == b"iTXt":
        packed = rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    with suppress(zlib.error):
        return len(zlib.decompressobj().decompress(packed, LONGEST + 1))
    return 0


MOST_SCANS = 100  # a progressive image has about ten; libtiff stops here, too

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""The end of compressed pixels, which hold 0xff only before a zero or a restart marker."""

SCAN, END = 0xDA, 0xD9
BARE = frozenset({0x01, 0xD8, END})  # markers without a length

SEQUENTIAL = frozenset({0xC0, 0xC1})  # frames that one scan can complete
OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_scans(encoded: bytes | bytearray) -> None:
    """Refuse a JPEG with thousands of tiny scans, which would take hours to decode.

    Raises:
        ImageError: it has more than ``MOST_SCANS``.
    """
    if has_one_scan(encoded) or encoded.count(bytes((0xFF, SCAN))) <= MOST_SCANS:
        return
    scans = (place for kind, place in jpeg_markers(encoded) if kind == SCAN)
    if next(islice(scans, MOST_SCANS, None), None) is not None:
        raise ImageError(f"has over {MOST_SCANS} scans, more than a JPEG needs")


def has_one_scan(encoded: bytes | bytearray) -> bool:
    """Return True if the first scan completes all components: libjpeg reads no second one then.

    Nearly every photograph is of this kind, and its pixels need not be searched.
    """
    components: bytes | bytearray = b""
    for kind, place in jpeg_markers(encoded):
        if kind in SEQUENTIAL and not components:
            components = encoded[place + 7 : place + 8]
        elif kind in SEQUENTIAL or kind in OTHER_FRAMES:
            return False
        elif kind == SCAN:
            return encoded[place + 2 : place + 3] == components != b""
    return False


def jpeg_markers(encoded: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG up to its end, and the place after each.

    Other segments, and what follows the end, may hold anything.
    """
    place = 0
    while (found := MARKER.search(encoded, place)) is not None and found[1][0] != END:
        kind, place = found[1][0], found.end()
        yield kind, place
        if kind not in BARE:
            place += int.from_bytes(encoded[place : place + 2], "big")
