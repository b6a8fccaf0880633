"""What made the results of a run, and where they go: its record, its inputs, its files."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from platform import python_version
from time import perf_counter
from typing import Any

from resnet_cli.classifier import Classifier
from resnet_cli.records import Item, Pause, is_url
from resnet_cli.remote import redact_argument
from resnet_cli.results import open_writer
from resnet_cli.results.files.manifest import Output
from resnet_cli.results.files.resume import SavedRows
from resnet_cli.results.formats import format_of
from resnet_cli.results.options import Write, WriterOptions, names_for
from resnet_cli.run.tally import Tally
from resnet_cli.sources import Inputs
from resnet_cli.system import installed_versions

LIBRARIES = ("resnet-cli", "torch", "torchvision", "pillow", "openvino", "onnxruntime", "nncf")
"""What may decode images or compute networks, and so decide a row."""


class Fingerprint:
    r"""A fold over items, in input order, of constant size and with one ``stat`` a file.

    The digest is the SHA-256 of one line per item: path, bytes, modification time in nanoseconds
    or what else its source states as its version, such as an ETag, and the part where there is
    one, with a zero byte between them and a line feed at the end. What is unknown is ``-``.
    """

    def __init__(self) -> None:
        """Begin without inputs."""
        self.inputs = self.bytes = 0
        self.digest = sha256()
        self.complete = False  # no more inputs come

    def add(self, item: Item) -> None:
        """Count one input."""
        stated = item.version or is_url(item.path)
        size, version = (item.size, item.version) if stated else file_version(item.path)
        self.bytes += size or 0
        self.inputs += 1
        numbers = ["-" if size is None else str(size), version or "-"]
        fields = [item.path, *numbers, *[item.part] * bool(item.part)]
        self.digest.update(os.fsencode("\0".join(fields)) + b"\n")

    def through(self, items: Iterable[Item | Pause]) -> Iterator[Item | Pause]:
        """Yield items as they come, and count them."""
        for item in items:
            if isinstance(item, Item):
                self.add(item)
            yield item
        self.complete = True

    def record(self) -> dict[str, Any] | None:
        """Return the figures as the manifest has them; None while inputs still come."""
        if not self.complete:
            return None
        return {"files": self.inputs, "bytes": self.bytes, "sha256": self.digest.hexdigest()}


def file_version(path: str) -> tuple[int | None, str]:
    """Return bytes and modification time of a file."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # its row says why it cannot be read
        return None, ""
    return state.st_size, str(state.st_mtime_ns)


def pin_inputs(inputs: Inputs, fingerprint: Fingerprint) -> Inputs:
    """Take the fingerprint of the inputs: at once, or of a stream as they come."""
    items = fingerprint.through(inputs.items)
    return replace(inputs, items=items if inputs.total is None else list(items))


@dataclass
class Record:
    """What made the results, as FILE.run.json and reports say it."""

    classifier: Classifier
    tally: Tally
    topk: int  # classes of an image
    threshold: float | None  # 0 to 1; None where nothing is decided
    inputs: Fingerprint = field(default_factory=Fingerprint)
    status: str = "running"  # then done, or stopped
    begun: float = field(default_factory=perf_counter)
    ended: float | None = None  # when all items were done
    started: str = field(default_factory=lambda: current_time())

    def __call__(self) -> dict[str, Any]:
        """Return the record as it is now."""
        return {
            "status": self.status,
            "command": shlex.join(["resnet-cli", *map(redact_argument, sys.argv[1:])]),
            "folder": str(Path.cwd()),
            "started": self.started,
            "finished": None if self.status == "running" else current_time(),
            "inputs": self.inputs.record(),
            **self.settled,
            **self.tally.record(self.seconds),
        }

    @property
    def seconds(self) -> float:
        """Return how long the run has taken so far, or took in all."""
        return (self.ended or perf_counter()) - self.begun

    def finish(self) -> None:
        """Note that all items are done; what is left is to close the files."""
        self.status, self.ended = "done", perf_counter()

    def stop(self) -> None:
        """Note that the run ends early."""
        self.status = "stopped"

    @cached_property
    def decisive(self) -> dict[str, Any]:
        """Return the settings that decide the rows, and that a resumed run must share."""
        return {**self.classifier.record(), "topk": self.topk, "threshold": self.threshold}

    @cached_property
    def settled(self) -> dict[str, Any]:
        """Return what does not change during the run."""
        return {
            **self.decisive,
            "versions": {
                "python": python_version(),
                **installed_versions(LIBRARIES),
            },
        }


def current_time() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where the results of a run go."""

    options: WriterOptions
    files: tuple[Path, ...] = ()  # each with its manifest beside it
    grids: tuple[Path, ...] = ()
    show: bool = False  # a grid in a window
    resume: bool = False  # continue after the rows that the files hold

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return every file."""
        return (*self.files, *self.grids)

    @property
    def want_thumbnails(self) -> bool:
        """Return True if anything shows the images."""
        return self.show or any(format_of(path).thumbnails for path in self.paths)

    @property
    def topk(self) -> int:
        """Return the number of classes of an image that any of them wants."""
        options = [self.options, *map(self.options_for, self.files)]
        return max(each.layout.classes for each in options)

    @property
    def resumed(self) -> dict[Path, WriterOptions]:
        """Return the files that this run resumes, each with how it would write it."""
        return {path: self.options_for(path) for path in self.files if self.resume}

    def options_for(self, path: Path) -> WriterOptions:
        """Return how one file is written: a report shows the next best classes too."""
        topk = max(self.options.topk, format_of(path).least_topk)
        return replace(self.options, topk=topk)

    def describing(self, record: Callable[[], Mapping[str, Any]], inputs: Inputs) -> "Destinations":
        """Return a copy whose writers know what made the results, and of which items."""
        items = None if inputs.total is None else inputs.known
        return replace(self, options=replace(self.options, record=record, name=names_for(items)))

    @contextmanager
    def open(self, saved: Sequence[SavedRows]) -> Iterator[tuple[list[Output], list[Write]]]:
        """Open everything for as long as the block lasts.

        Args:
            saved: the rows of each file that is resumed.

        Yields:
            The files, and what draws grids.
        """
        earlier = saved if self.resume else [None] * len(self.files)
        with ExitStack() as stack:
            outputs = [
                self.open_file(path, one, stack)
                for path, one in zip(self.files, earlier, strict=True)
            ]
            drawings = [stack.enter_context(open_writer(path, self.options)) for path in self.grids]
            if self.show:
                from resnet_cli.results.grid import window_writer

                drawings.append(stack.enter_context(window_writer(self.options)))
            yield outputs, drawings

    def open_file(self, path: Path, saved: SavedRows | None, stack: ExitStack) -> Output:
        """Open one result file."""
        options = self.options_for(path).after(saved)
        write = stack.enter_context(open_writer(path, options))
        return Output(path, saved or SavedRows(), write, options)
