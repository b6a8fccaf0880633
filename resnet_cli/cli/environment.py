"""The process's environment, made fit for libraries that expect a home, a name and a cache folder.

A container that runs as an unknown user has none of them, and may have a read-only file system.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import click

from resnet_cli.errors import SettingError

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable: the folder where torch keeps what it compiles."""

EXISTING = str(Path(__file__).parent)
"""A folder that exists; nothing is written to it."""


@contextmanager
def usable_environment() -> Iterator[None]:
    """Set what torch and matplotlib would otherwise look up or create, and fail.

    Importing torchvision creates the folder of compiled code, which only ``--compile`` fills.
    """
    name_the_user()
    given = os.environ.get(COMPILED)
    if given is None or not is_writable(Path(given)):
        os.environ[COMPILED] = EXISTING
    try:
        yield
    finally:
        os.environ.pop(COMPILED, None)
        if given is not None:
            os.environ[COMPILED] = given


def name_the_user() -> None:
    """Give a user that the system does not know a name and a home."""
    try:
        getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"uid_{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep


def keep_compiled(_: click.Context, __: click.Parameter, compiling: bool) -> bool:
    """Keep what ``--compile`` makes beside the weights that torch keeps, if that can be written.

    torch's own place for it is a temporary folder, gone after a restart. It is settled when torch
    is imported, which is after this.

    Raises:
        SettingError: there is no folder to compile in.
    """
    if compiling and os.environ.get(COMPILED, EXISTING) == EXISTING:
        beside = weights_folder() / "inductor"
        if is_writable(beside):
            os.environ[COMPILED] = str(beside)
        elif has_temporary_folder():
            os.environ.pop(COMPILED, None)  # torch's own place
        else:
            raise SettingError(f"--compile needs a folder to write in: set {COMPILED} to one")
    return compiling


def weights_folder() -> Path:
    """Return the folder where torch keeps what it downloads."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch")


def is_writable(folder: Path) -> bool:
    """Return True if files can be created in a folder, which is created if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def has_temporary_folder() -> bool:
    """Return True if the system has a place for temporary files."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def lend_temporary_folder(folder: Path) -> None:
    """Let libraries use the folder of an output where the system has no temporary folder."""
    if not has_temporary_folder():
        tempfile.tempdir = str(folder)
