"""JPEGs have the same pixels whichever library decodes them, and whatever is not installed."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import io

from conftest import SAMPLES
from jpegs import kinds, oriented, saved, soft, twelve_bits
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder, jpeg
from resnet_cli.images.files import Endless
from resnet_cli.images.native_warnings import listen_to_libraries
from resnet_cli.records import Pixels

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # of odd metadata, which it reads past

KINDS = kinds()
END = b"\xff\xd9"


@pytest.fixture
def anew() -> Iterator[None]:
    """Look for the libraries in this test, and again after it."""
    jpeg.find_decoder.cache_clear()
    yield
    jpeg.find_decoder.cache_clear()


@pytest.fixture(params=list(jpeg.LIBRARIES))
def library(anew: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each library that works here, as the only one."""
    name: str = request.param
    monkeypatch.setattr(jpeg, "LIBRARIES", {name: jpeg.LIBRARIES[name]})
    if jpeg.find_decoder() is None:
        pytest.skip(f"{name} decodes nothing here")
    return name


def decoded(source: Path | bytes, *, upright: bool = True) -> Pixels:
    """Pixels that come from the fast decoder, not from Pillow."""
    pixels = Decoder(upright=upright)(source)
    assert isinstance(pixels, np.ndarray)
    return pixels


def by_pillow(source: Path | bytes, *, upright: bool = True) -> Pixels:
    """What Pillow alone makes of a file."""
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        whole = ImageOps.exif_transpose(image) if upright else image
        return np.asarray(whole.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_pixels_of_pillow(library: str, kind: str) -> None:
    np.testing.assert_array_equal(decoded(KINDS[kind]), by_pillow(KINDS[kind]))


def test_every_photograph_has_the_pixels_of_pillow(library: str, data: Path) -> None:
    files = (path for folder in (data, SAMPLES) for path in sorted(folder.rglob("*")))
    paths = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file()]
    fast = 0
    for path in paths:
        try:
            expected = by_pillow(path)
        except OSError:
            with pytest.raises(ImageError):
                Decoder()(path)
        else:
            pixels = Decoder()(path)
            fast += isinstance(pixels, np.ndarray)
            np.testing.assert_array_equal(np.asarray(pixels), expected, str(path))
    assert fast > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_obeyed_or_ignored(library: str, orientation: int) -> None:
    turned = oriented(orientation)
    for upright in (True, False):
        expected = by_pillow(turned, upright=upright)
        np.testing.assert_array_equal(decoded(turned, upright=upright), expected)


def segment(content: bytes) -> bytes:
    """A segment where EXIF stands, of any content."""
    return b"\xff\xe1" + (2 + len(content)).to_bytes(2, "big") + content


TURNED = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
LONG = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\4\0\0\0\1\0\0\0\6\0\0\0\0"

SEGMENTS = {  # and what Pillow, read here as the reference, sees in them
    "behind another": (segment(b"FLIR\0" + bytes(30)) + segment(b"Exif\0\0" + TURNED), True),
    "in 32 bits": (segment(b"Exif\0\0" + LONG), True),
    "of another name": (segment(b"Other\0" + TURNED), False),
    "damaged": (segment(b"Exif\0\0" + TURNED[:9]), False),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_exif_is_read_in_one_way(library: str, case: str) -> None:
    """The libraries read these in other ways than Pillow does."""
    extra, is_turned = SEGMENTS[case]
    plain = saved(soft())
    odd = plain[:2] + extra + plain[2:]
    expected = by_pillow(odd)
    assert expected.shape == ((61, 47, 3) if is_turned else (47, 61, 3))

    np.testing.assert_array_equal(decoded(odd), expected)
    np.testing.assert_array_equal(decoded(odd, upright=False), by_pillow(plain))


def outcome(decoder: Decoder, source: bytes) -> str | bytes:
    try:
        return np.asarray(decoder(source)).tobytes()
    except ImageError as error:
        return str(error)


def test_a_damaged_file_is_refused_in_the_same_words(library: str) -> None:
    cut = [whole[:size] for whole in KINDS.values() for size in range(3, len(whole), 97)]
    sentences = set()
    for damaged in (*cut, twelve_bits()):
        ended = outcome(Decoder(), damaged)
        assert ended == outcome(Decoder(exact=True), damaged)
        sentences.add(ended)
    assert len(sentences) > 10


class Heard(Endless):
    """Collects warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_what_libjpeg_says_becomes_a_warning(library: str) -> None:
    whole = saved(soft())
    room = Heard()
    with listen_to_libraries():
        Decoder()(whole, room)
        assert room.warnings == []
        Decoder()(whole.removesuffix(END) + bytes(300) + END, room)
    (warning,) = room.warnings
    assert re.fullmatch(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9", warning)


def hide_torchcodec(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if it were not installed."""
    patch.setitem(sys.modules, "torchcodec.decoders", None)


def break_torchcodec(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Its library cannot be loaded, as beside a torch that it was not built for."""
    spec = find_spec("torchcodec")
    if spec is None or spec.origin is None:
        pytest.skip("TorchCodec is not installed")
    (folder / "torchcodec").mkdir()
    for path in Path(spec.origin).parent.iterdir():
        (folder / "torchcodec" / path.name).symlink_to(path)
    for library in (folder / "torchcodec").glob("*_image.*"):
        library.unlink()
        library.write_bytes(b"")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(folder)


def empty_torchvision(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A release that has no decoders any more."""
    patch.delattr(io, "decode_jpeg")


PLACES = {  # what is done to them, and which libraries are left
    "both": ((), ["torchcodec", "torchvision"]),
    "no TorchCodec": ((hide_torchcodec,), ["torchvision"]),
    "a broken TorchCodec": ((break_torchcodec,), ["torchvision"]),
    "a later torchvision": ((empty_torchvision,), ["torchcodec"]),
    "a later torchvision alone": ((empty_torchvision, hide_torchcodec), []),
    "nothing that works": ((empty_torchvision, break_torchcodec), []),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_first_library_that_works_is_taken(
    anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    changes, left = PLACES[place]
    if not {name for name, _ in jpeg.working_decoders()}.issuperset(left):
        pytest.skip("a library decodes nothing here")
    for change in changes:
        change(monkeypatch, tmp_path)
    assert [name for name, _ in jpeg.working_decoders()] == left

    for data in KINDS.values():
        pixels = Decoder()(data)
        assert isinstance(pixels, np.ndarray) == bool(left)
        np.testing.assert_array_equal(np.asarray(pixels), by_pillow(data))
