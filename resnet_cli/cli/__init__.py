"""The commands, and the one place where an error becomes a line and a status."""

import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from resnet_cli.cli.benchmark import benchmark_command
from resnet_cli.cli.checkpoint import convert_command, inspect_command
from resnet_cli.cli.evaluate import evaluate_command
from resnet_cli.cli.export import export_command
from resnet_cli.cli.options import command_for
from resnet_cli.cli.predict import predict_command
from resnet_cli.cli.process import (
    catch_signals,
    discard,
    open_streams,
    set_handlers,
    usable_environment,
)
from resnet_cli.cli.summary import models_command, summary_command
from resnet_cli.errors import UserError
from resnet_cli.system import installed_versions
from resnet_cli.text import escape_unprintable

CLOSED_PIPE, INTERRUPTED = 0, 130
"""Exit statuses of a run that was cut short: for a signal, 128 and its number."""


LEFT_OUT = (
    "jinja2", "google", "matplotlib", "pyarrow", "safetensors", "scipy", "torch",
    "torchvision",
)  # fmt: skip
"""What a small installation, for network files alone, does without."""


class Cli(click.Group):
    """A group that shows expected errors as one line; any other is a bug with its traceback."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Read the command line; click would call an interrupt or a closed pipe a failure."""
        open_streams()
        try:
            return super().make_context(*arguments, **settings)
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # of --help and --version
            discard(sys.stdout.fileno())
            sys.exit(CLOSED_PIPE)
        except OSError as error:  # a full disk, say
            click.echo(f"Error: cannot write standard output: {one_line(error)}", err=True)
            discard(sys.stdout.fileno())
            sys.exit(1)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one takes the input or checkpoint in its place."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = command_for(args[0])
            if hint is None:
                raise
            raise click.UsageError(f"No such command {args[0]!r}: {hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors that the user can fix, and signals, into a status."""
        catch_signals()
        # Pillow warns of invalid metadata in images that it reads all the same, torch of formats
        # that it will stop reading
        warnings.filterwarnings("ignore", module=r"(PIL|torch)\b")
        # ... and its compiler of CUDA tools that are not needed here
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        # ... and matplotlib of a cache folder that it cannot write, and does without
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        try:
            with usable_environment():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            set_handlers(signal.SIG_DFL)  # a further signal kills, and says nothing twice
            click.echo("Interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            discard(sys.stdout.fileno())  # Python flushes it once more at its end
            ctx.exit(CLOSED_PIPE)
        except (UserError, OSError) as error:
            show_error(ctx, error)
        except ModuleNotFoundError as error:
            if error.name not in LEFT_OUT:
                raise
            show_error(
                ctx,
                UserError(
                    f"{error.name} is not installed here, and this needs it: pip install "
                    f"{error.name}"
                ),
            )
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            show_error(
                ctx,
                UserError(
                    "torch and torchvision do not belong together: install both from one source, "
                    "for example with: pip install --force-reinstall torch torchvision"
                ),
            )


class WrongUsage(click.ClickException):
    """A usage error that is found after the command line was read, shown in one line."""

    exit_code = click.UsageError.exit_code


def show_error(ctx: click.Context, error: Exception) -> NoReturn:
    """Show an error as one line, under its traceback when ``--debug`` was given."""
    if ctx.meta.get("debug"):
        traceback.print_exception(error)
    usage = isinstance(error, UserError) and error.status == WrongUsage.exit_code
    raise (WrongUsage if usage else click.ClickException)(
        escape_unprintable(one_line(error))
    ) from error


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, with the file that the system names."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).splitlines())


def show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click passes it by position
    """Print the versions without importing the packages."""
    if asked:
        found = installed_versions(("resnet-cli", "torch", "torchvision"))
        click.echo(", ".join(f"{name} {number}" for name, number in found.items()))
        ctx.exit()


@click.group(
    cls=Cli,
    context_settings={
        "show_default": True,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the versions of this program, torch and torchvision, and exit.",
)
def cli() -> None:
    """Classify folders of images with any ResNet checkpoint.

    For example: resnet-cli predict photos/ -c model.pth --classes ants,bees -o results.csv
    """


for command in (
    predict_command,
    evaluate_command,
    benchmark_command,
    summary_command,
    models_command,
    inspect_command,
    convert_command,
    export_command,
):
    cli.add_command(command)
