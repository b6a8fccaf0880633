"""Run the Python blocks of a page of documentation, as a reader would type them."""

import re
from contextlib import chdir
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)


def find_blocks(page: Path, heading: str) -> list[tuple[int, str]]:
    """Return the Python blocks below a heading, up to the next of its level or above.

    Returns:
        Line of the page where each block begins, from 1, and its code.
    """
    text = page.read_text(encoding="utf-8")
    fenced = [match.span() for match in re.finditer(r"^```.*?^```$", text, re.M | re.S)]
    headings = [
        match
        for match in HEADING.finditer(text)
        if not any(start <= match.start() < end for start, end in fenced)
    ]
    first = next(match for match in headings if match[2] == heading)
    ends = (
        match.start()
        for match in headings
        if match.start() > first.start() and len(match[1]) <= len(first[1])
    )
    blocks = FENCE.finditer(text, first.end(), next(ends, len(text)))
    return [(text.count("\n", 0, block.start(1)) + 1, block[1]) for block in blocks]


def run_blocks(
    page: Path, heading: str, namespace: dict[str, Any] | None = None, cwd: Path | None = None
) -> dict[str, Any]:
    """Run the Python blocks of a section, one after the other.

    Args:
        page: Markdown.
        heading: of the section, without its number signs; its subsections are run as well.
        namespace: names that the blocks find; they add their own.
        cwd: folder where they run; None is the current one.

    Returns:
        The names after the last block.
    """
    names = {} if namespace is None else namespace
    blocks = find_blocks(page, heading)
    assert blocks, f"{page} has no Python below {heading!r}"
    with chdir(cwd or Path.cwd()):
        for line, code in blocks:
            exec(compile("\n" * (line - 1) + code, page, "exec"), names)
    return names
