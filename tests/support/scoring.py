"""What ``resnet-cli evaluate`` wrote, read back."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def figures(path: str = "m.json") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return loaded


def approximately(value: Any) -> Any:
    """The same structure, whose numbers need not be equal to the last digit."""
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
