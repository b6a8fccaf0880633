"""What native libraries would write to stderr themselves, in the midst of the bar."""

import ctypes
from contextlib import suppress
from pathlib import Path

MAPS = Path("/proc/self/maps")  # which libraries this process has loaded, on Linux


def silence_libtiff() -> None:
    """Let libtiff, if it is loaded, keep to itself what is wrong with a file.

    A broken TIFF can make it write hundreds of lines; its row says that it cannot be read. Pillow
    silences the warnings of libtiff in the same way, but not its errors.
    """
    if not MAPS.exists():
        return
    lines = MAPS.read_text(errors="surrogateescape").splitlines()
    for path in {line.split(maxsplit=5)[-1] for line in lines if "libtiff" in line}:
        with suppress(OSError, AttributeError):  # a file beside it, or one removed meanwhile
            ctypes.CDLL(path).TIFFSetErrorHandler(None)
