"""Files are read while PyTorch is imported."""

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from resnet_cli.cli.loading import read_ahead

PAGES = 2000


def in_memory(file: Path) -> int:
    """How many pages of a file the system has in memory."""
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        seen = (ctypes.c_ubyte * PAGES)()
        start = ctypes.c_char.from_buffer(mapped)
        library = ctypes.CDLL(None, use_errno=True)
        status = library.mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), seen
        )
        del start
        assert status == 0
        return sum(page & 1 for page in seen)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="memory cannot be emptied here")
def test_a_file_is_in_memory_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(file) > PAGES // 10:
        pytest.skip("files here are always in memory")

    read_ahead([tmp_path / "missing", file]).join(60)

    assert in_memory(file) > PAGES * 9 // 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes")
def test_what_cannot_be_read_is_left_to_others(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = read_ahead([pipe, tmp_path, tmp_path / "missing", Path("\0")])
    thread.join(60)
    assert not thread.is_alive()
