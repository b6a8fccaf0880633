"""Vector pages: what the PDF and SVG of a grid hold, read back by other means."""

import base64
import gc
import re
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer
from resnet_cli.results.options import WriterOptions

MOST = 50_000  # bytes of a file, and of memory, that an image adds


def noise(number: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """Noise, which no format compresses."""
    width, height = size
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photograph(number: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """A gradient whose upper left corner is the brightest."""
    small = Image.new("L", (2, 2), 40)
    small.putpixel((0, 0), 250)
    small.putpixel((1, 0), 90 + number)
    return small.resize(size, Image.Resampling.BICUBIC).convert("RGB")


def row(number: int, thumbnail: Image.Image | None) -> Prediction:
    return Prediction(Item(f"{number}.jpg"), (Score("ants", 0, 0.9),), thumbnail=thumbnail)


def written(suffix: str, *thumbnails: Image.Image | None) -> bytes:
    path = Path("grid").with_suffix(suffix)
    with open_writer(
        path, WriterOptions(topk=1, grid_rows=2, grid_columns=2, overwrite=True)
    ) as write:
        for number, thumbnail in enumerate(thumbnails):
            write(row(number, thumbnail))
    return path.read_bytes()


def upright(jpeg: bytes, *, flipped: bool) -> Image.Image:
    """An image as the page shows it."""
    image = Image.open(BytesIO(jpeg))
    assert image.format == "JPEG"
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if flipped else image


def images_of_pdf(content: bytes) -> list[Image.Image]:
    """Images in the order of the pages, by the stream of each and by what places it."""
    jpegs = re.findall(rb"/Filter /DCTDecode.*?stream\n(\xff\xd8.*?)\nendstream", content, re.S)
    pages = re.findall(rb"/Filter /FlateDecode >>\nstream\n(.*?)\nendstream", content, re.S)
    number = rb"(-?[\d.]+)\s"
    drawn = re.compile(number * 3 + number + number * 2 + rb"cm\s/J\d+\sDo")
    heights = [float(m[4]) for page in pages for m in drawn.finditer(zlib.decompress(page))]
    pairs = zip(jpegs, heights, strict=True)
    return [upright(jpeg, flipped=height < 0) for jpeg, height in pairs]


def images_of_svg(content: bytes) -> list[Image.Image]:
    tags = re.findall(rb"<image .*?/>", content, re.S)
    encoded = [re.findall(rb'"data:image/jpeg;base64,([^"]+)"', tag)[0] for tag in tags]
    pairs = zip(encoded, tags, strict=True)
    return [upright(base64.b64decode(text), flipped=b"scale(1 -1)" in tag) for text, tag in pairs]


def test_a_pdf_holds_each_thumbnail_as_it_is() -> None:
    thumbnails = [photograph(0), photograph(50, (100, 256)), photograph(99, (31, 17))]
    found = images_of_pdf(written(".pdf", *thumbnails, None))
    for image, thumbnail in zip(found, thumbnails, strict=True):
        assert image.size == thumbnail.size
        difference = np.asarray(image, np.int16) - np.asarray(thumbnail, np.int16)
        assert np.abs(difference).mean() < 3


def test_a_pdf_is_valid_and_its_text_is_text() -> None:
    content = written(".pdf", *map(photograph, range(9)))
    places = [int(place) for place in re.findall(rb"^(\d{10}) 00000 n", content, re.M)]
    starts = [int(content[place:].split(b" ", 1)[0]) for place in places]
    assert starts == list(range(1, len(places) + 1))  # the table of objects leads to each of them
    names = set(re.findall(rb"/(J\d+) \d+ 0 R", content))
    assert len(names) == 9
    assert b"/FontFile2" in content


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_an_image_adds_little_to_a_file(suffix: str) -> None:
    few, many = (len(written(suffix, *map(noise, range(count)))) for count in (1, 4))
    assert (many - few) / 3 < (MOST if suffix == ".pdf" else 4 / 3 * MOST)
    few, many = (len(written(suffix, *map(photograph, range(count)))) for count in (1, 4))
    assert (many - few) / 3 < MOST


def test_an_svg_holds_jpegs_the_right_way_up() -> None:
    (image,) = images_of_svg(written(".svg", photograph(0)))
    pixels = np.asarray(image.convert("L"), np.float64)
    half = pixels.shape[0] // 2
    assert pixels[:half, :half].mean() > 2 * pixels[half:, half:].mean()


def test_written_pages_are_freed() -> None:
    def held() -> int:
        gc.collect()  # figures hold themselves
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        with open_writer(
            Path("grid.pdf"), WriterOptions(topk=1, grid_rows=2, grid_columns=2)
        ) as write:
            for number in range(8):
                write(row(number, photograph(number)))
            before = held()
            for number in range(8, 24):
                write(row(number, photograph(number)))
            assert (held() - before) / 16 < MOST
    finally:
        tracemalloc.stop()


def test_a_single_row_is_as_wide_as_its_tiles() -> None:
    def width(count: int) -> int:
        with open_writer(Path("g.png"), WriterOptions(topk=1, overwrite=True)) as write:
            for number in range(count):
                write(row(number, None))
        with Image.open("g.png") as image:
            return image.width

    assert width(1) == width(2) < width(3) < width(4) == width(5)
