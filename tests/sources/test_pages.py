"""``--pages all``: an item for each page that Pillow and tifffile find, and nothing lost."""

import csv
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from resnet_cli.errors import ImageError, OptionError
from resnet_cli.images import Decoder
from resnet_cli.records import PAUSE, Item, Pause
from resnet_cli.sources import FindOptions, find_inputs
from resnet_cli.sources.pages import expand_pages

ALL = FindOptions(pages="all")


def frames(count: int = 3) -> list[Image.Image]:
    return [Image.effect_noise((40, 30), 60 + number).convert("RGB") for number in range(count)]


def write(path: Path, count: int = 3) -> Path:
    first, *others = frames(count)
    first.save(path, save_all=True, append_images=others)
    return path


def listed(items: object) -> list[tuple[str, str]]:
    return [item.identity for item in items if isinstance(item, Item)]  # type: ignore[attr-defined]


@dataclass
class Elsewhere:
    """Bytes that lie elsewhere."""

    data: bytes
    reads: list[int] = field(default_factory=list)

    def read(self) -> bytes:
        self.reads.append(1)
        if not self.data:
            raise ImageError("the server refuses")
        return self.data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "d"
    place.mkdir()
    for name in ("a.tif", "b.gif", "c.webp", "d.png"):
        write(place / name)
    frames()[0].save(place / "e.jpg")
    write(place / "f.tif", count=1)
    (place / "g.tif").write_bytes(b"II*\0broken")
    return place


def test_every_page_is_an_item_and_single_images_stay(folder: Path) -> None:
    found = find_inputs(["d"], ALL)
    pages = [(f"d/{name}", f"page={page}") for name in ("a.tif", "b.gif", "c.webp", "d.png")
             for page in (1, 2, 3)]  # fmt: skip
    singles = [("d/e.jpg", ""), ("d/f.tif", ""), ("d/g.tif", "")]
    assert listed(found.items) == pages + singles
    assert (found.total, found.parts) == (15, True)
    assert not find_inputs(["d"]).parts


def test_a_stream_stays_a_stream_and_pauses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("d/a.tif\nd/e.jpg\n"))
    found = find_inputs(["-"], ALL)
    assert found.total is None
    assert listed(found.items)[2:] == [("d/a.tif", "page=3"), ("d/e.jpg", "")]

    expanded = list(expand_pages([Item("d/e.jpg"), PAUSE, Item("d/b.gif")]))
    assert [isinstance(one, Pause) for one in expanded] == [False, True, False, False, False]


def test_images_that_lie_elsewhere_have_pages_too(folder: Path) -> None:
    data = (folder / "a.tif").read_bytes()
    single = Elsewhere((folder / "e.jpg").read_bytes())
    items = [
        Item("zip://a.tif::x.zip", content=Elsewhere(data)),
        Item("https://x.org/a.TIF?key=1", content=Elsewhere(data)),
        Item("x.parquet", part="row=3", content=data),
        Item("zip://e.jpg::x.zip", content=single),
    ]
    found = [item for item in expand_pages(items) if isinstance(item, Item)]
    assert [item.part for item in found] == [
        *["page=1", "page=2", "page=3"] * 2, "row=3&page=1", "row=3&page=2", "row=3&page=3", "",
    ]  # fmt: skip
    assert not single.reads  # its suffix says that it has one page
    for item, page in zip(found, [0, 1, 2] * 3, strict=False):
        with Image.open(BytesIO(data)) as image:
            image.seek(page)
            np.testing.assert_array_equal(np.asarray(Decoder()(item.source)), np.asarray(image))


def test_what_cannot_be_listed_has_one_item_that_says_why(tmp_path: Path) -> None:
    count = 100_001
    places = [8 + 6 * number for number in range(1, count)]
    many = b"II*\0\x08\0\0\0" + b"".join(
        b"\0\0" + place.to_bytes(4, "little") for place in [*places, 0]
    )
    (tmp_path / "many.tif").write_bytes(many)
    items = [
        Item("many.tif"),
        Item("missing.tif"),
        Item("s3://b/a.tif", content=Elsewhere(b"")),
        Item("image-0", content="it was closed"),
    ]
    reasons = ["over 100,000 pages", "there is no such file", "the server refuses", "was closed"]
    found = [item for item in expand_pages(items) if isinstance(item, Item)]
    assert [item.identity for item in found] == [item.identity for item in items]
    for item, reason in zip(found, reasons, strict=True):
        with pytest.raises(ImageError, match=reason):
            Decoder()(item.source)


def test_the_rows_of_pages_are_those_of_pages_saved_alone(
    folder: Path, predict: Run, tmp_path: Path
) -> None:
    done = predict("d/a.tif", "d/b.gif", "--pages", "all", "-o", "r.csv")
    assert done.exit_code == 0, done.stderr
    (tmp_path / "alone").mkdir()
    for number, name in enumerate(["a.tif"] * 3 + ["b.gif"] * 3):
        with Image.open(folder / name) as image:
            image.seek(number % 3)
            image.convert("RGB").save(tmp_path / "alone" / f"{number}.png")
    assert predict("alone", "-o", "s.csv").exit_code == 0

    with Path("r.csv").open(newline="") as one, Path("s.csv").open(newline="") as other:
        rows, expected = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert [row["part"] for row in rows] == ["page=1", "page=2", "page=3"] * 2
    for key in ("status", "label", "index", "prob"):
        assert [row[key] for row in rows] == [row[key] for row in expected]


@pytest.mark.parametrize(
    "wrong",
    [{"pages": "some"}, {"pages": "all", "boxes": ("b.json",)}, {"min_box_confidence": 1.5},
     {"box_margin": -1.0}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="cannot"):
        FindOptions(**wrong)  # type: ignore[arg-type]
