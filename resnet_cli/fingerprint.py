"""The inputs of a run, told apart from others: their number, size and a digest."""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any


class Fingerprint:
    r"""A fold over paths, in input order, of constant size and with one ``stat`` each.

    The digest is the SHA-256 of one line per input: path, bytes and modification time in
    nanoseconds, with a zero byte between them and a line feed at the end. Where there is no such
    file, both numbers are ``-``.
    """

    def __init__(self) -> None:
        """Begin with no input."""
        self.inputs = self.bytes = 0
        self.digest = sha256()
        self.complete = False  # there are no more

    def add(self, path: str) -> None:
        """Count one input."""
        size, time = "-", "-"
        try:
            state = os.stat(path)
        except (OSError, ValueError):  # its row says why it cannot be read
            pass
        else:
            self.bytes += state.st_size
            size, time = str(state.st_size), str(state.st_mtime_ns)
        self.inputs += 1
        self.digest.update(os.fsencode(path) + f"\0{size}\0{time}\n".encode())

    def through(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield paths as they come, and count those that are not empty."""
        for path in paths:
            if path:
                self.add(path)
            yield path
        self.complete = True

    def record(self) -> dict[str, Any] | None:
        """The figures as they are written into files; None while inputs are still to come."""
        if not self.complete:
            return None
        return {"files": self.inputs, "bytes": self.bytes, "sha256": self.digest.hexdigest()}
