"""Pages of images: how many, of which size, and what stands under each image."""

import gc
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.image import AxesImage
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from resnet_cli.display.fonts import font_families
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results.grid import check_display, window_writer
from resnet_cli.results.options import WriterOptions
from writing import broken, is_png, labelled, ok, write


def photograph(number: int, size: tuple[int, int] = (256, 171)) -> Image.Image:
    return Image.new("RGB", size, (40 * number % 256, 90, 200 - 30 * number % 200))


def page_tiles(count: int) -> list[Prediction]:
    return [ok(f"photos/img{n}.jpg", thumbnail=photograph(n)) for n in range(count)]


@pytest.mark.parametrize(
    ("tiles", "names"),
    [
        (1, ["grid.png"]),
        (6, ["grid.png"]),
        (7, ["grid-1.png", "grid-2.png"]),
        (13, ["grid-1.png", "grid-2.png", "grid-3.png"]),
    ],
)
def test_pages_are_numbered_when_there_are_several(tiles: int, names: list[str]) -> None:
    write(Path("grid.png"), *page_tiles(tiles), grid_rows=2, grid_columns=3)
    assert sorted(path.name for path in Path().iterdir()) == names
    assert all(is_png(Path(name)) for name in names)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_full_pages_have_one_size_and_the_last_ends_below_its_last_row() -> None:
    write(Path("grid.png"), *page_tiles(14), grid_rows=2, grid_columns=3)
    first, second, last = (size_of(Path(f"grid-{page}.png")) for page in (1, 2, 3))
    assert first == second
    assert last[0] == first[0]
    assert 0.5 * first[1] < last[1] < 0.6 * first[1]
    assert first[0] > 3 * 200
    assert first[1] > 2 * 200


def test_a_page_of_four_by_four_is_the_default() -> None:
    write(Path("grid.png"), *page_tiles(17))
    assert sorted(path.name for path in Path().iterdir()) == ["grid-1.png", "grid-2.png"]


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        pixels = image.convert("RGB").getcolors(maxcolors=2**24)
    assert pixels is not None
    return {colour for count, colour in pixels if count > 2000 and isinstance(colour, tuple)}


def test_every_image_is_on_its_page() -> None:
    write(Path("grid.png"), *page_tiles(6), grid_rows=2, grid_columns=3)
    wanted = {photograph(number).getpixel((0, 0)) for number in range(6)}
    assert wanted <= colours(Path("grid.png"))


RIGHT, WRONG = (26, 127, 55), (192, 28, 28)


def test_a_frame_a_mark_and_the_caption_say_what_is_right() -> None:
    tiles = [
        ok("ants/a.jpg", thumbnail=photograph(1, (256, 256))),
        labelled("bees", "ants/b.jpg"),
        ok("ants/c.jpg", scores=(Score("bees", 0, 0.9),), decision="uncertain"),
        labelled("bees", "elsewhere/d.jpg"),
        broken("ants/e.jpg"),
    ]

    def truth(item: Item) -> str | None:
        return "ants" if Path(item.path).parent.name == "ants" else None

    for suffix in (".svg", ".png"):
        write(Path("grid").with_suffix(suffix), *tiles, truth=truth, caption="model.pth")
    written = words(Path("grid.svg"))
    marks = ("✓ ants  0.750", "✗ bees  0.900", "✗ uncertain (bees)  0.900")
    for text in (*marks, "actually ants  ·  ants/b.jpg"):
        assert text in written
    assert re.search(r"^bees  0\.900", written, re.MULTILINE)
    assert "images 1 to 5  ·  1 of 3 right  ·  1 error" in written
    assert {RIGHT, WRONG} <= colours(Path("grid.png"))


def test_an_image_of_the_size_of_its_tile_is_copied_pixel_for_pixel() -> None:
    generator = np.random.default_rng(0)
    shapes = [(171, 256), (256, 199), (256, 256), (1, 256), (170, 256), (256, 1)]
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    tiles = [ok(f"{n}.jpg", thumbnail=Image.fromarray(each)) for n, each in enumerate(images)]
    write(Path("grid.png"), *tiles, grid_rows=2, grid_columns=3)
    with Image.open("grid.png") as drawn:
        page = np.asarray(drawn.convert("RGB"))
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        height, width, _ = image.shape
        top = int((0.12 + row * 2.08) * 160 + (256 - height) / 2) - 2
        left = int((0.12 + column * 1.72) * 160 + (256 - width) / 2) - 2
        around = page[top : top + height + 5, left : left + width + 5]
        windows = sliding_window_view(around, image.shape)
        assert (windows == image).all(axis=(3, 4, 5)).any()


def test_without_truth_nothing_is_framed() -> None:
    write(Path("grid.svg"), *page_tiles(3))
    written = words(Path("grid.svg"))
    assert "✓" not in written
    assert "✗" not in written
    assert "images 1 to 3" in written
    assert "right" not in written


def test_captions_count_on_over_pages() -> None:
    write(Path("grid.svg"), *page_tiles(5), grid_rows=1, grid_columns=2)
    said = [words(Path(f"grid-{page}.svg")) for page in (1, 2, 3)]
    assert "page 1  ·  images 1 to 2" in said[0]
    assert "page 2  ·  images 3 to 4" in said[1]
    assert "page 3  ·  image 5" in said[2]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (10, 3)])
def test_labels_have_one_size_on_any_page(rows: int, columns: int) -> None:
    write(Path("grid.png"), *page_tiles(rows * columns), grid_rows=rows, grid_columns=columns)
    width, height = size_of(Path("grid.png"))
    assert (width - 19) / columns == pytest.approx(1.72 * 160, abs=2)
    assert (height - 67) / rows == pytest.approx(2.08 * 160, abs=2)


def missing_from(font: str, *others: str) -> str:
    """A letter that a font of matplotlib's own has, and the usual one has not."""
    charmaps = [
        get_font(findfont(FontProperties(family=[name]))).get_charmap() for name in (font, *others)
    ]
    return chr(next(code for code in charmaps[0] if not any(code in c for c in charmaps[1:])))


def test_a_letter_is_taken_from_whichever_font_has_it() -> None:
    letter = missing_from("STIXGeneral", "DejaVu Sans")
    usual, *others = font_families(f"a{letter}b{letter}")
    assert usual == "DejaVu Sans"
    assert len(others) == 1
    assert ord(letter) in get_font(findfont(FontProperties(family=others))).get_charmap()
    assert font_families("plain") == ["DejaVu Sans"]


def test_a_break_of_lines_is_no_letter(caplog: pytest.LogCaptureFixture) -> None:
    assert font_families("two\nlines") == ["DejaVu Sans"]
    assert not caplog.records


def test_letters_that_no_font_has_are_said_once_a_script(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shorthand = "\U0001bc00\U0001bc01"  # of Duployan
    write(Path("grid.png"), labelled(shorthand[0]), labelled(shorthand[1]), labelled("ants"))
    assert is_png(Path("grid.png"))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no installed font has DUPLOYAN letters: they are drawn as boxes"]


def test_fonts_of_a_pdf_are_of_the_kind_that_publishers_take() -> None:
    write(Path("grid.pdf"), *page_tiles(2))
    content = Path("grid.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/FontFile2" in content


def pages_of_pdf(path: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", path.read_bytes()))


@pytest.mark.parametrize(("tiles", "pages"), [(1, 1), (6, 1), (7, 2), (13, 3)])
def test_a_pdf_holds_all_pages(tiles: int, pages: int) -> None:
    write(Path("grid.pdf"), *page_tiles(tiles), grid_rows=2, grid_columns=3)
    assert Path("grid.pdf").read_bytes().startswith(b"%PDF-")
    assert pages_of_pdf(Path("grid.pdf")) == pages


def words(path: Path) -> str:
    """What is written on a page, by the comments that stand before each text of an SVG."""
    ET.parse(path)  # it is well-formed
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"), re.DOTALL))


def test_an_svg_says_what_the_rows_say() -> None:
    tiles = [labelled("ants", "photos/a.jpg"), broken("photos/b.jpg", "truncated JPEG")]
    write(Path("grid.svg"), *tiles, caption="model.pth")
    written = words(Path("grid.svg"))
    for text in ("ants  0.900", "photos/a.jpg", "ERROR", "truncated JPEG", "model.pth", "page 1"):
        assert text in written


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
@pytest.mark.parametrize(
    "label",
    [
        "$5 and $6", "$x^$", r"$\frac{$", "a_b^c$", "very long " * 40, "new\nline", "<&>", "",
        "蜜蜂", "\x1b[31mred", os.fsdecode(b"caf\xe9"),
    ],
)  # fmt: skip
def test_unusual_labels_and_names_are_drawn(label: str, suffix: str) -> None:
    path = Path("grid").with_suffix(suffix)
    tiles = [labelled(label, f"photos/{label}.jpg"), broken(f"{label}.jpg", label)]
    write(path, *tiles, caption=label, grid_rows=1, grid_columns=2)
    if suffix == ".svg":
        ET.parse(path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_images_of_a_page_are_freed_with_it(suffix: str) -> None:
    def images() -> int:
        return sum(type(thing) is AxesImage for thing in gc.get_objects())

    gc.collect()
    gc.disable()  # which looks for cycles the more rarely, the more there is in memory
    try:
        before = images()
        write(Path("grid").with_suffix(suffix), *page_tiles(6), grid_rows=1, grid_columns=2)
        assert images() == before
    finally:
        gc.enable()


def test_images_of_a_page_are_not_made_one() -> None:
    for suffix, mark in ((".svg", rb"<image\b"), (".pdf", rb"/Subtype /Image\b")):
        path = write(Path("grid").with_suffix(suffix), *page_tiles(5), grid_rows=2, grid_columns=3)
        assert len(re.findall(mark, path.read_bytes())) == 5


def test_a_dollar_sign_is_a_dollar_sign() -> None:
    write(Path("grid.svg"), labelled("$5 and $6", "$a$.jpg"))
    assert "$5 and $6  0.900" in words(Path("grid.svg"))
    assert "$a$.jpg" in words(Path("grid.svg"))
    assert "Oblique" not in Path("grid.svg").read_text("utf-8")  # as mathematics would be set


def test_a_long_label_keeps_its_start_and_a_long_path_its_end() -> None:
    write(Path("grid.svg"), labelled("golden retriever puppy dog", f"{'deep/' * 20}img12.jpg"))
    written = words(Path("grid.svg"))
    assert re.search(r"golden retriever\S*… +0\.900|golden retriever p\w*…  0\.900", written)
    assert re.search(r"…[deep/]*deep/img12\.jpg", written)


@pytest.mark.parametrize("text", ["W" * 60, "i" * 60, "golden retriever " * 5, "two\nlines"])
def test_a_long_label_or_path_stays_under_its_own_tile(text: str) -> None:
    tiles = [labelled(text, f"{text}.jpg"), labelled("", " ")]
    write(Path("grid.png"), *tiles, grid_rows=1, grid_columns=2)
    with Image.open("grid.png") as page:
        grey = page.convert("L")
    middle = grey.width // 2  # of the white between the two tiles
    gap = grey.crop((middle - 5, 0, middle + 5, grey.height))
    tile = grey.crop((24, 24, middle - 12, 264))  # grey, as there is no picture
    assert gap.getextrema() == (255, 255)
    assert tile.getextrema()[0] == tile.getextrema()[1]


def test_a_wide_and_a_tall_image_fit_their_tiles() -> None:
    tiles = [
        ok("wide.jpg", thumbnail=photograph(1, (256, 3))),
        ok("tall.jpg", thumbnail=photograph(2, (3, 256))),
    ]
    write(Path("grid.png"), *tiles, grid_rows=1, grid_columns=2)
    assert is_png(Path("grid.png"))


def test_each_page_has_a_window_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("template")  # matplotlib's backend that opens windows without a display
    shown: list[int] = []
    monkeypatch.setattr(
        pyplot, "show", lambda *, block: shown.append(len(pyplot.gca().patches)) if block else None
    )
    with window_writer(WriterOptions(topk=1, grid_rows=2, grid_columns=2)) as show:
        for number in range(6):
            show(ok(f"{number}.jpg"))

    assert shown == [4, 2]
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("backend", ["agg", "pdf", "svg"])
def test_a_backend_without_windows_is_refused(backend: str) -> None:
    matplotlib.use(backend)
    with pytest.raises(OutputError, match="cannot open a window"):
        check_display()
