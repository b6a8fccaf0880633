"""The plot: what it says in words, and that its marks are the figures."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from measuring import a_row
from resnet_cli.benchmark import BenchmarkResult
from resnet_cli.benchmark.plot import plot_benchmark
from resnet_cli.benchmark.rows import BenchmarkRow

SETTINGS: dict[str, Any] = {
    "img_size": 224, "workers": 2, "compiled": False, "runtimes": ["torch"],
}  # fmt: skip

ENVIRONMENT = {"device": "a machine", "torch": "2.99", "date": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """The figure that is drawn for some rows."""

    def draw(
        *rows: BenchmarkRow, percentiles: tuple[float, ...] = (50, 90, 99), **more: Any
    ) -> Figure:
        kept: list[Figure] = []
        monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: kept.append(self))
        settings = SETTINGS | {"percentiles": percentiles} | more
        plot_benchmark(BenchmarkResult(ENVIRONMENT, settings, rows, ""), Path("a.png"))
        [figure] = kept
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        return figure

    return draw


def full(mode: str, precision: str, batch: int, rate: float | None, **more: Any) -> BenchmarkRow:
    times = {} if rate is None else {"p50": 9.0 * batch, "p90": 10.0 * batch, "p99": 30.0 * batch}
    return a_row(mode, batch, rate, precision=precision, latency_ms=times, **more)


def texts(figure: Figure) -> list[Text]:
    """All words that are seen, without the ticks, some of which stand where nothing is drawn."""
    ticks = [
        tick
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_ticklabels(which="both")
    ]
    return [
        text
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_text() and text.get_visible() and text not in ticks
    ]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def ticks(figure: Figure) -> list[str]:
    return [tick.get_text() for axes in figure.axes for tick in axes.get_xticklabels()]


PAIRS = list(product(("fp32", "bf16", "fp16"), ("forward", "end-to-end")))


def sweep(*sizes: int, without_room: int = 0) -> list[BenchmarkRow]:
    """Six curves, two by two close to each other."""
    return [
        full(mode, precision, size, None if size == without_room else 50.0 * rank + size % 7 + near)
        for rank, precision in enumerate(("fp32", "bf16", "fp16"), 1)
        for near, mode in enumerate(("end-to-end", "forward"))
        for size in sizes
    ]


def within(figure: Figure) -> None:
    """No word stands beyond the edge of the page, and none on another."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = Bbox.from_extents(*figure.bbox.extents)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    for text, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for number, (text, box) in enumerate(boxes):
        for other, there in boxes[:number]:
            assert not box.overlaps(there), (text, other)


@pytest.mark.parametrize("sizes", [(1, 8, 32), (1, 2, 4, 8, 16, 32, 64, 128, 256, 10_000), (8,)])
def test_words_tell_what_is_drawn(drawn: Callable[..., Figure], sizes: tuple[int, ...]) -> None:
    figure = drawn(*sweep(*sizes), compiled=True)
    found = {*words(figure), *(tick.get_text() for tick in figure.axes[0].get_yticklabels())}

    assert {f"{precision} {mode}" for precision, mode in PAIRS} <= found
    assert {"resnet18 on a machine", "Throughput, images/s"} <= found
    assert any("Latency" in word and "ms" in word for word in found)
    [facts] = [word for word in found if "·" in word]
    for fact in ("224×224", "2 workers", "compiled", "torch 2.99", "2026-01-02"):
        assert fact in facts
    assert "noisy" not in facts
    within(figure)
    if len(sizes) > 1:
        assert {"1", f"{sizes[-1]:,}"} <= set(ticks(figure))
        assert "batch size" in found


def test_the_best_of_a_curve_has_its_number(drawn: Callable[..., Figure]) -> None:
    rows = [full("forward", "fp32", size, rate) for size, rate in ((1, 30), (8, 80), (32, 70))]
    assert "80.0" in words(drawn(*rows))
    assert not {"30.0", "70.0"} & set(words(drawn(*rows)))


def test_lines_are_the_figures(drawn: Callable[..., Figure]) -> None:
    rows = full("forward", "fp32", 8, 80.0), full("forward", "fp32", 1, 30.0)
    left, right = drawn(*rows, full("forward", "fp32", 64, None)).axes

    line, cross = left.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1, 30], [8, 80]])
    assert (cross.get_marker(), cross.get_xdata()) == ("x", [64])
    [line] = right.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1, 9], [8, 72]])
    [band] = right.collections
    heights = {float(y) for path in band.get_paths() for _, y in np.asarray(path.vertices)}
    assert {9.0, 30.0, 72.0, 240.0} <= heights


def test_precisions_and_modes_can_be_told_apart(drawn: Callable[..., Figure]) -> None:
    lines = drawn(*sweep(1, 8)).axes[0].get_lines()
    looks = {
        line.get_label(): (line.get_color(), same_color(line.get_markerfacecolor(), "white"))
        for line in lines
    }
    assert len(set(looks.values())) == 6
    for precision in ("fp32", "bf16", "fp16"):
        alone, whole = looks[f"{precision} forward"], looks[f"{precision} end-to-end"]
        assert alone[0] == whole[0]
        assert (alone[1], whole[1]) == (False, True)


def test_marks_are_explained(drawn: Callable[..., Figure]) -> None:
    noisy = full("forward", "fp32", 8, 80.0, status="noisy")
    figure = drawn(full("forward", "fp32", 1, 90.0), noisy, full("forward", "fp32", 64, None))
    [facts] = [word for word in words(figure) if "·" in word]
    assert "~ too noisy" in facts
    assert "× out of memory" in facts
    assert "~" in words(figure)
    assert "80.0~" in words(drawn(noisy))


def test_many_crosses_stand_above_each_other(drawn: Callable[..., Figure]) -> None:
    figure = drawn(*sweep(1, 8, 64, without_room=64))
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    heights = [float(np.asarray(cross.get_ydata())[0]) for cross in crosses]
    assert len(heights) == len(set(heights)) == 6
    assert max(heights) < 1
    within(figure)


def test_a_single_batch_size_is_bars(drawn: Callable[..., Figure]) -> None:
    rows = full("forward", "fp32", 8, 80.0), full("end-to-end", "fp32", 8, 70.0)
    figure = drawn(*rows, full("forward", "fp16", 8, None))
    left, right = figure.axes

    assert [bar.get_width() for bar in left.patches] == [80, 70, 0]  # type: ignore[attr-defined]
    first, second = right.get_lines()
    np.testing.assert_array_equal(first.get_xdata(), [72, 80, 240])
    np.testing.assert_array_equal(second.get_ydata(), [1, 1, 1])
    assert {"80.0", "70.0", "out of memory", "p50 72  p90 80  p99 240"} <= set(words(figure))
    within(figure)


@pytest.mark.parametrize("sizes", [(8,), (8, 16)])
def test_a_plot_without_a_figure_says_why(
    drawn: Callable[..., Figure], sizes: tuple[int, ...]
) -> None:
    assert "out of memory" in words(drawn(*(full("forward", "fp32", size, None) for size in sizes)))


@pytest.mark.parametrize("percentiles", [(50.0,), (99.9, 50.0)])
def test_the_percentiles_are_named(
    drawn: Callable[..., Figure], percentiles: tuple[float, ...]
) -> None:
    times = {f"p{percent:g}": percent for percent in percentiles}
    rows = [a_row("forward", size, 80.0, latency_ms=times) for size in (1, 2)]
    [title] = [w for w in words(drawn(*rows, percentiles=percentiles)) if w.startswith("Latency")]
    assert "p50" in title
    assert ("p99.9" in title) is (len(percentiles) == 2)


def of_runtimes(*sizes: int) -> list[BenchmarkRow]:
    return [
        replace(full(mode, precision, size, 50.0 * rank + size % 7), runtime=runtime)
        for rank, (runtime, precision) in enumerate(
            product(("torch", "openvino", "onnxruntime"), ("fp32", "int8")), 1
        )
        for mode in ("forward", "end-to-end")
        for size in sizes
    ]


@pytest.mark.parametrize("sizes", [(1, 8, 32), (8,)])
def test_runtimes_are_named_and_have_markers(
    drawn: Callable[..., Figure], sizes: tuple[int, ...]
) -> None:
    figure = drawn(*of_runtimes(*sizes), runtimes=["torch", "openvino", "onnxruntime"])
    found = {*words(figure), *(tick.get_text() for tick in figure.axes[0].get_yticklabels())}
    assert {"openvino int8 forward", "onnxruntime fp32 end-to-end", "torch fp32 forward"} <= found
    within(figure)
    lines = figure.axes[len(sizes) == 1].get_lines()
    assert {line.get_marker() for line in lines} == {"o", "s", "^"}


def test_disturbed_points_are_marked_and_explained(drawn: Callable[..., Figure]) -> None:
    figure = drawn(full("forward", "fp32", 8, 80.0, status="disturbed"))
    assert "80.0~" in words(figure)
    assert any("~ disturbed by other work" in word for word in words(figure))
