"""Pages of thumbnails with their predictions: PNG, or PDF and SVG, in which text stays text."""

import logging
import re
import warnings
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import count, takewhile
from pathlib import Path
from textwrap import wrap
from threading import Lock
from typing import IO, Any

import numpy as np
from matplotlib import get_backend, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_pdf import Name, PdfFile, Reference, RendererPdf
from matplotlib.backends.registry import backend_registry
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.display.fonts import DOTS_PER_INCH, Style, fit_text, with_letters
from resnet_cli.errors import OutputError
from resnet_cli.files import whole_file
from resnet_cli.records import UNCERTAIN, Prediction
from resnet_cli.results.formats import numbered_page
from resnet_cli.results.options import Judge, Verdict, Write, WriterOptions
from resnet_cli.text import cut_end, escape_unprintable

QUALITY = 85  # of JPEG: some 15 kB for a thumbnail, at most 45 kB for one of noise
COMPRESSION = 3  # of PNG, of 9: a third of the time of 6 for 6 % more bytes
POINTS = 72  # of an inch
PNG = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=\s]+)")

SETTINGS: Any = {
    "image.interpolation": "none",  # thumbnails keep their own size
    "pdf.fonttype": 42,  # TrueType, as publishers require
}


DRAWING = Lock()
"""Held while a page is drawn: the settings of matplotlib are those of the whole process."""


class Pdf(PdfFile):
    """A PDF document of matplotlib that stores images as JPEG and frees them with their page."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin a document."""
        super().__init__(file)
        self.numbers = count(1)
        self.images: dict[Name, Reference] = {}
        self.unwritten: list[tuple[Reference, NDArray[np.uint8]]] = []

    def add(self, figure: Figure, dots_per_inch: float) -> None:
        """Draw a figure as the next page."""
        width, height = figure.get_size_inches()
        figure.dpi = POINTS
        self.newPage(width, height)
        renderer = RendererPdf(self, dots_per_inch, height, width)
        figure.draw(renderer)
        renderer.finalize()
        self.endStream()
        for reference, pixels in self.unwritten:
            self.write_jpeg(reference, pixels)
        self.unwritten.clear()

    def imageObject(self, image: NDArray[np.uint8]) -> Name:  # noqa: N802
        """Return a name for an image on the page, which is written after the page."""
        name = Name(f"J{next(self.numbers)}")
        self.images[name] = self.reserveObject(f"image {name}")
        self.unwritten.append((self.images[name], image))
        return name

    def write_jpeg(self, reference: Reference, pixels: NDArray[np.uint8]) -> None:
        """Write an image [H, W, 3 or 4], whose rows run from the bottom to the top."""
        height, width, _ = pixels.shape
        facts = {
            "Type": Name("XObject"), "Subtype": Name("Image"), "Width": width, "Height": height,
            "ColorSpace": Name("DeviceRGB"), "BitsPerComponent": 8, "Filter": Name("DCTDecode"),
        }  # fmt: skip
        with rc_context({"pdf.compression": 0}):  # JPEG is compressed already
            self.outputStream(reference, encode_jpeg(Image.fromarray(pixels[::-1])), extra=facts)

    def writeObject(self, object: Reference, contents: Any) -> None:  # noqa: N802
        """Write an object; add our images to the one that lists all images."""
        super().writeObject(
            object, contents | self.images if object is self.XObjectObject else contents
        )


@contextmanager
def pdf_document(file: IO[bytes]) -> Iterator[Pdf]:
    """Open a document, which is completed even if an error ends its pages."""
    document = Pdf(file)
    try:
        yield document
    finally:
        with DRAWING, rc_context(SETTINGS):
            document.finalize()
        document.close()


def save_png(figure: Figure, file: IO[bytes], dots_per_inch: float) -> None:
    """Write a figure as PNG, without the alpha channel of matplotlib, which tells nothing here."""
    figure.dpi = dots_per_inch
    renderer = RendererAgg(*figure.bbox.size, dots_per_inch)
    figure.draw(renderer)
    page = Image.fromarray(np.asarray(renderer.buffer_rgba())).convert("RGB")
    page.save(file, "PNG", compress_level=COMPRESSION, dpi=(dots_per_inch, dots_per_inch))


def save_svg(figure: Figure, file: IO[bytes], dots_per_inch: float) -> None:
    """Write a figure as SVG."""
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", dpi=dots_per_inch)
    file.write(PNG.sub(as_jpeg, drawn.getvalue()))


def as_jpeg(png: re.Match[bytes]) -> bytes:
    """Replace a data URL of a PNG by one of a JPEG."""
    with Image.open(BytesIO(b64decode(png[1]))) as image:
        return b"data:image/jpeg;base64," + b64encode(encode_jpeg(image))


def encode_jpeg(image: Image.Image) -> bytes:
    """Encode an image as JPEG, without the alpha channel that matplotlib adds."""
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


log = logging.getLogger("resnet_cli")

# Four columns are 7 inches, the width of a page of text: a label is then 7.5 points in print.
TILE = 1.6  # inches, square: a thumbnail in full
TEXT = 0.36  # inches under a tile, for its label and name
MARGIN = 0.12  # inches around a tile
FOOT = 0.3  # inches for the caption
LEAST_COLUMNS = 2  # of a page with a single row, so that the caption has room

INK, QUIET, EMPTY = "#1f2328", "#646d76", "#f3f1ee"
RIGHT, WRONG = "#1a7f37", "#c01c1c"
MARKS = {True: ("✓ ", RIGHT), False: ("✗ ", WRONG), None: ("", INK)}
"""Mark and colour of a label that is right, wrong or not judged; the marks do without colours."""

LABEL_STYLE: Style = {"size": 7.5, "weight": "bold", "color": INK}
NAME_STYLE: Style = {"size": 5.5, "color": QUIET}
CAPTION_STYLE: Style = {"size": 5.5, "color": QUIET}
ERROR_STYLE: Style = {"size": 6.5, "color": WRONG, "ha": "center", "va": "center"}
LABEL_BASE, NAME_BASE = -11, -20  # points below a tile
CAPTION_BASES = (0.17, 0.06)  # inches above the foot of the page
ERROR_LINES, ERROR_WIDTH = 7, 26  # of a reason inside a tile, in lines and characters
TRUTH_LETTERS = 24  # of the true label, so that a name has room beside it
FRAME = 1.6  # points
BEHIND = -1  # of the images, in the order of drawing

Show = Callable[[Figure], None]
Tile = tuple[Prediction, Verdict]
Point = tuple[float, float]  # in inches from the lower left corner of a page


@contextmanager
def image_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Write an image per page: ``grid.png``, or ``grid-1.png``, ``grid-2.png`` … for several."""
    pages = 0
    save_page = save_svg if path.suffix.lower() == ".svg" else save_png

    def save(figure: Figure) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            path.rename(numbered_page(path, 1))
        with whole_file(path if pages == 1 else numbered_page(path, pages)) as file:
            save_page(figure, file, DOTS_PER_INCH)

    with collect_pages(options, save) as write:
        yield write
    report_pages(path, pages)


def report_pages(path: Path, pages: int) -> None:
    """Log the names of the pages, and warn of pages that an earlier run left."""
    if pages > 1:
        log.info(
            "%s has %d pages: %s to %s",
            path,
            pages,
            numbered_page(path, 1),
            numbered_page(path, pages),
        )
    others = (numbered_page(path, page) for page in count(pages + 1 if pages > 1 else 1))
    left = [*takewhile(Path.exists, others)]
    if left:
        log.warning("%s to %s are of an earlier run, no pages of this one", left[0], left[-1])


@contextmanager
def pdf_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Write all pages to one document."""
    with whole_file(path) as file, pdf_document(file) as document:
        save = partial(document.add, dots_per_inch=DOTS_PER_INCH)
        with collect_pages(options, save, settings=SETTINGS) as write:
            yield write


@contextmanager
def collect_pages(
    options: WriterOptions,
    save: Show,
    *,
    new_figure: Callable[..., Figure] = Figure,
    settings: Any = None,
) -> Iterator[Write]:
    """Collect predictions until a page is full, and hand each page to ``save``.

    Args:
        options: how the pages are laid out.
        save: takes each page.
        new_figure: makes an empty page.
        settings: of matplotlib, by name, while a page is drawn and saved.
    """
    judge = Judge.of(options)
    tiles: list[Tile] = []
    page = 0

    def flush() -> None:
        nonlocal page
        page += 1
        size = page_size(options, len(tiles), alone=page == 1)
        figure = new_figure(figsize=size, facecolor="white")
        shown, tiles[:] = tiles[:], []  # first: a page that cannot be drawn is not tried again
        with DRAWING, warnings.catch_warnings(), rc_context(settings):  # of letters of no font
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            draw_page(figure, shown, options, page)
            save(figure)
        figure.clear()  # or its images stay until Python looks for cycles, many pages later

    def write(prediction: Prediction) -> None:
        tiles.append((prediction, judge(prediction)))
        if len(tiles) == options.grid_rows * options.grid_columns:
            flush()

    yield write
    if tiles:
        flush()


def page_size(options: WriterOptions, tiles: int, *, alone: bool) -> tuple[float, float]:
    """Return width and height in inches; the last page ends below its last row.

    Args:
        options: rows and columns of a page.
        tiles: on this page.
        alone: it is the first page, which is as narrow as its tiles.
    """
    rows = min(options.grid_rows, -(-tiles // options.grid_columns))
    columns = (
        min(options.grid_columns, max(tiles, LEAST_COLUMNS)) if alone else options.grid_columns
    )
    width = columns * (TILE + MARGIN) + MARGIN
    return width, rows * (TILE + TEXT + MARGIN) + MARGIN + FOOT


def draw_page(figure: Figure, tiles: list[Tile], options: WriterOptions, page: int) -> None:
    """Draw one page; tiles of a row that is not full have the same size."""
    width, height = figure.get_size_inches()
    # one for all tiles, as axes are the most expensive thing to make; it is measured in inches
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    figure.suppressComposite = True  # or vector formats would hold one image of the whole page
    for number, (prediction, verdict) in enumerate(tiles):
        row, column = divmod(number, options.grid_columns)
        left = MARGIN + column * (TILE + MARGIN)
        bottom = height - TILE - MARGIN - row * (TILE + TEXT + MARGIN)
        draw_tile(axes, (left, bottom), prediction, verdict, options)
    first = (page - 1) * options.grid_rows * options.grid_columns
    lines = (options.caption, f"page {page}  ·  {count_page(tiles, first)}")
    for line, base in zip(map(escape_unprintable, lines), CAPTION_BASES, strict=True):
        words = fit_text(partial(cut_end, line), len(line), CAPTION_STYLE, width - 2 * MARGIN)
        axes.text(MARGIN, base, words, **with_letters(words, CAPTION_STYLE))


def count_page(tiles: list[Tile], first: int) -> str:
    """Describe which images are on a page, and how many are right or could not be read."""
    last = first + len(tiles)
    images = f"image {last:,}" if len(tiles) == 1 else f"images {first + 1:,} to {last:,}"
    judged = [verdict.right for _, verdict in tiles if verdict.right is not None]
    errors = sum(prediction.error is not None for prediction, _ in tiles)
    return "  ·  ".join(
        [
            images,
            *[f"{sum(judged):,} of {len(judged):,} right"] * bool(judged),
            *[f"{errors:,} {'error' if errors == 1 else 'errors'}"] * bool(errors),
        ]
    )


def draw_tile(
    axes: Axes, place: Point, prediction: Prediction, verdict: Verdict, options: WriterOptions
) -> None:
    """Draw one image, or its error, with label and name below.

    Args:
        axes: of the page.
        place: lower left corner of the tile.
        prediction: of the image.
        verdict: on it.
        options: how images are named.
    """
    axes.add_artist(Rectangle(place, TILE, TILE, facecolor=EMPTY, linewidth=0, zorder=BEHIND))
    if prediction.thumbnail is not None:
        draw_thumbnail(axes, place, prediction.thumbnail)
    if prediction.error is not None:
        draw_error(axes, place, prediction.error)
    else:
        draw_label(axes, place, prediction, verdict)
    actually = (
        f"actually {escape_unprintable(verdict.truth or '')}" if verdict.right is False else ""
    )
    truth = f"{cut_end(actually, TRUTH_LETTERS)}  ·  " if actually else ""
    name = partial(options.name, prediction.item)
    longest = len(escape_unprintable(prediction.item.words))
    words = fit_text(lambda n: truth + name(n), longest, NAME_STYLE, TILE)
    write_below(axes, place, words, NAME_BASE, NAME_STYLE)


def draw_error(axes: Axes, place: Point, error: str) -> None:
    """Write the reason of an error where the image would be."""
    reason = escape_unprintable(error)
    lines = "\n".join(wrap(reason, ERROR_WIDTH, max_lines=ERROR_LINES, placeholder=" …"))
    left, bottom = place
    axes.text(left + TILE / 2, bottom + TILE / 2, lines, **with_letters(lines, ERROR_STYLE))
    write_below(axes, place, "ERROR", LABEL_BASE, LABEL_STYLE | {"color": WRONG})


def draw_label(axes: Axes, place: Point, prediction: Prediction, verdict: Verdict) -> None:
    """Write label and probability below an image, and frame it if the truth is known."""
    mark, colour = MARKS[verdict.right]
    label = escape_unprintable(prediction.label or "")
    start, end = (f"{mark}{UNCERTAIN} (", ")") if verdict.uncertain else (mark, "")
    end += f"  {prediction.prob:.3f}"
    words = fit_text(lambda n: start + cut_end(label, n) + end, len(label), LABEL_STYLE, TILE)
    write_below(axes, place, words, LABEL_BASE, LABEL_STYLE | {"color": colour})
    if verdict.right is not None:
        axes.add_artist(Rectangle(place, TILE, TILE, fill=False, edgecolor=colour, linewidth=FRAME))


def draw_thumbnail(axes: Axes, place: Point, thumbnail: Image.Image) -> None:
    """Fit an image of any shape into the middle of its tile.

    It begins at a whole dot: one of as many pixels as a tile has dots is copied, and not blurred.
    """
    width, height = (TILE * side / max(thumbnail.size) for side in thumbnail.size)
    middle = (place[0] + (TILE - width) / 2, place[1] + (TILE - height) / 2)
    x, y = (round(inches * DOTS_PER_INCH) / DOTS_PER_INCH for inches in middle)
    axes.imshow(np.asarray(thumbnail), extent=(x, x + width, y, y + height))


def write_below(axes: Axes, place: Point, words: str, base: float, style: Style) -> None:
    """Write a line below a tile, ``base`` points from it."""
    left, bottom = place
    axes.text(left, bottom + base / POINTS, words, **with_letters(words, style))


def check_display() -> None:
    """Check that a window can be opened.

    Raises:
        OutputError: there is no display, or no window toolkit.
    """
    _, framework = backend_registry.resolve_backend(get_backend())
    if framework in (None, "headless"):
        raise OutputError(
            "cannot open a window: there is no display, or no window toolkit that matplotlib "
            "knows: write the pages to a file with --grid FILE"
        )


@contextmanager
def window_writer(options: WriterOptions) -> Iterator[Write]:
    """Show each page in a window; the run continues when it is closed."""
    from matplotlib import pyplot

    def show(figure: Figure) -> None:
        pyplot.show(block=True)
        pyplot.close(figure)

    with collect_pages(options, show, new_figure=pyplot.figure) as write:
        yield write
