"""Saved rows with their images, which are read again where they still are."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from resnet_cli.budget import Budget, Turn
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder, thumbnail
from resnet_cli.loader import THUMBNAIL_SIDE
from resnet_cli.pipeline import ordered
from resnet_cli.records import Prediction


def illustrated(
    rows: Iterable[Prediction], where: Callable[[Path], Path], *, workers: int
) -> Generator[Prediction]:
    """Yield rows with a thumbnail each, or without where the image cannot be read any more.

    Args:
        rows: of readable and unreadable images.
        where: tells where the image of a row is.
        workers: threads that decode.
    """
    decode, budget = Decoder(), Budget()

    def shown(row: Prediction) -> Prediction:
        if row.error is not None:
            return row
        with closing(Turn(budget)) as turn:
            try:
                return replace(
                    row, thumbnail=thumbnail(decode(where(row.path), turn), THUMBNAIL_SIDE)
                )
            except ImageError:
                return row

    return ordered(rows, shown, workers=workers)
