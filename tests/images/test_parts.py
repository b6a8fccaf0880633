"""Pages and boxes: the pixels that tifffile, OpenCV and Pillow give for them, or a reason."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder
from resnet_cli.images.pages import MOST_PAGES, find_pages
from resnet_cli.records import Part

tifffile = pytest.importorskip("tifffile")

pytestmark = pytest.mark.filterwarnings("ignore:::PIL", "ignore::UserWarning")

Values = npt.NDArray[Any]

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "deflate": {"compression": "zlib"},
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "16 bits": {"dtype": "u2", "compression": "zlib"},
    "16 bits in tiles": {"dtype": "u2", "tile": (16, 16), "byteorder": ">", "bigtiff": True},
    "floats": {"dtype": "f4", "tile": (16, 16)},
}


def noise(page: int, dtype: str = "u1", *, side: int = 40) -> Values:
    values = np.random.default_rng(page).random((side, 56, 3))
    return values.astype(dtype) if dtype == "f4" else (values * np.iinfo(dtype).max).astype(dtype)


def write_pages(path: Path, count: int = 3, *, dtype: str = "u1", **options: Any) -> Path:
    whole = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    with tifffile.TiffWriter(path, **whole) as file:
        for page in range(count):
            file.write(noise(page, dtype), photometric="rgb", **options)
    return path


def as_levels(values: Values) -> Values:
    if values.dtype.kind == "f":
        return np.floor(values * 255 + 0.5)
    return values // 256 if values.dtype.itemsize == 2 else values


def pixels(whole: Any, part: str, decoder: Decoder = Decoder()) -> Values:  # noqa: B008
    return np.asarray(decoder(Part(whole, part))).astype(np.int64)


def pages_of(data: bytes) -> list[int]:
    return [*find_pages(BytesIO(data))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_page_of_a_tiff_has_the_pixels_of_tifffile(layout: str, tmp_path: Path) -> None:
    path = write_pages(tmp_path / "x.tif", **LAYOUTS[layout])
    assert pages_of(path.read_bytes()) == [1, 2, 3]
    for page in range(3):
        expected = as_levels(tifffile.imread(path, key=page))
        for whole in (path, path.read_bytes()):
            np.testing.assert_array_equal(pixels(whole, f"page={page + 1}"), expected)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "group4", "packbits"])
def test_each_page_of_a_scan_has_the_pixels_of_opencv(compression: str, tmp_path: Path) -> None:
    path, mode = tmp_path / "x.tif", "1" if compression == "group4" else "RGB"
    first, *others = [
        Image.fromarray(noise(page, side=64).astype(np.uint8)).convert(mode) for page in range(4)
    ]
    first.save(path, save_all=True, append_images=others, compression=compression)

    read, found = cv2.imreadmulti(str(path), flags=cv2.IMREAD_COLOR)
    assert read
    assert len(found) == 4
    for number, expected in enumerate(found, start=1):
        np.testing.assert_array_equal(pixels(path, f"page={number}"), expected[:, :, ::-1])


def test_pages_of_many_bands_are_read_like_the_first(tmp_path: Path) -> None:
    values = np.stack([noise(page)[:, :, 0] for page in range(10)]).reshape(2, 5, 40, 56)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for page in values:
            file.write(page, photometric="minisblack", planarconfig="separate")

    found = pixels(tmp_path / "x.tif", "page=2", Decoder(bands=(5, 1, 2, 3)))
    np.testing.assert_array_equal(found, np.moveaxis(values[1][[4, 0, 1, 2]], 0, 2))


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        for page, kind in enumerate([0, 1, 2, 1]):
            file.write(noise(page), photometric="rgb", subfiletype=kind)

    assert pages_of(path.read_bytes()) == [1, 3]
    np.testing.assert_array_equal(pixels(path, "page=3"), tifffile.imread(path, key=2))


def frames() -> list[Image.Image]:
    """Frames of which each changes a corner, with transparent pixels."""
    ground = Image.new("RGBA", (48, 32), (10, 200, 30, 255))
    made = []
    for number in range(5):
        ground = ground.copy()
        patch = Image.effect_noise((12, 9), 80 + number).convert("RGBA")
        ground.paste(patch, (7 * number, 4 * number))
        made.append(ground)
    made[3].putpixel((0, 0), (0, 0, 0, 0))
    return made


ANIMATED: dict[str, dict[str, Any]] = {
    "GIF": {"disposal": 2},
    "WEBP": {"lossless": True},
    "PNG": {},
}


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (5, 2, 2, 4, 1, 3)])
@pytest.mark.parametrize("kind", ANIMATED)
def test_each_frame_is_what_pillow_composes(kind: str, order: tuple[int, ...]) -> None:
    file = BytesIO()
    first, *others = frames()
    first.save(file, kind, save_all=True, append_images=others, **ANIMATED[kind])
    data = file.getvalue()

    assert pages_of(data) == [1, 2, 3, 4, 5]
    for number in order:
        with Image.open(BytesIO(data)) as image:
            image.seek(number - 1)
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(pixels(data, f"page={number}"), expected)


def test_the_image_for_other_programs_is_the_first_page_of_an_apng() -> None:
    file = BytesIO()
    first, *others = frames()
    first.save(file, "PNG", save_all=True, append_images=others, default_image=True)

    assert pages_of(file.getvalue()) == [1, 2, 3, 4, 5]
    with Image.open(file) as image:
        image.seek(4)
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(file.getvalue(), "page=5"), expected)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_other_images_have_one_page(kind: str) -> None:
    data = encoded(frames()[0].convert("RGB"), kind)
    assert pages_of(data) == [1]
    np.testing.assert_array_equal(pixels(data, "page=1"), np.asarray(Decoder()(data)))
    with pytest.raises(ImageError, match="has no page 2"):
        pixels(data, "page=2")


def turned_jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(7, side=90).astype(np.uint8)).resize((130, 90))
    return encoded(image, "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_box_is_a_crop_of_the_upright_image(
    orientation: int, *, upright: bool, exact: bool
) -> None:
    from PIL import ImageOps

    data = turned_jpeg(orientation)
    whole = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    decode = Decoder(exact=exact, upright=upright)
    for box in ((0, 0, 9, 9), (20, 10, 30, 41), (60, 50, 500, 500)):
        x, y, width, height = box
        edges = (x, y, min(x + width, whole.width), min(y + height, whole.height))
        found = decode(Part(data, f"xywh={x},{y},{width},{height}"))
        saved = decode(encoded(whole.crop(edges), "PNG"))
        assert isinstance(found, Image.Image) == isinstance(
            saved, Image.Image
        )  # so that it is resized in the same way
        np.testing.assert_array_equal(np.asarray(found), np.asarray(saved))


def test_a_box_on_a_page_and_boxes_of_images_in_memory(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "x.tif", dtype="u2")
    page = as_levels(tifffile.imread(path, key=1))
    for part in ("page=2&xywh=5,6,20,10", "xywh=5,6,20,10&page=2"):
        np.testing.assert_array_equal(pixels(path, part), page[6:16, 5:25])

    values = noise(0).astype(np.uint8)
    found = pixels(Image.fromarray(values), "xywh=5,6,20,10")
    np.testing.assert_array_equal(found, values[6:16, 5:25])
    bands = np.concatenate([values, values[:, :, :2]], axis=2)
    found = pixels(bands, "xywh=50,30,20,20", Decoder(bands=(5, 4, 3, 2, 1)))
    np.testing.assert_array_equal(found, bands[30:, 50:, ::-1])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("xywh=0,0,0,5", "the box of 0x5 pixels is empty"),
        ("xywh=56,0,5,5", "the box lies outside the image of 56x40 pixels"),
        ("xywh=0,40,5,5", "outside"),
        ("xywh=1,2,3", "xywh is left, top, width and height in whole pixels"),
        ("xywh=1,2,3,4,5", "whole pixels"),
        ("xywh=-1,2,3,4", "whole pixels"),
        ("xywh=1.5,2,3,4", "whole pixels"),
        ("xywh=percent:1,2,3,4", "whole pixels"),
        ("xywh=1,2,3,99999999999999999999", "whole pixels"),
        ("xywh=\N{ARABIC-INDIC DIGIT ONE},2,3,4", "whole pixels"),
        ("page=0", "page is a number from 1"),
        ("page=", "page is a number from 1"),
        ("page=x", "page is a number from 1"),
        ("page=1&page=2", "page and xywh once"),
        ("track=3", "page and xywh once"),
        ("&", "page and xywh once"),
        ("page=4", "has no page 4"),
        ("page=999999999", "has no page 999,999,999"),
        ("page=4&xywh=0,0,5,5", "has no page 4"),
    ],
)
def test_a_part_that_cannot_be_read_says_why(part: str, reason: str, tmp_path: Path) -> None:
    path = write_pages(tmp_path / "x.tif")
    for _ in range(2):
        with pytest.raises(ImageError, match=reason):
            Decoder()(Part(path, part))


@dataclass
class Counted:
    """Bytes that are counted when they are read, as those in an archive are."""

    data: bytes
    reads: list[int] = field(default_factory=list)

    def read(self) -> bytes:
        self.reads.append(1)
        return self.data


def test_neighbouring_parts_read_their_image_once(tmp_path: Path) -> None:
    boxes = [f"xywh={place},0,9,9" for place in range(20)]
    pages = [f"page={page}" for page in (1, 2, 3)]
    tiff = write_pages(tmp_path / "x.tif").read_bytes()
    for data, parts in ((turned_jpeg(6), boxes), (tiff, pages)):
        expected = [pixels(data, part) for part in parts]
        stored = Counted(data)
        found = [pixels(stored, part) for part in parts]
        assert len(stored.reads) == 1
        assert all(map(np.array_equal, found, expected))

    stored = Counted(b"no image")
    for part in boxes:
        with pytest.raises(ImageError, match="is a text"):
            pixels(stored, part)
    assert len(stored.reads) == 1


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path, values = tmp_path / "x.png", noise(0).astype(np.uint8)
    for number in range(3):
        Image.fromarray(values + number).save(path)
        np.testing.assert_array_equal(pixels(path, "xywh=1,1,9,9"), (values + number)[1:10, 1:10])


def ifd(entries: list[tuple[int, int, int, int]], after: int) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", after)


def test_directories_that_lead_in_a_circle_end() -> None:
    size = len(ifd([(256, 4, 1, 8)], 0))
    chain = b"".join(ifd([(256, 4, 1, 8)], place) for place in (8 + size, 8 + 2 * size, 8))
    data = b"II*\0" + struct.pack("<I", 8) + chain
    assert pages_of(data) == [1, 2, 3]
    for part, reason in (("page=3", "damaged|missing|TIFF"), ("page=4", "has no page 4")):
        with pytest.raises(ImageError, match=reason):
            pixels(data, part)


def endless(kind: str) -> bytes:
    """A file of more pages than there may be, each of a few bytes."""
    count = MOST_PAGES + 1
    if kind == "TIFF":
        places = [8 + 6 * number for number in range(1, count)] + [0]
        return b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, place) for place in places)
    if kind == "GIF":
        return b"GIF89a\1\0\1\0\0\0\0" + count * (b"," + bytes(9) + b"\2\0") + b";"
    if kind == "WEBP":
        return b"RIFF\0\0\0\0WEBP" + count * (b"ANMF" + bytes(4))
    frame = struct.pack(">I", 0) + b"fcTL" + bytes(4)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sII", 8, b"acTL", count, 0)
        + bytes(4)
        + count * frame
    )


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_too_many_pages_end_in_a_sentence(kind: str) -> None:
    with pytest.raises(ImageError, match="has over 100,000 pages"):
        pages_of(endless(kind))


def test_more_frames_stated_than_there_are_are_not_believed() -> None:
    file = BytesIO()
    first, *others = frames()
    first.save(file, "PNG", save_all=True, append_images=others)
    data = file.getvalue()
    at = data.index(b"acTL") + 4
    body = struct.pack(">II", 1 << 30, 0)
    claimed = data[:at] + body + struct.pack(">I", zlib.crc32(b"acTL" + body)) + data[at + 12 :]
    assert pages_of(claimed) == [1, 2, 3, 4, 5]
    with pytest.raises(ImageError):
        pixels(claimed, "page=6")


def pages_or_reasons(data: bytes) -> Iterator[Values | str]:
    for number in (*pages_of(data), 5):
        try:
            yield pixels(data, f"page={number}")
        except ImageError as error:
            yield str(error)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_files_that_are_cut_off_have_pages_or_a_reason(kind: str) -> None:
    file = BytesIO()
    first, *others = (frame.convert("RGB") for frame in frames())
    first.save(file, kind, save_all=True, append_images=others)
    data = file.getvalue()
    for twelfth in range(12):
        for found in pages_or_reasons(data[: len(data) * twelfth // 12]):
            assert found if isinstance(found, str) else found.shape == (32, 48, 3)


def test_strips_used_again_and_again_do_not_fill_the_memory() -> None:
    count = 60_000
    strips = 8 + len(ifd([(0, 0, 0, 0)] * 4, 0)) * 2
    entries = [
        (256, 4, 1, 100),
        (257, 4, 1, count),
        (273, 4, count, strips),
        (279, 4, count, strips),
    ]
    first = ifd([(256, 4, 1, 8)] * 4, 8 + len(ifd(entries, 0)))
    numbers = struct.pack("<I", 200_000) * count
    data = b"II*\0\x08\0\0\0" + first + ifd(entries, 0) + numbers
    with pytest.raises(ImageError, match="its page is damaged"):
        pixels(data, "page=2")
