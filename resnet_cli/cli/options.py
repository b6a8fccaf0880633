"""Options that commands share, how their values are read, and arguments in the wrong place."""

import os
import re
import shlex
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import click

from resnet_cli.cli.process import keep_compiled, lend_temporary_folder

POSITIVE = click.IntRange(min=1)

SEPARATOR = re.compile(r"""[^\w\s"'+.=@-]""")
"""A character that does not quote text, and is not in numbers, formulas and column names."""

SOME_UNREADABLE = 3  # exit status of a run with unreadable images


class OutputPath(click.Path):
    """A file to write, whose folder may have to hold temporary files as well."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn text into a path."""
        path = super().convert(value, param, ctx)
        lend_temporary_folder(Path(os.fsdecode(path)).parent)
        return path


OUTPUT = OutputPath(path_type=Path)


class PathOrUrl(click.Path):
    """A file or folder, or the URL of a file, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn text into a path, unless it is a URL."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, ctx)


CHECKPOINT_FILE = PathOrUrl(path_type=Path, exists=True)


def check_seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """Check that a duration is finite and above 0."""
    if not (isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is not a number of seconds above 0")
    return value


def check_device_name(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a name that no device has before anything is looked for.

    Raises:
        DeviceNameError: lists those that exist.
    """
    from resnet_cli.runtimes import check_device_name as check

    check(value)
    return value


def rows_and_columns(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """Parse the size of a page, such as 4x4."""
    size = two_counts(value)
    if size is None:
        raise click.BadParameter(f"{value!r} is not like 4x4")
    return size


def height_and_width(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Parse the size of images in pixels: 224 for both sides, or 320x224."""
    if value is None:
        return None
    size = two_counts(value if "x" in value.lower() else f"{value}x{value}")
    if size is None:
        raise click.BadParameter(f"{value!r} is not like 224 or 320x224")
    return size


def two_counts(text: str) -> tuple[int, int] | None:
    """Parse two whole numbers above 0 with an x between them; None for anything else."""
    first, _, second = text.lower().partition("x")
    if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
        return None
    return int(first), int(second)


def remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click passes it by position
    """Keep ``--debug`` where the error boundary finds it."""
    ctx.meta["debug"] = value


def parse_separator(_: click.Context, __: click.Parameter, value: str) -> str:
    r"""Parse the separator of a .csv: one character, ``tab`` or ``\t``."""
    typed = "\t" if value.lower() in ("tab", r"\t") else value
    if typed != "\t" and not (SEPARATOR.fullmatch(typed) and typed.isprintable()):
        raise click.BadParameter(f"{value!r} cannot separate columns: use , or ; or | or tab")
    return typed


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=remember_debug,
    help="Show the traceback of an error as well.",
)

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Progress bar on stderr; auto: only on a terminal, after a second.",
)

classes_option, several_classes_option = (
    click.option(
        "--classes",
        metavar="FILE or a,b,c",
        multiple=several,
        show_default="found in or beside the checkpoint",
        help="Class names in the order of the outputs: .txt (one a line), .json, .csv, the URL of "
        "one, or here." + " Once for all checkpoints, or once for each." * several,
    )
    for several in (False, True)
)

state_key_option = click.option(
    "--state-key",
    metavar="KEY",
    show_default="found by content",
    help="Which weights to take from a file that holds several.",
)

ema_option = click.option(
    "--ema/--no-ema", default=True, help="Prefer averaged (EMA) weights where there are some."
)

dilation_option = click.option(
    "--dilation",
    is_flag=True,
    help="The network was trained with its last two stages dilated instead of striding, which its "
    "tensors do not show.",
)

trust_option = click.option(
    "--trust-checkpoint",
    is_flag=True,
    help="Unpickle a file that cannot be read otherwise, which runs whatever its maker put into "
    "it; says first what that is.",
)

device_option = click.option(
    "--device",
    metavar="NAME",
    callback=check_device_name,
    default="auto",
    help="Where the network runs: auto, cpu, cuda, cuda:1, mps.",
)

compile_option, compile_each_option = (
    click.option("--compile/--no-compile", callback=keep_compiled, default=False, help=meaning)
    for meaning in (
        "Run through torch.compile: faster, in bf16 on the CPU a little less exact. Takes a minute "
        "the first time, seconds later, and on the CPU a C++ compiler.",
        "Run through torch.compile, again for each batch size.",
    )
)

quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Write nothing to stdout, only the files of -o and the like.",
)

preset_option = click.option(
    "--preset",
    type=click.Choice(["imagenet-v1", "imagenet-v2"]),
    show_default="what the checkpoint or the weights record, else imagenet-v1",
    help="Preprocessing: v1 resizes the short side to 256 pixels, v2 to 232; both crop 224.",
)

batch_size_option = click.option(
    "-b",
    "--batch-size",
    type=POSITIVE,
    metavar="N",
    show_default="chosen for the device",
    help="Images in one pass.",
)

workers_option = click.option(
    "-j",
    "--workers",
    type=POSITIVE,
    metavar="N",
    show_default="all cores",
    help="Threads that decode and, on the CPU, run the network. In front of a GPU they are "
    "processes where that is faster (Linux, 5 or more, over 4,000 images).",
)

grid_option = click.option(
    "--grid",
    "grids",
    type=OUTPUT,
    multiple=True,
    help="Images with their predictions, as .png, .pdf or .svg; pages are numbered when there "
    "are several. Repeatable.  [default: none]",
)

grid_size_option = click.option(
    "--grid-size",
    callback=rows_and_columns,
    metavar="RxC",
    default="4x4",
    help="Rows and columns of a page of the grid.",
)

csv_separator_option = click.option(
    "--csv-separator",
    callback=parse_separator,
    metavar="CHAR",
    default=",",
    help="Between the columns of CSV, in files and on stdout: ; for spreadsheets in many locales, "
    "tab for a tab.",
)

csv_bom_option = click.option(
    "--csv-bom",
    is_flag=True,
    help="Begin CSV with a byte order mark, by which Excel knows that it is UTF-8.",
)

show_option = click.option("--show", is_flag=True, help="Open a window for each page of the grid.")

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing output files.")

on_error_option = click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    default="skip",
    help="A file that cannot be read: write its error row and continue, or stop at the first.",
)

verify_option = click.option(
    "--verify",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="First compare N images against plain fp32 on the CPU; stop when a label differs.",
)


def refuse_checkpoints(inputs: Sequence[str]) -> None:
    """Refuse a checkpoint among the inputs, or beside the images, that no option names.

    With ``-c`` a file named outright is tried as an image, and what is beside images is skipped.

    Raises:
        InputError: names the option.
    """
    context = click.get_current_context()
    source = context.get_parameter_source("checkpoint")
    if source is click.core.ParameterSource.COMMANDLINE:
        return
    from resnet_cli.checkpoint.locate import refuse_checkpoints_among

    chosen = any(context.params[name] for name in ("checkpoint", "model", "weights"))
    refuse_checkpoints_among(inputs, beside=not chosen)


def command_for(name: str) -> str | None:
    """Return the command for an input or a checkpoint that was given in place of a command."""
    from resnet_cli.sources import SUFFIXES

    path, quoted = Path(name), shlex.quote(name)
    if path.is_dir() or path.suffix.lower() in SUFFIXES or name.startswith("@"):
        return f"to classify it: resnet-cli predict {quoted}"
    if not path.is_file():
        return None
    from resnet_cli.checkpoint.locate import is_checkpoint

    if not is_checkpoint(path):
        return None
    return (
        f"to classify with it: resnet-cli predict INPUT -c {quoted}; to look into it: "
        f"resnet-cli inspect {quoted}"
    )
