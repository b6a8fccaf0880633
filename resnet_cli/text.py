"""Text from outside, made fit to be shown."""

from collections.abc import Sequence

SHOWN = 4  # of a long list

MINUTE, HOUR = 60, 3600  # seconds


def printable(text: str) -> str:
    """Spell out control characters and broken bytes, which could take over a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def first_few(names: Sequence[str]) -> str:
    """The beginning of a list of names, and whether there are more."""
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def duration(seconds: float) -> str:
    """Spell a duration in its two largest units: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR:,} h {whole % HOUR // MINUTE} min"


def amount(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 worker, 2 workers."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def cut_end(words: str, width: int) -> str:
    """Shorten a long label at its end."""
    return words if len(words) <= width else f"{words[: width - 1].rstrip()}…"


def cut_middle(words: str, width: int) -> str:
    """Shorten a long name in its middle."""
    if len(words) <= width:
        return words
    head = (width - 1) // 2
    return f"{words[:head]}…{words[len(words) - (width - 1 - head) :]}"


def cut_start(path: str, width: int) -> str:
    """Shorten a long path at its start, as its end tells files apart."""
    return path if len(path) <= width else f"…{path[len(path) + 1 - width :]}"
