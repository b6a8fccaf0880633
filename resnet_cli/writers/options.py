"""What a writer is told, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_cli.records import Prediction

Write = Callable[[Prediction], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How results are laid out."""

    topk: int  # classes of an image
    grid_rows: int = 4  # of a page
    grid_columns: int = 4
    caption: str = ""  # under each page
    overwrite: bool = False  # files may be there already
