"""The result files of a run: gone on with or new, each with its record beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli.errors import OutputError
from resnet_cli.records import Prediction
from resnet_cli.results.columns import SavedRows
from resnet_cli.results.files.disk import ResumeError, is_resumable
from resnet_cli.results.files.manifest import (
    check_same,
    earlier_record,
    finished_record,
    manifest_path,
    write_manifest,
)
from resnet_cli.results.files.scan import saved_rows
from resnet_cli.results.options import Write, WriterOptions

Begin = Callable[[Sequence["Output"]], None]


@dataclass(slots=True)
class Output:
    """An open result file, and how many rows it has."""

    path: Path
    saved: SavedRows  # rows of earlier runs
    write: Write
    options: WriterOptions
    rows: int = 0  # of this run
    errors: int = 0  # of those, of pictures that could not be read

    def add(self, prediction: Prediction) -> None:
        """Write one row."""
        self.write(prediction)
        self.rows += 1
        self.errors += prediction.error is not None

    @property
    def all_rows(self) -> int:
        """Rows in the file."""
        return self.saved.rows + self.rows

    @property
    def all_errors(self) -> int:
        """Rows in the file of images that could not be read."""
        return self.saved.errors + self.errors

    def record(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the run, with the counts of this file."""
        images, errors = self.all_rows, self.all_errors
        counts = {"images": images, "ok": images - errors, "errors": errors}
        spelling = {
            "columns": [*self.options.layout.columns],
            **self.options.dialect.record(),
        }
        return {
            **known,
            **(spelling if is_resumable(self.path) else {}),
            "counts": counts,
            "resumed_after": self.saved.rows,
        }


def read_resumed(files: Mapping[Path, WriterOptions], record: Mapping[str, Any]) -> list[SavedRows]:
    """Read the rows that earlier runs saved, so that this run can resume after them.

    Args:
        files: each with how this run would write it.
        record: what decides the rows of this run.

    Raises:
        OutputError: names every file that cannot be resumed, and why.
    """
    saved: list[SavedRows] = []
    refused: dict[str, list[str]] = {}  # files by the reason
    for path, options in files.items():
        try:
            saved.append(check_resumed(path, options, record))
        except ResumeError as error:
            refused.setdefault(error.reason, []).append(str(error.place))
    if refused:
        raise OutputError(
            "; ".join(
                f"cannot resume {', '.join(places)}: {reason}" for reason, places in refused.items()
            )
        )
    return saved


def check_resumed(path: Path, options: WriterOptions, record: Mapping[str, Any]) -> SavedRows:
    """Read the rows of one file, and make sure that this run would make such rows.

    Raises:
        ResumeError: it would not.
    """
    saved = saved_rows(path)
    # a run that was cut off before it had a record has no row either
    opened_only = not (saved.rows or saved.damage or manifest_path(path).exists())
    if not saved.size or opened_only:
        return saved
    before = earlier_record(path)
    saved.decides = "decision" in before["columns"]
    now = {**record, "columns": [*options.after(saved).layout.columns]}
    if saved.rows and saved.dialect is not None:  # which a spreadsheet may have changed
        before |= saved.dialect.record()
        now |= options.dialect.record()
    check_same(path, before, now)
    return saved


@contextmanager
def keep_manifests(
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
