"""Fonts for the letters of every script, and text that is cut to the width of a page."""

import logging
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

Style = dict[str, Any]

DOTS_PER_INCH = 160  # letters are rounded to whole dots, so they are measured as they are drawn

RULER = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=DOTS_PER_INCH))  # measures text

USUAL = "DejaVu Sans"  # comes with matplotlib

BOXES = "Last Resort"  # begins the name of the font whose letters are all boxes

log = logging.getLogger(__name__)


def with_letters(words: str, style: Style) -> Style:
    """Add fonts that have the letters to a style, in which a dollar sign is plain text."""
    return style | {"family": font_families(words), "parse_math": False}


def font_families(words: str) -> list[str]:
    """Return the usual font, followed by fonts for the letters that it lacks."""
    usual = letters_of(findfont(FontProperties(family=[USUAL])))
    letters = dict.fromkeys(words.replace("\n", ""))  # line breaks are not drawn
    others = [family_with(letter) for letter in letters if ord(letter) not in usual]
    return [USUAL, *dict.fromkeys(name for name in others if name is not None)]


@cache
def family_with(letter: str) -> str | None:
    """Return the first installed font that has a letter; without any, log that once."""
    for font in fontManager.ttflist:
        if not font.name.startswith(BOXES) and ord(letter) in letters_of(font.fname):
            return font.name
    say_missing(unicodedata.name(letter, "unnamed").split()[0])
    return None


@cache
def say_missing(script: str) -> None:
    """Log, once for each script, that its letters are drawn as boxes."""
    log.warning("no installed font has %s letters: they are drawn as boxes", script)


@cache
def letters_of(path: str) -> frozenset[int]:
    """Return the code points of the letters in a font file."""
    return frozenset(get_font(path).get_charmap())


def fit_text(cut: Callable[[int], str], longest: int, style: Style, inches: float) -> str:
    """Return the longest ``cut(n)``, with n up to ``longest``, that fits into a width."""
    words = Text(**with_letters(cut(longest), style), figure=RULER.figure)

    def width(length: int) -> float:
        words.set_text(cut(length))
        return words.get_window_extent(RULER.get_renderer()).width / DOTS_PER_INCH

    if width(longest) <= inches:
        return cut(longest)
    return cut(bisect_right(range(1, longest), inches, key=width))
