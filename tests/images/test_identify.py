"""Files that are no images, though their names say so; and PNGs that are, whatever they carry."""

import gzip
import io
import tarfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from test_tiff import Heard

from conftest import Run, picture
from profiles import ADOBE, rgb_profile
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder


def zipped(name: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "content")
    return file.getvalue()


def tarred() -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.mark.parametrize(("data", "words"), [
    (LFS, "is a git-lfs pointer, not the image itself: run 'git lfs pull'"),
    (b"../.git/annex/objects/3f/9k/SHA256E-s5--00.jpg", "git-annex pointer"),
    (b"<html><body>Sign in</body></html>", "web page (HTML)"),
    (b"\xef\xbb\xbf \n<!doctype HTML><title>404</title>", "web page (HTML)"),
    (b'<?xml version="1.0"?>\n<html xmlns="x"/>', "web page (HTML)"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "answer of a server (XML)"),
    (SVG, "vector drawing (SVG)"),
    (b'<?xml version="1.0"?>\n<!-- made -->\n' + SVG, "vector drawing (SVG)"),
    (bytes(9000), "nothing but zeros"),
    (bytes(3), "nothing but zeros"),
    (b"%PDF-1.7\n%\xe2\xe3", "document (PDF)"),
    (b"\xff\x0a\xc8\xb2\x01", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", "JPEG XL"),
    (b"II\xbc\x01\x08\0\0\0", "JPEG XR"),
    (bytes(128) + b"DICM\2\0", "DICOM"),
    (b"SIMPLE  =                    T", "FITS"),
    (b"v/1\x01\2\0\0\0", "OpenEXR"),
    (b"gimp xcf v011\0", "GIMP"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video (MP4 or QuickTime)"),
    (b"\0\0\0\x14ftypqt  \0\0\2\0", "video (MP4 or QuickTime)"),
    (b"\0\0\x1f\x40moov\0\0\0\x6cmvhd", "video (MP4 or QuickTime)"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "video (Matroska or WebM)"),
    (b"RIFF\x10\0\0\0AVI LIST", "video (AVI)"),
    (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "raw camera file (Canon CR2)"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1", "raw camera file (Canon CR3)"),
    (b"IIRO\x08\0\0\0", "raw camera file (Olympus ORF)"),
    (b"IIU\0\x18\0\0\0", "raw camera file (Panasonic RW2)"),
    (b"FUJIFILMCCD-RAW 0201", "raw camera file (Fujifilm RAF)"),
    (b"FOVb\1\0\3\0", "raw camera file (Sigma X3F)"),
    (zipped("photo.jpg"), "archive (zip)"),
    (zipped("[Content_Types].xml"), "document of Office"),
    (gzip.compress(b"x", mtime=0), "archive (gzip)"),
    (tarred(), "archive (tar)"),
    (b"Rar!\x1a\x07\x01\0", "archive (rar)"),
    (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "macOS keeps beside a file"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "Thumbs.db"),
    (b'{"error": "not found"}', "text (JSON)"),
    (b"just words\n", "is a text"),
    ("schöne Grüße aus Köln\n".encode("latin-1"), "is a text"),
    ("caf\u00e9\n".encode("utf-16"), "is a text"),
    (b"\x93NUMPY\x01\0v\0", "array of NumPy"),
    (b"\x7fELF\2\1\1\0", "a program"),
    (b"\xff\xd8\xff\xe0", "its JPEG header is damaged or cut off"),
    (bytes(range(1, 250)), "not an image, or is in an unsupported format"),
    (b"<!-- a --><!-- b --><svg/>", "a vector drawing (SVG)"),
    (b"<!---->" * 146 + b"x", "is a text"),  # a way out of each comment doubles the ways
])  # fmt: skip
def test_a_file_that_is_no_image_is_told_by_what_it_is(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError) as refused:
        Decoder()(tmp_path / "a.jpg")
    assert words in str(refused.value)


def test_the_field_is_told_apart(data: Path, run: Run, checkpoint: Path) -> None:
    images = data / "field" / "images"
    words = {
        "jpeg_xl": "JPEG XL", "lfs_pointer": "git-lfs", "login_page": "HTML", "only_zeros": "zeros",
    }  # fmt: skip
    for name, word in words.items():
        result = run("predict", images / f"{name}.jpg", "-c", checkpoint, "--format", "csv")
        assert result.exit_code == 3
        assert word in result.stdout.splitlines()[1]


# PNGs


def rgb() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + name + data + checksum


LONG = b"prompt " * 400_000  # 2.8 MB
TEXTS = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + LONG),
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
    "iTXt": chunk(b"iTXt", b"parameters\0\0\0\0\0" + LONG),
    "iTXt packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "exif as text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LONG)),
    "profile": chunk(b"iCCP", b"inks\0\0" + zlib.compress(LONG)),
    "many": chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG[:900_000])) * 100,
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_long_texts_do_not_keep_pixels_from_being_read(
    tmp_path: Path, text: bytes, *, at_the_end: bool
) -> None:
    file = BytesIO()
    rgb().save(file, "PNG")
    data = file.getvalue()
    place = len(data) - 12 if at_the_end else 33  # before IEND, or after IHDR
    (tmp_path / "a.png").write_bytes(data[:place] + text + data[place:])
    for decoder in (Decoder(), Decoder(srgb=True), Decoder(background="red")):
        np.testing.assert_array_equal(np.asarray(decoder(tmp_path / "a.png")), np.asarray(rgb()))


def test_a_profile_that_is_too_long_is_a_warning_where_it_is_wanted(tmp_path: Path) -> None:
    file, heard = BytesIO(), Heard()
    rgb().save(file, "PNG")
    data = file.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + TEXTS["profile"] + data[33:])
    Decoder()(tmp_path / "a.png", heard)
    assert heard.warnings == []
    Decoder(srgb=True)(tmp_path / "a.png", heard)
    assert heard.warnings == ["its colour profile is too long and was left out"]


def test_short_profiles_and_orientations_survive_beside_a_long_text(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", "words " * 300_000, zip=True)
    info.add_itxt(
        "XML:com.adobe.xmp",
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>',
    )
    profile = rgb_profile(ADOBE, 2.2)
    assert ImageCms.ImageCmsProfile(BytesIO(profile))
    rgb().save(tmp_path / "a.png", pnginfo=info, icc_profile=profile)
    rgb().save(tmp_path / "b.png", icc_profile=profile)
    expected = np.rot90(np.asarray(Decoder(srgb=True)(tmp_path / "b.png")), -1)

    np.testing.assert_array_equal(np.asarray(Decoder(srgb=True)(tmp_path / "a.png")), expected)


def test_a_torn_png_with_a_long_text_is_an_error(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    data = path.read_bytes()
    path.write_bytes(data[:33] + TEXTS["zTXt"] + data[33 : len(data) // 2])
    with pytest.raises(ImageError, match="truncated"):
        Decoder()(path)
