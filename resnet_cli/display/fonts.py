"""Lettering: words on a page, in fonts that have their letters, as long as there is room for."""

import logging
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

Style = dict[str, Any]

DOTS_PER_INCH = 160  # letters are widened to whole dots, so they are measured as they are drawn

USUAL = "DejaVu Sans"  # comes with matplotlib

BOXES = "Last Resort"  # how the name of the font begins whose letters are all boxes

log = logging.getLogger(__name__)


def with_letters(words: str, style: Style) -> Style:
    """A style in fonts that have the letters; a dollar sign is a dollar sign."""
    return style | {"family": font_families(words), "parse_math": False}


def font_families(words: str) -> list[str]:
    """The usual font, and after it those that have letters which it lacks."""
    usual = letters_of(findfont(FontProperties(family=[USUAL])))
    letters = dict.fromkeys(words.replace("\n", ""))  # a break of lines is not drawn
    others = [family_with(letter) for letter in letters if ord(letter) not in usual]
    return [USUAL, *dict.fromkeys(name for name in others if name is not None)]


@cache
def family_with(letter: str) -> str | None:
    """The first installed font that has a letter; where there is none, that is said once."""
    for font in fontManager.ttflist:
        if not font.name.startswith(BOXES) and ord(letter) in letters_of(font.fname):
            return font.name
    say_missing(unicodedata.name(letter, "unnamed").split()[0])
    return None


@cache
def say_missing(script: str) -> None:
    """Say once a script that its letters are drawn as boxes."""
    log.warning("no installed font has %s letters: they are drawn as boxes", script)


@cache
def letters_of(path: str) -> frozenset[int]:
    """Code points of the letters of a font file."""
    return frozenset(get_font(path).get_charmap())


def fit_text(cut: Callable[[int], str], longest: int, style: Style, inches: float) -> str:
    """The longest ``cut(n)``, for n characters up to ``longest``, that is not wider than wanted."""
    ruler = FigureCanvasAgg(Figure(dpi=DOTS_PER_INCH))
    words = ruler.figure.text(0, 0, "", **with_letters(cut(longest), style))

    def width(length: int) -> float:
        words.set_text(cut(length))
        return words.get_window_extent(ruler.get_renderer()).width / DOTS_PER_INCH

    if width(longest) <= inches:
        return cut(longest)
    return cut(bisect_right(range(1, longest), inches, key=width))
