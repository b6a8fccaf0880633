"""Pages and reports are drawn beside the run: in order, bounded, and no error is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run, picture
from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.results import open_writer
from resnet_cli.results.drawing import AHEAD, draw_meanwhile
from resnet_cli.results.files.manifest import Output
from resnet_cli.results.options import Write, WriterOptions
from writing import ok, write

NAP = 0.002  # seconds for drawing, in which the next ones wait


class Drawing:
    """Notes what it draws, and on which thread."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.threads: set[int] = set()
        self.closed_by: BaseException | None = None

    def draw(self, prediction: Prediction) -> None:
        time.sleep(NAP)
        self.threads.add(threading.get_ident())
        self.drawn.append(str(prediction.path))

    @contextmanager
    def opened(self) -> Iterator[Write]:
        self.threads.add(threading.get_ident())
        try:
            yield self.draw
        except BaseException as error:
            self.closed_by = error
            raise


def test_all_is_drawn_in_order_on_one_other_thread() -> None:
    drawing = Drawing()
    with draw_meanwhile(drawing.opened) as hand_over:
        for number in range(2 * AHEAD):
            hand_over(ok(f"{number}"))
    assert drawing.drawn == [f"{number}" for number in range(2 * AHEAD)]
    assert len(drawing.threads) == 1
    assert threading.get_ident() not in drawing.threads


def test_only_so_many_wait_to_be_drawn() -> None:
    drawing, waiting = Drawing(), []
    with draw_meanwhile(drawing.opened) as hand_over:
        for number in range(3 * AHEAD):
            hand_over(ok(f"{number}"))
            waiting.append(number + 1 - len(drawing.drawn))
    assert AHEAD // 2 < max(waiting) <= AHEAD + 1


def test_what_drawing_raises_ends_the_run_and_what_waits_is_dropped() -> None:
    class Failing(Drawing):
        def draw(self, prediction: Prediction) -> None:
            super().draw(prediction)
            if str(prediction.path) == "3":
                raise OSError(28, "No space left on device")

    drawing, handed = Failing(), []

    def failing() -> None:
        with draw_meanwhile(drawing.opened) as hand_over:
            for number in range(10 * AHEAD):
                hand_over(ok(f"{number}"))
                handed.append(number)

    with pytest.raises(OSError, match="No space left") as caught:
        failing()
    assert len(handed) <= AHEAD + 4
    assert drawing.drawn[:4] == ["0", "1", "2", "3"]
    assert len(drawing.drawn) < len(handed)
    assert drawing.closed_by is caught.value


def test_a_drawing_that_cannot_be_opened_is_told_of_even_without_a_row() -> None:
    @contextmanager
    def unopened() -> Iterator[Write]:
        raise OSError(24, "Too many open files")
        yield

    with pytest.raises(OSError, match="Too many open files"), draw_meanwhile(unopened):
        pass


def test_an_error_of_the_run_lets_all_so_far_be_drawn() -> None:
    drawing = Drawing()

    def stopped() -> None:
        with draw_meanwhile(drawing.opened) as hand_over:
            for number in range(10):
                hand_over(ok(f"{number}"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert drawing.drawn == [f"{number}" for number in range(10)]


STOPPED_TWICE = """
import os, signal, threading, time
from resnet_cli.results.drawing import AHEAD, draw_meanwhile
from test_drawing import Drawing
from writing import ok

class Impatient(Drawing):
    def draw(self, prediction):
        super().draw(prediction)
        if str(prediction.path) == "5":
            stopped.wait()
            time.sleep(0.3)  # until the first signal has ended the run
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
stopped = threading.Event()
drawing = Impatient()
try:
    with draw_meanwhile(drawing.opened) as hand_over:
        for number in range(AHEAD):
            hand_over(ok(str(number)))
        stopped.set()
        raise SystemExit(143)
except KeyboardInterrupt:
    print(len(drawing.drawn), type(drawing.closed_by).__name__)
"""


def test_a_second_signal_does_not_wait_for_the_rest() -> None:
    done = subprocess.run(  # in a process of its own, for whose signals nobody else waits
        [sys.executable, "-c", STOPPED_TWICE],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    drawn, closed_by = done.stdout.split()
    assert 6 <= int(drawn) < AHEAD
    assert closed_by == "KeyboardInterrupt"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".html"])
def test_a_folder_that_goes_away_is_an_error_that_names_the_file(suffix: str) -> None:
    path = Path("gone/x").with_suffix(suffix)
    path.parent.mkdir()

    def abandoned() -> None:
        with open_writer(path, WriterOptions(topk=1, grid_rows=1, grid_columns=1)) as write_row:
            write_row(ok())
            path.parent.rename("elsewhere")  # at once, whatever is being drawn
            write_row(ok())

    with pytest.raises(OutputError, match=f"cannot write gone/x{suffix}: .*No such file"):
        abandoned()


def test_pages_that_are_drawn_at_once_are_as_those_drawn_alone() -> None:
    """What matplotlib is told for one format must not reach another."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 100, 80, 3), np.uint8)
    tiles = [  # which are enlarged, by a rule of each format
        ok(f"{n}.jpg", thumbnail=Image.fromarray(each)) for n, each in enumerate(pixels)
    ]
    size = WriterOptions(topk=1, grid_rows=2, grid_columns=2)
    write(Path("alone.png"), *tiles, grid_rows=2, grid_columns=2)
    with (
        open_writer(Path("grid.pdf"), size) as pdf,
        open_writer(Path("grid.png"), size) as png,
        open_writer(Path("more.pdf"), size) as more,
    ):
        for tile in tiles:
            for each in (pdf, png, more):
                each(tile)
    for page in range(1, 4):
        alone, beside = (Path(f"{name}-{page}.png").read_bytes() for name in ("alone", "grid"))
        assert alone == beside


def test_a_signal_leaves_rows_report_and_pages_alike(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(Path("a.jpg"), (60, 50))
    Path("list.txt").write_text("a.jpg\n" * 50)
    add = Output.add

    def interrupted(output: Output, prediction: Prediction) -> None:
        add(output, prediction)
        if output.path.suffix == ".csv" and output.rows == 7:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Output, "add", interrupted)
    result = run(
        "predict", "@list.txt", "-c", checkpoint, "--device", "cpu", "--img-size", 32, "-j", 1,
        "-o", "x.csv", "-o", "r.html", "--grid", "g.png", "--grid-size", "1x2",
    )  # fmt: skip

    assert result.exit_code == 143
    assert "Note: stopped after 7 of 50 images" in result.stderr
    assert len(Path("x.csv").read_text().splitlines()) == 1 + 7
    report = Path("r.html").read_text("utf-8")
    assert "stopped before its end" in report
    rows = report.partition('id="rows">')[2].partition("</script>")[0]
    assert len(json.loads(rows)) == 7
    # six before the signal; the seventh row was on its way to the grid
    assert {path.name for path in Path().glob("g*")} == {"g-1.png", "g-2.png", "g-3.png"}
    assert not [*Path().glob("*.part"), *Path().glob("*.new")]


LOADED = """
import sys
from resnet_cli.results.options import WriterOptions
from resnet_cli.results import open_writer
from pathlib import Path
with open_writer(Path("x.csv"), WriterOptions(topk=1)):
    print("matplotlib" in sys.modules)
with open_writer(Path("x.png"), WriterOptions(topk=1)):
    pass
print("matplotlib" in sys.modules)
"""


def test_what_draws_is_loaded_by_those_who_draw() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
