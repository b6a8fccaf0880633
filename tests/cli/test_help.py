"""The commands and their help: options, sections, examples, and the pages made from it."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import make_reference
from conftest import REPOSITORY, Run
from resnet_cli.cli import cli
from resnet_cli.cli.sections import EXAMPLES, SECTIONS

PAGES = sorted(REPOSITORY.glob("docs/*.md"))
LISTED = Counter(name for names in SECTIONS.values() for name in names)

OPTIONS_OF_PREDICT = [
    "-c",
    "--checkpoint",
    "-m",
    "--model",
    "--weights",
    "--classes",
    "-o",
    "--output",
    "--format",
    "-k",
    "--topk",
    "--threshold",
    "--device",
    "-b",
    "--batch-size",
    "-j",
    "--workers",
    "--precision",
    "--compile",
    "--no-compile",
    "--grid",
    "--grid-size",
    "--show",
    "--preset",
    "--resize-size",
    "--img-size",
    "--interpolation",
    "--mean",
    "--std",
    "--color",
    "--squash",
    "--no-squash",
    "--exact",
    "--exif",
    "--resume",
    "--overwrite",
    "--state-key",
    "--ema",
    "--no-ema",
    "--on-error",
    "--verify",
    "--progress",
    "--debug",
]


def options() -> Iterator[tuple[str, click.Option]]:
    for name, command in cli.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter


@pytest.mark.parametrize("command", [(), *[(name,) for name in cli.commands]])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(run: Run, command: tuple[str, ...], flag: str) -> None:
    result = run(*command, flag)
    assert result.exit_code == 0
    assert re.search(r"Usage: \S+.*\n\n  [A-Z]", result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("command", "option"), [pytest.param(c, o, id=f"{c}-{o.name}") for c, o in options()]
)
def test_every_option_has_a_help_line_with_its_default(command: str, option: click.Option) -> None:
    context = click.Context(cli.commands[command], info_name=command, show_default=True)
    record = option.get_help_record(context)
    assert option.help
    assert option.help.endswith((".", "]"))
    assert record is not None
    assert option.is_flag or "default: " in record[1]


@pytest.mark.parametrize("option", OPTIONS_OF_PREDICT)
def test_predict_has_the_options_of_the_interface(run: Run, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", run("predict", "--help").stdout)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("predict", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "resnet_cli", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "resnet_cli.cli.predict" in imported
    for heavy in ("torch", "torchvision", "matplotlib", "pyarrow", "numpy", "PIL", "tqdm", "scipy"):
        assert heavy not in imported


def test_version_names_those_of_torch_and_torchvision(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"resnet-cli \d+\.\d+\.\d+, torch \d+\.\S+, torchvision \d+\.\S+\n", result.stdout
    )


@pytest.mark.parametrize("name", cli.commands)
def test_the_documentation_knows_every_command_and_option(name: str) -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    readme = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    unknown = [
        option.name
        for option in cli.commands[name].params
        if isinstance(option, click.Option)
        and not any(re.search(rf"[ `]{spelling}[^\w-]", readme) for spelling in option.opts)
    ]

    assert f"resnet-cli {name}" in readme
    assert unknown == []


@pytest.mark.parametrize("name", cli.commands)
def test_each_option_stands_once_in_the_sections(name: str, run: Run) -> None:
    text = run(name, "--help").stdout
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            spelling = max(option.opts, key=len)
            assert LISTED[spelling] + LISTED[f"{name} {spelling}"] == 1, spelling
            assert len(re.findall(rf"^  (?:-\w, )?{spelling}\b(?!-)", text, re.MULTILINE)) == 1


def test_the_sections_of_predict_stand_in_their_order(run: Run) -> None:
    titles = re.findall(r"^(\w+):$", run("predict", "--help").stdout, re.MULTILINE)

    assert titles == [
        "Checkpoint", "Images", "Preprocessing", "Running", "Results", "Other", "Examples",
    ]  # fmt: skip


def test_no_section_lists_an_option_that_no_command_has() -> None:
    spellings = {
        f"{before}{max(option.opts, key=len)}"
        for name, command in cli.commands.items()
        for option in command.get_params(click.Context(command, help_option_names=["--help"]))
        for before in ("", f"{name} ")
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
