"""The options of a quick run, and what a command prints, read back."""

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from click.testing import Result

SMALL = ("--device", "cpu", "--resize-size", "40", "--img-size", "32")  # quick: a few pixels do

# of an image: number and total, path, label, probability, time
LINE = re.compile(r"(\d+)/(\d+|\?)  (\S+)  (\S+) ([01]\.\d{3})  (\d+\.\d) ms")


def rows_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rows_of_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def download_half() -> None:
    """Leave the published weights of resnet18 in the cache, cut off."""
    cache = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_text("half a download")


def error_line(result: Result, status: int = 1) -> str:
    """The one line that tells what went wrong, which is the last."""
    assert result.exit_code == status
    assert "Traceback" not in result.stderr
    *others, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert not [line for line in others if line.startswith("Error")]
    return last
