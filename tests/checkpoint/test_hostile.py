"""Files in folders beside images: each has one row, and no other row changes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Run, picture
from resnet_cli import Classifier, Prediction
from resnet_cli.errors import ImageError, SettingError
from resnet_cli.images import MOST_PIXELS, Decoder
from resnet_cli.system import allow_pixels

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def failure(path: Path, decoder: Decoder) -> str:
    with pytest.raises(ImageError) as refused:
        decoder(path)
    return str(refused.value)


def flat(size: tuple[int, int], claims: tuple[int, int]) -> bytes:
    """A small JPEG whose header claims to be another size."""
    file = BytesIO()
    Image.new("RGB", size, "red").save(file, "JPEG")
    data = file.getvalue()
    place = data.index(b"\xff\xc0") + 5
    sides = claims[1].to_bytes(2, "big") + claims[0].to_bytes(2, "big")
    return data[:place] + sides + data[place + 4 :]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("limit", "sides"), [
    (MOST_PIXELS, (20_000, 20_000)), (MOST_PIXELS, (60_000, 60_000)), (1000, (40, 26)),
])  # fmt: skip
def test_an_image_over_the_limit_is_refused_by_its_header(
    tmp_path: Path, limit: int, sides: tuple[int, int], *, exact: bool
) -> None:
    (tmp_path / "large.jpg").write_bytes(flat((40, 26), sides))

    said = failure(tmp_path / "large.jpg", Decoder(exact=exact, max_pixels=limit)).replace(",", "")
    assert str(sides[0] * sides[1]) in said
    assert str(limit) in said


def test_a_limit_of_exactly_its_pixels_accepts_an_image(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", (40, 26))

    assert Decoder(max_pixels=1040)(path) is not None
    assert "1,040 pixels" in failure(path, Decoder(max_pixels=1039))


def test_a_larger_limit_than_pillows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    path = picture(tmp_path / "a.png", (80, 70))
    assert "has 5,600 pixels, over the limit of 900 (--max-pixels)" in failure(
        path, Decoder(max_pixels=900)
    )

    allow_pixels(5600)
    pixels = Decoder(max_pixels=5600)(path)
    assert isinstance(pixels, Image.Image)
    assert pixels.size == (80, 70)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="1 or more"):
        Decoder(max_pixels=0)


def test_postscript_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )

    assert "PostScript" in failure(tmp_path / "a.jpg", Decoder())


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that every user may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_of_another_user_is_reported_as_unreadable(elsewhere: Path) -> None:
    path = picture(elsewhere / "secret.jpg")
    path.chmod(0o600)
    picture(elsewhere / "open.jpg").chmod(0o644)
    os.seteuid(65534)
    try:
        assert failure(path, Decoder()) == "permission denied"
        assert Decoder()(elsewhere / "open.jpg") is not None
    finally:
        os.seteuid(0)


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")

    assert "symbolic links" in failure(tmp_path / "loop.jpg", Decoder())


def bad_neighbours(folder: Path) -> None:
    """Everything that is no picture, between those that are."""
    whole = picture(folder / "img0-whole.jpg").read_bytes()
    for name, data in {
        "img1-empty.jpg": b"",
        "img2-text.png": b"words\n",
        "img3-torn.jpg": whole[:900],
        "img4-huge.jpg": flat((40, 26), (65_000, 65_000)),
        "img5-one.jpg": whole[:-2],
        "img6 space\nline.jpg": b"\xff\xd8\xff",
    }.items():
        (folder / name).write_bytes(data)
    (folder / "img0-whole.jpg").unlink()
    (folder / os.fsdecode(b"img7-\xff\xfe.jpg")).write_bytes(b"II*\0")
    (folder / "img8-gone.jpg").symlink_to("nowhere")


def test_bad_neighbours_change_nothing(tmp_path: Path, checkpoint: Path) -> None:
    alone, crowd = tmp_path / "alone", tmp_path / "crowd"
    for folder in (alone, crowd):
        for number in range(9):
            picture(folder / f"img{number}-good.png", (70 + number, 60), seed=number)
    Image.new("RGB", (1, 1)).save(alone / "tiny.png")
    Image.new("RGB", (1, 20_000), "red").save(alone / "long.png")
    for name in ("tiny.png", "long.png"):
        (crowd / name).write_bytes((alone / name).read_bytes())
    bad_neighbours(crowd)
    classifier = Classifier.load(checkpoint, device="cpu")

    def rows(folder: Path) -> dict[str, Prediction]:
        found = list(classifier.predict(folder, topk=3, batch_size=4, workers=3))
        assert len(found) == len({row.path for row in found}) == len(list(folder.iterdir()))
        return {row.path.name: row for row in found}

    without, among = rows(alone), rows(crowd)
    assert sum(row.status == "error" for row in among.values()) == 8
    for name, row in without.items():
        assert among[name].label == row.label
        found = torch.tensor([score.prob for score in among[name].scores])
        expected = torch.tensor([score.prob for score in row.scores])
        assert (found - expected).abs().max() < 1e-5


def test_files_that_change_while_the_run_goes_have_one_row_each(
    tmp_path: Path, checkpoint: Path
) -> None:
    folder = tmp_path / "changing"
    paths = [picture(folder / f"img{n}.png", seed=n) for n in range(12)]
    rows: list[Prediction] = []
    for row in Classifier.load(checkpoint, device="cpu").predict(folder, batch_size=1, workers=1):
        if not rows:
            paths[8].unlink()
            paths[9].write_bytes(paths[9].read_bytes()[:1000])
            paths[10].write_bytes(b"")
            with paths[11].open("ab") as file:  # grows at its end, which no decoder looks at
                file.write(bytes(1000))
        rows.append(row)

    assert [row.path for row in rows] == paths
    assert [row.status for row in rows] == [*["ok"] * 8, *["error"] * 3, "ok"]


def test_heic_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))

    assert "pip install 'resnet-cli[heif]'" in failure(tmp_path / "a.heic", Decoder())


@pytest.mark.parametrize("exact", [False, True])
def test_heic_is_read_with_its_extra(tmp_path: Path, *, exact: bool) -> None:
    heif = pytest.importorskip("pillow_heif")
    smooth = Image.open(picture(tmp_path / "a.png", (160, 120)))
    heif.from_pillow(smooth).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")  # the content tells the format

    pixels = Decoder(exact=exact)(tmp_path / "a.jpg")
    assert isinstance(pixels, Image.Image)
    difference = np.asarray(pixels).astype(int) - np.asarray(smooth)
    assert np.abs(difference).mean() < 4
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    assert failure(tmp_path / "a.jpg", Decoder(exact=exact))


def test_the_library_for_heic_is_loaded_only_for_heic(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from resnet_cli.images import Decoder; "
    program += "Decoder()(Path(sys.argv[1])); print('pillow_heif' in sys.modules)"
    path = picture(tmp_path / "a.png")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)

    assert done.stdout == "False\n"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="libtiff is found on Linux")
def test_libtiff_writes_no_lines_of_its_own(
    run: Run, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (60, 50), "red").save("a.tif", compression="tiff_lzw")
    bytes_of_file = bytearray(Path("a.tif").read_bytes())
    bytes_of_file[8:24] = b"\xff" * 16  # of the pixels
    Path("a.tif").write_bytes(bytes_of_file)
    result = run("predict", "a.tif", "-c", checkpoint, "--device", "cpu")
    assert result.exit_code == 3
    assert capfd.readouterr().err == ""  # written past Python, as libtiff does
