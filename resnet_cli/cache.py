"""The cache of what takes long to make or to download, so that it is made once.

An entry is a folder that the digest of its key names. It appears by a rename when all of it is
written, states the digest of each of its files, and is made again where one of them differs. The
folder is ``RESNET_CLI_CACHE``, else ``resnet-cli`` in the user's cache; whatever it holds may be
deleted at any time.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from resnet_cli.errors import OutputError, describe
from resnet_cli.files import sync_file, sync_folder, write_text_file
from resnet_cli.system import installed_versions

log = logging.getLogger("resnet_cli")

VARIABLE = "RESNET_CLI_CACHE"

LARGEST = 4 << 30  # bytes of all entries: 90 ResNet-18 or 17 ResNet-152
IN_USE = 3600  # seconds after its last use in which an entry is not deleted
ABANDONED = 86400  # seconds after which a folder that is still being filled is deleted

CONTENTS = "entry.json"  # its key, and the digests of its files; its time is that of the last use
FACTS = "facts.json"  # what was found out about the network since, which may be missing
BEGUN = ".new-"  # begins the name of an entry that is being made
OURS = re.compile(rf"[0-9a-f]{{64}}|{re.escape(BEGUN)}[0-9a-f]{{16}}")  # all else is left alone

temporary_folders: list[TemporaryDirectory[str]] = []
"""Kept until the process ends, as are the network files in them."""


class Cache:
    """A folder of network files; without one, or where it fails, a temporary folder."""

    def __init__(self, folder: Path | None, *, largest: int = LARGEST) -> None:
        """Use a folder, which is created when the first entry is made.

        Args:
            folder: of the entries; None for a temporary one.
            largest: bytes of all entries, over which those that were not used for longest go.
        """
        self.folder = folder
        self.largest = largest
        self.temporary: Path | None = None

    def fetch(self, key: Mapping[str, Any], make: Callable[[Path], None], *, name: str) -> Path:
        """Return a network file from the cache, made first if it is not there whole.

        Args:
            key: all facts that decide its content, as JSON can hold them.
            make: writes the file, and what belongs to it into the same folder.
            name: of the file.

        Raises:
            UserError: what ``make`` raises.
            OSError: there is no place at all to write it.
        """
        if self.folder is not None:
            try:
                return fetch_from(self.folder, key, make, name, self.largest)
            except (OSError, OutputError) as error:
                log.warning(
                    "the cache in %s cannot be used, so that nothing is kept in it: %s",
                    self.folder,
                    reason(error),
                )
                self.folder = None
        if self.temporary is None:
            temporary_folders.append(TemporaryDirectory(prefix="resnet-cli-"))
            self.temporary = Path(temporary_folders[-1].name)
        return fetch_from(self.temporary, key, make, name, self.largest)

    def find(self, made: str, name: str, matches: Callable[[Path], bool]) -> Path | None:
        """Return a network file of any key from the cache, or None.

        Args:
            made: value of ``made`` in its key.
            name: of the file.
            matches: says of a file that is whole whether it is the one.
        """
        with suppress(OSError):  # no folder yet, or none that can be read
            for entry in sorted(self.folder.iterdir()) if self.folder else ():
                if made_so(entry, made) and is_whole(entry, name) and matches(entry / name):
                    note_use(entry)
                    return entry / name
        return None


def user_cache() -> Cache:
    """Return the cache in the folder that the environment names, else in that of the user."""
    if given := os.environ.get(VARIABLE):
        return Cache(Path(given).absolute())
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user whom the system does not know
        return Cache(None)
    return Cache(Path(home) / "resnet-cli")


def choose_cache(*, keep: bool) -> Cache:
    """Return the user's cache, or a temporary one."""
    return user_cache() if keep else Cache(None)


def reason(error: Exception) -> str:
    """Return what an error says, without the name of its type if it is one of ours."""
    return str(error) if isinstance(error, OutputError) else describe(error)


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of this program and of packages, for a key."""
    return installed_versions(("resnet-cli", *packages))


def fetch_from(
    folder: Path,
    key: Mapping[str, Any],
    make: Callable[[Path], None],
    name: str,
    largest: int,
) -> Path:
    """Return a file of the entry of a key in a folder, made first if it is not there whole.

    Two processes may make the same entry at once: the first one's stays, and the other uses it.
    """
    text = json.dumps(key, sort_keys=True)
    entry = folder / hashlib.sha256(text.encode()).hexdigest()
    if is_whole(entry, name):
        note_use(entry)
        return entry / name
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{BEGUN}{token_hex(8)}"
    new.mkdir()
    try:
        make(new / name)
        seal_entry(new, key)
        place_entry(new, entry, name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shrink(folder, largest, keep=entry)
    return entry / name


def note_use(entry: Path) -> None:
    """Let an entry be the one that was used last."""
    with suppress(OSError):  # a cache that may only be read
        os.utime(entry / CONTENTS)


def made_so(entry: Path, made: str) -> bool:
    """Return whether the key of an entry states how it was made."""
    try:
        return bool(json.loads((entry / CONTENTS).read_text())["key"]["made"] == made)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def is_whole(entry: Path, name: str) -> bool:
    """Return whether an entry has a file, and all its files are those that were written."""
    try:
        digests = json.loads((entry / CONTENTS).read_text())["files"]
        return name in digests and all(
            digest_of(entry / file) == digest for file, digest in digests.items()
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return False


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def seal_entry(new: Path, key: Mapping[str, Any]) -> None:
    """Write down what a new entry holds."""
    files = sorted(new.iterdir())
    for file in files:
        with file.open("r+b") as opened:
            sync_file(opened)
    digests = {file.name: digest_of(file) for file in files}
    write_text_file(new / CONTENTS, json.dumps({"key": key, "files": digests}, indent=1))


def place_entry(new: Path, entry: Path, name: str) -> None:
    """Rename a new entry into its place, unless another process has just done so."""
    try:
        new.rename(entry)
    except OSError:
        if is_whole(entry, name):
            return
        damaged = new.with_name(f"{BEGUN}{token_hex(8)}")
        with suppress(FileNotFoundError):  # another process removed it first
            entry.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
        new.rename(entry)
    sync_folder(entry.parent)


def shrink(folder: Path, largest: int, *, keep: Path) -> None:
    """Delete the entries that were not used for longest until the others are small enough."""
    now = time()
    entries = sorted(measure_entries(folder))
    total = sum(size for _, size, _ in entries)
    for used, size, entry in entries:
        begun = entry.name.startswith(BEGUN)
        old = now - used > (ABANDONED if begun else IN_USE)
        if entry != keep and old and (begun or total > largest):
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


def measure_entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield the time of the last use, the bytes and the path of each entry."""
    for entry in folder.iterdir():
        if not OURS.fullmatch(entry.name):
            continue
        with suppress(OSError):  # another process deletes it now
            sizes = [file.stat().st_size for file in entry.iterdir()]
            stamp = entry / CONTENTS
            yield (stamp if stamp.exists() else entry).stat().st_mtime, sum(sizes), entry


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Store what was found out about a file of the cache, unless its folder may only be read.

    Args:
        path: as ``Cache.fetch`` gave it.
        facts: as JSON can hold them.
    """
    with suppress(OutputError):
        write_text_file(path.with_name(FACTS), json.dumps(facts))


def read_facts(path: Path) -> dict[str, Any] | None:
    """Return what was stored about a file of the cache, or None."""
    try:
        facts = json.loads(path.with_name(FACTS).read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
