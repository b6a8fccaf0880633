"""The table of ``resnet-cli inspect``: its width, and names that could take over a terminal."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import Run
from inspecting import KEYS, describe_headless, inspected, prefixed, saved, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

# the table

HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202e\n" + "x" * 200


def hostile_classes() -> Path:
    return saved({"state_dict": tiny(), "classes": [HOSTILE, "b\r\nc", "d"]})


def hostile_key() -> Path:
    return saved({HOSTILE: prefixed(tiny(), HOSTILE.replace("x", "module") + ".")})


def hostile_extras() -> Path:
    return saved({**prefixed(tiny(), "net."), **{HOSTILE + str(i): torch.ones(1) for i in "abc"}})


def hostile_import() -> Path:
    path = Path("model.pkl")
    name = HOSTILE.replace("\n", "").encode("ascii", "ignore")
    path.write_bytes(b"\x80\x02}X\x01\x00\x00\x00ac" + name + b"\nname with spaces\n)Rs.")
    return path


def hostile_name() -> Path:
    return saved(tiny(), f"{HOSTILE[:-80]}.pth")


def several_warnings() -> Path:
    state = describe_headless(tiny()) | {"fc.weight": torch.full((3, 512), float("nan"))}
    return saved({"classes": ["a"], "one": state, "two": prefixed(tiny(), "model." * 20)})


TABLES: dict[str, Callable[[], Path]] = {
    "plain": lambda: saved(tiny()),
    "thousand classes": lambda: saved(tiny(num_classes=1000)),
    "hostile classes": hostile_classes,
    "hostile key": hostile_key,
    "hostile extras": hostile_extras,
    "hostile import": hostile_import,
    "hostile name": hostile_name,
    "several warnings": several_warnings,
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_table_fits_its_terminal(run: Run, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("inspect", TABLES[kind]())

    assert result.stdout
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("kind", [kind for kind in TABLES if "hostile" in kind])
def test_the_table_cannot_take_over_a_terminal(run: Run, kind: str) -> None:
    result = run("inspect", TABLES[kind]())
    lines = (result.stdout + result.stderr).split("\n")

    assert "[31mred" in result.stdout
    assert [line for line in lines if not line.isprintable()] == []


def test_a_hostile_name_breaks_no_json(run: Run) -> None:
    assert inspected(run, hostile_classes())["classes"] == [HOSTILE, "b\r\nc", "d"]


def test_the_table_shows_what_the_json_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = saved({"state_dict": prefixed(tiny(), "module."), "classes": ["ant", "bee", "wasp"]})
    found = inspected(run, path)
    table = run("inspect", path).stdout
    names = "|".join(key.replace("_", " ") for key in sorted(KEYS, key=len, reverse=True))
    lines = dict(re.findall(rf"^({names}) +(\S.*)$", table, re.MULTILINE))

    for key in ("path", "sha256", "format", "layout", "state_key", "stripped_prefix", "model",
                "num_classes", "in_channels", "dtype", "classes_source"):  # fmt: skip
        assert lines.pop(key.replace("_", " ")) == str(found[key])
    assert lines.pop("bytes") == f"{found['bytes']:,}"
    assert lines.pop("parameters") == "11,178,051"
    assert lines.pop("classes") == "ant, bee, wasp"
    assert "256" in lines.pop("preprocess")
    assert lines == {}


def test_every_warning_is_in_the_table(run: Run) -> None:
    path = several_warnings()
    shown = "".join(run("inspect", path).stdout.split())  # long words are broken, too

    warnings = json.loads(run("inspect", path, "--format", "json").stdout)["warnings"]
    assert len(warnings) >= 2
    for warning in warnings:
        assert "".join(warning.split()) in shown
