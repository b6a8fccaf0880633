"""A ResNet as a picture: blocks whose width, height and colour are channels, size and compute.

All lengths are inches on the page, whose coordinates start in its lower left corner.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.textpath import text_to_path

from resnet_cli.errors import OutputError
from resnet_cli.summary import Summary
from resnet_cli.summary.views import Row

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".pdf": {"metadata": {"CreationDate": None}},
    ".svg": {"metadata": {"Date": None}},
}
"""Formats of the picture, and what keeps the day it was drawn out of it."""

SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resnet-cli",
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # the next one is as wide
}
"""Words stay words, to be searched and edited; the same network gives the same file."""

DOTS_PER_INCH = 150
WIDTH, HEIGHT = 14.0, 6.0  # of the page, which grows wider where its labels need it
MARGIN = 0.35
HEADINGS = 0.95  # width of the column of row headings
LEAST_GAP, GOOD_GAP = 0.14, 0.22  # between columns

CENTRE = 3.43  # height of the line that the data flow along
TALLEST = 2.5  # of the input
THINNEST = 0.045  # of a block of few channels
PER_CHANNEL = tuple(0.022 - 0.0005 * step for step in range(25))
"""Width of a block over the square root of its channels: the widest at which all fits is taken."""

OBLIQUE = (0.12, 0.08)  # right and up, over the drawn width of the picture
GAP = 8.0  # between blocks, in square roots of channels
SLICE, SLICE_GAP = 0.028, 0.027  # of a block that is drawn thin
MOST_WHOLE = 6  # blocks of a stage; of a longer one only the first two and the last

NAMES, SIZES, NOTATION, PARAMETERS, COMPUTE = 1.93, 1.69, 1.17, 0.63, 0.39  # heights of rows
LINE = 0.17  # of a notation
BRACKET, REPEATS = 0.07, 0.06  # from a bracket to what is in it, and to what is behind it
TITLE, SUBTITLE = 5.52, 5.2

INK, QUIET, FAINT, RULE = "#1f2328", "#656d76", "#8c959f", "#d8dee4"
INPUT = "#d0d7de"
RAMP = colormaps["Blues"]
PALEST, DARKEST = 0.2, 0.94  # of the ramp: white would be lost, black would hide the edges

FAMILY = ["DejaVu Sans", "sans-serif"]  # matplotlib brings the first; an SVG may need the second
FONT: dict[str, Any] = {"family": FAMILY, "parse_math": False}
TITLE_STYLE: dict[str, Any] = {"size": 19, "weight": "bold", "color": INK}
SUBTITLE_STYLE: dict[str, Any] = {"size": 10.5, "color": QUIET}
NAME_STYLE: dict[str, Any] = {"size": 10.5, "weight": "bold", "color": INK}
CELL_STYLE: dict[str, Any] = {"size": 9, "color": INK}
NOTATION_STYLE: dict[str, Any] = {"size": 8.5, "color": INK, "linespacing": 1.35}
HEADING_STYLE: dict[str, Any] = {"size": 8.5, "color": FAINT}
REMARK_STYLE: dict[str, Any] = {"size": 8, "color": QUIET}

SHORTCUTS: dict[str, dict[str, Any]] = {
    "identity": {"edgecolor": "#7d8590", "linewidth": 1.0, "linestyle": "-"},
    "projection": {"edgecolor": "#d9580d", "linewidth": 2.1, "linestyle": (0, (2.2, 1.1))},
}
"""The two kinds of arc: they differ in line as well as in colour."""

Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """One block as it is drawn."""

    name: str
    width: float
    height: float
    oblique: Point  # from a front corner to the one behind it
    gap: float  # to its right
    around: float  # from its sides to the ends of its shortcut
    shortcut: str | None = None  # of SHORTCUTS
    thin: bool = False  # thinner than its channels say


@dataclass(frozen=True, slots=True)
class Column:
    """A stage: what is drawn, and what is written below it."""

    name: str
    size: str
    notation: list[str]  # in lines
    repeats: int | None  # None: no brackets either
    parameters: str
    compute: str
    share: float | None  # 0 to 1, of the multiply-adds
    boxes: list[Box]

    @property
    def drawn(self) -> float:
        """Width of its boxes."""
        spans = [box.width + box.gap for box in self.boxes]
        return sum(spans) - self.boxes[-1].gap + self.boxes[-1].oblique[0]

    @property
    def width(self) -> float:
        """Width of the widest of it."""
        cells = (self.size, self.parameters, self.compute)
        return max(
            self.drawn,
            notation_width(self),
            written(self.name, NAME_STYLE),
            *(written(cell, CELL_STYLE) for cell in cells),
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How large things are drawn: lengths go with square roots, so that 7x7 stays visible."""

    per_pixel: float  # height over the square root of pixels
    per_channel: float  # width over the square root of channels
    top_share: float  # of the darkest colour

    def box(self, name: str, channels: int, size: Sequence[int], **more: Any) -> Box:
        """A block of so many channels and a size of (height, width)."""
        height, width = (self.per_pixel * sqrt(side) for side in size)
        right, up = OBLIQUE
        gap = GAP * self.per_channel
        settings: dict[str, Any] = {
            "width": max(THINNEST, self.per_channel * sqrt(channels)),
            "oblique": (right * width, up * width),
            "gap": gap,
            "around": gap / 2,
        }
        return Box(name, height=height, **(settings | more))

    def colour(self, share: float | None) -> Colour:
        """The colour of a share of the multiply-adds."""
        if share is None:
            return to_rgb(INPUT)
        return to_rgb(RAMP(PALEST + (DARKEST - PALEST) * share / self.top_share))


def plot(stages: Summary, blocks: Summary, path: Path) -> None:
    """Draw a ResNet into a file.

    Args:
        stages: its view of that name.
        blocks: likewise.
        path: its suffix, one of ``SUFFIXES``, is the format.

    Raises:
        OutputError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"cannot write {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    with rc_context(SETTINGS):
        draw(stages, blocks).savefig(path, dpi=DOTS_PER_INCH, **SUFFIXES[suffix])


def draw(stages: Summary, blocks: Summary) -> Figure:
    """The picture; artists of blocks and shortcuts have ids by which an SVG can be animated."""
    scale, columns = fitting(stages, blocks)
    used = used_width(columns)
    width = max(WIDTH, used + LEAST_GAP * len(columns))
    figure = Figure(figsize=(width, HEIGHT), dpi=DOTS_PER_INCH, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, HEIGHT))
    axes.set_axis_off()
    draw_title(axes, stages)
    draw_legend(axes, width - MARGIN, scale)
    draw_headings(axes, width)
    draw_columns(axes, columns, (width - used) / len(columns), scale)
    return figure


def fitting(stages: Summary, blocks: Summary) -> tuple[Scale, list[Column]]:
    """The stages with their blocks as wide as the page allows."""
    per_pixel = TALLEST / sqrt(max(stages.img_size))
    top_share = ceil(10 * max(row["macs_share"] for row in stages.rows)) / 10
    for per_channel in PER_CHANNEL:
        scale = Scale(per_pixel, per_channel, top_share)
        columns = list(all_columns(stages, blocks, scale))
        if used_width(columns) + GOOD_GAP * len(columns) <= WIDTH:
            break
    return scale, columns


def used_width(columns: Sequence[Column]) -> float:
    """Width of a page without the gaps between its columns."""
    return 2 * MARGIN + HEADINGS + sum(column.width for column in columns)


def all_columns(stages: Summary, blocks: Summary, scale: Scale) -> Iterator[Column]:
    """The input and every stage."""
    inside = blocks_by_stage(blocks.rows)
    channels = {
        "conv1": blocks.rows[0]["in_channels"],
        "maxpool": blocks.rows[0]["in_channels"],
        "avgpool": blocks.rows[-1]["out_channels"],
        "fc": stages.num_classes,
    }
    count = stages.in_channels
    words = f"{count} channel{'s' if count != 1 else ''}"
    picture = scale.box("input", count, stages.img_size)
    yield Column("input", times(stages.img_size), wrap(words, 9), None, "", "", None, [picture])
    for row in stages.rows:
        name, size = row["name"], row["output_size"]
        residual = inside.get(name)
        boxes = (
            stage_boxes(residual, scale) if residual else [scale.box(name, channels[name], size)]
        )
        yield Column(
            name,
            times(size),
            row["block"].strip("[]").split("; ") if residual else wrap(row["block"], 13),
            row["repeats"] if residual else None,
            short(row["parameters"]),
            percent(row["macs_share"]),
            row["macs_share"],
            boxes,
        )


def blocks_by_stage(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Residual blocks by the paper's name of their stage: layer1 is conv2_x."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        number = int(row["name"].partition(".")[0].removeprefix("layer"))
        stages.setdefault(f"conv{number + 1}_x", []).append(row)
    return stages


def stage_boxes(rows: Sequence[Row], scale: Scale) -> list[Box]:
    """The blocks of a stage; in a long one, those that are like their neighbours are thin."""
    boxes = []
    for number, row in enumerate(rows):
        more: dict[str, Any] = {"shortcut": row["shortcut"]}
        if len(rows) > MOST_WHOLE and 2 <= number < len(rows) - 1:
            more |= {"thin": True, "width": SLICE, "around": SLICE_GAP / 2}
            more |= {"gap": SLICE_GAP} if number < len(rows) - 2 else {}
        size = row["output_shape"][2:]
        boxes.append(scale.box(row["name"], row["out_channels"], size, **more))
    return boxes


def draw_title(axes: Axes, stages: Summary) -> None:
    """Write what network this is, and what it costs for one image."""
    totals = stages.totals
    facts = (
        f"{short(totals.parameters)} parameters",
        f"{digits(totals.gmacs / stages.batch_size)} GMACs",
        f"input {times((stages.in_channels, *stages.img_size))}",
        stages.outputs,
    )
    write(axes, (MARGIN, TITLE), stages.model, TITLE_STYLE, ha="left")
    write(axes, (MARGIN, SUBTITLE), "  ·  ".join(facts), SUBTITLE_STYLE, ha="left")


def draw_legend(axes: Axes, right: float, scale: Scale) -> None:
    """Say what colour, lines and lengths mean, right-aligned at the top."""
    left = right - 4.95
    for number, (kind, style) in enumerate(SHORTCUTS.items()):
        y = TITLE + 0.06 - 0.31 * number
        draw_curve(axes, (left, left + 0.36), y - 0.09, style)
        write(axes, (left + 0.48, y), f"{kind} shortcut", REMARK_STYLE, ha="left")
    left += 2.0
    ramp, steps = right - left, 80
    for step in range(steps):
        x0, x1 = left + ramp * step / steps, left + ramp * (step + 1) / steps
        colour = scale.colour(scale.top_share * (step + 0.5) / steps)
        corners = [(x0, TITLE), (x1, TITLE), (x1, TITLE + 0.12), (x0, TITLE + 0.12)]
        axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=colour, linewidth=0.3))
    y = TITLE - 0.11
    write(axes, (left, y), "0 %", REMARK_STYLE, ha="left")
    write(axes, (left + ramp / 2, y), "share of multiply-adds, by stage", REMARK_STYLE)
    write(axes, (right, y), f"{scale.top_share:.0%}".replace("%", " %"), REMARK_STYLE, ha="right")
    words = "height and depth: resolution  ·  width: channels  ·  on square-root scales"
    write(axes, (right, TITLE - 0.57), words, REMARK_STYLE, ha="right")


def draw_headings(axes: Axes, width: float) -> None:
    """Name the rows below the picture, and rule them off."""
    rows = (("output", SIZES), ("layers", NOTATION), ("parameters", PARAMETERS))
    for words, y in (*rows, ("multiply-adds", COMPUTE)):
        write(axes, (MARGIN, y), words, HEADING_STYLE, ha="left")
    for y in ((SIZES + NOTATION) / 2 + 0.1, (NOTATION + PARAMETERS) / 2 - 0.1):
        axes.plot((MARGIN, width - MARGIN), (y, y), color=RULE, linewidth=0.7)


def draw_columns(axes: Axes, columns: Sequence[Column], gap: float, scale: Scale) -> None:
    """Draw the stages from left to right, and the way of the data between them."""
    left, last_edge = MARGIN + HEADINGS + gap, None
    for column in columns:
        middle = left + column.width / 2
        start = middle - column.drawn / 2
        if last_edge is not None:
            draw_arrow(axes, last_edge, start)
        draw_boxes(axes, column, start, scale.colour(column.share))
        draw_words(axes, column, middle)
        last_edge = start + column.drawn - column.boxes[-1].oblique[0] / 2
        left += column.width + gap


def draw_arrow(axes: Axes, start: float, end: float) -> None:
    """Draw the way from one stage to the next, behind what it comes from."""
    axes.add_patch(
        FancyArrowPatch(
            (start, CENTRE),
            (end, CENTRE),
            arrowstyle="-|>",
            mutation_scale=7,
            shrinkA=0,
            shrinkB=1,
            color=FAINT,
            linewidth=1,
            zorder=0.5,
        )
    )


def draw_boxes(axes: Axes, column: Column, x: float, colour: Colour) -> None:
    """Draw the blocks of a stage, then their shortcuts, which start and end between blocks."""
    thin = []
    for box in column.boxes:
        draw_box(axes, box, x, colour)
        right, up = box.oblique
        roof = CENTRE + box.height / 2 + up
        if box.shortcut is not None:
            ends = (x + right / 2 - box.around, x + right / 2 + box.width + box.around)
            style = SHORTCUTS[box.shortcut] | ({"linewidth": 0.7} if box.thin else {})
            draw_curve(axes, ends, roof - up / 2, style, gid=f"{box.shortcut}-{box.name}")
        if box.thin:
            thin += [x + right, x + right + box.width]
        x += box.width + box.gap
    if thin:
        words = f"{len(thin) // 2} more, drawn thin"
        write(axes, ((thin[0] + thin[-1]) / 2, roof + 0.3), words, REMARK_STYLE)


def draw_box(axes: Axes, box: Box, x: float, colour: Colour) -> None:
    """Draw a block whose front has its lower left corner at x."""
    right, up = box.oblique
    low, high, end = CENTRE - box.height / 2, CENTRE + box.height / 2, x + box.width
    behind = (end + right, high + up)
    faces = (
        (mix(colour, "white", 0.42), [(x, high), (end, high), behind, (x + right, high + up)]),
        (mix(colour, "black", 0.13), [(end, low), (end + right, low + up), behind, (end, high)]),
        (colour, [(x, low), (end, low), (end, high), (x, high)]),
    )
    for number, (shade, corners) in enumerate(faces):
        face = Polygon(
            corners, facecolor=shade, edgecolor="white", linewidth=0.45, joinstyle="round"
        )
        face.set_gid(f"block-{box.name}-{('top', 'side', 'front')[number]}")
        axes.add_patch(face)


def mix(colour: Colour, other: str, amount: float) -> Colour:
    """A colour with so much, 0 to 1, of another one."""
    red, green, blue = (
        (1 - amount) * a + amount * b for a, b in zip(colour, to_rgb(other), strict=True)
    )
    return red, green, blue


def draw_curve(
    axes: Axes, ends: tuple[float, float], y: float, style: dict[str, Any], *, gid: str = ""
) -> None:
    """Draw an arc over what stands between its ends."""
    start, end = ends
    top = y + 4 / 3 * min(0.24, 0.55 * (end - start))  # a curve reaches 3/4 of its handles
    curve = Curve(
        [(start, y), (start, top), (end, top), (end, y)],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    arc = PathPatch(curve, facecolor="none", capstyle="butt", zorder=3, **style)
    arc.set_gid(gid or None)
    axes.add_patch(arc)


def draw_words(axes: Axes, column: Column, middle: float) -> None:
    """Write what stands below a stage."""
    write(axes, (middle, NAMES), column.name, NAME_STYLE)
    write(axes, (middle, SIZES), column.size, CELL_STYLE)
    write(axes, (middle, PARAMETERS), column.parameters, CELL_STYLE)
    write(axes, (middle, COMPUTE), column.compute, CELL_STYLE)
    whole, lines = notation_width(column), lines_width(column)
    left = middle - whole / 2 + (0 if column.repeats is None else BRACKET)
    write(axes, (left + lines / 2, NOTATION), "\n".join(column.notation), NOTATION_STYLE)
    if column.repeats is not None:
        right, half = left + lines + BRACKET, LINE * len(column.notation) / 2 + 0.02
        for x, inwards in ((left - BRACKET, 0.05), (right, -0.05)):
            ys = (NOTATION + half, NOTATION + half, NOTATION - half, NOTATION - half)
            axes.plot((x + inwards, x, x, x + inwards), ys, color=INK, linewidth=0.9)
        write(axes, (right + REPEATS, NOTATION), f"× {column.repeats}", NOTATION_STYLE, ha="left")


def notation_width(column: Column) -> float:
    """Width of a notation with its brackets and repeats."""
    if column.repeats is None:
        return lines_width(column)
    repeats = written(f"× {column.repeats}", NOTATION_STYLE)
    return lines_width(column) + 2 * BRACKET + REPEATS + repeats


def lines_width(column: Column) -> float:
    """Width of the longest line of a notation."""
    return max(written(line, NOTATION_STYLE) for line in column.notation)


def written(words: str, style: dict[str, Any]) -> float:
    """Width of a line."""
    return measured(words, style["size"], style.get("weight", "normal"))


@cache
def measured(words: str, size: float, weight: str) -> float:
    """Width of a line in a font of so many points."""
    font = FontProperties(family=FAMILY, size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(words, font, ismath=False)[0] / 72


def write(
    axes: Axes, place: Point, words: str, style: dict[str, Any], *, ha: str = "center"
) -> None:
    """Write a few lines, vertically centred."""
    if words:
        axes.text(place[0], place[1], words, ha=ha, va="center", **style, **FONT)


def times(sides: Sequence[int]) -> str:
    """A size, such as 56×56."""
    return "×".join(map(str, sides))


def short(count: int) -> str:
    """A count in three digits: 25.6 M."""
    for unit, value in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= 0.9995 * value:
            return digits(count / value) + unit
    return str(count)


def digits(value: float) -> str:
    """Three digits of a number below a thousand, or all that are before its point."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:,.0f}"


def percent(share: float) -> str:
    """A share, 0 to 1, in words that are short and true."""
    if not share:
        return "0 %"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
