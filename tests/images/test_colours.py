"""What files store -> RGB, held against formulas, OpenCV and profiles made by hand."""

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from profiles import (
    ADOBE,
    D50,
    cmyk_profile,
    grey_profile,
    rgb_profile,
    srgb_of_lab,
    srgb_of_xyz,
)
from resnet_cli.errors import SettingError
from resnet_cli.images import Decoder
from resnet_cli.images.colors import convert_image

Pixels = npt.NDArray[np.uint8]
BOTH = pytest.mark.parametrize("exact", [False, True])


def noise(*shape: int, high: int = 256) -> Pixels:
    values: Pixels = np.random.default_rng(3).integers(0, high, shape).astype(np.uint8)
    return values


def pixels_of(path: Path, decoder: Decoder) -> npt.NDArray[np.int64]:
    pixels = decoder(path)
    if isinstance(pixels, np.ndarray):
        pixels = Image.fromarray(pixels)
    assert pixels.mode == decoder.mode
    return np.asarray(pixels).astype(np.int64)


def near(found: npt.NDArray[np.int64], expected: npt.ArrayLike, levels: float) -> None:
    np.testing.assert_allclose(found, np.asarray(expected, np.float64), rtol=0, atol=levels)


# Colour profiles


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@BOTH
def test_adobe_rgb_becomes_srgb_by_its_formula(tmp_path: Path, suffix: str, *, exact: bool) -> None:
    path = tmp_path / f"adobe{suffix}"
    options: dict[str, dict[str, Any]] = {
        ".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0},
    }  # fmt: skip
    stored = Image.fromarray(noise(5, 6, 3)).resize((40, 30))
    stored.save(path, icc_profile=rgb_profile(ADOBE, 2.2), **options.get(suffix, {}))
    kept = pixels_of(path, Decoder(exact=exact))
    expected = srgb_of_xyz((kept / 255) ** 2.2 @ ADOBE.T)

    assert np.abs(expected - kept).max() > 20  # it makes a difference
    near(pixels_of(path, Decoder(exact=exact, srgb=True)), expected, 2)


def test_the_profile_of_a_grey_picture_may_be_one_of_greys_or_of_colours(tmp_path: Path) -> None:
    grey = Image.fromarray(noise(20, 30))
    grey.save(tmp_path / "linear.png", icc_profile=grey_profile(1.8))
    grey.save(tmp_path / "colour.png", icc_profile=rgb_profile(ADOBE, 1.8))
    expected = srgb_of_xyz((np.asarray(grey)[..., None] / 255) ** 1.8 * D50)
    for name in ("linear.png", "colour.png"):
        near(pixels_of(tmp_path / name, Decoder(srgb=True)), expected, 2)
        near(pixels_of(tmp_path / name, Decoder("L", srgb=True)), expected[..., 0], 2)


def test_inks_get_the_colours_of_their_profile(tmp_path: Path) -> None:
    inks = np.array(np.meshgrid(*[[0, 255]] * 4, indexing="ij")).reshape(4, 16).T
    c, m, y, k = inks.T / 255
    # paper is white and all inks are black, or else the library adapts the rest to them
    lab = np.stack([100 - 25 * (c + m + y + k), 9 * (c - m), 9 * (y - k)], 1)
    picture = Image.frombytes("CMYK", (16, 1), inks.astype(np.uint8).tobytes())
    best: dict[str, Any] = {"quality": 100, "subsampling": 0}
    for name, options in {"a.tif": {}, "a.jpg": best}.items():
        large = picture.resize((256, 16), Image.Resampling.NEAREST)
        large.save(tmp_path / name, icc_profile=cmyk_profile(lab), **options)
        found = pixels_of(tmp_path / name, Decoder(srgb=True))[8, 8::16]
        near(found, srgb_of_lab(lab), 3 if name == "a.tif" else 8)
        plain = pixels_of(tmp_path / name, Decoder())[8, 8::16]
        near(plain, (255 - inks[:, :3]) * (255 - inks[:, 3:]) / 255, 0 if name == "a.tif" else 6)


@pytest.mark.parametrize("icc", [
    b"no profile", b"", bytes(200), rgb_profile(ADOBE, 2.2)[:150], cmyk_profile(np.zeros((16, 3))),
    grey_profile(1.0), rgb_profile(ADOBE, 2.2).replace(b"rTRC", b"xTRC"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.filterwarnings("ignore:Invalid APP2")
def test_a_profile_that_is_broken_or_meant_for_others_is_left_out(
    tmp_path: Path, icc: bytes, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(20, 30, 3)).save(path, icc_profile=icc)

    near(pixels_of(path, Decoder(srgb=True)), pixels_of(path, Decoder()), 0)


def test_profiles_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    values = noise(20, 30, 3)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=rgb_profile(ADOBE, 2.2))

    near(pixels_of(tmp_path / "a.png", Decoder()), values, 0)


# Transparency


def over(rgba: Pixels, ground: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """The formula: colours by their alpha, the ground by the rest."""
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + np.array(ground) * (1 - alpha)


@pytest.mark.parametrize(("colour", "ground"), [
    ("white", (255, 255, 255)), ("#336699", (0x33, 0x66, 0x99)), ("hsl(0,100%,50%)", (255, 0, 0)),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_laid_over_a_colour(
    tmp_path: Path, suffix: str, colour: str, ground: tuple[int, int, int]
) -> None:
    rgba = noise(20, 30, 4)
    path = tmp_path / f"a{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(rgba).save(path, **options)

    near(pixels_of(path, Decoder(background=colour)), over(rgba, ground), 1)
    near(pixels_of(path, Decoder()), rgba[..., :3], 0)  # dropped, as convert("RGB") does


def test_other_ways_to_be_transparent_are_laid_over_a_colour(tmp_path: Path) -> None:
    grey, palette = noise(20, 30, high=8), noise(8, 3)
    indexed = Image.fromarray(grey)
    indexed.putpalette(palette.tobytes())
    colours = Image.fromarray(palette[grey])
    files: dict[str, tuple[Image.Image, Pixels, object]] = {
        "one.png": (indexed, np.where(grey == 3, 0, 255), 3),
        "each.png": (indexed, grey * 30, bytes(range(0, 240, 30))),
        "moving.gif": (indexed, np.where(grey == 5, 0, 255), 5),
        "grey.png": (Image.fromarray(grey), np.where(grey == 2, 0, 255), 2),
        "rgb.png": (colours, np.where(grey == 1, 0, 255), tuple(map(int, palette[1]))),
        "deep.png": (
            Image.fromarray(grey.astype(np.uint16) * 256), np.where(grey == 4, 0, 255), 1024,
        ),
    }  # fmt: skip
    for name, (image, alpha, transparency) in files.items():
        image.save(tmp_path / name, transparency=transparency)
        rgb = np.stack([grey] * 3, 2) if name in ("grey.png", "deep.png") else palette[grey]
        expected = over(np.dstack([rgb, alpha]).astype(np.uint8), (0, 128, 0))
        for exact in (False, True):
            decoder = Decoder(exact=exact, background="green")
            near(pixels_of(tmp_path / name, decoder), expected, 1)
            near(pixels_of(tmp_path / name, Decoder(exact=exact)), rgb, 0)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_every_mode_with_alpha_is_dropped_or_laid_over(mode: str) -> None:
    grey, alpha = noise(20, 30), np.where(noise(20, 30) < 128, 0, 255).astype(np.uint8)
    if mode == "PA":
        image = Image.frombytes("PA", (30, 20), np.stack([grey, alpha], 2).tobytes())
        image.putpalette(np.stack([np.arange(256, dtype=np.uint8)] * 3, 1).tobytes())
    else:
        image = Image.fromarray(np.dstack([grey, grey, grey, alpha])).convert(mode.upper())
        image = image.convert(mode)
    kept = np.stack([np.where(alpha == 255, grey, 0) if mode in ("La", "RGBa") else grey] * 3, 2)

    near(np.asarray(convert_image(image.copy(), "RGB")).astype(np.int64), kept, 0)
    laid = convert_image(image.copy(), "RGB", background="red")
    near(np.asarray(laid).astype(np.int64), over(np.dstack([kept, alpha]), (255, 0, 0)), 0)


def test_a_background_for_one_channel_is_a_grey(tmp_path: Path) -> None:
    Image.new("RGBA", (5, 5), (9, 9, 9, 0)).save(tmp_path / "a.png")

    assert set(pixels_of(tmp_path / "a.png", Decoder("L", background="lime")).ravel()) == {150}


def test_a_profile_and_a_background_go_together(tmp_path: Path) -> None:
    rgba = noise(20, 30, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=rgb_profile(ADOBE, 2.2))
    rgb = srgb_of_xyz((rgba[..., :3] / 255) ** 2.2 @ ADOBE.T).round()
    expected = over(np.dstack([rgb, rgba[..., 3]]).astype(np.uint8), (255, 255, 255))

    near(pixels_of(tmp_path / "a.png", Decoder(srgb=True, background="white")), expected, 3)


@pytest.mark.parametrize("colour", ["nocolour", "#12", "", "#11223344", "rgba(1,2,3,4)"])
def test_what_is_no_colour_is_refused(colour: str) -> None:
    with pytest.raises(SettingError, match="a name such as white, or #rrggbb"):
        Decoder(background=colour)


# Deep values


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 0.25, 0.5, 1], [0, 64, 128, 255]),
    ([0, 1.5, 128.7, 255], [0, 1, 128, 255]),
    ([0, 256, 4095, 65535], [0, 1, 15, 255]),
    ([-1000, 0, 1000, 3000], [0, 64, 128, 255]),
    ([0, 1e5, 5e5, 1e6], [0, 26, 128, 255]),
    ([0, float("nan"), float("inf"), float("-inf")], [0, 0, 255, 0]),
    ([float("nan")] * 4, [0] * 4),
    ([-7] * 4, [0] * 4),
    ([-3e38, 0, 3e38, 3e38], [0, 128, 255, 255]),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_floating_point_keeps_its_scale_or_stretches(
    tmp_path: Path, values: list[float], expected: list[int], mode: str
) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")

    for exact in (False, True):
        found = pixels_of(tmp_path / "a.tif", Decoder(mode, exact=exact))
        assert found.reshape(4, -1)[:, 0].tolist() == expected


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 1, 1, 1], [0, 1, 1, 1]),
    ([0, 300, 4095, 65535], [0, 1, 15, 255]),
    ([-1024, 0, 1024, 3071], [0, 64, 128, 255]),
    ([0, 2**30, 2**31 - 1, 5], [0, 128, 255, 0]),
])  # fmt: skip
def test_whole_numbers_keep_their_scale_or_stretch(
    tmp_path: Path, values: list[int], expected: list[int]
) -> None:
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")

    assert pixels_of(tmp_path / "a.tif", Decoder("L"))[0].tolist() == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@BOTH
def test_sixteen_bits_are_what_opencv_reads(
    tmp_path: Path, suffix: str, channels: int, *, exact: bool
) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), values)
    read: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    expected = read.reshape(20, 30, channels) >> 8
    rgb = expected[..., 2::-1] if channels > 1 else np.repeat(expected, 3, 2)

    near(pixels_of(path, Decoder(exact=exact)), rgb, 0)


# Other colour spaces


def test_lab_is_converted_by_its_formula(tmp_path: Path) -> None:
    # well within sRGB, at whose edge the library interpolates
    lab = np.random.default_rng(0).integers((45, -12, -12), (80, 12, 12), (20, 30, 3))
    light = np.round(2.55 * lab[..., 0])
    coded = np.dstack([light, lab[..., 1:] % 256]).astype(np.uint8)  # a and b have signs
    Image.frombytes("LAB", (30, 20), coded.tobytes()).save(tmp_path / "a.tif")
    expected = srgb_of_lab(np.dstack([light / 2.55, lab[..., 1:]]))

    near(pixels_of(tmp_path / "a.tif", Decoder()), expected, 3)
    grey = expected @ (0.299, 0.587, 0.114)
    near(pixels_of(tmp_path / "a.tif", Decoder("L")), grey, 3)


def test_ycbcr_is_converted_by_its_formula(tmp_path: Path) -> None:
    ycc = noise(20, 30, 3)
    Image.frombytes("YCbCr", (30, 20), ycc.tobytes()).save(tmp_path / "a.tif")
    y, cb, cr = np.moveaxis(ycc.astype(float), 2, 0) - np.array([0, 128, 128]).reshape(3, 1, 1)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 2)

    near(pixels_of(tmp_path / "a.tif", Decoder()), rgb.clip(0, 255), 1.5)


def test_a_jpeg_is_what_opencv_decodes(tmp_path: Path) -> None:
    Image.fromarray(noise(6, 8, 3)).resize((80, 60)).save(tmp_path / "a.jpg", quality=90)
    bgr = cv2.imread(str(tmp_path / "a.jpg"))
    assert bgr is not None

    for exact in (False, True):
        near(pixels_of(tmp_path / "a.jpg", Decoder(exact=exact)), bgr[..., ::-1], 3)


def test_two_levels_are_black_and_white(tmp_path: Path) -> None:
    bits = noise(20, 30) < 128
    Image.fromarray(bits).save(tmp_path / "a.tif", compression="group4")

    near(pixels_of(tmp_path / "a.tif", Decoder("L")), 255 * bits, 0)


# Orientation


UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@BOTH
def test_a_picture_is_turned_as_exif_defines_it(
    tmp_path: Path, orientation: int, *, exact: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(noise(4, 6, 3)).resize((48, 32), Image.Resampling.NEAREST)
    for suffix in (".png", ".jpg"):
        path = tmp_path / f"a{suffix}"
        stored.save(path, exif=exif)
        plain = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert plain is not None
        expected = UPRIGHT[orientation](plain[..., ::-1])
        near(pixels_of(path, Decoder(exact=exact)), expected, 0 if suffix == ".png" else 3)


TIFF_HEADER = b"Exif\0\0II*\0\x08\0\0\0"


@pytest.mark.parametrize("exif", [
    b"Exif\0\0", b"Exif\0\0II", TIFF_HEADER, b"Exif\0\0nonsense of no kind at all",
    TIFF_HEADER + struct.pack("<HHHII", 900, 0x0112, 3, 1, 6)[:-1],  # cut off
    TIFF_HEADER + struct.pack("<HHHII", 1, 0x0112, 2, 9, 1 << 30),  # elsewhere, and a text
    TIFF_HEADER + struct.pack("<HHHII", 1, 0x0112, 99, 1, 6),  # of no known type
    TIFF_HEADER + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 0),  # a list that is in itself
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
@BOTH
def test_a_damaged_exif_costs_no_pixels(tmp_path: Path, exif: bytes, *, exact: bool) -> None:
    values = noise(20, 30, 3)
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(values).save(path, exif=exif)
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        near(pixels_of(path, Decoder(exact=exact)), expected, 0)


def test_a_profile_survives_the_turn_and_the_scaling(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = noise(20, 30).astype(np.uint16) * 256
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG", icc_profile=grey_profile(1.8), exif=exif)
    (tmp_path / "a.png").write_bytes(file.getvalue())
    expected = srgb_of_xyz((np.rot90(values >> 8, -1)[..., None] / 255) ** 1.8 * D50)

    near(pixels_of(tmp_path / "a.png", Decoder(srgb=True)), expected, 2)
