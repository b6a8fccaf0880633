import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import OutputError
from resnet_cli.summary import Summary, summarize
from resnet_cli.summary.columns import leading_digits, share_words, short_count
from resnet_cli.summary.networks import SummaryOptions
from resnet_cli.summary.plot import SUFFIXES, draw_network, plot_network

Case = tuple[str, SummaryOptions]

USUAL = {name: (name, SummaryOptions()) for name in ARCHITECTURES}
UNUSUAL: dict[str, Case] = {
    "small and grey": (
        "resnet50",
        SummaryOptions(num_classes=2, in_channels=1, img_size=(64, 64)),
    ),
    "upright, a batch": (
        "resnet34",
        SummaryOptions(num_classes=2, img_size=(320, 160), batch_size=8),
    ),
    "a strip": (
        "resnet152",
        SummaryOptions(num_classes=1, in_channels=12, img_size=(64, 640)),
    ),
    "wide": (
        "resnext101_32x8d",
        SummaryOptions(num_classes=21843, dilated=True, img_size=(320, 320)),
    ),
}
CASES = USUAL | UNUSUAL


@cache
def views(case: str) -> tuple[Summary, Summary]:
    name, options = CASES[case]
    stages, blocks = (summarize(name, replace(options, view=view)) for view in ("stages", "blocks"))
    return stages, blocks


@cache
def drawing(case: str) -> Figure:
    return draw_network(*views(case))


def words(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def with_id(figure: Figure, kind: type[Patch], start: str) -> dict[str, Any]:
    found = [artist for artist in figure.findobj(kind) if str(artist.get_gid()).startswith(start)]
    return {str(artist.get_gid()): artist for artist in found}


def fronts(figure: Figure) -> dict[str, Bbox]:
    """Where the front of each block is, in inches."""
    return {
        name.removeprefix("block-").removesuffix("-front"): Bbox(polygon.get_xy()[[0, 2]])
        for name, polygon in with_id(figure, Polygon, "block-").items()
        if name.endswith("-front")
    }


def lightness(figure: Figure, block: str) -> float:
    polygon = with_id(figure, Polygon, "block-")[f"block-{block}-front"]
    return float(np.dot(polygon.get_facecolor()[:3], (0.2126, 0.7152, 0.0722)))


def overlap(one: Bbox, other: Bbox) -> bool:
    return min(one.x1, other.x1) > max(one.x0, other.x0) and (
        min(one.y1, other.y1) > max(one.y0, other.y0)
    )


def within(page: Bbox, box: Bbox) -> bool:
    return page.x0 < box.x0 and box.x1 < page.x1 and page.y0 < box.y0 and box.y1 < page.y1


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_written_over_anything(case: str) -> None:
    figure = drawing(case)
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = Bbox.from_extents(*figure.bbox.extents)
    placed = [(text.get_text(), text.get_window_extent(renderer)) for text in words(figure)]
    axes = figure.axes[0]
    drawn = [artist.get_window_extent(renderer) for artist in (*axes.patches, *axes.lines)]

    assert len(placed) > 50
    for text, box in placed:
        assert within(page, box), text
        assert not [other for other in drawn if overlap(box, other)], text
    assert [(a, b) for (a, one), (b, other) in combinations(placed, 2) if overlap(one, other)] == []
    assert all(within(page, box) for box in drawn)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_arc_for_each_shortcut(name: str) -> None:
    figure = drawing(name)
    architecture = ARCHITECTURES[name]
    projections = 3 if architecture.block == "BasicBlock" else 4
    identity = with_id(figure, PathPatch, "identity-")
    projection = with_id(figure, PathPatch, "projection-")

    assert len(projection) == projections
    assert len(identity) == sum(architecture.depths) - projections
    assert {*identity, *projection} == {
        f"{row['shortcut']}-{row['name']}" for row in views(name)[1].rows
    }
    assert {arc.get_linestyle() for arc in identity.values()}.isdisjoint(
        {str(arc.get_linestyle()) for arc in projection.values()}
    )
    assert max(arc.get_linewidth() for arc in identity.values()) < min(
        arc.get_linewidth() for arc in projection.values()
    )
    said = [text.get_text() for text in words(figure)]
    thin = [depth - 3 for depth in architecture.depths if depth > 6]
    assert [text for text in said if "thin" in text] == [f"{n} more, drawn thin" for n in thin]
    assert {"identity shortcut", "projection shortcut"} <= set(said)


def test_width_is_channels_height_is_resolution() -> None:
    boxes = fronts(drawing("resnet50"))

    assert list(boxes)[:3] == ["input", "conv1", "maxpool"]
    assert len(boxes) == 5 + 16
    unit = boxes["conv1"].width / sqrt(64)
    channels = {"layer1.2": 256, "layer2.0": 512, "layer4.2": 2048, "avgpool": 2048, "fc": 1000}
    for name, count in channels.items():
        assert boxes[name].width == pytest.approx(unit * sqrt(count))
    sizes = {"conv1": 112, "maxpool": 56, "layer1.0": 56, "layer2.0": 28, "layer4.2": 7, "fc": 1}
    for name, pixels in sizes.items():
        assert boxes[name].height == pytest.approx(boxes["input"].height * sqrt(pixels / 224))
    lefts = [box.x0 for box in boxes.values()]
    assert lefts == sorted(lefts)


def test_a_strip_is_flat() -> None:
    strip, square = fronts(drawing("a strip")), fronts(drawing("resnet152"))

    assert strip["input"].height == pytest.approx(square["input"].height * sqrt(64 / 640))


def test_darker_is_more_compute() -> None:
    figure = drawing("resnet50")
    first = ["conv1", "layer4.0", "layer2.0", "layer3.0"]  # of stages by their share
    shades = [lightness(figure, block) for block in first]

    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == 4
    assert lightness(figure, "layer3.5") == shades[-1]


def test_words_tell_the_stages() -> None:
    said = [text.get_text() for text in words(drawing("resnext50_32x4d"))]
    heading = said[
        said.index("25.0 M parameters  ·  4.23 GMACs  ·  input 3×224×224  ·  1,000 classes") - 1
    ]

    assert heading == "resnext50_32x4d"
    for expected in ("1×1, 256\n3×3, 256, 32 groups\n1×1, 512", "× 6", "14×14", "2048 → 1000"):
        assert expected in said


def test_costs_are_of_one_image() -> None:
    _, blocks = views("upright, a batch")
    said = [text.get_text() for text in words(drawing("upright, a batch"))]

    gmacs = f"{blocks.totals.macs / 8e9:.2f} GMACs"
    assert f"21.3 M parameters  ·  {gmacs}  ·  input 3×320×160  ·  2 classes" in said


def test_png(tmp_path: Path) -> None:
    plot_network(*views("resnet152"), tmp_path / "a.PNG")

    with Image.open(tmp_path / "a.PNG") as image:
        assert (image.format, image.size) == ("PNG", (2100, 900))
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100


def test_svg_holds_words_and_named_parts(tmp_path: Path) -> None:
    stages, blocks = views("resnet101")
    plot_network(stages, blocks, tmp_path / "a.svg")

    root = ET.parse(tmp_path / "a.svg").getroot()
    texts = {
        "".join(element.itertext()).strip() for element in root.iter() if "text" in element.tag
    }
    assert {row["name"] for row in stages.rows} <= texts
    assert {"resnet101", "224×224", "112×112", "56×56", "28×28", "14×14", "7×7"} <= texts
    ids = Counter(element.get("id", "").partition("-")[0] for element in root.iter())
    assert (ids["projection"], ids["identity"]) == (4, 29)
    assert ids["block"] == 3 * (5 + 33)


def test_pdf_has_one_page(tmp_path: Path) -> None:
    plot_network(*views("resnet34"), tmp_path / "a.pdf")

    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    assert b"/MediaBox [ 0 0 1008 432 ]" in content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_network_gives_the_same_file(suffix: str, tmp_path: Path) -> None:
    for name in "ab":
        plot_network(*views("resnet18"), tmp_path / f"{name}{suffix}")

    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "a"])
def test_unknown_suffix(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the suffix must be one of \.png, \.pdf, \.svg$"):
        plot_network(*views("resnet18"), tmp_path / name)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0"), (999, "999"), (9536, "9.54 k"), (215_968, "216 k"), (999_600, "1.00 M"),
     (15_000_000, "15.0 M"), (2_500_000_000, "2.50 G")],
)  # fmt: skip
def test_short_counts(count: int, expected: str) -> None:
    assert short_count(count) == expected


def test_short_shares() -> None:
    assert [share_words(share) for share in (0, 0.0004, 0.0005, 0.6962)] == [
        "0 %", "< 0.1 %", "0.1 %", "69.6 %",
    ]  # fmt: skip
    assert [leading_digits(value) for value in (0.3271, 999.4, 12345.6)] == [
        "0.327",
        "999",
        "12,346",
    ]
