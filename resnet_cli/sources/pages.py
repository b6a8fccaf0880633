"""Items whose files have several pages -> an item for each page."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images.files import open_source
from resnet_cli.images.pages import SUFFIXES, find_pages
from resnet_cli.records import Item, Pause


def expand_pages(items: Iterable[Item | Pause]) -> Iterator[Item | Pause]:
    """Yield an item for each page; one with a single page, or that cannot be read, stays.

    Only headers are read, of a file on this machine. What lies elsewhere is read whole, and only
    if its suffix is one of files that may have pages.
    """
    for item in items:
        if isinstance(item, Pause):
            yield item
        else:
            yield from pages_of(item)


def pages_of(item: Item) -> Iterator[Item]:
    """Yield the pages of one item."""
    try:
        numbers = count_pages(item)
    except ImageError as error:  # too many, or its source cannot be read
        yield replace(item, content=str(error))
        return
    except Exception:  # noqa: BLE001 - its row says why it cannot be read
        numbers = ()
    if len(numbers) < 2:
        yield item
        return
    for number in numbers:
        yield replace(item, part="&".join(filter(None, (item.part, f"page={number}"))))


def count_pages(item: Item) -> Sequence[int]:
    """Return the numbers of the pages of an item; none where it cannot have several.

    Raises:
        ImageError: there are too many, or it cannot be read.
        Exception: what reading its file raises.
    """
    content = item.content
    if isinstance(content, Image.Image | np.ndarray | str):
        return ()
    if content is not None and not isinstance(content, bytes):
        name = PurePosixPath(item.path.partition("::")[0].partition("?")[0])
        if name.suffix.lower() not in SUFFIXES:
            return ()
    with opened(item) as file:
        return find_pages(file)


@contextmanager
def opened(item: Item) -> Iterator[BinaryIO]:
    """Open the file of an item, or its bytes.

    Raises:
        ImageError: they cannot be an image, or cannot be read.
        OSError: the file cannot be opened.
    """
    match item.content:
        case None:
            with open_source(Path(item.path)) as (file, _):
                yield file
        case bytes() as data:
            yield BytesIO(data)
        case Image.Image() | np.ndarray() | str():
            raise ImageError("is in memory")
        case stored:
            yield BytesIO(stored.read())
