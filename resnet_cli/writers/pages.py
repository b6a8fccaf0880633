"""Names of the files of a grid that has several pages."""

from pathlib import Path


def numbered(path: Path, page: int) -> Path:
    """Where one page of several goes: ``grid-2.png`` for ``grid.png``."""
    return path.with_name(f"{path.stem}-{page}{path.suffix}")
