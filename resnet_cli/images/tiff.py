"""Read the tags of a TIFF, and tell whether Pillow reads its values right.

Pillow refuses or reads wrongly floats, many bands and planes of 16 bits: ``tiff_strips`` reads
those.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy.typing as npt
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from resnet_cli.errors import ImageError

Values = npt.NDArray[Any]
Tags = Mapping[int, Any]

STARTS = (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

# tags
REDUCED, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES = 266, 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 284, 317, 322, 323, 324, 325
SUB_IFDS, EXTRA, FORMAT, SUBSAMPLING, PROFILE, DNG_VERSION = 330, 338, 339, 530, 34675, 50706

WANTED = (
    REDUCED, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, ORIENTATION,
    SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES,
    SUB_IFDS, EXTRA, FORMAT, SUBSAMPLING, PROFILE, DNG_VERSION,
)  # fmt: skip
"""Tags that are decoded; others may hold millions of numbers, each a Python object."""

BYTEWISE = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of plain bytes: none, LZW, deflate, PackBits, LZMA, Zstandard."""

KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # sample format: kind of number in NumPy
WORDS = {"u": "unsigned", "i": "signed", "f": "floating-point"}
SIZES = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}  # bits

WHITE_IS_ZERO, YCBCR = 0, 6  # photometric interpretations
COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}  # photometric interpretation: samples that are colours
MAIN = 4  # samples that Pillow reads right
OTHERS = {3: "a palette", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
SENSOR = frozenset({32803, 34892})  # photometric interpretations of raw photographs
ALPHAS = {1: "a", 2: "A"}  # kind of extra sample: Pillow's letter, small where premultiplied

MAKERS = {b"CR\2\0": "Canon CR2", b"IIII": "Phase One IIQ", b"MMMM": "Phase One IIQ"}
SUB_IMAGES = 16  # looked at for the data of a sensor


@dataclass(frozen=True)
class Tiff:
    """The first image of a TIFF, by its tags."""

    tags: Tags
    order: str  # of bytes, "<" or ">"
    is_big: bool  # BigTIFF
    others: tuple[Tags, ...]  # images inside it
    maker: str | None  # of a camera, by a mark behind the header

    @property
    def width(self) -> int:
        """Pixels of a row as stored."""
        return self.number(WIDTH)

    @property
    def height(self) -> int:
        """Rows as stored."""
        return self.number(HEIGHT)

    @property
    def samples(self) -> int:
        """Bands of the image, alpha among them."""
        return self.number(SAMPLES, 1)

    @property
    def colours(self) -> int:
        """Bands that are colours or grey; the first three of many."""
        known = COLOURS.get(self.number(PHOTOMETRIC, 0), 3)
        return 3 if known == 1 and self.samples >= 3 else known

    @property
    def bits(self) -> int:
        """Bits of a sample; 0 if they differ."""
        bits = set(self.several(BITS) or (1,))
        return bits.pop() if len(bits) == 1 else 0

    @property
    def kind(self) -> str:
        """NumPy's kind of number; empty if it has none, or the bands differ."""
        kinds = set(self.several(FORMAT) or (1,))
        return KINDS.get(kinds.pop(), "") if len(kinds) == 1 else ""

    @property
    def alpha(self) -> str:
        """Pillow's letter for the band after the colours; empty if that is not alpha."""
        extra = self.several(EXTRA)
        follows = self.samples == self.colours + len(extra)
        has_scale = self.kind == "f" or (self.kind == "u" and self.bits <= 16)
        return ALPHAS.get(extra[0], "") if extra and follows and has_scale else ""

    @property
    def in_planes(self) -> bool:
        """Whether each band is stored separately."""
        return self.samples > 1 and self.number(PLANAR, 1) == 2

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow reads it, and reads it right."""
        photometric, planes = self.number(PHOTOMETRIC, 0), self.in_planes
        if self.kind != "u" or self.bits > 16 or self.samples > MAIN:
            return False
        if self.is_big and self.order == ">":
            return False
        if photometric == YCBCR and self.number(COMPRESSION, 1) == 1:
            return self.several(SUBSAMPLING) == (1, 1)  # elsewhere two rows share their colours
        if self.bits <= 8:
            return not (planes and self.samples == 2)
        return self.samples != 2 and not planes and not self.white_is_zero

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the number of a tag.

        Raises:
            ImageError: there is none.
        """
        value = self.tags.get(tag, default)
        first = value[0] if isinstance(value, tuple) and value else value
        if not isinstance(first, int) or first < 0:
            raise ImageError(f"its TIFF tag {tag} is missing or damaged")
        return first

    def several(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a tag, none if it is missing."""
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else (value,)

    @property
    def white_is_zero(self) -> bool:
        """Whether the values are of a negative."""
        return self.number(PHOTOMETRIC, 0) == WHITE_IS_ZERO

    @property
    def orientation(self) -> int:
        """As in EXIF, 1 to 8."""
        return self.number(ORIENTATION, 1)

    @property
    def is_preview(self) -> bool:
        """Whether it is marked as a smaller copy of another image."""
        return self.number(REDUCED, 0) & 1 == 1

    @property
    def profile(self) -> bytes | None:
        """The colour profile, if there is one."""
        profile = self.tags.get(PROFILE)
        return profile if isinstance(profile, bytes) else None

    def unreadable(self) -> str | None:
        """Say why its values cannot be read, or return None."""
        compression = self.number(COMPRESSION, 1)
        photometric = self.number(PHOTOMETRIC, 0)
        what = (
            f"is a TIFF of {self.bits or 'different'}-bit {WORDS.get(self.kind, 'unknown')} values"
        )
        if self.bits not in SIZES.get(self.kind, ()):
            return f"{what}: convert it to 8 or 16 bits"
        if photometric not in COLOURS or self.samples < self.colours:
            colours = OTHERS.get(photometric, f"unknown colours ({photometric})")
            return f"{what} with {colours}: convert it to RGB"
        if compression not in BYTEWISE or self.number(FILL_ORDER, 1) != 1:
            return f"{what}, compressed by method {compression}: save it uncompressed or by deflate"
        return None


def read_tiff(file: BinaryIO) -> Tiff | None:
    """Read the tags of a TIFF; None for other files and damaged tags, which are left to Pillow."""
    file.seek(0)
    header = file.read(16)
    if not header.startswith(STARTS):
        return None
    try:
        tags, order = read_tags(file, header)
        inside = tags.get(SUB_IFDS, ())
        places = inside if isinstance(inside, tuple) else (inside,)
        others = tuple(read_tags(file, header, place)[0] for place in places[:SUB_IMAGES])
    except Exception:  # damaged: Pillow has to try
        return None
    maker = next((name for mark, name in MAKERS.items() if header[8:].startswith(mark)), None)
    found = Tiff(tags, order, is_bigtiff(header), others, maker)
    return found if WIDTH in tags and HEIGHT in tags else None


def is_bigtiff(header: bytes) -> bool:
    """Return True for BigTIFF, the format with 64-bit offsets."""
    return header[2:4] in (b"+\0", b"\0+")


def read_tags(file: BinaryIO, header: bytes, place: int | None = None) -> tuple[Tags, str]:
    """Read the tags of one image, at ``place`` or the first, and the order of its bytes."""
    is_big = is_bigtiff(header)
    # Pillow knows BigTIFF in one byte order only; it is given the order separately
    start = b"II+\0" + header[4:] if is_big else header[:8]
    directory = ImageFileDirectory_v2(start, prefix=header[:2])
    order = "<" if header[:2] == b"II" else ">"
    if place is None:
        first = header[8:16] if is_big else header[4:8]
        place = int.from_bytes(first, "little" if order == "<" else "big")
    file.seek(place)
    directory.load(file)
    return {tag: directory[tag] for tag in WANTED if tag in directory}, order


def raw_photograph(tiff: Tiff) -> str | None:
    """Say that a TIFF holds raw sensor data, of which readers see a preview; else None."""
    images = (tiff.tags, *tiff.others)
    from_sensor = any(tags.get(PHOTOMETRIC) in SENSOR for tags in images)
    if not (from_sensor or tiff.maker or DNG_VERSION in tiff.tags):
        return None
    kind = "DNG" if DNG_VERSION in tiff.tags else tiff.maker or "data of a sensor"
    return (
        f"is a raw camera file ({kind}), of which only the preview of {tiff.width}x{tiff.height} "
        "pixels could be read: convert it to JPEG, PNG or TIFF"
    )
