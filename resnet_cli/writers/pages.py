"""Names of the files of a grid that has several pages."""

import re
from pathlib import Path


def numbered(path: Path, page: int) -> Path:
    """Where one page of several goes: ``grid-2.png`` for ``grid.png``."""
    return path.with_name(f"{path.stem}-{page}{path.suffix}")


def numbered_pages(path: Path) -> list[Path]:
    """The pages of several that are there already."""
    name = re.compile(rf"{re.escape(path.stem)}-\d+{re.escape(path.suffix)}")
    return [other for other in path.parent.iterdir() if name.fullmatch(other.name)]
