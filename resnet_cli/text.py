"""Text from outside, made fit to be shown."""

from collections.abc import Sequence

SHOWN = 4  # of a long list


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


def amount(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 worker, 2 workers."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
