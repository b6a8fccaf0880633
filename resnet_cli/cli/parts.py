"""The options that say which parts of images a command takes: pages, boxes of a detector."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

Command = Callable[..., Any]

PART_OPTIONS: dict[str, Command] = {
    "pages": click.option(
        "--pages",
        type=click.Choice(["first", "all"]),
        default="first",
        help="Of files with several pages (TIFF, animated GIF, WebP, PNG): a row for the first "
        "page, or one for each page, with a column 'part' (page=3).",
    ),
    "boxes": click.option(
        "--boxes",
        multiple=True,
        metavar="FILE",
        help="A row for each box of a detector instead of each image, with the columns 'part' "
        "(xywh=10,20,300,200, in pixels of the upright image), 'detection_class' and "
        "'detection_conf'. MegaDetector's JSON, COCO's annotations, COCO's results (with the file "
        "of their images by another --boxes), or .csv with path,x,y,w,h. Its paths are whole, or "
        "relative to INPUT, to FILE's folder or to the current folder.  [default: none]",
    ),
    "min_box_confidence": click.option(
        "--min-box-confidence",
        type=click.FloatRange(0, 1),
        metavar="P",
        default=0.2,
        help="Leave out boxes of --boxes whose confidence (0 to 1) is under P.",
    ),
    "box_margin": click.option(
        "--box-margin",
        type=click.FloatRange(0, 10),
        metavar="P",
        default=0.0,
        help="Widen each box of --boxes on each side by this share of its width or height, within "
        "the image.",
    ),
}
"""Field of ``PartOptions``: its option."""


def selects_parts(command: Command) -> Command:
    """Add the options; the command receives their values together as ``parts``."""

    @wraps(command)
    def wrapper(**given: Any) -> Any:  # as click calls a command
        from resnet_cli.sources import PartOptions

        chosen = PartOptions(**{name: given.pop(name) for name in PART_OPTIONS})
        return command(parts=chosen, **given)

    for option in reversed(PART_OPTIONS.values()):
        wrapper = option(wrapper)
    return wrapper
