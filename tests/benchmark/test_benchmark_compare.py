"""--compare: the ratio to an earlier run, and all that was different then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from conftest import Fix, Run
from measuring import SMALL, error_line, steady, table
from resnet_cli.benchmark.timing import Timing


@pytest.fixture
def compare(run: Run, fix: Fix) -> Callable[..., Result]:
    """Measure 1 and 8 images at 100 images/s, change the file, and compare 150 with it."""

    def invoke(change: Callable[[dict[str, Any]], None], *arguments: object) -> Result:
        fix(lambda batch: steady(batch, batch / 100))
        run(*SMALL, "-b", "1,8", "-o", "then.json")
        record = json.loads(Path("then.json").read_text())
        change(record)
        Path("then.json").write_text(json.dumps(record))
        fix(lambda batch: steady(batch, batch / 150))
        return run(*SMALL, "--compare", "then.json", *arguments)

    return invoke


def unchanged(record: dict[str, Any]) -> None:
    record["environment"]["date"] = "2001-02-03T04:05:06+00:00"


def warned(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("Warning")]


def test_each_row_has_its_ratio(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["rows"][1]["images_per_second"] = 600.0

    result = compare(change, "-b", "1,4,8")
    header, *lines = table(result)
    assert result.exit_code == 0
    assert header.endswith("ratio")
    assert lines[0].endswith(" 1.50")
    assert lines[2].endswith(" 0.25")
    assert len(lines[1].split()) == len(lines[0].split()) - 1  # four were not measured then


def test_compiled_is_held_against_uncompiled(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["settings"]["compiled"] = True
        for row in record["rows"]:
            row["compiled"] = True

    result = compare(change, "-b", "1,8")
    assert [line.endswith(" 1.50") for line in table(result)[1:]] == [True, True]
    assert [line for line in warned(result) if "compiled: True then, False now" in line]


def test_rows_without_a_runtime_are_those_of_torch(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        for row in record["rows"]:
            del row["runtime"]

    lines = table(compare(change, "-b", 8, "--runtime", "torch,onnxruntime"))[1:]
    assert [line.split()[1] for line in lines] == ["torch", "onnxruntime"]
    assert [line.endswith(" 1.50") for line in lines] == [True, False]


def test_a_ratio_to_a_noisy_row_is_marked(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["rows"][1]["status"] = "noisy"

    lines = table(compare(change, "-b", "1,8"))[1:]
    assert [line.split()[-1] for line in lines] == ["1.50", "1.50~"]


def test_another_sweep_is_named(compare: Callable[..., Result]) -> None:
    [line] = warned(compare(unchanged, "-b", "1,4"))
    assert line == "Warning: not the same, batch_sizes: 1, 8 then, 1, 4 now"


def test_what_is_the_same_is_not_warned_of(compare: Callable[..., Result]) -> None:
    assert warned(compare(unchanged, "-b", "1,8")) == []


def test_a_row_that_had_no_room_then_has_no_ratio(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["rows"][0] |= {"images_per_second": None, "status": "out of memory"}

    result = compare(change, "-b", "1,8")
    assert result.exit_code == 0
    assert [line.endswith("1.50") for line in table(result)[1:]] == [False, True]


def test_every_difference_is_named(compare: Callable[..., Result]) -> None:
    names: set[str] = set()

    def change(record: dict[str, Any]) -> None:
        for part in ("environment", "settings"):
            names.update(record[part])
            record[part] = dict.fromkeys(record[part], "something else")
        record["environment"]["gone"] = "something else"
        for row in record["rows"]:
            row["model"] = "something else"

    warnings = warned(compare(change, "-b", "1,8"))
    named = {name for name in names if [line for line in warnings if f" {name}:" in line]}

    assert names - named == {"date", "other_work"}
    assert [line for line in warnings if " gone:" in line]
    assert [line for line in warnings if " model:" in line and "resnet18" in line]
    assert all("something else" in line for line in warnings)


def test_another_way_of_measuring_is_named(compare: Callable[..., Result]) -> None:
    warnings = warned(compare(unchanged, "-b", "1,8", "--iters", 7, "--percentiles", "50"))
    assert len(warnings) == 2
    assert [line for line in warnings if "iterations: 1 then, 7 now" in line]
    assert [line for line in warnings if "percentiles" in line]


def test_long_values_are_cut_and_odd_ones_are_spelt_out(compare: Callable[..., Result]) -> None:
    def change(record: dict[str, Any]) -> None:
        record["environment"]["cpu"] = "\x1b[31m" + "x" * 10_000
        record["settings"]["nested"] = {"deep": [1, {"deeper": None}]}

    cpu, nested = warned(compare(change, "-b", "1,8"))
    assert len(cpu) < 300
    assert "\\x1b" in cpu
    assert "nested: {'deep'" in nested


ROW = {
    "mode": "forward", "model": "resnet18", "precision": "fp32", "batch_size": 1,
    "compiled": False, "images_per_second": 9.0,
}  # fmt: skip


def with_row(**changes: object) -> bytes:
    row = {key: value for key, value in (ROW | changes).items() if value != "left out"}
    return json.dumps({"environment": {}, "settings": {}, "rows": [row]}).encode()


NO_BENCHMARKS = {
    "nothing": b"",
    "text": b"weights",
    "bytes": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "half of one": with_row()[:90],
    "no rows": b'{"environment": {}, "settings": {}}',
    "rows that are none": b'{"environment": {}, "settings": {}, "rows": 3}',
    "rows of lists": b'{"environment": {}, "settings": {}, "rows": [[1]]}',
    "a summary": b'{"model": "resnet18", "rows": [{"name": "conv1", "parameters": 9408}]}',
    "rows without a mode": with_row(mode="left out"),
    "rows without a rate": with_row(images_per_second="left out"),
    "rows without a model": with_row(model="left out"),
    "a rate in words": with_row(images_per_second="fast"),
    "a rate of nan": with_row(images_per_second=float("nan")),
    "a rate without end": with_row(images_per_second=float("inf")),
    "a rate below nothing": with_row(images_per_second=-3.0),
    "a rate of nothing": with_row(images_per_second=0),
    "a rate beyond numbers": with_row(images_per_second=10**400),
    "a number of endless digits": with_row(batch_size=1).replace(
        b": 1,", b": " + b"9" * 5000 + b","
    ),
    "a rate that is true": with_row(images_per_second=True),
    "a batch size of its own": with_row(batch_size=[1]),
    "a batch size that is true": with_row(batch_size=True),
    "an environment that is a list": with_row().replace(b"{}", b'[["a", 1]]', 1),
    "deep": b"[" * 200_000,
    "large": b'"' + b"x" * 20_000_000 + b'"',
}


@pytest.mark.parametrize("kind", NO_BENCHMARKS)
def test_a_file_that_is_no_benchmark_is_told_in_one_line(run: Run, fix: Fix, kind: str) -> None:
    Path("then.json").write_bytes(NO_BENCHMARKS[kind])
    fix(steady)
    result = run(*SMALL, "-b", 1, "--compare", "then.json")
    assert "cannot compare with then.json: it is not a .json" in error_line(result)
    assert result.stdout == ""


def test_warnings_come_before_what_takes_long(run: Run, fix: Fix) -> None:
    def interrupted(_: int) -> Timing:
        raise KeyboardInterrupt

    Path("then.json").write_bytes(with_row(model="resnet50"))
    fix(interrupted)
    result = run(*SMALL, "--compare", "then.json")
    assert result.exit_code == 130
    assert [line for line in warned(result) if "model: resnet50 then, resnet18 now" in line]


def test_the_least_that_can_be_compared(run: Run, fix: Fix) -> None:
    Path("then.json").write_bytes(with_row(batch_size=4, images_per_second=9))
    fix(steady)
    result = run(*SMALL, "-b", 4, "--compare", "then.json")
    assert result.exit_code == 0
    assert table(result)[1].endswith(" 4.44")


def test_a_file_without_end_is_refused(run: Run, fix: Fix) -> None:
    fix(steady)
    endless = run(*SMALL, "-b", 1, "--compare", "/dev/zero")
    assert "cannot compare with /dev/zero" in error_line(endless)
