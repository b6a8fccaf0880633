"""Text from outside: decoding it, and making it safe to show."""

import csv
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path

SHOWN = 4  # of a long list
LISTED = 5  # names, before the number of the others

MINUTE, HOUR = 60, 3600  # seconds


def escape_unprintable(text: str) -> str:
    """Spell out control characters and broken bytes, which could take over a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def first_few(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def list_few(names: Sequence[str]) -> str:
    """List the first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def duration_words(seconds: float) -> str:
    """Return a duration in its two largest units: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR:,} h {whole % HOUR // MINUTE} min"


def amount(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: 1 worker, 2 workers."""
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


ENCODINGS = (
    (BOM_UTF8, "utf-8-sig"),
    (BOM_UTF16_LE, "utf-16"),
    (BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and the encoding of each."""

SEPARATORS = (",", ";", "\t", "|")
DECLARATION = "sep="  # a first line that Excel reads, and that names the separator
SAMPLE = 100  # rows that show the separator


class EncodingError(ValueError):
    """Bytes that are not text in UTF-8 or UTF-16."""


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Read a text file in UTF-8 or UTF-16.

    Args:
        path: of the file.
        errors: of the codec of UTF-8; ``surrogateescape`` keeps names of files as they are.

    Raises:
        EncodingError: it is in another encoding.
        OSError: it cannot be opened.
    """
    return decode_text(path.read_bytes(), errors=errors)


def decode_text(data: bytes, *, errors: str = "strict") -> str:
    """Decode a text in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        EncodingError: it is in another encoding.
    """
    try:
        return data.decode(encoding_of(data), errors)
    except UnicodeDecodeError as error:
        raise EncodingError("it is neither UTF-8 nor UTF-16: save it as UTF-8") from error


def encoding_of(data: bytes) -> str:
    """Tell UTF-16 from UTF-8 by the byte order mark, or by a zero beside the first letter."""
    for start, encoding in ENCODINGS:
        if data.startswith(start):
            return encoding
    if b"\0" in data[:2]:
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return "utf-8"


def find_separator(text: str) -> str:
    """Return what separates the cells of a table.

    It splits all rows into equally many cells, or else the first row into the most.
    """
    declared = text.partition("\n")[0].rstrip("\r")
    if declared.lower().startswith(DECLARATION) and len(declared) == len(DECLARATION) + 1:
        return declared[-1]
    return max(SEPARATORS, key=lambda separator: separator_evenness(text, separator))


def separator_evenness(text: str, separator: str) -> tuple[bool, int]:
    """Rank a separator: whether all rows have as many cells as the first, and how many that is."""
    widths = [len(row) for row in islice(rows_of(text, separator), SAMPLE)]
    first = widths[0] if widths else 0
    return first > 1 and set(widths) == {first}, first


def read_table_rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of a table that are not blank, whatever separates their cells."""
    return rows_of(text, find_separator(text))


def rows_of(text: str, separator: str) -> Iterator[list[str]]:
    """Yield the rows of a table that are not blank, without Excel's ``sep=``.

    Raises:
        csv.Error: a quote that nothing closes within a cell of the largest size.
    """
    for row in csv.reader(StringIO(text, newline=""), delimiter=separator):
        if any(row) and not is_declaration(row, separator):
            yield row


def is_declaration(row: list[str], separator: str) -> bool:
    """Return True if a row is Excel's ``sep=``, which the separator itself splits."""
    return separator.join(row).lower() == DECLARATION + separator
