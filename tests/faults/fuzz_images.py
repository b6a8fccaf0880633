"""Damage pictures of every format: each must have pixels, or a sentence that says why not.

Run by hand; twenty thousand inputs take a few minutes of one core:

    python tests/faults/fuzz_images.py --count 20000 --seed 0

Input number n of a seed is the same on every run; ``--only n`` repeats it. Inputs are read in a
process that may take two GB more than it has; one that says nothing for twenty seconds is ended,
and where a process ends a new one goes on. What ends otherwise than it should is kept.
"""

import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageCms

sys.path.extend(str(Path(__file__).parents[2] / part) for part in ("", "tests"))

from faults.harms import HARMS
from faults.processes import ODD, Work, limit_memory, outcomes_of, print_table
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder
from resnet_cli.preprocess import Preprocess

SLOW = 2.0  # seconds of the processor that no picture of this size should take

CLEAN = ("read", "refused")

DECODERS = (  # every path through the code
    Decoder(max_pixels=20_000_000),
    Decoder(exact=True, srgb=True, background="white", max_pixels=20_000_000),
    Decoder("L", upright=False, max_pixels=20_000_000),
    Decoder(bands=(1, 1, 1, 1), max_pixels=20_000_000),
)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """A small file of every format and kind that the program reads."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    rgb = coarse.resize((61, 47), Image.Resampling.BICUBIC)
    rgba = rgb.copy()
    rgba.putalpha(rgb.getchannel("G"))
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {"exif": exif, "icc_profile": profile}
    frames: dict[str, object] = {
        "save_all": True,
        "append_images": [rgb.rotate(90), rgb.rotate(180)],
    }
    files = {
        "jpeg": saved(rgb, "JPEG", **tags),
        "jpeg-progressive": saved(rgb, "JPEG", progressive=True, **tags),
        "jpeg-cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg-grey": saved(rgb.convert("L"), "JPEG", restart_marker_rows=1),
        "mpo": saved(rgb, "MPO", **frames),
        "png": saved(rgb, "PNG", **tags),
        "png-palette": saved(rgb.quantize(50), "PNG", transparency=3),
        "png-alpha": saved(rgba, "PNG"),
        "png-16": saved(deep, "PNG"),
        "apng": saved(rgb, "PNG", **frames),
        "gif": saved(rgb, "GIF", **frames),
        "webp": saved(rgb, "WEBP", **tags),
        "webp-lossless": saved(rgba, "WEBP", lossless=True),
        "webp-moving": saved(rgb, "WEBP", **frames),
        "tiff-float": saved(rgb.convert("F"), "TIFF"),
        "tiff-16": saved(deep, "TIFF"),
        "tiff-lab": saved(lab(rgb), "TIFF"),
        "tiff-g4": saved(rgb.convert("1"), "TIFF", compression="group4"),
        "bmp": saved(rgb, "BMP"),
        "bmp-palette": saved(rgb.quantize(50), "BMP"),
        "ppm": saved(rgb, "PPM"),
        "pfm": saved(rgb.convert("F"), "PPM"),
        "ico": saved(rgba, "ICO", sizes=[(16, 16), (48, 48)]),
        "icns": saved(rgba, "ICNS"),
        "tga": saved(rgba, "TGA", compression="tga_rle"),
        "jpeg2000": saved(rgb, "JPEG2000"),
        "dds": saved(rgba, "DDS"),
        "dds-compressed": saved(rgba.resize((64, 48)), "DDS", pixel_format="DXT5"),
        "pcx": saved(rgb, "PCX"),
        "sgi": saved(rgb, "SGI"),
        "qoi": saved(rgb, "QOI"),
        "psd": psd(rgb),
    }
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        files[f"tiff-{compression}"] = saved(rgb, "TIFF", compression=compression, **tags)
    return files | deep_tiffs(rgb) | maybe(rgb)


def lab(rgb: Image.Image) -> Image.Image:
    """The colours as CIE Lab."""
    spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    converted = ImageCms.profileToProfile(rgb, *spaces, outputMode="LAB")
    assert converted is not None
    return converted


def psd(rgb: Image.Image) -> bytes:
    """A file of Photoshop with one flat layer, which Pillow reads and does not write."""
    size = rgb.height.to_bytes(4, "big") + rgb.width.to_bytes(4, "big")
    header = b"8BPS" + bytes([0, 1]) + bytes(6) + bytes([0, 3]) + size + bytes([0, 8, 0, 3])
    return header + bytes(12) + bytes(2) + b"".join(c.tobytes() for c in rgb.split())


def deep_tiffs(rgb: Image.Image) -> dict[str, bytes]:
    """TIFFs that are read without Pillow."""
    try:
        from tifffile import imwrite
    except ImportError:
        click.echo("no tifffile here", err=True)
        return {}
    values = np.asarray(rgb)
    bands = np.concatenate([values, values[:, :, ::-1]], 2)
    kinds: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
        "planes": (np.moveaxis(values.astype(np.uint16) * 257, 2, 0), {"planarconfig": "separate"}),
        "floats": (values.astype(np.float32) / 255, {"compression": "zlib", "predictor": False}),
        "tiles": (values.astype(np.float64), {"tile": (16, 16), "bigtiff": True}),
        "bands": (bands, {"photometric": "minisblack", "compression": "zlib"}),
    }
    files = {}
    for name, (array, options) in kinds.items():
        file = BytesIO()
        settings: dict[str, Any] = {"photometric": "rgb"} | options
        imwrite(file, array, **settings)
        files[f"tiff-{name}"] = file.getvalue()
    return files


def maybe(rgb: Image.Image) -> dict[str, bytes]:
    """Files of the formats that not every installation writes."""
    files = {}
    try:
        files["avif"] = saved(rgb, "AVIF", speed=10)
    except (KeyError, OSError):
        click.echo("no AVIF here", err=True)
    try:
        from pillow_heif import from_pillow
    except ImportError:
        click.echo("no HEIC here", err=True)
    else:
        file = BytesIO()
        from_pillow(rgb).save(file)
        files["heic"] = file.getvalue()
    return files


def mended(data: bytes | bytearray) -> bytes:
    """Give the chunks of a PNG right checksums, so that what is in them is looked at."""
    place, parts = 8, [data[:8]]
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        parts += [data[place:end], zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")]
        place = end + 4
    return b"".join(parts)


def choose(seed: int, number: int, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The kind of one number, and its damaged bytes."""
    random = Random(f"{seed} {number}")
    kind = random.choice(list(files))
    data = bytearray(files[kind])
    for _ in range(random.choice((1, 1, 1, 2))):
        if data:
            random.choice(HARMS)(data, random)
    return kind, mended(data) if "png" in kind and random.random() < 0.7 else bytes(data)


def outcome(path: Path, decoder: Decoder) -> str:
    """How reading a file ended; one of ``CLEAN``, or what must not be."""
    for _ in range(2):  # the first file of a kind also pays for what is imported to read it
        begun = process_time()
        try:
            pixels = Preprocess(32, 32)(decoder(path))
        except ImageError as error:
            ended = "refused" if str(error).isprintable() else f"says {str(error)!r}"
        else:
            ended = "read" if pixels.dtype == np.uint8 else f"gave {pixels.dtype}"
        seconds = process_time() - begun
        if seconds < SLOW:
            return ended
    return f"took long: {seconds:.1f} s"


def work(answers: Connection, seed: int, numbers: Sequence[int], files: dict[str, bytes]) -> None:
    """Read inputs one after the other; say how each ended."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for number in numbers:
            _, data = choose(seed, number, files)
            path.write_bytes(data)
            try:
                answers.send((number, outcome(path, DECODERS[number % len(DECODERS)])))
            except Exception as error:  # noqa: BLE001 - the point is which there are
                answers.send((number, f"{type(error).__name__}: {error}"))


def report(
    files: Mapping[str, bytes],
    seed: int,
    numbers: range,
    keep: Path,
    work: Work = work,
    clean: Sequence[str] = CLEAN,
) -> int:
    """Print how many inputs of each kind ended how; keep those that ended wrongly, and count them.

    Args:
        files: of each kind, undamaged.
        seed: of the random numbers.
        numbers: of the inputs.
        keep: folder for what is odd.
        work: reads them.
        clean: how they may end.
    """
    table: Counter[tuple[str, str]] = Counter()
    begun = perf_counter()
    for number, ended in outcomes_of(work, seed, numbers, files):
        kind, data = choose(seed, number, files)
        table[kind, ended if ended in clean else ODD] += 1
        if ended not in clean:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{seed}-{number}").write_bytes(data)
            click.echo(f"{number} ({kind}): {ended}")
    odd = print_table(table, files, clean)
    seconds = perf_counter() - begun
    click.echo(f"{len(numbers)} inputs of seed {seed} in {seconds:.0f} s, {odd} odd")
    return odd


@click.command()
@click.option("--count", default=20_000, help="Inputs.")
@click.option("--start", default=0, help="Number of the first.")
@click.option("--seed", default=0, help="Of the random numbers.")
@click.option("--only", type=int, help="The number of one input to read again.")
@click.option("--keep", type=click.Path(path_type=Path), default="fuzzed", help="For what is odd.")
def main(count: int, start: int, seed: int, only: int | None, keep: Path) -> None:
    """Print how many inputs of each kind ended how; exit with 1 if any ended wrongly."""
    numbers = range(start, start + count) if only is None else range(only, only + 1)
    sys.exit(1 if report(pictures(), seed, numbers, keep) else 0)


if __name__ == "__main__":
    main()
