"""Archives for tests, written by Python's own libraries, and what is in them."""

import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from resnet_cli.records import Item
from resnet_cli.sources import FindOptions, Inputs, find_inputs, without_pauses

ZIPS: Mapping[str, int] = {
    "stored.zip": zipfile.ZIP_STORED,
    "deflated.zip": zipfile.ZIP_DEFLATED,
    "bzip2.zip": zipfile.ZIP_BZIP2,
    "lzma.zip": zipfile.ZIP_LZMA,
}
TARS = ("plain.tar", "packed.tar.gz", "short.tgz", "packed.tar.bz2", "packed.tar.xz")
KINDS = (*ZIPS, *TARS)
MODES = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}

Files = Mapping[str, bytes]


def pack(archive: str, files: Files) -> Path:
    """Write an archive of the kind that its name means."""
    path = Path(archive)
    method = ZIPS.get(path.name, zipfile.ZIP_STORED)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
        return path
    with tarfile.open(path, MODES[path.suffix]) as tarred:  # type: ignore[call-overload]
        for name, data in files.items():
            add(tarred, name, data)
    return path


def add(tarred: tarfile.TarFile, name: str, data: bytes = b"", **facts: object) -> None:
    """Add a member to a tar, with fields of its header that are not the usual."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    tarred.addfile(info, io.BytesIO(data))


def files_below(folder: Path) -> dict[str, bytes]:
    """The files of a folder in natural order, as they are packed."""
    paths = [item.path for item in items_in(str(folder))]
    return {os.path.relpath(path, folder): Path(path).read_bytes() for path in paths}


def png(seed: int = 0) -> bytes:
    """A small image, each of its own colour."""
    file = io.BytesIO()
    Image.new("RGB", (9, 8), (seed % 256, seed // 256 % 256, 7)).save(file, "PNG")
    return file.getvalue()


def found(*inputs: str, **options: object) -> Inputs:
    """What inputs name."""
    return find_inputs(inputs, FindOptions(**options))  # type: ignore[arg-type]


def items_in(*inputs: str, **options: object) -> list[Item]:
    """The items of inputs, a stream read to its end."""
    return list(without_pauses(found(*inputs, **options).items))


def data_of(item: Item) -> bytes:
    """The bytes of an item in an archive."""
    assert item.content is not None
    assert not isinstance(item.content, str), item.content
    content = item.content if isinstance(item.content, bytes) else item.content.read()  # type: ignore[union-attr]
    assert isinstance(content, bytes)
    return content


def outcome(item: Item) -> str:
    """The name of an item that has bytes, or the reason why not."""
    from resnet_cli.errors import ImageError

    try:
        if isinstance(item.content, str):
            return item.content
        data_of(item)
    except ImageError as error:
        return str(error)
    return item.path.partition("://")[2].partition("::")[0]
