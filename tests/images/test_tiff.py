"""TIFFs of every kind of number and layout: the pixels that their values say, or a reason."""

import struct
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder
from resnet_cli.images.files import Room
from resnet_cli.images.tiff import read_tiff
from resnet_cli.images.tiff_strips import plane_of

tifffile = pytest.importorskip("tifffile")

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

Values = npt.NDArray[Any]

KINDS = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")
HEIGHT, WIDTH = 40, 56


class Heard(Room):
    """Hears what is odd about an image."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def enter(self, size: int) -> None: ...

    def claim(self, size: int) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def values_of(kind: str, samples: int) -> Values:
    """Blocks of random values over the whole range of a kind, 0 to 1 for floating point."""
    parts = np.random.default_rng(samples).random((HEIGHT // 8, WIDTH // 8, samples))
    parts[0, 0], parts[0, 1] = 0, 1
    large = parts.repeat(8, 0).repeat(8, 1)
    dtype = np.dtype(kind)
    return (large if dtype.kind == "f" else large * np.iinfo(dtype).max).astype(dtype)


def as_levels(values: Values) -> Values:
    """The documented scaling, in plain formulas."""
    if values.dtype == np.uint16:
        return values // 256
    real = values.astype(np.float64)
    if values.dtype.kind == "f":
        return np.floor(255 * real + 0.5)
    if real.max() <= 255:
        return real
    if real.max() <= 65535:
        return real // 256
    return np.floor(255 * real / real.max() + 0.5)


def pixels(path: Path, decoder: Decoder = Decoder(), heard: Room | None = None) -> Values:  # noqa: B008
    found = decoder(path, heard or Heard())
    return np.asarray(found).astype(np.int64)


def write(path: Path, values: Values, **options: Any) -> Path:
    samples = values.shape[2]
    options = {"photometric": "rgb" if samples in (3, 4) else "minisblack"} | options
    if samples > 1:
        options = {"planarconfig": "contig"} | options
    if samples > 1 and options["planarconfig"] == "separate":
        values = np.moveaxis(values, 2, 0)
    tifffile.imwrite(path, values if samples > 1 else values[:, :, 0], **options)
    return path


PACKED: tuple[dict[str, Any], ...] = ({}, {"compression": "zlib"})
STRIPS: dict[str, Any] = {"rowsperstrip": 7}
TILES: dict[str, Any] = {"tile": (16, 32)}
LAYOUTS: list[dict[str, Any]] = [
    {"planarconfig": planes, "byteorder": order, "bigtiff": big} | packed | cut
    for planes, order, packed, (cut, big) in product(
        ("contig", "separate"),
        "<>",
        PACKED,
        ((STRIPS, False), (TILES, True)),
    )
]


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number_is_read_in_every_layout(
    tmp_path: Path, kind: str, samples: int
) -> None:
    values = values_of(kind, samples)
    colours = min(samples, 3) if samples != 2 else 1
    expected = np.broadcast_to(as_levels(values[:, :, :colours]), (HEIGHT, WIDTH, 3))
    for layout in LAYOUTS:
        if samples == 1:
            layout = {name: value for name, value in layout.items() if name != "planarconfig"}
        path = write(tmp_path / "a.tif", values, **layout)
        assert np.abs(pixels(path) - expected).max() <= 1, layout


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_predictors_and_lzw_are_what_opencv_and_libtiff_write(
    tmp_path: Path, kind: str, predictor: int
) -> None:
    if predictor == 3 and kind.startswith("u"):
        return
    values = values_of(kind, 3)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    assert cv2.imwrite(str(tmp_path / "a.tif"), values[:, :, ::-1], options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].tags["Compression"].value == 5

    np.testing.assert_allclose(pixels(tmp_path / "a.tif"), as_levels(values), atol=1)


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_the_values_are_those_that_opencv_reads(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.tif", values_of(kind, 3), byteorder=">", tile=(16, 16))
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None

    np.testing.assert_allclose(pixels(path), as_levels(found[:, :, ::-1]), atol=1)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_inks_become_colours(tmp_path: Path, kind: str, planes: str) -> None:
    inks = values_of(kind, 4)
    path = write(tmp_path / "a.tif", inks, photometric="separated", planarconfig=planes)
    c, m, y, k = np.moveaxis(as_levels(inks).astype(np.int64), 2, 0)
    expected = np.stack([(255 - ink) * (255 - k) / 255 for ink in (c, m, y)], 2)

    np.testing.assert_allclose(pixels(path), expected, atol=1)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_negative_is_turned(tmp_path: Path, kind: str) -> None:
    values = values_of(kind, 1)
    path = write(tmp_path / "a.tif", values, photometric="miniswhite")

    np.testing.assert_allclose(pixels(path, Decoder("L")), 255 - as_levels(values[:, :, 0]), atol=1)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_alpha_is_dropped_or_laid_over_a_colour(tmp_path: Path, kind: str, planes: str) -> None:
    values = values_of(kind, 4)
    path = write(tmp_path / "a.tif", values, planarconfig=planes, extrasamples=["unassalpha"])
    scaled = as_levels(values).astype(np.float64)
    alpha = scaled[:, :, 3:] / 255
    expected = scaled[:, :, :3] * alpha + 255 * (1 - alpha)

    np.testing.assert_allclose(pixels(path), scaled[:, :, :3], atol=1)
    np.testing.assert_allclose(pixels(path, Decoder(background="white")), expected, atol=2)


def twelve_bits(values: Values) -> bytes:
    """A grey TIFF of 12 bits, two values in three bytes."""
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    tags = [
        (256, WIDTH), (257, HEIGHT), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1),
        (278, HEIGHT), (279, len(data)),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value or start) for tag, value in tags]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4)
    return head + data


def test_twelve_bits_keep_their_highest_eight(tmp_path: Path) -> None:
    values = values_of("u2", 1)[:, :, 0] >> 4
    (tmp_path / "a.tif").write_bytes(twelve_bits(values))

    np.testing.assert_array_equal(pixels(tmp_path / "a.tif", Decoder("L")), values >> 4)


def test_orientation_turns_bands(tmp_path: Path) -> None:
    values = values_of("f4", 3)
    path = write(tmp_path / "a.tif", values, extratags=[(274, "H", 1, 6, True)])

    np.testing.assert_allclose(pixels(path), np.rot90(as_levels(values), -1), atol=1)
    np.testing.assert_allclose(pixels(path, Decoder(upright=False)), as_levels(values), atol=1)


# Bands


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bands", [(5, 3, 1), (2, 2, 7), (4,), (1, 2, 3, 4, 5, 6, 7), (6, 1)])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_bands_are_those_that_were_asked_for(
    tmp_path: Path, kind: str, bands: tuple[int, ...], planes: str
) -> None:
    values, heard = values_of(kind, 7), Heard()
    path = write(tmp_path / "a.tif", values, planarconfig=planes)
    expected = as_levels(values[:, :, [band - 1 for band in bands]])
    found = pixels(path, Decoder(bands=bands), heard)

    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1)
    assert heard.warnings == []


@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_bands_that_nobody_chose_are_reported(tmp_path: Path, kind: str) -> None:
    path, heard = write(tmp_path / "a.tif", values_of(kind, 6)), Heard()
    pixels(path, Decoder(), heard)
    assert heard.warnings == ["has 6 bands, of which 1, 2, 3 were used (--bands)"]
    heard = Heard()
    pixels(path, Decoder(bands=(1, 2, 3, 4), assumed=True), heard)
    assert heard.warnings == ["has 6 bands, of which 1, 2, 3, 4 were used (--bands)"]


@pytest.mark.parametrize(("mode", "bands", "expected"), [
    ("RGB", (3, 2, 1), (2, 1, 0)), ("RGBA", (4, 1, 2), (3, 0, 1)), ("L", (1, 1, 1), (0, 0, 0)),
    ("RGBA", (1, 2, 3, 4), (0, 1, 2, 3)), ("LA", (2,), (1,)),
])  # fmt: skip
def test_other_images_have_bands_too(
    tmp_path: Path, mode: str, bands: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    values = values_of("u1", len(Image.new(mode, (1, 1)).getbands()))
    Image.fromarray(values if values.shape[2] > 1 else values[:, :, 0]).save(tmp_path / "a.png")
    wanted = values[:, :, list(expected)]
    found = pixels(tmp_path / "a.png", Decoder(bands=bands))

    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_band_that_an_image_lacks_is_an_error(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / name)
    with pytest.raises(ImageError, match=r"has 3 bands, but band 5 was asked for \(--bands\)"):
        Decoder(bands=(5, 1, 1))(tmp_path / name)
    with pytest.raises(ImageError, match="has 3 bands, but the network takes 4"):
        Decoder(bands=(1, 2, 3, 4), assumed=True)(tmp_path / name)


# What is refused


@pytest.mark.parametrize(("options", "reason"), [
    ({"sampleformat": 6, "bits": 32}, "32-bit unknown values: convert it to 8 or 16 bits"),
    ({"photometric": 8, "bits": 32}, "32-bit unsigned values with CIELab: convert it to RGB"),
    ({"compression": 7, "bits": 32}, "compressed by method 7"),
    ({"photometric": 6}, "8-bit unsigned values with YCbCr: convert it to RGB"),
    ({"bits": 24}, "24-bit unsigned values: convert it"),
    ({"tile": 1 << 20, "bits": 32}, "its strips or tiles are damaged"),
    ({"width": 1 << 30, "bits": 32}, "over the limit"),
    ({"rows": 0, "bits": 32}, "its strips or tiles are damaged"),
    ({"bits": 32, "width": 4000}, "its data are cut off"),
    ({"bits": 32, "width": 4000, "compression": 8}, "decoder error|damaged"),
    ({"bits": 32, "predictor": 9}, "predictor 9"),
    ({"bits": 64, "width": 2_000_000, "compression": 8}, "compressed strip or tile of 960,000,000"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_for_what_it_is(
    tmp_path: Path, options: dict[str, int], reason: str
) -> None:
    path = tmp_path / "a.tif"
    data = np.random.default_rng(0).integers(0, 256, 4 * 3 * 30 * 20).astype(np.uint8).tobytes()
    tags = {
        256: options.get("width", 30), 257: 20, 258: options.get("bits", 8),
        259: options.get("compression", 1), 262: options.get("photometric", 2), 273: 0, 277: 3,
        278: options.get("rows", 20), 279: len(data), 317: options.get("predictor", 1),
        339: options.get("sampleformat", 1),
    }  # fmt: skip
    if "tile" in options:
        tags |= {322: options["tile"], 323: 0, 324: 8, 325: 9}
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [
        struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value)
        for tag, value in sorted(tags.items())
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4)
    path.write_bytes(head + data)
    with pytest.raises(ImageError, match=reason):
        Decoder()(path)


def test_a_strip_is_read_no_further_than_it_can_reach(tmp_path: Path) -> None:
    count, data = 1 << 12, bytes(1 << 20)
    tags = {256: (1,), 257: (count,), 258: (32,), 259: (1,), 262: (1,), 273: (8,) * count,
            277: (1,), 278: (1,), 279: (len(data),) * count, 339: (3,)}  # fmt: skip
    place, tables, entries = 8 + len(data), b"", b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        where = packed if len(values) == 1 else struct.pack("<I", place + len(tables))
        entries += struct.pack("<HHI", tag, 4, len(values)) + where
        tables += packed if len(values) > 1 else b""
    head = b"II*\0" + struct.pack("<I", place + len(tables))
    (tmp_path / "a.tif").write_bytes(
        head + data + tables + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    with (tmp_path / "a.tif").open("rb") as file:
        found = read_tiff(file)
        assert found is not None
        taken = [len(packed) for _, packed, _ in plane_of(file, found, 0)]

    assert len(taken) == count
    assert max(taken) < 2048


# Raw photographs and previews


def preview(path: Path, sensor: int, **options: Any) -> Path:
    with tifffile.TiffWriter(path) as file:
        file.write(values_of("u1", 3)[:36, :48], subifds=1, subfiletype=1, **options)
        file.write(values_of("u2", 1)[:, :, 0], photometric=sensor)
    return path


@pytest.mark.parametrize(("sensor", "options"), [
    (32803, {}), ("minisblack", {"extratags": [(50706, "B", 4, b"\1\4\0\0", True)]}),
])  # fmt: skip
def test_a_raw_photograph_is_no_row_of_its_preview(
    tmp_path: Path, sensor: Any, options: dict[str, Any]
) -> None:
    path = preview(tmp_path / "a.jpg", sensor, photometric="rgb", **options)
    with pytest.raises(ImageError, match=r"raw camera file .* preview of 48x36 pixels"):
        Decoder()(path)


@pytest.mark.parametrize("mark", [b"CR\2\0", b"IIIITwaR"])
def test_the_mark_of_a_maker_is_that_of_a_raw_photograph(tmp_path: Path, mark: bytes) -> None:
    data = write(tmp_path / "a.tif", values_of("u1", 3)).read_bytes()
    start = int.from_bytes(data[4:8], "little")
    moved = len(data).to_bytes(4, "little")
    (tmp_path / "b.tif").write_bytes(data[:4] + moved + mark.ljust(8) + data[16:] + data[start:])
    with pytest.raises(ImageError, match="is a raw camera file"):
        Decoder()(tmp_path / "b.tif")


def test_a_preview_before_an_image_is_a_warning(tmp_path: Path) -> None:
    path, heard = preview(tmp_path / "a.tif", "minisblack", photometric="rgb"), Heard()  # type: ignore[arg-type]
    pixels(path, Decoder(), heard)

    assert heard.warnings == ["its first page, which was used, is only a preview of 48x36 pixels"]


def test_a_thumbnail_as_the_second_page_says_nothing(tmp_path: Path) -> None:
    heard = Heard()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values_of("u1", 3), photometric="rgb")
        file.write(values_of("u1", 3)[:8, :8], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif", Decoder(), heard), values_of("u1", 3))
    assert heard.warnings == []
