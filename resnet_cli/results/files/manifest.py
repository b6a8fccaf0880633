"""FILE.run.json: what made the results in FILE."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet_cli.results.columns import RowLayout
from resnet_cli.results.files.disk import ResumeError, naming_output, room_for, whole_file
from resnet_cli.text import escape_unprintable

FREE = frozenset({"checkpoint.path", "classes_source", "preprocess_source", "device", "compiled"})
"""What may differ when a run goes on with the rows of another: it decides no row."""

BEFORE: Mapping[str, Any] = {"multi_label": False}
"""What held for the runs of earlier versions, which did not record it."""

SHOWN = 16  # characters of a value that differs


def manifest_path(output: Path) -> Path:
    """Where the record of a result file stands."""
    return output.with_name(f"{output.name}.run.json")


def write_manifest(output: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a result file, whole or not at all."""
    path = manifest_path(output)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    with naming_output(path, full=room_for(output)), whole_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def finished_record(output: Path) -> dict[str, Any] | None:
    """The record of the run that a result file is whole after; None where there is no such."""
    try:
        record = dict(json.loads(manifest_path(output).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.get("status") == "done" else None


def earlier_record(output: Path) -> dict[str, Any]:
    """Read the record of the run that made the rows of a file.

    Raises:
        ResumeError: there is none, or it cannot be read.
    """
    path = manifest_path(output)
    anew = "replace it with --overwrite"
    try:
        return complete_record(dict(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError as error:
        raise ResumeError(output, f"{path}, which says what made it, is missing: {anew}") from error
    except (OSError, ValueError, TypeError) as error:
        raise ResumeError(output, f"{path} does not say what made it ({error}): {anew}") from error


def complete_record(record: dict[str, Any]) -> dict[str, Any]:
    """Add what earlier versions left out: they had no column for the decision."""
    if "columns" in record:
        return record
    columns = [*RowLayout(record["topk"]).columns] if isinstance(record.get("topk"), int) else []
    return {**record, "columns": columns, "threshold": record.get("threshold") or None}


def check_same(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to append to rows that were made with other settings.

    Args:
        output: a result file that has rows.
        before: the record of the run that made them.
        now: what would decide the rows to come; anything else in the record is free.

    Raises:
        ResumeError: names every setting that differs.
    """
    recorded = {name: before.get(name, BEFORE.get(name)) for name in now}
    found = list(record_differences(recorded, now))
    if found:
        raise ResumeError(
            output,
            f"made with other settings: {'; '.join(found)}: use the same, or replace it with "
            "--overwrite",
        )


def record_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Name what differs between two records, and how."""
    for name in sorted(before.keys() | now.keys()):
        key = f"{at}{name}"
        old, new = before.get(name), json.loads(json.dumps(now.get(name)))
        if key in FREE or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from record_differences(old, new, f"{key}.")
        elif isinstance(old, list) and isinstance(new, list):
            yield f"{key} {first_that_differs(old, new)}"
        else:
            yield f"{key} {short_value(old)} there, {short_value(new)} now"


def first_that_differs(old: list[Any], new: list[Any]) -> str:
    """Where two lists part."""
    for number, (one, other) in enumerate(zip(old, new, strict=False)):
        if one != other:
            return f"{number} {short_value(one)} there, {short_value(other)} now"
    return f"{len(old)} there, {len(new)} now"


def short_value(value: object) -> str:
    """A value, cut where it is long."""
    text = escape_unprintable("nothing" if value is None else str(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
