"""PDF and SVG pages, in which text stays text and thumbnails are JPEG."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from typing import IO, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import Name, PdfFile, Reference, RendererPdf
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

QUALITY = 85  # of JPEG: some 15 kB for a thumbnail, at most 45 kB for one of noise
POINTS = 72  # of an inch
PNG = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=\s]+)")

SETTINGS: Any = {
    "image.interpolation": "none",  # thumbnails keep their own size
    "pdf.fonttype": 42,  # TrueType, as publishers require
}


class Pdf(PdfFile):
    """A PDF document of matplotlib that stores images as JPEG and frees them with their page."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin a document."""
        super().__init__(file)
        self.numbers = count(1)
        self.images: dict[Name, Reference] = {}
        self.unwritten: list[tuple[Reference, NDArray[np.uint8]]] = []

    def add(self, figure: Figure, dots_per_inch: float) -> None:
        """Draw a figure as the next page."""
        width, height = figure.get_size_inches()
        figure.dpi = POINTS
        self.newPage(width, height)
        renderer = RendererPdf(self, dots_per_inch, height, width)
        figure.draw(renderer)
        renderer.finalize()
        self.endStream()
        for reference, pixels in self.unwritten:
            self.write_jpeg(reference, pixels)
        self.unwritten.clear()

    def imageObject(self, image: NDArray[np.uint8]) -> Name:  # noqa: N802
        """Return a name for an image on the page, which is written after the page."""
        name = Name(f"J{next(self.numbers)}")
        self.images[name] = self.reserveObject(f"image {name}")
        self.unwritten.append((self.images[name], image))
        return name

    def write_jpeg(self, reference: Reference, pixels: NDArray[np.uint8]) -> None:
        """Write an image [H, W, 3 or 4], whose rows run from the bottom to the top."""
        height, width, _ = pixels.shape
        facts = {
            "Type": Name("XObject"), "Subtype": Name("Image"), "Width": width, "Height": height,
            "ColorSpace": Name("DeviceRGB"), "BitsPerComponent": 8, "Filter": Name("DCTDecode"),
        }  # fmt: skip
        with rc_context({"pdf.compression": 0}):  # JPEG is compressed already
            self.outputStream(reference, encode_jpeg(Image.fromarray(pixels[::-1])), extra=facts)

    def writeObject(self, object: Reference, contents: Any) -> None:  # noqa: N802
        """Write an object; add our images to the one that lists all images."""
        super().writeObject(
            object, contents | self.images if object is self.XObjectObject else contents
        )


@contextmanager
def pdf_document(file: IO[bytes]) -> Iterator[Pdf]:
    """Open a document, which is completed even if an error ends its pages."""
    document = Pdf(file)
    try:
        yield document
    finally:
        with rc_context(SETTINGS):
            document.finalize()
        document.close()


def save_svg(figure: Figure, file: IO[bytes], dots_per_inch: float) -> None:
    """Write a figure as SVG."""
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", dpi=dots_per_inch)
    file.write(PNG.sub(as_jpeg, drawn.getvalue()))


def as_jpeg(png: re.Match[bytes]) -> bytes:
    """Replace a data URL of a PNG by one of a JPEG."""
    with Image.open(BytesIO(b64decode(png[1]))) as image:
        return b"data:image/jpeg;base64," + b64encode(encode_jpeg(image))


def encode_jpeg(image: Image.Image) -> bytes:
    """Encode an image as JPEG, without the alpha channel that matplotlib adds."""
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
