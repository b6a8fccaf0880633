import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from conftest import picture
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoded, Decoder, thumbnail
from resnet_cli.preprocess import Preprocess

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # of odd metadata, which it reads past

Pixels = npt.NDArray[np.uint8]

ORIENTATION = 0x0112
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def array(pixels: Decoded) -> Pixels:
    """Decoded pixels as [H, W, C] or [H, W]."""
    return np.asarray(pixels)


def noise(shape: tuple[int, ...], high: int = 256) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, high, shape)


def colours(mode: str = "RGB") -> Image.Image:
    """A picture of 48x32 pixels whose corners all differ."""
    return Image.fromarray(noise((32, 48, 3)).astype(np.uint8)).convert(mode)


def failure(path: Path, decoder: Decoder = Decoder()) -> str:  # noqa: B008 - it is frozen
    """The reason why a file has no pixels, which has to be one line."""
    with pytest.raises(ImageError) as refused:
        decoder(path)
    message = str(refused.value)
    assert message.strip()
    assert "\n" not in message
    return message


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(
    tmp_path: Path, orientation: int, suffix: str, *, exact: bool
) -> None:
    path = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    colours().save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    assert expected.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    np.testing.assert_array_equal(array(Decoder(exact=exact)(path)), expected)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_can_be_taken_as_stored(
    tmp_path: Path, orientation: int, suffix: str, *, exact: bool
) -> None:
    path, stored = tmp_path / f"turned{suffix}", tmp_path / f"stored{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    colours().save(path, exif=exif)
    colours().save(stored)
    with Image.open(stored) as image:
        expected = np.asarray(image.convert("RGB"))

    np.testing.assert_array_equal(array(Decoder(upright=False, exact=exact)(path)), expected)


def test_a_packed_tiff_can_be_taken_as_stored(data: Path) -> None:
    path = data / "awkward" / "g4_orientation_6.tif"
    upright, stored = array(Decoder()(path)), array(Decoder(upright=False)(path))

    np.testing.assert_array_equal(np.rot90(stored, -1), upright)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_orientation_in_xmp_turns_a_picture_for_both_decoders(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"turned{suffix}"
    if suffix == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        colours().save(path, pnginfo=info)
    else:
        colours().save(path, xmp=XMP.encode())
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    assert expected.shape == (48, 32, 3)
    np.testing.assert_array_equal(array(Decoder(exact=True)(path)), expected)
    np.testing.assert_array_equal(array(Decoder()(path)), expected)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    colours().save(tmp_path / "odd.png", exif=exif)

    for decoder in (Decoder(), Decoder(exact=True)):
        np.testing.assert_array_equal(array(decoder(tmp_path / "odd.png")), np.asarray(colours()))


def kinds() -> Iterator[tuple[str, bytes]]:
    """Every kind of picture that people have, small, as the bytes of a file."""

    def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
        file = BytesIO()
        image.save(file, image_format, **options)
        return file.getvalue()

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"{mode}.png", saved(colours(mode), "PNG")
    yield "P-see-through.png", saved(colours("P"), "PNG", transparency=3)
    yield "L-see-through.png", saved(colours("L"), "PNG", transparency=3)
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"{mode}.jpg", saved(colours(mode), "JPEG")
    yield "progressive.jpg", saved(colours(), "JPEG", progressive=True)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        name = f"{subsampling.replace(':', '')}.jpg"
        yield name, saved(colours(), "JPEG", subsampling=subsampling, quality=60)
    yield "rgb-inside.jpg", saved(colours(), "JPEG", keep_rgb=True)
    for mode in ("1", "L", "P", "RGB"):
        yield f"{mode}.bmp", saved(colours(mode), "BMP")
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
        yield f"{mode}.tif", saved(colours(mode), "TIFF")
    yield "RGBA.webp", saved(colours("RGBA"), "WEBP", lossless=True)
    yield "P.gif", saved(colours("P"), "GIF")
    yield "RGB.ppm", saved(colours(), "PPM")


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("name", "data"), list(kinds()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kind_has_the_pixels_that_pillow_gives(
    tmp_path: Path, name: str, data: bytes, mode: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with Image.open(path) as image:
        expected = np.asarray(image.convert(mode))

    for exact in (False, True):
        pixels = array(Decoder(mode, exact=exact)(path))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected)


def test_the_fast_decoder_takes_what_it_can(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    colours().save(path)
    fast, exact, grey = Decoder()(path), Decoder(exact=True)(path), Decoder("L")(path)

    assert isinstance(fast, np.ndarray)
    assert fast.dtype == np.uint8
    assert fast.shape == (32, 48, 3)
    assert fast.flags.c_contiguous  # channels-last without a copy
    assert isinstance(exact, Image.Image)
    assert isinstance(grey, Image.Image)
    assert (exact.mode, grey.mode) == ("RGB", "L")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_greys_of_sixteen_bits_keep_their_highest_eight(tmp_path: Path, suffix: str) -> None:
    values = noise((20, 30), 65536).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(values).save(path)
    expected = (values >> 8).astype(np.uint8)

    np.testing.assert_array_equal(array(Decoder("L")(path)), expected)
    for exact in (False, True):
        pixels = array(Decoder(exact=exact)(path))
        np.testing.assert_array_equal(pixels, np.stack([expected] * 3, axis=2))


def chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def png(width: int, height: int, depth: int, data: bytes) -> bytes:
    """A PNG of colours with so many bits a channel."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    )


def test_colours_of_sixteen_bits_keep_their_highest_eight(tmp_path: Path) -> None:
    values = noise((20, 30, 3), 65536)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)  # no filter
    path = tmp_path / "deep.png"
    path.write_bytes(png(30, 20, 16, rows))

    for exact in (False, True):
        np.testing.assert_array_equal(array(Decoder(exact=exact)(path)), values >> 8)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving{suffix}"
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    # of these formats only WebP has losses to leave out
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]

    for exact in (False, True):
        pixels = array(Decoder(exact=exact)(path))
        assert pixels.shape == (10, 20, 3)
        np.testing.assert_array_equal(pixels, np.broadcast_to([255, 0, 0], (10, 20, 3)))


def test_the_content_tells_the_format_and_not_the_suffix(tmp_path: Path) -> None:
    colours().save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "claims.jpg")

    np.testing.assert_array_equal(array(Decoder()(tmp_path / "claims.jpg")), np.asarray(colours()))


NO_PICTURE = "is not an image, or is in an unsupported format"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("data", "reason"), [
    (b"", "the file is empty"),
    (b"just some words\n", "is a text, not an image"),
    (b"<!DOCTYPE html><html></html>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    (b"\xff\xd8\xff\xe0", "its JPEG header is damaged"),
    (b"\x89PNG\r\n\x1a\n", "its PNG header is damaged"),
    (bytes(1000), "nothing but zeros"),
    (bytes(range(1, 255)), NO_PICTURE),
    (png(60_000, 60_000, 8, b"\0"), "over the limit of 178,956,970"),
])  # fmt: skip
def test_what_is_no_picture_says_so(
    tmp_path: Path, data: bytes, reason: str, mode: str, *, exact: bool
) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)

    assert reason in failure(path, Decoder(mode, exact=exact))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_torn_picture_has_no_pixels(
    tmp_path: Path, suffix: str, share: float, mode: str, *, exact: bool
) -> None:
    path = picture(tmp_path / f"torn{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])

    assert failure(path, Decoder(mode, exact=exact))


@pytest.mark.parametrize("exact", [False, True])
def test_a_torn_jpeg_is_said_to_be_truncated(tmp_path: Path, *, exact: bool) -> None:
    path = picture(tmp_path / "torn.jpg")
    path.write_bytes(path.read_bytes()[:-2000])

    assert "truncated" in failure(path, Decoder(exact=exact))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert failure(tmp_path / "gone.jpg") == "there is no such file"


def test_a_dangling_link_says_so(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")

    assert failure(tmp_path / "link.jpg") == "there is no such file"


def test_a_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()

    assert failure(tmp_path / "folder.jpg") == "is a folder, not an image"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = picture(tmp_path / "secret.jpg")
    path.chmod(0)

    assert failure(path) == "permission denied"


@pytest.fixture
def _ten_seconds() -> Iterator[None]:
    """Kill the tests rather than wait for ever."""
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("_ten_seconds")
def test_a_pipe_does_not_hang_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")

    for name in ("pipe.jpg", "link.jpg"):
        assert failure(tmp_path / name) == "is a pipe or a device, not an image"


@pytest.mark.usefixtures("_ten_seconds")
def test_a_device_does_not_hang_the_run() -> None:
    assert failure(Path("/dev/zero")) == "is a pipe or a device, not an image"


TRUNCATED = ("cut_at_3000_bytes.JPEG", "truncated_jpeg.jpg", "truncated_image.png", "shortfile.bmp")
BOMBS = ("decompression_bomb.gif", "decompression_bomb.ico", "reallybig.bmp")
DAMAGED_HEADERS = (
    "broken.png", "unknown_compression_method.png", "zero_width.gif",
)  # fmt: skip


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("name", "reason"), [
    *((name, "truncated") for name in TRUNCATED),
    *((name, "over the limit of 178,956,970") for name in BOMBS),
    *((name, "header is damaged") for name in DAMAGED_HEADERS),
    ("text_pretending.jpg", "is a text"),
    ("negative_size.ppm", "is a text"),
    ("zero_bytes.jpg", "the file is empty"),
    ("seek_too_large.tif", "cannot be decoded"),
    ("crash-2020-10-test.tif", "its data are damaged (decoder error -2)"),
])  # fmt: skip
def test_a_broken_real_file_says_why(data: Path, name: str, reason: str, *, exact: bool) -> None:
    assert reason in failure(data / "awkward" / name, Decoder(exact=exact))


def decoded(path: Path, decoder: Decoder) -> Decoded | str:
    try:
        return decoder(path)
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_awkward_real_files_give_both_decoders_the_same(data: Path, mode: str) -> None:
    for path in sorted((data / "awkward").iterdir()):
        fast, exact = decoded(path, Decoder(mode)), decoded(path, Decoder(mode, exact=True))
        if isinstance(fast, str) or isinstance(exact, str):
            assert fast == exact, path.name
        else:
            np.testing.assert_array_equal(array(fast), array(exact), err_msg=path.name)


@pytest.mark.parametrize("name", [
    "Landscape_1.jpg", "Landscape_3.jpg", "Landscape_6.jpg", "Landscape_8.jpg",
    "frozenpond.mpo", "g4_orientation_6.tif", "hopper.avif", "hopper.bmp", "hopper.gif",
    "hopper.ppm", "hopper.tif", "hopper.webp", "hopper_bad_exif.jpg", "hopper_gray.jpg",
    "iss634.gif", "p_16.tga", "p_trns_single.png", "pil123p.png",
    "pil_sample_cmyk.jpg", "pillow.ico", "sugarshack.mpo", "uncompressed_la.png",
])  # fmt: skip
def test_an_odd_but_whole_real_file_is_what_pillow_reads(data: Path, name: str) -> None:
    with Image.open(data / "awkward" / name) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    np.testing.assert_array_equal(array(Decoder()(data / "awkward" / name)), expected)


def test_upright_real_photographs_look_alike(data: Path) -> None:
    """Whatever its orientation tag, the photograph is one and the same picture."""
    preprocess = Preprocess(64, 64)
    first, *others = (
        preprocess(Decoder()(data / "awkward" / f"Landscape_{number}.jpg")).astype(float)
        for number in (1, 3, 6, 8)
    )

    for other in others:
        assert np.abs(first - other).mean() < 10  # each was compressed by itself


def test_real_photographs_are_within_two_levels_after_preprocessing(data: Path) -> None:
    preprocess, fast, exact = Preprocess(), Decoder(), Decoder(exact=True)
    photographs = [
        path for path in (data / "photos").rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    largest = {
        path: np.abs(preprocess(fast(path)).astype(int) - preprocess(exact(path))).max()
        for path in photographs
    }

    assert len(largest) > 200
    assert {path: levels for path, levels in largest.items() if levels > 2} == {}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("size", "expected"), [
    ((320, 260), (64, 52)), ((260, 320), (52, 64)), ((128, 32), (64, 16)), ((64, 64), (64, 64)),
    ((40, 30), (40, 30)), ((640, 2), (64, 1)),
])  # fmt: skip
def test_a_thumbnail_fits_its_side_and_keeps_its_shape(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int], *, exact: bool
) -> None:
    path = picture(tmp_path / "picture.png", size)
    pixels = Decoder(exact=exact)(path)
    before = array(pixels).copy()
    small = thumbnail(pixels, 64)

    assert (small.mode, small.size) == ("RGB", expected)
    np.testing.assert_array_equal(array(pixels), before)  # the network still needs them


def test_a_thumbnail_has_the_colours_of_its_picture(tmp_path: Path) -> None:
    halves = Image.new("RGB", (400, 200), "red")
    halves.paste("blue", (200, 0, 400, 200))
    halves.save(tmp_path / "halves.png")

    for exact in (False, True):
        small = thumbnail(Decoder(exact=exact)(tmp_path / "halves.png"), 100)
        assert (small.getpixel((10, 25)), small.getpixel((90, 25))) == ((255, 0, 0), (0, 0, 255))


def test_a_grey_picture_has_a_thumbnail_of_greys(tmp_path: Path) -> None:
    Image.new("L", (90, 30), 77).save(tmp_path / "grey.png")
    small = thumbnail(Decoder("L")(tmp_path / "grey.png"), 30)

    assert (small.size, small.getcolors()) == ((30, 10), [(300, (77, 77, 77))])


def test_a_png_that_crashes_libpng_is_an_error(tmp_path: Path) -> None:
    def part(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    rows = b"".join(bytes([9]) + bytes(24) for _ in range(8))  # there is no filter of type 9
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    (tmp_path / "crafted.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)

    program = "import sys; from pathlib import Path; from resnet_cli.images import Decoder; "
    program += "Decoder()(Path(sys.argv[1]))"
    # in a process of its own: torchvision's decoder ends the process on this file
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "crafted.png"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "ImageError" in result.stderr


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ImageError, match="3,221,225,472 bytes, too many for an image"):
        Decoder()(path)


@pytest.mark.parametrize("largest", [255, 65_535])
def test_grey_of_32_bits_is_scaled_by_what_it_uses(tmp_path: Path, largest: int) -> None:
    values = np.array([[0, largest // 2], [largest, largest]], dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "grey.tif")

    assert array(Decoder("L")(tmp_path / "grey.tif")).tolist() == [[0, 127], [255, 255]]


def test_a_thumbnail_keeps_nothing_of_its_file_but_pixels() -> None:
    image = Image.new("RGB", (40, 30))
    image.info["depth_images"] = [lambda: None]  # as HEIC has them, which no process can hand on
    assert thumbnail(image, 20).info == {}
