"""The stages of a ResNet as columns of a drawing: their blocks, their words and their widths.

All lengths are inches on the page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, sqrt
from textwrap import wrap
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from resnet_cli.summary import Summary
from resnet_cli.summary.trace import SummaryRow

WIDTH, HEIGHT = 14.0, 6.0  # of the page, which grows wider where its labels need it
MARGIN = 0.35
HEADINGS = 0.95  # width of the column of row headings
LEAST_GAP, GOOD_GAP = 0.14, 0.22  # between columns

TALLEST = 2.5  # of the input
THINNEST = 0.045  # of a block of few channels
PER_CHANNEL = tuple(0.022 - 0.0005 * step for step in range(25))
"""Width of a block over the square root of its channels: the largest that fits is taken."""

OBLIQUE = (0.12, 0.08)  # right and up, over the drawn width of a block
GAP = 8.0  # between blocks, in square roots of channels
SLICE, SLICE_GAP = 0.028, 0.027  # of a block that is drawn thin
MOST_WHOLE = 6  # blocks of a stage; of a longer one only the first two and the last

BRACKET, REPEATS = 0.07, 0.06  # from a bracket to its content, and to the text after it

INK = "#1f2328"

FAMILY = ["DejaVu Sans", "sans-serif"]  # matplotlib has the first; an SVG may need the second
NAME_STYLE: dict[str, Any] = {"size": 10.5, "weight": "bold", "color": INK}
CELL_STYLE: dict[str, Any] = {"size": 9, "color": INK}
NOTATION_STYLE: dict[str, Any] = {"size": 8.5, "color": INK, "linespacing": 1.35}

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """One block of the drawing."""

    name: str
    width: float
    height: float
    oblique: Point  # from a front corner to the one behind it
    gap: float  # to its right
    around: float  # from its sides to the ends of its shortcut
    shortcut: str | None = None  # identity or projection
    thin: bool = False  # thinner than its channels say


@dataclass(frozen=True, slots=True)
class StageColumn:
    """A stage: its blocks, and the words below them."""

    name: str
    size: str
    notation: list[str]  # in lines
    repeats: int | None  # None: without brackets
    parameters: str
    compute: str
    share: float | None  # 0 to 1, of the multiply-adds
    boxes: list[Box]

    @property
    def drawn(self) -> float:
        """Width of the blocks."""
        spans = [box.width + box.gap for box in self.boxes]
        return sum(spans) - self.boxes[-1].gap + self.boxes[-1].oblique[0]

    @property
    def width(self) -> float:
        """Width of the blocks or of the widest words."""
        cells = (self.size, self.parameters, self.compute)
        return max(
            self.drawn,
            notation_width(self),
            line_width(self.name, NAME_STYLE),
            *(line_width(cell, CELL_STYLE) for cell in cells),
        )


@dataclass(frozen=True, slots=True)
class DrawingScale:
    """The scale of a drawing: lengths grow with square roots, so that 7x7 stays visible."""

    per_pixel: float  # height over the square root of pixels
    per_channel: float  # width over the square root of channels
    top_share: float  # of the darkest colour

    def box(self, name: str, channels: int, size: Sequence[int]) -> Box:
        """Return the block of a layer with ``channels`` and a size of (height, width)."""
        height, width = (self.per_pixel * sqrt(side) for side in size)
        right, up = OBLIQUE
        gap = GAP * self.per_channel
        return Box(
            name,
            width=max(THINNEST, self.per_channel * sqrt(channels)),
            height=height,
            oblique=(right * width, up * width),
            gap=gap,
            around=gap / 2,
        )


def fit_to_page(stages: Summary, blocks: Summary) -> tuple[DrawingScale, list[StageColumn]]:
    """Return the stages, with their blocks as wide as the page allows."""
    per_pixel = TALLEST / sqrt(max(stages.img_size))
    top_share = ceil(10 * max(row["macs_share"] for row in stages.rows)) / 10
    for per_channel in PER_CHANNEL:
        scale = DrawingScale(per_pixel, per_channel, top_share)
        columns = list(stage_columns(stages, blocks, scale))
        if used_width(columns) + GOOD_GAP * len(columns) <= WIDTH:
            break
    return scale, columns


def used_width(columns: Sequence[StageColumn]) -> float:
    """Return the width of a page without the gaps between its columns."""
    return 2 * MARGIN + HEADINGS + sum(column.width for column in columns)


def stage_columns(stages: Summary, blocks: Summary, scale: DrawingScale) -> Iterator[StageColumn]:
    """Yield the columns of the input and of every stage."""
    inside = blocks_by_stage(blocks.rows)
    channels = {
        "conv1": blocks.rows[0]["in_channels"],
        "maxpool": blocks.rows[0]["in_channels"],
        "avgpool": blocks.rows[-1]["out_channels"],
        "fc": stages.num_classes,
    }
    count = stages.in_channels
    words = f"{count} channel{'s' if count != 1 else ''}"
    images = scale.box("input", count, stages.img_size)
    yield StageColumn(
        "input", size_words(stages.img_size), wrap(words, 9), None, "", "", None, [images]
    )
    for row in stages.rows:
        name, size = row["name"], row["output_size"]
        residual = inside.get(name)
        boxes = (
            stage_boxes(residual, scale) if residual else [scale.box(name, channels[name], size)]
        )
        yield StageColumn(
            name,
            size_words(size),
            row["block"].strip("[]").split("; ") if residual else wrap(row["block"], 13),
            row["repeats"] if residual else None,
            short_count(row["parameters"]),
            share_words(row["macs_share"]),
            row["macs_share"],
            boxes,
        )


def blocks_by_stage(rows: Sequence[SummaryRow]) -> dict[str, list[SummaryRow]]:
    """Group residual blocks by the paper's name of their stage: layer1 is conv2_x."""
    stages: dict[str, list[SummaryRow]] = {}
    for row in rows:
        number = int(row["name"].partition(".")[0].removeprefix("layer"))
        stages.setdefault(f"conv{number + 1}_x", []).append(row)
    return stages


def stage_boxes(rows: Sequence[SummaryRow], scale: DrawingScale) -> list[Box]:
    """Return the blocks of a stage; in a long one, the repeated ones are thin."""
    boxes = []
    for number, row in enumerate(rows):
        more: dict[str, Any] = {"shortcut": row["shortcut"]}
        if len(rows) > MOST_WHOLE and 2 <= number < len(rows) - 1:
            more |= {"thin": True, "width": SLICE, "around": SLICE_GAP / 2}
            more |= {"gap": SLICE_GAP} if number < len(rows) - 2 else {}
        size = row["output_shape"][2:]
        boxes.append(replace(scale.box(row["name"], row["out_channels"], size), **more))
    return boxes


def notation_width(column: StageColumn) -> float:
    """Return the width of a notation with its brackets and repeats."""
    if column.repeats is None:
        return lines_width(column)
    repeats = line_width(f"× {column.repeats}", NOTATION_STYLE)
    return lines_width(column) + 2 * BRACKET + REPEATS + repeats


def lines_width(column: StageColumn) -> float:
    """Return the width of the longest line of a notation."""
    return max(line_width(line, NOTATION_STYLE) for line in column.notation)


def line_width(words: str, style: dict[str, Any]) -> float:
    """Return the width of a line in a style."""
    return text_width(words, style["size"], style.get("weight", "normal"))


@cache
def text_width(words: str, size: float, weight: str) -> float:
    """Return the width of a line in a font of ``size`` points."""
    font = FontProperties(family=FAMILY, size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(words, font, ismath=False)[0] / 72


def size_words(sides: Sequence[int]) -> str:
    """Write a size: 56×56."""
    return "×".join(map(str, sides))


def short_count(count: int) -> str:
    """Write a count in three digits: 25.6 M."""
    for unit, value in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= 0.9995 * value:
            return leading_digits(count / value) + unit
    return str(count)


def leading_digits(value: float) -> str:
    """Write a number in three digits, or without decimals from a thousand on."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:,.0f}"


def share_words(share: float) -> str:
    """Write a share of 0 to 1 as a percentage, which is not 0 for a small one."""
    if not share:
        return "0 %"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
