"""What the disk can do while Python is busy."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def read_ahead(files: Iterable[Path]) -> None:
    """Have the system read files while PyTorch is imported, which takes longer.

    What is no file, or no system for it, is passed over: whoever opens it has more to say.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for file in files:
        with suppress(OSError):
            if file.is_file():  # a pipe would be waited for
                with file.open("rb", buffering=0) as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
