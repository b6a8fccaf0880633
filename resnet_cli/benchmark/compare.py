"""One benchmark held against an earlier one."""

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from resnet_cli.errors import InputError

KEYS = {"mode": str, "precision": str, "batch_size": int}
"""Which rows are held against each other; what else differs is said once, for all of them."""

SWEEP = frozenset({"batch_sizes", "images", "percentiles", "precisions"})
"""Settings that say how much is measured: one line is enough for a narrower sweep."""

LARGEST = 16_000_000  # bytes; a sweep of a thousand rows has a fortieth of that
SHOWN = 60  # characters of a value

Key = tuple[Any, ...]


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read the .json of an earlier run.

    Raises:
        InputError: it is none.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    try:
        record: Any = json.loads(data) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):  # no JSON, no Unicode, a number of endless digits
        record = None
    if is_benchmark(record):
        return dict(record)
    raise InputError(
        f"cannot compare with {path}: it is not a .json that resnet-cli benchmark wrote"
    )


def is_benchmark(record: Any) -> bool:
    """Whether an object has all that is compared, and of the right kinds."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(part), dict) for part in ("environment", "settings"))
        and isinstance(record.get("rows"), list)
        and all(map(is_row, record["rows"]))
    )


def is_row(row: Any) -> bool:
    """Whether an object is one row of a benchmark."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("model"), str)
        and all(type(row.get(key)) is kind for key, kind in KEYS.items())
        and "images_per_second" in row
        and is_rate(row["images_per_second"])
    )


def is_rate(value: Any) -> bool:
    """Whether a value is a speed, or None for what was not measured."""
    if value is None:
        return True
    try:
        return type(value) in (int, float) and isfinite(value) and value > 0
    except OverflowError:  # a whole number beyond all floats
        return False


def key_of(row: Mapping[str, Any]) -> Key:
    """What a row is of."""
    return tuple(row[key] for key in KEYS)


def rows_with_speed(earlier: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    """The row of each setting that has a speed."""
    return {key_of(row): row for row in earlier["rows"] if row["images_per_second"]}


def compare_settings(
    now: Mapping[str, Mapping[str, Any]], model: str, earlier: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what was different: a ratio means little between two machines.

    Args:
        now: ``environment`` and ``settings``.
        model: that is measured.
        earlier: from ``read_benchmark``.
    """
    models = sorted({row["model"] for row in earlier["rows"]})
    if models != [model]:
        yield f"model: {cut_value(', '.join(models))} then, {model} now"
    sweep = []
    for part in ("environment", "settings"):
        for name in sorted(earlier[part].keys() | now[part].keys()):
            before, after = (record[part].get(name) for record in (earlier, now))
            if before == after or name == "date":
                continue
            difference = f"{cut_value(name)}: {cut_value(before)} then, {cut_value(after)} now"
            if name in SWEEP:
                sweep.append(difference)
            else:
                yield difference
    if sweep:
        yield "; ".join(sweep)


def cut_value(value: object) -> str:
    """A value as text, cut where it is long."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "none" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
