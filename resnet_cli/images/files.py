"""The file of an image: opened safely, or what it is instead, and why it has no pixels."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from PIL import Image, UnidentifiedImageError

from resnet_cli.errors import ImageError, describe
from resnet_cli.records import Stored

LARGEST_FILE = 1 << 30  # bytes; no image is larger, and it is read whole


REASONS: Mapping[type[Exception], str] = MappingProxyType(
    {
        FileNotFoundError: "there is no such file",
        PermissionError: "permission denied",
        MemoryError: "there is not enough memory for it",
    }
)
"""Kind of error: what the row says."""

DECODER_ERROR = re.compile(r"decoder error -?\d+")  # Pillow's words for damaged data


class Room(Protocol):
    """What decoding asks for memory, and where it reports warnings."""

    def enter(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be opened; some formats are then read whole."""

    def claim(self, size: int) -> None:
        """Wait until there are ``size`` bytes for an image, including its file."""

    def fetch(self, stored: Stored) -> bytes:
        """Read the bytes of an image that is in no file of its own; waiting is no decoding."""
        return stored.read()

    def warn(self, message: str) -> None:
        """Report that an image was read, but not all of it, or not as it should be."""


class Endless:
    """Memory without a limit."""

    def enter(self, size: int) -> None:
        """Return at once."""

    def claim(self, size: int) -> None:
        """Return at once."""

    def fetch(self, stored: Stored) -> bytes:
        """Read them."""
        return stored.read()

    def warn(self, message: str) -> None:
        """Ignore it."""


ENDLESS = Endless()


@contextmanager
def open_source(source: Path | bytes) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file, or bytes in memory, and return its size.

    Raises:
        ImageError: it cannot be an image; a pipe or a device could block the run for ever.
    """
    if isinstance(source, bytes):
        check_size(len(source))
        yield BytesIO(source), len(source)
        return
    status = source.stat()
    if stat.S_ISDIR(status.st_mode):
        readable = os.access(source, os.R_OK | os.X_OK)
        raise ImageError(
            "is a folder, not an image" if readable else "is a folder that may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is a pipe or a device, not an image")
    check_size(status.st_size)
    with source.open("rb") as file:
        yield file, status.st_size


def check_size(size: int) -> None:
    """Refuse a file that is empty or too large.

    Raises:
        ImageError: it is.
    """
    if size > LARGEST_FILE:
        raise ImageError(f"has {size:,} bytes, too many for an image")
    if not size:
        raise ImageError("the file is empty")


def describe_over_limit(pixels: int, limit: int) -> str:
    """Say that an image is larger than allowed, and which option sets the limit."""
    return f"has {pixels:,} pixels, over the limit of {limit:,} (--max-pixels)"


def describe_failure(error: Exception) -> str:
    """Say in a few words why a file has no pixels."""
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return words
    match error:
        case OSError() if error.strerror:
            return error.strerror
        case OSError() if DECODER_ERROR.match(str(error)):
            return f"its data are damaged ({error})"
        case OSError():
            return describe(error).partition(": ")[2] or "cannot be decoded"
        case _:
            return f"cannot be decoded: {describe(error)}"


BRANDS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
})  # fmt: skip
"""Brands in the first box of a HEIF file; phones write ``heic``."""


def open_image(file: BinaryIO) -> Image.Image:
    """Read the header of an image.

    Raises:
        ImageError: it is HEIC, and the library for that is not installed.
        Exception: any that Pillow raises.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in BRANDS:
            raise
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "is a HEIC image, which an extra reads: pip install 'resnet-cli[heif]'"
        ) from None
    file.seek(0)
    return HeifImageFile(file)


# measured at the worst moment, with alpha, a profile, a background and a turn
BYTES_PER_PIXEL = {"JPEG": 14, "JPEG2000": 34, "WEBP": 38}
OTHER_BYTES_PER_PIXEL = 28  # floating-point TIFF, AVIF and HEIC take the most


def bytes_to_decode(header: Image.Image) -> int:
    """Return the most bytes that decoding and resizing an image takes, without its file."""
    each = BYTES_PER_PIXEL.get(header.format or "", OTHER_BYTES_PER_PIXEL)
    return each * header.width * header.height


HEAD = 1024  # bytes of a file that tell what it is

RAW = "is a raw camera file ({}): convert it to JPEG, PNG or TIFF"
VIDEO = (
    "is a video ({}), not an image: its frames are read if it is named as INPUT and its extension "
    "is .mp4, .mov, .avi, .mkv or .webm"
)
ARCHIVE = "is an archive ({}), not an image: unpack it"
DOCUMENT = "is {}, not an image"
DRAWING = "is a vector drawing ({}): save it as PNG"
CONVERT = "is {}, which cannot be read: convert it to PNG or JPEG"

MARK = rb"(?:\xef\xbb\xbf)?\s*"  # what may precede text
XML = MARK + rb"(?:<\?xml[^>]*>\s*)?(?>(?:<!--.*?-->\s*)*)"  # no backtracking into comments

# tried from the top: what is special stands before what is general
NATURES = (
    ("begins with nothing but zeros: its content was lost, copy it again", rb"\0+\Z"),
    ("is a git-lfs pointer, not the image itself: run 'git lfs pull'",
     rb"version https://git-lfs\.github\.com/"),
    ("is a git-annex pointer, not the image itself: run 'git annex get'",
     rb"(?:\.\./|\.git/|/)*annex/objects/"),
    (DRAWING.format("SVG"), XML + rb"(?:<!DOCTYPE svg[^>]*>\s*)?<svg\b"),
    ("is a web page (HTML), not an image: download the file behind its link",
     XML + rb"<(?i:!doctype html|html|head|body)"),
    ("is an answer of a server (XML), not an image: download the file again", MARK + rb"<\?xml"),
    ("is what macOS keeps beside a file: use the file itself", rb"\0\x05\x16[\0\x07]\0\x02\0\0"),
    ("is a shortcut of Windows: use the file that it leads to", rb"L\0\0\0\x01\x14\x02\0"),
    (CONVERT.format("an image in JPEG XL"), rb"\xff\x0a|\0{3}\x0cJXL \r\n\x87\n"),
    (CONVERT.format("an image in JPEG XR"), rb"II\xbc"),
    (CONVERT.format("a medical image (DICOM)"), rb".{128}DICM"),
    (CONVERT.format("a medical image (NIfTI)"), rb".{344}n[+i]1\0"),
    (CONVERT.format("an image of an astronomer (FITS)"), rb"SIMPLE  ="),
    (CONVERT.format("an image in OpenEXR"), rb"v/1\x01"),
    (CONVERT.format("an image in Radiance HDR"), rb"#\?(?:RADIANCE|RGBE)"),
    (CONVERT.format("a project of GIMP (XCF)"), rb"gimp xcf"),
    *((RAW.format(maker), start) for maker, start in {
        "Canon CR2": rb"II\*\0.{4}CR\x02", "Canon CR3": rb".{4}ftypcrx ",
        "Canon CRW": rb"II.{4}HEAPCCDR", "Olympus ORF": rb"IIR[OS]|MMOR",
        "Panasonic RW2": rb"IIU\0", "Fujifilm RAF": rb"FUJIFILMCCD-RAW",
        "Sigma X3F": rb"FOVb", "Minolta MRW": rb"\0MRM",
    }.items()),
    (CONVERT.format("an image in AVIF or HEIF"), rb".{4}ftyp(?:avi[fs]|he[iv]|mi[fa]|msf1)"),
    *((VIDEO.format(kind), start) for kind, start in {
        "MP4 or QuickTime": rb".{4}(?:ftyp|moov|mdat|wide)", "Matroska or WebM": rb"\x1aE\xdf\xa3",
        "AVI": rb"RIFF.{4}AVI ", "MPEG": rb"\0\0\x01[\xba\xb3]", "Flash": rb"FLV\x01",
        "Windows Media": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "transport stream": rb"G.{187}G",
    }.items()),
    (DOCUMENT.format("a document (PDF)"), rb"%PDF-"),
    (DOCUMENT.format("a document (old Word, Excel, PowerPoint or Thumbs.db)"),
     rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    (DOCUMENT.format("a document of Office"), rb"PK\x03\x04.{26}(?:\[Content_Types\]|mimetype)"),
    *((ARCHIVE.format(kind), start) for kind, start in {
        "zip": rb"PK[\x03\x05]", "gzip": rb"\x1f\x8b", "bzip2": rb"BZh[1-9]", "xz": rb"\xfd7zXZ\0",
        "zstd": rb"\x28\xb5\x2f\xfd", "7z": rb"7z\xbc\xaf\x27\x1c", "rar": rb"Rar!\x1a\x07",
        "tar": rb".{257}ustar",
    }.items()),
    (DOCUMENT.format("an array of NumPy"), rb"\x93NUMPY"),
    (DOCUMENT.format("a sound"), rb"ID3|RIFF.{4}WAVE|OggS|fLaC"),
    (DOCUMENT.format("a database (SQLite)"), rb"SQLite format 3\0"),
    (DOCUMENT.format("a file in HDF5"), rb"\x89HDF\r\n\x1a\n"),
    (DOCUMENT.format("a program"), rb"\x7fELF|MZ.{0,62}\0|#!/"),
    (DOCUMENT.format("a text (JSON)"), MARK + rb'(?:\{\s*["}]|\[\s*[]\[{"\d])'),
    *((f"its {kind} header is damaged or cut off", start) for kind, start in {
        "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n", "GIF": rb"GIF8[79]a",
        "WebP": rb"RIFF.{4}WEBP", "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
        "PNM": rb"P[1-7fF]\s", "BMP": rb"BM.{4}\0{4}",
    }.items()),
)  # fmt: skip
"""What a file is, in words that follow its name, and a pattern of its first bytes."""

TEXT = DOCUMENT.format("a text")
UNKNOWN = "is not an image, or is in an unsupported format"


def identify_file(head: bytes) -> str:
    """Say what a file is that cannot be read as an image, and what to do about it.

    Args:
        head: its first ``HEAD`` bytes.
    """
    for words, start in NATURES:
        if re.match(start, head, re.DOTALL):
            return words
    return TEXT if is_any_text(head) else UNKNOWN


def is_any_text(head: bytes) -> bool:
    """Return True for text, whether in UTF-8, UTF-16 with a mark, or another encoding."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = head.decode(encoding, "replace").rstrip("\ufffd")  # a character cut off at the end
    foreign = (
        text.count("\ufffd") > len(text) / 3
    )  # no text of another encoding has a third of such letters
    return not foreign and all(map(is_text_character, text))


def is_text_character(character: str) -> bool:
    """Return True for printable characters and white space."""
    return character.isprintable() or character.isspace()


def header_of(file: BinaryIO) -> Image.Image:
    """Open an image by Pillow and read its header.

    Raises:
        ImageError: says what the file is instead.
    """
    try:
        return open_image(file)
    except UnidentifiedImageError:
        file.seek(0)
        raise ImageError(identify_file(file.read(HEAD))) from None
