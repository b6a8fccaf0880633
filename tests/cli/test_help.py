"""The help of each command: its sections, its examples, and the pages made from it."""

import re
import shlex
from collections import Counter
from pathlib import Path

import click
import pytest

import make_reference
from conftest import REPOSITORY, Run
from resnet_cli.cli import cli
from resnet_cli.cli.sections import EXAMPLES, SECTIONS

PAGES = sorted(REPOSITORY.glob("docs/*.md"))
LISTED = Counter(name for names in SECTIONS.values() for name in names)


@pytest.mark.parametrize("name", cli.commands)
def test_each_option_stands_once_in_the_sections(name: str, run: Run) -> None:
    text = run(name, "--help").stdout
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            spelling = max(option.opts, key=len)
            assert LISTED[spelling] == 1, spelling
            assert len(re.findall(rf"^  (?:-\w, )?{spelling}\b(?!-)", text, re.MULTILINE)) == 1


def test_the_sections_of_predict_stand_in_their_order(run: Run) -> None:
    titles = re.findall(r"^(\w+):$", run("predict", "--help").stdout, re.MULTILINE)

    assert titles == [
        "Checkpoint", "Images", "Preprocessing", "Running", "Results", "Other", "Examples",
    ]  # fmt: skip


def test_no_section_lists_an_option_that_no_command_has() -> None:
    spellings = {
        max(option.opts, key=len)
        for command in cli.commands.values()
        for option in command.get_params(click.Context(command, help_option_names=["--help"]))
    }
    assert LISTED.keys() <= spellings


@pytest.mark.parametrize("name", cli.commands)
def test_each_command_has_two_examples_that_it_can_read(name: str, run: Run) -> None:
    assert len(EXAMPLES[name]) == 2
    for example in EXAMPLES[name]:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("resnet-cli", name)
        assert f"  {example}\n" in run(name, "--help").stdout
        cli.commands[name].make_parser(click.Context(cli.commands[name])).parse_args(arguments)


def test_the_reference_is_what_the_commands_say() -> None:
    assert make_reference.PAGE.read_text(encoding="utf-8") == make_reference.reference(), (
        "the commands have changed: run python tools/make_reference.py"
    )


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_bytes()) <= 10_000


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", *PAGES], ids=lambda page: page.name)
def test_each_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
