"""Read the values of TIFFs that Pillow does not read right: floats, many bands, 16-bit planes.

NumPy lays them out. Compressed strips and tiles are unpacked by the libtiff inside Pillow, each
wrapped as an image of grey bytes.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL.Image import DecompressionBombError
from PIL.TiffImagePlugin import TiffImageFile

from resnet_cli.errors import ImageError
from resnet_cli.images.tiff import (
    BITS,
    COMPRESSION,
    HEIGHT,
    PHOTOMETRIC,
    PREDICTOR,
    ROWS,
    SAMPLES,
    STRIP_BYTES,
    STRIPS,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILES,
    WIDTH,
    Tiff,
    Values,
)

SMALLEST_TILE = 16  # pixels of a side; the standard asks for multiples of it
LARGEST_CHUNK = 1 << 30  # bytes of a strip or tile
MOST_CHUNKS = 1 << 18

LONGEST_PACKED = 2  # most bytes of a packed chunk, per byte unpacked; LZW takes up to 1.5
LEAST_PACKED = 1 << 10  # bytes that a packed chunk may always have

BYTES_FOR_SCALING = 28  # a value, at most: as float64, its mask, and 8-bit colours


@dataclass(frozen=True)
class Chunks:
    """Strips or tiles, row by row; plane after plane where bands are stored separately."""

    width: int  # pixels
    height: int  # pixels
    offsets: tuple[int, ...]  # places in the file
    sizes: tuple[int, ...]  # bytes in the file

    @classmethod
    def of(cls, tiff: Tiff) -> "Chunks":
        """Read them from the tags.

        Raises:
            ImageError: they are damaged.
        """
        width, height = tiff.width, tiff.height
        tiled = TILES in tiff.tags
        if tiled:
            found = cls(
                tiff.number(TILE_WIDTH), tiff.number(TILE_HEIGHT),
                tiff.several(TILES), tiff.several(TILE_BYTES),
            )  # fmt: skip
        else:
            rows = min(tiff.number(ROWS, height), height)
            found = cls(width, rows, tiff.several(STRIPS), tiff.several(STRIP_BYTES))
        least = SMALLEST_TILE if tiled else 1
        if min(found.width, found.height) < least:
            raise ImageError("its strips or tiles are damaged")
        across, down = -(-width // found.width), -(-height // found.height)
        count = across * down * (tiff.samples if tiff.in_planes else 1)
        if not count <= min(MOST_CHUNKS, len(found.offsets), len(found.sizes)):
            raise ImageError("its strips or tiles are damaged, or too many")
        return found


def bytes_to_read(tiff: Tiff, bands: int) -> int:
    """Return the most bytes that reading takes, including scaling to 8 bits.

    Raises:
        ImageError: a strip or tile is larger than any image needs.
    """
    chunk = chunk_bytes(tiff)
    if chunk > LARGEST_CHUNK:
        raise ImageError(f"has a strip or tile of {chunk:,} bytes, too many for an image")
    return tiff.width * tiff.height * bands * (tiff.bits // 8 + BYTES_FOR_SCALING) + 4 * chunk


def chunk_bytes(tiff: Tiff) -> int:
    """Return the bytes of a strip or tile, unpacked."""
    chunks, together = Chunks.of(tiff), 1 if tiff.in_planes else tiff.samples
    return chunks.width * chunks.height * together * tiff.bits // 8


def read_values(file: BinaryIO, tiff: Tiff, bands: Sequence[int]) -> Values:
    """Read some bands of an image.

    Args:
        file: of the image.
        tiff: its tags, for which ``unreadable`` returns None.
        bands: from 0.

    Returns:
        The values [H, W, bands] as stored.

    Raises:
        ImageError: they are truncated or damaged.
    """
    dtype = np.dtype(f"{tiff.order}{tiff.kind}{tiff.bits // 8}")
    values = np.empty((tiff.height, tiff.width, len(bands)), dtype.newbyteorder("="))
    wanted = [*dict.fromkeys(bands)] if tiff.in_planes else [0]
    for plane in wanted:
        for (top, left), packed, rows in plane_of(file, tiff, plane):
            chunk = unpack_chunk(packed, tiff, rows, dtype)
            part = values[top : top + rows, left : left + Chunks.of(tiff).width]
            chunk = chunk[:, : part.shape[1]]
            if not tiff.in_planes:
                part[:] = chunk[:, :, list(bands)]
            for place in (at for at, band in enumerate(bands) if tiff.in_planes and band == plane):
                part[:, :, place] = chunk[:, :, 0]
    return values


def plane_of(
    file: BinaryIO, tiff: Tiff, plane: int
) -> Iterator[tuple[tuple[int, int], bytes, int]]:
    """Yield the chunks of a plane: top and left, bytes as stored, and rows within the image."""
    chunks = Chunks.of(tiff)
    corners = [
        (top, left)
        for top in range(0, tiff.height, chunks.height)
        for left in range(0, tiff.width, chunks.width)
    ]
    first = plane * len(corners)
    most = LONGEST_PACKED * chunk_bytes(tiff) + LEAST_PACKED  # a stated size may be wrong
    for number, corner in enumerate(corners, first):
        file.seek(chunks.offsets[number])
        rows = min(chunks.height, tiff.height - corner[0])
        yield corner, file.read(min(chunks.sizes[number], most)), rows


def unpack_chunk(packed: bytes, tiff: Tiff, rows: int, dtype: np.dtype[Any]) -> Values:
    """Turn the stored bytes of a chunk into values [rows, W, samples].

    Raises:
        ImageError: there are too few.
    """
    samples = 1 if tiff.in_planes else tiff.samples
    row = Chunks.of(tiff).width * samples * dtype.itemsize
    data = packed
    if tiff.number(COMPRESSION, 1) != 1:
        whole = Chunks.of(tiff).height if TILES in tiff.tags else rows  # tiles are stored in full
        data = decompress_chunk(packed, tiff.number(COMPRESSION), row, whole)
    if len(data) < rows * row:
        raise ImageError("its data are cut off")
    plain = np.frombuffer(data, np.uint8, rows * row).reshape(rows, -1)
    shape = (rows, Chunks.of(tiff).width, samples)
    match tiff.number(PREDICTOR, 1):
        case 1:
            return plain.view(dtype).reshape(shape)
        case 2:
            whole_numbers = plain.view(dtype.str.replace("f", "u")).reshape(shape)
            native = whole_numbers.dtype.newbyteorder("=")
            return np.cumsum(whole_numbers, axis=1, dtype=native).view(dtype.newbyteorder("="))
        case 3 if dtype.kind == "f":
            return from_differences(plain, samples, dtype.itemsize).reshape(shape)
        case other:
            raise ImageError(f"is a TIFF with predictor {other}: convert it")


def from_differences(rows: npt.NDArray[np.uint8], samples: int, itemsize: int) -> Values:
    """Undo the predictor of floating-point numbers: each row is its bytes sorted by weight.

    See Adobe Photoshop TIFF Technical Note 3.
    """
    count = len(rows)
    sums = np.cumsum(rows.reshape(count, -1, samples), axis=1, dtype=np.uint8)
    by_weight = sums.reshape(count, itemsize, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(by_weight).view(f">f{itemsize}")


def decompress_chunk(packed: bytes, compression: int, row: int, rows: int) -> bytes:
    """Unpack a chunk as an image of grey bytes, ``row`` wide and ``rows`` high.

    Raises:
        ImageError: it is larger than what Pillow unpacks.
        OSError: libtiff says that it is damaged.
    """
    entries = (
        (WIDTH, row), (HEIGHT, rows), (BITS, 8), (COMPRESSION, compression), (PHOTOMETRIC, 1),
        (STRIPS, 0), (SAMPLES, 1), (ROWS, rows), (STRIP_BYTES, len(packed)),
    )  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if tag == STRIPS else value) for tag, value in entries
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    try:
        with TiffImageFile(BytesIO(head + packed)) as image:
            return image.tobytes()
    except DecompressionBombError as error:  # its pixels are bytes, not those of the image
        raise ImageError(
            f"has a compressed strip or tile of {row * rows:,} bytes: save it with smaller ones"
        ) from error
