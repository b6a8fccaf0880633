"""Leave long texts out of a PNG, for which Pillow refuses an image whose pixels are whole."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

LONGEST = 1 << 20  # bytes of a text or a colour profile, unpacked, that Pillow takes

MOST_CHUNKS = 1 << 20  # of a file with more, Pillow alone decides

FRAME = 12  # bytes of a chunk beside its data: length and type before, a checksum behind

ORIENTING = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif"})
"""Texts that may say which way up an image is; all others say nothing of its pixels."""

Chunk = tuple[bytes, int, int]  # type, place in the file, bytes of its data


def without_texts(file: BinaryIO) -> tuple[BinaryIO, bool]:
    """Leave out of a PNG what Pillow need not, or will not, read.

    Args:
        file: of any format; one with nothing to leave out comes back as it is.

    Returns:
        A file of the same pixels, and whether its colour profile was too long.
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return file, False
    out = [chunk for chunk in islice(chunks(file), MOST_CHUNKS) if is_text(file, chunk)]
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


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a PNG, up to its end or to where it is cut off."""
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        yield head[4:], place, size
        place += size + FRAME


def is_text(file: BinaryIO, chunk: Chunk) -> bool:
    """Return True for a text that orients nothing, and for any text or profile that is long."""
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
