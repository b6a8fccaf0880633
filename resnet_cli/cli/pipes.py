"""What happens to standard streams that nobody reads any more."""

import os


def discard(stream: int) -> None:
    """Let what is written to an open stream go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
