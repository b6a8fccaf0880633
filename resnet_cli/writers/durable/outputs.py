"""The result files of a run: gone on with or new, each with its record beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.writers.durable.manifest import (
    check_same,
    finished_record,
    manifest_path,
    write_manifest,
)
from resnet_cli.writers.durable.scan import saved_rows
from resnet_cli.writers.options import Write
from resnet_cli.writers.saved import Saved

Begin = Callable[[Sequence["Output"]], None]


@dataclass(slots=True)
class Output:
    """An open result file, and how many rows it has."""

    path: Path
    saved: Saved  # rows of earlier runs
    write: Write
    rows: int = 0  # of this run
    errors: int = 0  # of those, of pictures that could not be read

    def add(self, prediction: Prediction) -> None:
        """Write one row."""
        self.write(prediction)
        self.rows += 1
        self.errors += prediction.error is not None

    @property
    def all_errors(self) -> int:
        """Rows in the file of pictures that could not be read."""
        return self.saved.errors + self.errors

    def record(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the run, with the counts of this file."""
        images = self.saved.rows + self.rows
        counts = {"images": images, "ok": images - self.all_errors, "errors": self.all_errors}
        return {**known, "counts": counts, "resumed_after": self.saved.rows}


def resumed(path: Path, record: Mapping[str, Any]) -> Saved:
    """What an earlier run left in a file, which this one can go on with.

    Raises:
        OutputError: it cannot.
    """
    saved = saved_rows(path)
    # a run that was cut off before it had a record has no row either
    opened_only = not (saved.rows or saved.damage or manifest_path(path).exists())
    if saved.size and not opened_only:
        check_same(path, record)
    return saved


@contextmanager
def recorded(
    record: Callable[[], Mapping[str, Any]], stopped: Callable[[], None]
) -> Iterator[Begin]:
    """Keep FILE.run.json beside each file: begun before the first row, completed after the last.

    Args:
        record: what is known of the run at a moment.
        stopped: is called when the run ends early, before that is recorded.

    Yields:
        What is called when the files are open; before, the records of other runs are left alone.
    """
    outputs: list[Output] = []
    finished: dict[Path, Mapping[str, Any]] = {}  # of the runs that made what is there

    def write() -> None:
        known = record() if outputs else {}
        for output in outputs:
            made = {} if output.rows else finished.get(output.path, {})
            write_manifest(output.path, made or output.record(known))

    def begin(opened: Sequence[Output]) -> None:
        outputs.extend(opened)
        before = {output.path: finished_record(output.path) for output in opened}
        write()
        finished.update({path: made for path, made in before.items() if made})

    try:
        yield begin
    except BaseException:
        stopped()
        with suppress(OutputError):  # what stopped the run is what has to be told
            write()
        raise
    write()
