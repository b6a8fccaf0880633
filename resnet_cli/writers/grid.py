"""Pages of thumbnails with their predictions."""

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from PIL.Image import Image

from resnet_cli.records import Prediction
from resnet_cli.text import printable
from resnet_cli.writers.options import Options, Write
from resnet_cli.writers.pages import numbered

TILE = 2.1  # inches, square
TEXT = 0.48  # inches under a tile, for its label and name
MARGIN = 0.15  # inches around a tile
FOOT = 0.3  # inches for the caption
DOTS_PER_INCH = 120

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
"""Fonts with the scripts that matplotlib's own font has not."""

FONTS = ["DejaVu Sans", *(name for name in FALLBACKS if name in set(get_font_names()))]

AS_IT_IS: dict[str, Any] = {"family": FONTS, "parse_math": False}
"""A dollar sign is a dollar sign, and a letter is looked for in every font there is."""

INK, QUIET, ALARM, EMPTY = "#1f2328", "#6e7781", "#b42318", "#f3f1ee"

LABEL_STYLE: dict[str, Any] = {"size": 9, "weight": "bold", "color": INK}
NAME_STYLE: dict[str, Any] = {"size": 6.5, "color": QUIET}
CAPTION_STYLE: dict[str, Any] = {"size": 7, "color": QUIET}
ERROR_STYLE: dict[str, Any] = {"size": 8, "color": ALARM, "ha": "center", "va": "center"}
LABEL_BASE, NAME_BASE = -13, -25  # points below a tile
ERROR_LINES, ERROR_WIDTH = 6, 28  # of a reason inside a tile, in lines and characters

Show = Callable[[Figure], None]


@contextmanager
def image_writer(path: Path, options: Options) -> Iterator[Write]:
    """Write a picture a page: ``grid.png``, or ``grid-1.png``, ``grid-2.png`` … of several."""
    pages = 0

    def save(figure: Figure) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            path.rename(numbered(path, 1))
        figure.savefig(path if pages == 1 else numbered(path, pages), dpi=DOTS_PER_INCH)

    with pages_of(options, save) as write:
        yield write
    if pages == 0:
        path.unlink(missing_ok=True)  # the place was taken, and nothing came


@contextmanager
def pdf_writer(path: Path, options: Options) -> Iterator[Write]:
    """Write all pages to one document."""
    with path.open("wb") as file, PdfPages(file) as document:
        save = partial(document.savefig, dpi=DOTS_PER_INCH)
        with pages_of(options, save) as write:
            yield write


@contextmanager
def pages_of(
    options: Options, save: Show, *, new_figure: Callable[..., Figure] = Figure
) -> Iterator[Write]:
    """Collect predictions until a page is full, and hand each page to ``save``."""
    tiles: list[Prediction] = []
    page = 0

    def flush() -> None:
        nonlocal page
        page += 1
        figure = new_figure(figsize=page_size(options, len(tiles)), facecolor="white")
        shown, tiles[:] = tiles[:], []  # first, as a page that cannot be drawn is not tried again
        with warnings.catch_warnings():  # of letters that no font here has
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            draw_page(figure, shown, options, page)
            save(figure)

    def write(prediction: Prediction) -> None:
        tiles.append(prediction)
        if len(tiles) == options.grid_rows * options.grid_columns:
            flush()

    yield write
    if tiles:
        flush()


def page_size(options: Options, tiles: int) -> tuple[float, float]:
    """Width and height in inches; the last page ends below its last row."""
    rows = min(options.grid_rows, -(-tiles // options.grid_columns))
    width = options.grid_columns * (TILE + MARGIN) + MARGIN
    return width, rows * (TILE + TEXT + MARGIN) + MARGIN + FOOT


def draw_page(figure: Figure, tiles: list[Prediction], options: Options, page: int) -> None:
    """Draw one page; a row that is not full keeps its tiles at the same size."""
    width, height = figure.get_size_inches()
    for number, prediction in enumerate(tiles):
        row, column = divmod(number, options.grid_columns)
        left = MARGIN + column * (TILE + MARGIN)
        bottom = height - TILE - MARGIN - row * (TILE + TEXT + MARGIN)
        draw_tile(
            figure.add_axes((left / width, bottom / height, TILE / width, TILE / height)),
            prediction,
        )
    caption = printable(f"page {page}  ·  {options.caption}")
    fitting = fit(lambda n: cut_end(caption, n), len(caption), CAPTION_STYLE, width - 2 * MARGIN)
    figure.text(MARGIN / width, 0.4 * FOOT / height, fitting, **CAPTION_STYLE, **AS_IT_IS)


def draw_tile(axes: Axes, prediction: Prediction) -> None:
    """Draw one picture, or the reason why there is none, with its label and name below."""
    axes.set(xticks=[], yticks=[], facecolor=EMPTY)
    axes.spines[:].set_visible(False)
    if prediction.error is not None:
        lines = wrap(
            printable(prediction.error), ERROR_WIDTH, max_lines=ERROR_LINES, placeholder=" …"
        )
        axes.text(0.5, 0.5, "\n".join(lines), **ERROR_STYLE, **AS_IT_IS)
        below(axes, "ERROR", LABEL_BASE, LABEL_STYLE | {"color": ALARM})
    else:
        if prediction.thumbnail is not None:
            draw_thumbnail(axes, prediction.thumbnail)
        label, prob = printable(prediction.label or ""), f"  {prediction.prob:.3f}"
        words = fit(lambda n: cut_end(label, n) + prob, len(label), LABEL_STYLE, TILE)
        below(axes, words, LABEL_BASE, LABEL_STYLE)
    path = printable(str(prediction.path))
    name = fit(lambda n: cut_start(path, n), len(path), NAME_STYLE, TILE)
    below(axes, name, NAME_BASE, NAME_STYLE)


def draw_thumbnail(axes: Axes, thumbnail: Image) -> None:
    """Fit a picture of any shape into the middle of a square tile."""
    width, height = (side / max(thumbnail.size) / 2 for side in thumbnail.size)
    extent = (0.5 - width, 0.5 + width, 0.5 - height, 0.5 + height)
    axes.imshow(np.asarray(thumbnail), extent=extent)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def below(axes: Axes, words: str, base: float, style: dict[str, Any]) -> None:
    """Write a line so many points below a tile."""
    axes.annotate(
        words,
        (0, 0),
        (0, base),
        xycoords="axes fraction",
        textcoords="offset points",
        **style,
        **AS_IT_IS,
    )


def fit(cut: Callable[[int], str], longest: int, style: dict[str, Any], inches: float) -> str:
    """The longest ``cut(n)``, for n characters up to ``longest``, that is not wider than wanted."""
    ruler = FigureCanvasAgg(Figure(dpi=DOTS_PER_INCH))
    words = ruler.figure.text(0, 0, "", **style, **AS_IT_IS)

    def width(length: int) -> float:
        words.set_text(cut(length))
        return words.get_window_extent(ruler.get_renderer()).width / DOTS_PER_INCH

    if width(longest) <= inches:
        return cut(longest)
    return cut(bisect_right(range(1, longest), inches, key=width))


def cut_end(label: str, width: int) -> str:
    """Shorten a long label at its end."""
    return label if len(label) <= width else f"{label[: width - 1].rstrip()}…"


def cut_start(path: str, width: int) -> str:
    """Shorten a long path at its start, as its end tells files apart."""
    return path if len(path) <= width else f"…{path[1 - width :]}"
