"""What befalls a file: bits that flip, an end that is missing, a part that is blank or doubled."""

from collections.abc import Callable
from random import Random


def flip(data: bytearray, random: Random) -> None:
    """Change some bits anywhere."""
    for _ in range(random.choice((1, 1, 2, 8, 40))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def flip_early(data: bytearray, random: Random) -> None:
    """Change some bytes where the header is."""
    for _ in range(random.choice((1, 2, 4))):
        data[random.randrange(min(len(data), 200))] = random.choice((0, 1, 127, 128, 255))


def truncate(data: bytearray, random: Random) -> None:
    """Cut the end off."""
    del data[random.randrange(len(data)) :]


def repeat(data: bytearray, random: Random) -> None:
    """Put a part of the file in a second time, somewhere else."""
    begin, place = random.randrange(len(data)), random.randrange(len(data))
    data[place:place] = data[begin : begin + random.randrange(1, 400)]


def blank(data: bytearray, random: Random) -> None:
    """Fill a part with one byte, as a torn download leaves it."""
    begin = random.randrange(len(data))
    end = min(len(data), begin + random.randrange(1, 400))
    data[begin:end] = bytes([random.choice((0, 255))]) * (end - begin)


HARMS: tuple[Callable[[bytearray, Random], None], ...] = (
    flip, flip, flip_early, flip_early, truncate, repeat, blank,
)  # fmt: skip
