"""Draw an evaluation: the confusion matrix and the reliability diagram."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from resnet_cli.display.fonts import with_letters
from resnet_cli.evaluate.metrics import Bin
from resnet_cli.evaluate.scorecard import Evaluation
from resnet_cli.files import whole_file
from resnet_cli.text import cut_middle, escape_unprintable

INK, QUIET, LINES = "#1f2328", "#6e7781", "#d9dee3"
EMPTY = "#f3f1ee"  # the row of a class without images
BLUE = "#0b6e99"
PALE_BLUE, PALE_RED = "#9ecae1", "#efb9c0"
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9ecae1", "#0b4f71"])

DOTS_PER_INCH = 150
MOST_CLASSES = 100  # of a readable matrix
MOST_CONFUSED = 50  # classes shown where there are more
MOST_COUNTS = 30  # classes up to which cells show their count
LETTERS = 28  # of a class name
BESIDE = 1.45  # inches to the right of a matrix, for the colour bar
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the colour bar
GAMMA = 0.5  # of the colours: a share of 2 % is visible

Draw = Callable[[Evaluation, str], Figure]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a drawing in the format of its suffix."""
    with warnings.catch_warnings():  # about characters missing from all fonts
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        with whole_file(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)


@dataclass(frozen=True, slots=True)
class Measures:
    """Sizes of the parts of a drawn matrix."""

    classes: int
    longest: int  # letters of the longest name

    def between(self, few: Sequence[float]) -> float:
        """Interpolate a size between those for 2, 10, 30 and 100 classes."""
        return float(np.interp(self.classes, [2, 10, 30, 100], few))

    @property
    def points(self) -> float:
        """Font size."""
        return self.between([10, 9, 8, 5.5])

    @property
    def side(self) -> float:
        """Width and height of the matrix, in inches."""
        return self.classes * self.between([1.1, 0.55, 0.36, 0.155])

    @property
    def words(self) -> float:
        """Width of the longest name, in inches."""
        return self.longest * self.points * 0.0085

    @property
    def turned(self) -> bool:
        """True if the names below the matrix are rotated, because they are wider than a cell."""
        return self.words > self.side / self.classes

    @property
    def margin(self) -> float:
        """Room for the names on the left, in inches."""
        return 0.45 + self.words

    @property
    def foot(self) -> float:
        """Room for the names below, in inches."""
        return 0.45 + (self.words if self.turned else 0.25)

    def figure(self) -> tuple[Figure, Axes, Axes]:
        """Return an empty figure, with axes for the matrix and for the colour bar."""
        width = max(self.side + self.margin + BESIDE, 5.6)
        height = self.side + self.foot + 0.85
        figure = Figure(figsize=(width, height), facecolor="white")
        left, bottom = self.margin / width, self.foot / height
        matrix = figure.add_axes((left, bottom, self.side / width, self.side / height))
        beside, tall = left + (self.side + 0.2) / width, min(self.side, 3.0) / height
        top = bottom + self.side / height
        bar = figure.add_axes((beside, top - tall, 0.14 / width, tall))
        return figure, matrix, bar


def draw_confusion(evaluation: Evaluation, caption: str) -> Figure:
    """Draw the confusion matrix, each row relative to its number of images.

    Of more than 100 classes, those with the most mistakes are shown.
    """
    shown = classes_shown(evaluation)
    counts = evaluation.matrix[np.ix_(shown, shown)]
    support = evaluation.matrix.sum(1)[shown]
    names = [cell_label(evaluation.classes[index].label) for index in shown]
    measures = Measures(len(shown), max(map(len, names)))
    figure, axes, bar = measures.figure()
    shares = counts / np.maximum(support, 1)[:, None]
    seen = np.ma.masked_array(shares, mask=np.repeat((support == 0)[:, None], len(shown), axis=1))
    image = axes.imshow(seen, cmap=SHADES, norm=PowerNorm(GAMMA, 0, 1))
    name_axes(axes, names, measures)
    draw_cell_lines(axes, measures)
    if len(shown) <= MOST_COUNTS:
        write_counts(axes, counts, shares, measures.points)
    explain_shades(figure, bar, image, grey=bool((support == 0).any()))
    write_titles(figure, matrix_title(evaluation, len(shown)), caption)
    return figure


def explain_shades(figure: Figure, bar: Axes, image: AxesImage, *, grey: bool) -> None:
    """Draw the colour bar, and the legend of rows of classes without images if there are any."""
    shades = figure.colorbar(image, cax=bar, ticks=TICKS, format=PercentFormatter(1, 0, " %"))
    shades.set_label("share of the row's images", color=QUIET, size=8)
    shades.outline.set_edgecolor(LINES)
    bar.tick_params(labelsize=7, color=LINES, labelcolor=QUIET)
    if grey:
        bar.legend(
            handles=[Patch(facecolor=EMPTY, edgecolor=LINES, label="no images\nof this class")],
            loc="upper left", bbox_to_anchor=(0, -0.04), bbox_transform=bar.transAxes,
            borderpad=0, borderaxespad=0, handlelength=1.3, handletextpad=0.6,
            frameon=False, fontsize=7, labelcolor=QUIET,
        )  # fmt: skip


def name_axes(axes: Axes, names: Sequence[str], measures: Measures) -> None:
    """Label the axes and their ticks with the class names."""
    axes.set_facecolor(EMPTY)
    places = range(len(names))
    style = with_letters("".join(names), {"size": measures.points, "color": INK})
    axes.set_xticks(places, names, rotation=90 if measures.turned else 0, **style)
    axes.set_yticks(places, names, **style)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", color=QUIET)
    axes.set_ylabel("true", color=QUIET)


def classes_shown(evaluation: Evaluation) -> list[int]:
    """Return the indices of the classes to draw, in order."""
    matrix = evaluation.matrix
    size = len(matrix)
    if size <= MOST_CLASSES:
        return list(range(size))
    concerned = matrix.sum(0) + matrix.sum(1)
    wrong = concerned - 2 * matrix.diagonal()
    worst = np.lexsort((-concerned, -wrong))[:MOST_CONFUSED]
    return sorted(index for index in worst.tolist() if concerned[index]) or [0]


def matrix_title(evaluation: Evaluation, size: int) -> str:
    """Return the title of a confusion matrix."""
    top1 = f"top-1 {100 * (evaluation.top1.value or 0):.1f} % of {evaluation.images:,} images"
    everything = len(evaluation.classes)
    if size < everything:
        if size < MOST_CONFUSED:
            return f"The {size} of {everything:,} classes with images or predictions; {top1}"
        return f"The {size} most confused of {everything:,} classes; {top1}"
    return f"Confusion: {top1}"


def write_titles(figure: Figure, words: str, caption: str) -> None:
    """Write the title and the caption."""
    width, height = figure.get_size_inches()
    left, shown = 0.15 / width, escape_unprintable(caption)
    style: dict[str, Any] = {"size": 11, "color": INK, "weight": "bold", "va": "center"}
    figure.text(left, 1 - 0.28 / height, words, **with_letters(words, style))
    style = {"size": 7.5, "color": QUIET, "va": "center"}
    figure.text(left, 1 - 0.54 / height, shown, **with_letters(shown, style))


def draw_cell_lines(axes: Axes, measures: Measures) -> None:
    """Draw thin lines between the cells."""
    between = np.arange(measures.classes - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color=LINES, linewidth=measures.between([1.0, 0.9, 0.8, 0.3]))
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color(LINES)


def write_counts(
    axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64], letters: float
) -> None:
    """Write the number of images into each cell that is not empty."""
    for row, column in np.argwhere(counts):
        words = f"{counts[row, column]:,}"
        axes.text(
            column, row, words, ha="center", va="center",
            size=letters * min(1.0, 4 / max(len(words), 1)),
            color="white" if shares[row, column] > 0.4 else INK,
        )  # fmt: skip


def cell_label(name: str) -> str:
    """Shorten a class name in the middle, as similar names often differ at the end."""
    return cut_middle(escape_unprintable(name), LETTERS)


def draw_calibration(evaluation: Evaluation, caption: str) -> Figure:
    """Draw the reliability diagram: accuracy over confidence, and the images of each bin."""
    figure = Figure(figsize=(6.0, 6.4), facecolor="white")
    upper = figure.add_axes((0.12, 0.34, 0.83, 0.5))
    lower = figure.add_axes((0.12, 0.09, 0.83, 0.17), sharex=upper)
    bars: dict[str, Any] = {
        "width": 1 / len(evaluation.bins),
        "align": "edge",
        "edgecolor": "white",
    }
    draw_accuracy(upper, evaluation.bins, bars)
    upper.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="perfect")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("share that is right", color=QUIET)
    upper.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, fontsize=8,
        borderaxespad=0.2, columnspacing=1.6,
    )  # fmt: skip
    lower.bar(
        [each.low for each in evaluation.bins],
        [each.images for each in evaluation.bins],
        color=QUIET,
        **bars,
    )
    lower.set_ylabel("images", color=QUIET)
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lower.set_xlabel("probability of the predicted class", color=QUIET)
    draw_grid((upper, lower))
    write_titles(figure, calibration_title(evaluation), caption)
    return figure


def draw_accuracy(axes: Axes, bins: Sequence[Bin], bars: Mapping[str, Any]) -> None:
    """Draw the accuracy of each bin, and its difference from the confidence."""
    places = [each.low for each in bins]
    accuracy = [each.accuracy or 0.0 for each in bins]
    confidence = [each.confidence or 0.0 for each in bins]
    pairs = list(zip(confidence, accuracy, strict=True))
    over = [max(said - true, 0.0) for said, true in pairs]
    under = [max(true - said, 0.0) for said, true in pairs]
    axes.bar(places, accuracy, color=BLUE, **bars)
    axes.bar(places, over, bottom=accuracy, color=PALE_RED, label="too confident by", **bars)
    axes.bar(places, under, bottom=confidence, color=PALE_BLUE, label="too modest by", **bars)
    for each in bins:
        if each.accuracy is not None:
            axes.plot([each.low, each.high], [each.accuracy] * 2, color=INK, linewidth=2.5)
    axes.plot([], [], color=INK, linewidth=2.5, label="accuracy")


def draw_grid(all_axes: Sequence[Axes]) -> None:
    """Draw a light grid without a frame on top and right."""
    for axes in all_axes:
        axes.grid(color=LINES, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)


def calibration_title(evaluation: Evaluation) -> str:
    """Return the title of a reliability diagram: the error, and the temperature that fixes it."""
    words = f"Calibration error {'unknown' if evaluation.ece is None else f'{evaluation.ece:.3f}'}"
    found = evaluation.temperature
    if found is None or found.at_bound:
        return words
    return f"{words}; {found.ece_after:.3f} at temperature {found.value:.2f}"


PLOTS: dict[str, Draw] = {"confusion": draw_confusion, "calibration": draw_calibration}
"""The drawings, by the names of their options."""
