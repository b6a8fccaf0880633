"""A JPEG may say the same scan again and again, and each costs a pass over all of its pixels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import picture
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoded, Decoder
from resnet_cli.images.guards import MOST_SCANS, has_one_scan

BOTH = pytest.mark.parametrize("exact", [False, True])
END = b"\xff\xd9"
SCAN = b"\xff\xda"


def array(pixels: Decoded) -> np.ndarray:
    return np.asarray(pixels)


def encoded(folder: Path, **options: object) -> bytes:
    file = BytesIO()
    small = Image.open(picture(folder / "source.png", (48, 32)))
    small.save(file, "JPEG", **options)
    return file.getvalue()


def progressive(folder: Path, **options: object) -> bytes:
    return encoded(folder, progressive=True, **options)


def scans(jpeg: bytes) -> int:
    """How often the two bytes occur, which a small file without metadata holds nowhere else."""
    return jpeg.count(SCAN)


def repeated(jpeg: bytes, times: int, *, filler: bytes = b"") -> bytes:
    """The same picture, its last scan said again so many times, each after some filler."""
    last = jpeg[jpeg.rindex(SCAN) : -len(END)]
    return jpeg[: -len(END)] + times * (filler + last) + END


@BOTH
def test_more_scans_than_a_jpeg_needs_are_refused(tmp_path: Path, *, exact: bool) -> None:
    jpeg = progressive(tmp_path)
    most = MOST_SCANS - scans(jpeg)
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(jpeg, most))
    array(Decoder(exact=exact)(path))  # takes as many as are allowed

    for torn in (END, b""):
        path.write_bytes(repeated(jpeg, most + 1).removesuffix(END) + torn)
        with pytest.raises(ImageError, match="over 100 scans, more than a JPEG needs"):
            Decoder(exact=exact)(path)


@pytest.mark.parametrize("filler", [b"\xff", b"rubbish", b"\xff\x00", b"\xff\xd0", b"\xff\xfe\0\2"])
def test_what_stands_between_scans_does_not_hide_them(tmp_path: Path, filler: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(progressive(tmp_path), MOST_SCANS, filler=filler))
    for decoder in (Decoder(), Decoder(exact=True)):
        with pytest.raises(ImageError, match="over 100 scans"):
            decoder(path)


@BOTH
def test_other_bytes_that_look_like_scans_are_none(tmp_path: Path, *, exact: bool) -> None:
    looks = 2 * MOST_SCANS * (SCAN + b"\0\2")
    comment = b"\xff\xfe" + (2 + len(looks)).to_bytes(2, "big") + looks
    plain = progressive(tmp_path, restart_marker_rows=1)
    path = tmp_path / "a.jpg"
    path.write_bytes(plain)
    expected = array(Decoder(exact=exact)(path))

    path.write_bytes(plain[:2] + comment + plain[2:] + looks)  # as a film behind a photograph
    np.testing.assert_array_equal(array(Decoder(exact=exact)(path)), expected)
    path.write_bytes(repeated(plain, MOST_SCANS - scans(plain)) + looks)  # just as many as may be
    assert array(Decoder(exact=exact)(path)).shape == expected.shape


def test_the_first_picture_of_several_is_counted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (48, 32), colour) for colour in ("red", "blue")]
    file = BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:], progressive=True)
    first, second = file.getvalue().split(END, 1)
    path = tmp_path / "a.mpo"
    path.write_bytes(repeated(first + END, MOST_SCANS) + second)
    with Image.open(path) as image:
        assert image.format == "MPO"

    with pytest.raises(ImageError, match="over 100 scans"):
        Decoder()(path)


def test_a_photograph_of_one_scan_is_told_by_its_header(tmp_path: Path) -> None:
    """A second one is an error to libjpeg: none is decoded."""
    plain = encoded(tmp_path)
    assert has_one_scan(plain)
    assert has_one_scan(encoded(tmp_path, exif=b"Exif\0\0" + progressive(tmp_path)))  # a thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(plain, 10 * MOST_SCANS))
    for decoder in (Decoder(), Decoder(exact=True)):
        with pytest.raises(ImageError, match="broken data stream"):
            decoder(path)


def one_component_first(jpeg: bytes) -> bytes:
    """The header of its first scan says that it is of one component."""
    place = jpeg.index(SCAN) + len(SCAN)
    header = b"\0\x08\1" + jpeg[place + 3 : place + 5] + b"\0\x3f\0"
    return jpeg[:place] + header + jpeg[place + int.from_bytes(jpeg[place : place + 2], "big") :]


def test_others_are_counted(tmp_path: Path) -> None:
    plain, many = encoded(tmp_path), progressive(tmp_path)
    assert not has_one_scan(many)
    assert not has_one_scan(one_component_first(plain))
    frame = plain[plain.index(b"\xff\xc0") :][: 2 + 17]
    assert not has_one_scan(many.replace(b"\xff\xc2", frame + b"\xff\xc2"))  # of two minds
    for size in range(len(plain)):
        assert not has_one_scan(plain[:size]) or size > plain.index(SCAN)

    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(one_component_first(plain), MOST_SCANS))
    with pytest.raises(ImageError, match="over 100 scans"):
        Decoder()(path)
