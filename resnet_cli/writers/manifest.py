"""FILE.run.json: what made the results in FILE."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_cli.errors import OutputError


def manifest_path(output: Path) -> Path:
    """Where the record of a result file stands."""
    return output.with_name(f"{output.name}.run.json")


def write_manifest(output: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a result file, whole or not at all."""
    path = manifest_path(output)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    try:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
