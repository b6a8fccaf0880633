"""The options that say which images an INPUT holds, and how they are found."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import click

from resnet_cli.cli.options import check_seconds

Command = Callable[..., Any]

exclude_option = click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out files and folders; repeatable. Without a slash it is compared with every name, "
    "with one with the path below DIR or INPUT (** is any number of folders, a slash at the end "
    "means folders only); of lists with the path in them. A file named outright is always tried.  "
    "[default: none]",
)

hidden_option = click.option(
    "--hidden",
    is_flag=True,
    help="Also take what searching a folder skips: ._*, .DS_Store, Thumbs.db and desktop.ini, and "
    "all in hidden folders, __MACOSX, @eaDir, $RECYCLE.BIN and the like.",
)

pages_option = click.option(
    "--pages",
    type=click.Choice(["first", "all"]),
    default="first",
    help="Of files with several pages (TIFF, animated GIF, WebP, PNG): a row for the first page, "
    "or one for each page, with a column 'part' (page=3).",
)

boxes_option = click.option(
    "--boxes",
    multiple=True,
    metavar="FILE",
    help="A row for each box of a detector instead of each image, with the columns 'part' "
    "(xywh=10,20,300,200, in pixels of the upright image), 'detection_class' and 'detection_conf': "
    "MegaDetector's JSON, COCO's annotations, COCO's results (with the file of their images by "
    "another --boxes), or .csv with path,x,y,w,h. Its paths are whole, or relative to INPUT, to "
    "FILE's folder or to the current folder.  [default: none]",
)

min_box_confidence_option = click.option(
    "--min-box-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    default=0.2,
    help="Leave out boxes of --boxes whose confidence (0 to 1) is under P.",
)

box_margin_option = click.option(
    "--box-margin",
    type=click.FloatRange(0, 10),
    metavar="P",
    default=0.0,
    help="Widen each box of --boxes on each side by this share of its width or height, within the "
    "image.",
)

image_column_option = click.option(
    "--image-column",
    metavar="NAME",
    show_default="the only one that holds images",
    help="Column of a Parquet table that holds the images.",
)

every_option = click.option(
    "--every",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    default=1.0,
    help="Of a video, take the first frame at or after each multiple of SECONDS.",
)

fetch_option = click.option(
    "--fetch",
    type=click.IntRange(1, 100),
    metavar="N",
    default=32,
    help="Most connections at a time to servers and object stores, for images by URL.",
)

fetch_timeout_option = click.option(
    "--fetch-timeout",
    type=float,
    callback=check_seconds,
    metavar="S",
    default=60.0,
    help="Seconds that an image by URL may take, all attempts together, before its row is an "
    "error; a second more for each 16 kB of a large one.",
)

FIND_OPTIONS = (
    exclude_option,
    hidden_option,
    pages_option,
    boxes_option,
    min_box_confidence_option,
    box_margin_option,
    image_column_option,
    every_option,
    fetch_option,
    fetch_timeout_option,
)
"""One for each field of ``FindOptions``."""


def finds_images(command: Command) -> Command:
    """Add the options of a search for images; the command receives ``find``, which has them."""

    @wraps(command)
    def wrapper(**given: Any) -> Any:  # as click calls a command
        from resnet_cli.sources import FindOptions

        values = {field.name: given.pop(field.name) for field in fields(FindOptions)}
        return command(find=FindOptions(**values), **given)

    for option in reversed(FIND_OPTIONS):
        wrapper = option(wrapper)
    return wrapper
