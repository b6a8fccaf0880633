"""Write docs/reference.md, the reference of all commands, from the commands themselves."""

from pathlib import Path

import click

from resnet_cli.cli import cli

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
WIDTH = 80  # columns of the help texts
HEADER = """\
# Reference

What each command says with `--help`. This page is written by `python tools/make_reference.py`.
"""


def reference() -> str:
    """Return the page: the help of each command, under a heading of its own."""
    return "\n".join([HEADER, *(section(name) for name in cli.commands)])


def section(name: str) -> str:
    """Return the help of a command as it stands in a terminal."""
    parent = click.Context(
        cli, info_name="resnet-cli", terminal_width=WIDTH, **cli.context_settings
    )
    command = cli.commands[name]
    with click.Context(command, parent, info_name=name, show_default=True) as context:
        return f"## resnet-cli {name}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
