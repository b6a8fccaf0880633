"""A ResNet as a drawing: the width, height and colour of a block are channels, size and compute.

All lengths are inches on the page, whose coordinates start in its lower left corner.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from resnet_cli.files import check_suffix, whole_file
from resnet_cli.summary import Summary, summarize_network
from resnet_cli.summary.columns import (
    BRACKET,
    CELL_STYLE,
    FAMILY,
    HEADINGS,
    HEIGHT,
    INK,
    LEAST_GAP,
    MARGIN,
    NAME_STYLE,
    NOTATION_STYLE,
    REPEATS,
    WIDTH,
    Box,
    DrawingScale,
    Point,
    StageColumn,
    fit_to_page,
    leading_digits,
    lines_width,
    notation_width,
    short_count,
    size_words,
    used_width,
)
from resnet_cli.summary.networks import Subject, SummaryOptions

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".pdf": {"metadata": {"CreationDate": None}},
    ".svg": {"metadata": {"Date": None}},
}
"""Formats of the drawing, with settings that leave the date out."""

SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resnet-cli",
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # the next one is as wide
}
"""Text stays text, to be searched and edited; the same network gives the same file."""

DOTS_PER_INCH = 150
CENTRE = 3.43  # height of the line that the data flow along
NAMES, SIZES, NOTATION, PARAMETERS, COMPUTE = 1.93, 1.69, 1.17, 0.63, 0.39  # heights of rows
LINE = 0.17  # of a notation
TITLE, SUBTITLE = 5.52, 5.2

INPUT = "#d0d7de"
RAMP = colormaps["Blues"]
PALEST, DARKEST = 0.2, 0.94  # of the ramp: white would vanish, black would hide the edges
QUIET, FAINT, RULE = "#656d76", "#8c959f", "#d8dee4"

FONT: dict[str, Any] = {"family": FAMILY, "parse_math": False}
TITLE_STYLE: dict[str, Any] = {"size": 19, "weight": "bold", "color": INK}
SUBTITLE_STYLE: dict[str, Any] = {"size": 10.5, "color": QUIET}
HEADING_STYLE: dict[str, Any] = {"size": 8.5, "color": QUIET}
REMARK_STYLE: dict[str, Any] = {"size": 8, "color": QUIET}

SHORTCUTS: dict[str, dict[str, Any]] = {
    "identity": {"edgecolor": "#7d8590", "linewidth": 1.0, "linestyle": "-"},
    "projection": {"edgecolor": "#d9580d", "linewidth": 2.1, "linestyle": (0, (2.2, 1.1))},
}
"""The two kinds of arc, which differ in line as well as in colour."""

Colour = tuple[float, float, float]


def plot_subject(subject: Subject, options: SummaryOptions, path: Path) -> None:
    """Draw the stages of a network into a file, whatever view the options name.

    Raises:
        OutputNameError: another suffix than those in ``SUFFIXES``.
        SettingError: the network is not a ResNet, or the images are too small for it.
    """
    stages, blocks = (
        summarize_network(subject, replace(options, view=view)) for view in ("stages", "blocks")
    )
    plot_network(stages, blocks, path)


def plot_network(stages: Summary, blocks: Summary, path: Path) -> None:
    """Draw a ResNet into a file.

    Args:
        stages: the network's view of that name.
        blocks: its other view.
        path: its suffix, one of ``SUFFIXES``, is the format.

    Raises:
        OutputNameError: another suffix.
    """
    check_suffix(path, SUFFIXES)
    suffix = path.suffix.lower()
    with rc_context(SETTINGS), whole_file(path) as file:
        draw_network(stages, blocks).savefig(
            file, format=suffix[1:], dpi=DOTS_PER_INCH, **SUFFIXES[suffix]
        )


def draw_network(stages: Summary, blocks: Summary) -> Figure:
    """Draw a figure; blocks and shortcuts have ids, so that an SVG can be animated."""
    scale, columns = fit_to_page(stages, blocks)
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


def draw_title(axes: Axes, stages: Summary) -> None:
    """Write the name of the network, and its cost for one image."""
    totals = stages.totals
    facts = (
        f"{short_count(totals.parameters)} parameters",
        f"{leading_digits(totals.gmacs / stages.batch_size)} GMACs",
        f"input {size_words((stages.in_channels, *stages.img_size))}",
        stages.outputs,
    )
    write_lines(axes, (MARGIN, TITLE), stages.model, TITLE_STYLE, ha="left")
    write_lines(axes, (MARGIN, SUBTITLE), "  ·  ".join(facts), SUBTITLE_STYLE, ha="left")


def draw_legend(axes: Axes, right: float, scale: DrawingScale) -> None:
    """Explain colours, lines and lengths, right-aligned at the top."""
    left = right - 4.95
    for number, (kind, style) in enumerate(SHORTCUTS.items()):
        y = TITLE + 0.06 - 0.31 * number
        draw_curve(axes, (left, left + 0.36), y - 0.09, style)
        write_lines(axes, (left + 0.48, y), f"{kind} shortcut", REMARK_STYLE, ha="left")
    left += 2.0
    ramp, steps = right - left, 80
    for step in range(steps):
        x0, x1 = left + ramp * step / steps, left + ramp * (step + 1) / steps
        colour = colour_of(scale.top_share * (step + 0.5) / steps, scale)
        corners = [(x0, TITLE), (x1, TITLE), (x1, TITLE + 0.12), (x0, TITLE + 0.12)]
        axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=colour, linewidth=0.3))
    y = TITLE - 0.11
    write_lines(axes, (left, y), "0 %", REMARK_STYLE, ha="left")
    write_lines(axes, (left + ramp / 2, y), "share of multiply-adds, by stage", REMARK_STYLE)
    write_lines(
        axes, (right, y), f"{scale.top_share:.0%}".replace("%", " %"), REMARK_STYLE, ha="right"
    )
    words = "height and depth: resolution  ·  width: channels  ·  on square-root scales"
    write_lines(axes, (right, TITLE - 0.57), words, REMARK_STYLE, ha="right")


def draw_headings(axes: Axes, width: float) -> None:
    """Name the rows below the blocks, with rules between them."""
    rows = (("output", SIZES), ("layers", NOTATION), ("parameters", PARAMETERS))
    for words, y in (*rows, ("multiply-adds", COMPUTE)):
        write_lines(axes, (MARGIN, y), words, HEADING_STYLE, ha="left")
    for y in ((SIZES + NOTATION) / 2 + 0.1, (NOTATION + PARAMETERS) / 2 - 0.1):
        axes.plot((MARGIN, width - MARGIN), (y, y), color=RULE, linewidth=0.7)


def draw_columns(
    axes: Axes, columns: Sequence[StageColumn], gap: float, scale: DrawingScale
) -> None:
    """Draw the stages from left to right, and arrows between them."""
    left, last_edge = MARGIN + HEADINGS + gap, None
    for column in columns:
        middle = left + column.width / 2
        start = middle - column.drawn / 2
        if last_edge is not None:
            draw_arrow(axes, last_edge, start)
        draw_boxes(axes, column, start, colour_of(column.share, scale))
        draw_words(axes, column, middle)
        last_edge = start + column.drawn - column.boxes[-1].oblique[0] / 2
        left += column.width + gap


def draw_arrow(axes: Axes, start: float, end: float) -> None:
    """Draw an arrow from one stage to the next, behind the blocks."""
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


def draw_boxes(axes: Axes, column: StageColumn, x: float, colour: Colour) -> None:
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
        write_lines(axes, ((thin[0] + thin[-1]) / 2, roof + 0.3), words, REMARK_STYLE)


def draw_box(axes: Axes, box: Box, x: float, colour: Colour) -> None:
    """Draw a block whose front has its lower left corner at x."""
    right, up = box.oblique
    low, high, end = CENTRE - box.height / 2, CENTRE + box.height / 2, x + box.width
    behind = (end + right, high + up)
    faces = (
        (
            mix_colors(colour, "white", 0.42),
            [(x, high), (end, high), behind, (x + right, high + up)],
        ),
        (
            mix_colors(colour, "black", 0.13),
            [(end, low), (end + right, low + up), behind, (end, high)],
        ),
        (colour, [(x, low), (end, low), (end, high), (x, high)]),
    )
    for number, (shade, corners) in enumerate(faces):
        face = Polygon(
            corners, facecolor=shade, edgecolor="white", linewidth=0.45, joinstyle="round"
        )
        face.set_gid(f"block-{box.name}-{('top', 'side', 'front')[number]}")
        axes.add_patch(face)


def colour_of(share: float | None, scale: DrawingScale) -> Colour:
    """Return the colour of a share of 0 to 1 of the multiply-adds; the input has none."""
    if share is None:
        return to_rgb(INPUT)
    return to_rgb(RAMP(PALEST + (DARKEST - PALEST) * share / scale.top_share))


def mix_colors(colour: Colour, other: str, amount: float) -> Colour:
    """Mix a colour with an amount, 0 to 1, of another one."""
    red, green, blue = (
        (1 - amount) * a + amount * b for a, b in zip(colour, to_rgb(other), strict=True)
    )
    return red, green, blue


def draw_curve(
    axes: Axes, ends: tuple[float, float], y: float, style: dict[str, Any], *, gid: str = ""
) -> None:
    """Draw an arc from one end to the other."""
    start, end = ends
    top = y + 4 / 3 * min(0.24, 0.55 * (end - start))  # a curve reaches 3/4 of its handles
    curve = Curve(
        [(start, y), (start, top), (end, top), (end, y)],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    arc = PathPatch(curve, facecolor="none", capstyle="butt", zorder=3, **style)
    arc.set_gid(gid or None)
    axes.add_patch(arc)


def draw_words(axes: Axes, column: StageColumn, middle: float) -> None:
    """Write the words below a stage."""
    write_lines(axes, (middle, NAMES), column.name, NAME_STYLE)
    write_lines(axes, (middle, SIZES), column.size, CELL_STYLE)
    write_lines(axes, (middle, PARAMETERS), column.parameters, CELL_STYLE)
    write_lines(axes, (middle, COMPUTE), column.compute, CELL_STYLE)
    whole, lines = notation_width(column), lines_width(column)
    left = middle - whole / 2 + (0 if column.repeats is None else BRACKET)
    write_lines(axes, (left + lines / 2, NOTATION), "\n".join(column.notation), NOTATION_STYLE)
    if column.repeats is not None:
        right, half = left + lines + BRACKET, LINE * len(column.notation) / 2 + 0.02
        for x, inwards in ((left - BRACKET, 0.05), (right, -0.05)):
            ys = (NOTATION + half, NOTATION + half, NOTATION - half, NOTATION - half)
            axes.plot((x + inwards, x, x, x + inwards), ys, color=INK, linewidth=0.9)
        write_lines(
            axes, (right + REPEATS, NOTATION), f"× {column.repeats}", NOTATION_STYLE, ha="left"
        )


def write_lines(
    axes: Axes, place: Point, words: str, style: dict[str, Any], *, ha: str = "center"
) -> None:
    """Write lines that are vertically centred."""
    if words:
        axes.text(place[0], place[1], words, ha=ha, va="center", **style, **FONT)
