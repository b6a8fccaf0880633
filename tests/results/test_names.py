"""Names that tell the images of a run apart, and how they are shortened."""

from itertools import product
from pathlib import Path

import pytest

from conftest import DEMO, SAMPLES, Run
from resnet_cli.records import Item
from resnet_cli.results.options import ShortNames, end_of_name, names_for
from resnet_cli.text import cut_end, cut_middle, cut_start

CAMERAS = [f"/data/cam{c}/100MEDIA/IMG_{n:04d}.JPEG" for n, c in product(range(30), (1, 2))]
STATIONS = [f"d/a_long_name_of_a_station_{n:04d}_with_more_behind_it.JPG" for n in range(300)]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.jpg", "b/y.jpg"], ["x.jpg", "y.jpg"]),
        (["cam1/x.jpg", "cam2/x.jpg", "cam2/y.jpg"], ["cam1/x.jpg", "cam2/x.jpg", "cam2/y.jpg"]),
        (["r/1/s/t/x.jpg", "r/2/s/t/x.jpg"], ["1/…/x.jpg", "2/…/x.jpg"]),
        (["r/1/s/5/x.jpg", "r/2/s/5/x.jpg", "r/2/s/6/x.jpg"],
         ["1/…/5/x.jpg", "2/…/5/x.jpg", "2/…/6/x.jpg"]),
        (["x.jpg", "x.jpg"], ["x.jpg", "x.jpg"]),  # one image that is listed twice
        (["x.jpg", "a/x.jpg"], ["x.jpg", "a/x.jpg"]),
        (["/x.jpg", "x.jpg"], ["/x.jpg", "x.jpg"]),
        (["a/two\nlines.jpg"], [r"two\nlines.jpg"]),
    ],
)  # fmt: skip
def test_a_name_is_the_part_of_the_path_that_differs(paths: list[str], names: list[str]) -> None:
    short = ShortNames(paths)
    assert [short(Item(path), 99) for path in paths] == names


@pytest.mark.parametrize("paths", [CAMERAS, STATIONS])
@pytest.mark.parametrize("most", [2, 5, 9, 14, 20, 30, 60])
def test_a_name_is_never_longer_than_its_room(paths: list[str], most: int) -> None:
    short = ShortNames(paths)
    names = [short(Item(path), most) for path in paths]
    assert max(map(len, names)) <= most
    if most >= 14:
        assert len(set(names)) == len(paths)


def test_a_long_name_keeps_what_tells_it_apart() -> None:
    assert ShortNames(STATIONS)(Item(STATIONS[17]), 20) == "a_long_…0017…_it.JPG"
    assert "0017" in ShortNames(STATIONS)(Item(STATIONS[17]), 12)
    assert ShortNames(CAMERAS)(Item(CAMERAS[3]), 17).startswith("cam2/")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["s3://b/x.jpg", "s3://b/y.jpg"], ["x.jpg", "y.jpg"]),
        (["s3://a/x.jpg", "s3://b/x.jpg"], ["s3://a/x.jpg", "s3://b/x.jpg"]),
        (["https://h/1/x.jpg", "https://h/2/x.jpg"], ["1/x.jpg", "2/x.jpg"]),
        (["s3://b/a//x.jpg", "s3://b/a/x.jpg"], ["x.jpg", "a/x.jpg"]),
        (["zip://in/a.jpg::x.zip", "zip://in/b.jpg::x.zip"], ["a.jpg", "b.jpg"]),
        (["zip://a.jpg::d/x.zip", "zip://a.jpg::d/y.zip"], ["x.zip/a.jpg", "y.zip/a.jpg"]),
        (["tar://a.jpg::s3://b/x.tar", "a.jpg"], ["x.tar/a.jpg", "a.jpg"]),
    ],
)
def test_an_archive_is_a_folder_and_a_server_one_name(paths: list[str], names: list[str]) -> None:
    short = ShortNames(paths)
    assert [short(Item(path), 99) for path in paths] == names


PARTS = {
    "page=3": "page 3",
    "t=2.5": "frame at 2.5 s",
    "row=17": "row 17",
    "xywh=10,20,300,200": "box 300×200 at 10,20",
    "page=2&xywh=1,2,3,4": "page 2, box 3×4 at 1,2",
    "xywh=1,2": "box 1,2",
    "new=\n1": r"new \n1",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_said_in_words_and_kept_whole(part: str) -> None:
    for name in (ShortNames(["d/cam.mp4"]), end_of_name):
        assert name(Item("d/cam.mp4", part), 99).endswith(f"cam.mp4, {PARTS[part]}")
        short = name(Item("d/a_name_that_is_very_long_indeed.mp4", part), 40)
        assert len(short) <= 40
        assert short.endswith(f", {PARTS[part]}")
        assert len(name(Item("d/cam.mp4", part), 5)) <= 5


def test_names_tell_parts_of_one_image_apart() -> None:
    items = [Item("d/cam.mp4", f"t={second}") for second in range(12)]
    name = names_for(items)
    assert name(items[3], 99) == "cam.mp4, frame at 3 s"
    assert len({name(item, 16) for item in items}) == len(items)


def test_of_a_stream_the_end_of_the_path_is_shown() -> None:
    name = names_for(None)
    assert name is end_of_name
    assert name(Item("/data/cam1/IMG_1.JPEG"), 15) == "…am1/IMG_1.JPEG"


@pytest.mark.parametrize("cut", [cut_start, cut_middle, cut_end])
@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_a_shortened_name_fits(cut: object, width: int) -> None:
    assert callable(cut)
    assert len(cut("0123456789", width)) == width
    assert cut("012345678", 9) == "012345678"


def test_tiles_of_a_grid_tell_cameras_apart(run: Run) -> None:
    for camera in ("cam1", "cam2"):
        Path(camera).mkdir()
        for number, sample in enumerate(sorted(SAMPLES.rglob("*.*"))[:2]):
            Path(camera, f"IMG_{number}.JPEG").write_bytes(sample.read_bytes())
    run("predict", "cam1", "cam2", "-c", DEMO, "--grid", "both.svg")
    run("predict", "cam1", "-c", DEMO, "--grid", "one.svg")
    both, one = (Path(name).read_text("utf-8") for name in ("both.svg", "one.svg"))
    for which, number in product((1, 2), (0, 1)):
        assert f"<!-- cam{which}/IMG_{number}.JPEG -->" in both
    assert "<!-- IMG_0.JPEG -->" in one
