"""The photographs that are classified over and over to measure end to end."""

import logging
from collections.abc import Iterator
from pathlib import Path

from resnet_cli.errors import ImageError, InputError
from resnet_cli.images import Decoder
from resnet_cli.inputs import find_inputs
from resnet_cli.sieve import Sieve

log = logging.getLogger("resnet_cli")


class Photographs:
    """Pictures without an end; what cannot be read is tried once and then left out.

    Attributes:
        source: the folder, or one file.
        paths: all of them.
        unreadable: those that are left out.
    """

    def __init__(self, source: Path, sieve: Sieve | None = None) -> None:
        """Find the images, and see that there is one that can be read.

        Args:
            source: a folder, or one file.
            sieve: says what is passed over.

        Raises:
            InputError: there is none.
        """
        self.source = source
        found = find_inputs([str(source)], sieve)
        for sentence in found.notes:
            log.info(sentence)
        self.paths = [str(Path(path)) for path in found.paths]
        self.unreadable: set[str] = set()
        decode = Decoder("RGB", upright=True, exact=False)
        for path in self.paths:
            try:
                decode(Path(path))
            except ImageError as error:
                self.leave_out(path, str(error))
            else:
                return
        raise InputError(
            f"cannot measure with {source}: none of its images can be read "
            f"({len(self.unreadable)} tried)"
        )

    def leave_out(self, path: str, reason: str) -> None:
        """Take a picture no more, and say so once."""
        if path not in self.unreadable:
            self.unreadable.add(path)
            log.warning("left out of what is measured: %s: %s", path, reason)

    def endless(self) -> Iterator[str]:
        """Yield paths, again from the first after the last, for as long as any can be read."""
        while readable := [path for path in self.paths if path not in self.unreadable]:
            yield from readable
