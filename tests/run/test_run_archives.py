"""Runs over archives: the rows of their images, resumed, by threads, processes and from Python."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from commands import SMALL, rows_of_csv
from conftest import Run, picture
from packing import KINDS, files_below, items_in, pack, png
from resnet_cli import Classifier
from resnet_cli.images import Decoder
from resnet_cli.pipeline.batches import Loader, allocate_pixels
from resnet_cli.pipeline.workers import Processes
from resnet_cli.preprocess import Preprocess
from resnet_cli.run import predict_to_files
from resnet_cli.runtimes import Runtime

TIMES = ("decode_ms", "preprocess_ms", "forward_ms")

PATIENCE = 60  # seconds until a program that hangs fails


def rows(file: str) -> list[dict[str, str]]:
    """The rows of a result file, without paths and times."""
    return [
        {key: value for key, value in row.items() if key not in (*TIMES, "path", "batch_size")}
        for row in rows_of_csv(Path(file).read_text())
    ]


def names(file: str) -> list[str]:
    """The names of the images of a result file, below their folder or archive."""
    paths = [row["path"] for row in rows_of_csv(Path(file).read_text())]
    return [path.partition("://")[2].partition("::")[0] or path[len("photos/") :] for path in paths]


@pytest.fixture
def folder(photos: Path) -> Path:
    """Ten photographs and two files that cannot be read."""
    (photos / "b" / "img7.jpg").write_bytes(b"no image")
    (photos / "b" / "img9.jpg").write_bytes((photos / "b" / "img9.jpg").read_bytes()[:2000])
    return photos


def test_the_rows_of_an_archive_are_those_of_its_files(predict: Run, folder: Path) -> None:
    options = ("-k", "3", "-b", "2")  # the last digit of a probability depends on the batch
    assert predict("photos", "-o", "files.csv", *options).exit_code == 3
    assert sum(row["status"] == "error" for row in rows("files.csv")) == 2

    for kind in KINDS:
        pack(kind, files_below(folder))
        assert predict(kind, "-o", f"{kind}.csv", *options).exit_code == 3

        assert rows(f"{kind}.csv") == rows("files.csv")
        assert names(f"{kind}.csv") == names("files.csv")


def test_an_archive_beside_other_inputs_has_its_place(predict: Run, three_images: Path) -> None:
    pack("x.zip", {"z.png": png(1)})
    pack("y.tar.gz", {"y.png": png(2)})

    assert predict("y.tar.gz", three_images, "x.zip", "-o", "rows.csv").exit_code == 0

    assert [row["path"] for row in rows_of_csv(Path("rows.csv").read_text())] == [
        "tar://y.png::y.tar.gz",
        *(f"images/{number}.png" for number in range(3)),
        "zip://z.png::x.zip",
    ]


def test_an_archive_that_is_cut_off_ends_with_a_row_that_names_it(
    predict: Run, folder: Path
) -> None:
    size = len(pack("plain.tar", files_below(folder)).read_bytes())
    os.truncate("plain.tar", size // 2)

    assert predict("plain.tar", "-o", "rows.csv").exit_code == 3

    *_, last = rows_of_csv(Path("rows.csv").read_text())
    assert (last["path"], last["error"]) == ("plain.tar", "is cut off before its end")


def test_an_archive_that_is_none_is_one_line(predict: Run) -> None:
    Path("x.zip").write_bytes(b"<html>" * 99)

    result = predict("x.zip", "-o", "rows.csv")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: cannot read x.zip: is not a zip archive: it is a web page (HTML), not an image: "
        "download the file behind its link"
    )
    assert not Path("rows.csv").exists()


@pytest.mark.parametrize("kind", ["plain.tar", "packed.tar.gz"])
def test_a_run_that_is_killed_is_resumed_without_a_row_twice_or_lost(
    predict: Run, checkpoint: Path, kind: str
) -> None:
    files = {}
    for number in range(150):
        files[f"{number}.png"] = picture(Path("one.png"), (40, 33), seed=number).read_bytes()
    pack(kind, files)
    command = (sys.executable, "-m", "resnet_cli", "predict", "-c", checkpoint, *SMALL, kind)
    with subprocess.Popen([*command, "-q", "-b", "2", "-j", "1", "-o", "rows.csv"]) as run:
        begun = time.monotonic()
        while not Path("rows.csv").exists() or Path("rows.csv").read_bytes().count(b"\n") < 20:
            assert run.poll() is None
            assert time.monotonic() < begun + PATIENCE
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
    done = Path("rows.csv").read_bytes().rpartition(b"\n")[0]
    assert 20 <= done.count(b"\n") < 150

    assert predict(kind, "-b", "2", "-o", "rows.csv", "--resume").exit_code == 0
    assert predict(kind, "-b", "2", "-o", "whole.csv").exit_code == 0

    assert Path("rows.csv").read_bytes().startswith(done)  # no row was made again
    assert names("rows.csv") == list(files)
    assert rows("rows.csv") == rows("whole.csv")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such copies")
@pytest.mark.parametrize("kind", ["stored.zip", "deflated.zip", "plain.tar", "packed.tar.gz"])
def test_processes_read_their_members_at_the_same_time(kind: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    colours = list(range(0, 250, 2))
    pack(kind, {f"{colour}.png": png(colour) for colour in colours})
    preprocess = Preprocess(resize_size=8, crop_size=8)
    loader = Loader(Decoder(exact=True), preprocess, channels=3)
    fast = cast(Runtime, SimpleNamespace(allocate=allocate_pixels))
    items = items_in(kind)

    with (
        closing(Processes(loader, workers=5, size=5, allocate=fast.allocate)) as load,
        ThreadPoolExecutor(5) as pool,
    ):
        batches = list(pool.map(load, [items[at : at + 5] for at in range(0, len(items), 5)]))

    assert [sample.error for batch in batches for sample in batch.samples] == [None] * len(colours)
    pixels = np.concatenate([batch.pixels for batch in batches])
    assert pixels[:, 4, 4, 0].tolist() == colours


def small(checkpoint: Path) -> Classifier:
    preprocess = Preprocess(resize_size=40, crop_size=32)
    return Classifier.load(checkpoint, device="cpu", preprocess=preprocess)


def test_archives_are_classified_from_python(checkpoint: Path, folder: Path) -> None:
    pack("x.zip", files_below(folder))
    classifier = small(checkpoint)

    packed = list(classifier.predict("x.zip"))
    single = list(classifier.predict(str(folder)))

    assert [row.scores for row in packed] == [row.scores for row in single]
    assert [row.error for row in packed] == [row.error for row in single]
    assert packed[0].item.path == "zip://a/img1.jpg::x.zip"


def test_files_of_results_are_written_from_python(checkpoint: Path, folder: Path) -> None:
    pack("x.tar", files_below(folder))
    classifier = small(checkpoint)

    result = predict_to_files(classifier, "x.tar", ["rows.csv", "look.html"])

    assert (result.images, result.errors) == (10, 2)
    assert len(rows("rows.csv")) == 10
