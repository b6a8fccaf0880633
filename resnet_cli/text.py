"""Text from outside, made fit to be shown."""


def printable(text: str) -> str:
    """Spell out control characters and broken bytes, which could take over a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
