"""What is known of a run while it goes on."""

import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from time import perf_counter
from typing import Any

from resnet_cli.classifier import Classifier
from resnet_cli.fingerprint import Fingerprint
from resnet_cli.tally import Tally


@dataclass
class Record:
    """What made the results, as far as it is known: what FILE.run.json and reports say."""

    classifier: Classifier
    tally: Tally
    topk: int  # classes of an image
    threshold: float | None  # 0 to 1; None where nothing is decided
    inputs: Fingerprint = field(default_factory=Fingerprint)
    status: str = "running"  # then done, or stopped
    begun: float = field(default_factory=perf_counter)
    ended: float | None = None  # when all pictures were done
    started: str = field(default_factory=lambda: now())

    def __call__(self) -> dict[str, Any]:
        """The record as it is at this moment."""
        return {
            "status": self.status,
            "command": shlex.join(["resnet-cli", *sys.argv[1:]]),
            "folder": str(Path.cwd()),
            "started": self.started,
            "finished": None if self.status == "running" else now(),
            "inputs": self.inputs.record(),
            **self.settled,
            **self.tally.record(self.seconds),
        }

    @property
    def seconds(self) -> float:
        """How long the run has taken, or took."""
        return (self.ended or perf_counter()) - self.begun

    def finish(self) -> None:
        """Say that all pictures are done: what is left is to close the files."""
        self.status, self.ended = "done", perf_counter()

    def stop(self) -> None:
        """Say that the run ends early."""
        self.status = "stopped"

    @cached_property
    def decisive(self) -> dict[str, Any]:
        """What decides the rows."""
        return {**self.classifier.record(), "topk": self.topk, "threshold": self.threshold}

    @cached_property
    def settled(self) -> dict[str, Any]:
        """What does not change while the run goes on."""
        return {
            **self.decisive,
            "versions": {
                "python": python_version(),
                **{
                    name: version(name) for name in ("resnet-cli", "torch", "torchvision", "pillow")
                },
            },
        }


def now() -> str:
    """The time of day, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")
