"""One benchmark held against an earlier one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet_cli.benchmark import Benchmark
from resnet_cli.errors import InputError

KEYS = ("mode", "precision", "batch_size", "compiled")  # which rows are of the same setting

NOT_COMPARED = frozenset({"date", "batch_sizes", "precisions"})
"""What may differ without making two rows incomparable."""

Key = tuple[Any, ...]


def read_benchmark(path: Path) -> Mapping[str, Any]:
    """Read the .json of an earlier run.

    Raises:
        InputError: it is none.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        [key_of(row) for row in record["rows"]]
        dict(record["environment"]), dict(record["settings"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"cannot compare with {path}: it is no .json of a benchmark") from error
    return dict(record)


def key_of(row: Mapping[str, Any]) -> Key:
    """What a row is of."""
    return tuple(row[key] for key in KEYS)


def speeds(earlier: Mapping[str, Any]) -> dict[Key, float]:
    """Images per second of each setting that was measured then."""
    rows = earlier["rows"]
    return {key_of(row): row["images_per_second"] for row in rows if row["images_per_second"]}


def differences(benchmark: Benchmark, earlier: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was different: a ratio means little between two machines."""
    models = {row["model"] for row in earlier["rows"]}, {row.model for row in benchmark.rows}
    if models[0] != models[1]:
        yield f"model: {', '.join(models[0])} then, {', '.join(models[1])} now"
    for part in ("environment", "settings"):
        then, now = earlier[part], benchmark.record()[part]
        for name in sorted((then.keys() | now.keys()) - NOT_COMPARED):
            if then.get(name) != now.get(name):
                yield f"{name}: {then.get(name)} then, {now.get(name)} now"
