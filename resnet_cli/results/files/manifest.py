"""FILE.run.json: the record of the run that made FILE, written before its first row and after."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.errors import OutputError
from resnet_cli.files import write_text_file
from resnet_cli.records import Prediction
from resnet_cli.results.columns import class_names
from resnet_cli.results.formats import format_of, manifest_path
from resnet_cli.results.options import Write, WriterOptions
from resnet_cli.text import escape_unprintable

if TYPE_CHECKING:
    from resnet_cli.results.files.resume import SavedRows

Begin = Callable[[Sequence["Output"]], None]

FREE = frozenset({"checkpoint.path", "classes_source", "preprocess_source", "device", "compiled"})
"""What may differ between a run and the one that it resumes, as no row depends on it."""

BEFORE: Mapping[str, Any] = {"multi_label": False, "quantized": None}
"""Settings that earlier versions did not record, as they were then."""

SHOWN = 16  # characters of a value that differs

ADVICE: Mapping[str, str] = {
    "quantized": "int8 was calibrated on other images, and the first network is no longer in the "
    "cache: name the first images with --calibration DIR",
}
"""What to do where two settings differ that are not typed as they stand."""


class ResumeError(OutputError):
    """An existing file that a run cannot continue."""

    def __init__(self, place: Path, reason: str) -> None:
        """Name the file, and say why and what would be right."""
        super().__init__(f"cannot resume {place}: {reason}")
        self.place, self.reason = place, reason


@dataclass(slots=True)
class Output:
    """An open result file, and the number of its rows."""

    path: Path
    saved: "SavedRows"  # rows of earlier runs
    write: Write
    options: WriterOptions
    rows: int = 0  # of this run
    errors: int = 0  # of those, of images that could not be read

    def add(self, prediction: Prediction) -> None:
        """Write one row."""
        self.write(prediction)
        self.rows += 1
        self.errors += prediction.error is not None

    @property
    def all_rows(self) -> int:
        """The number of rows in the file."""
        return self.saved.rows + self.rows

    @property
    def all_errors(self) -> int:
        """The number of rows in the file of images that could not be read."""
        return self.saved.errors + self.errors

    def record(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of the run, with columns and counts of this file."""
        images, errors = self.all_rows, self.all_errors
        counts = {"images": images, "ok": images - errors, "errors": errors}
        spelling = {
            "columns": [*self.options.layout.columns],
            **self.options.dialect.record(),
        }
        return {
            **known,
            **({} if format_of(self.path).thumbnails else spelling),
            "counts": counts,
            "resumed_after": self.saved.rows,
        }


@contextmanager
def keep_manifests(
    record: Callable[[], Mapping[str, Any]], stopped: Callable[[], None]
) -> Iterator[Begin]:
    """Keep FILE.run.json beside each file: begun before the first row, completed after the last.

    Args:
        record: returns the record of the run so far.
        stopped: called when the run ends early, before that is recorded.

    Yields:
        A function to call with the open files; until then the records of other runs stay.
    """
    outputs: list[Output] = []
    finished: dict[Path, Mapping[str, Any]] = {}  # of the runs that made the existing rows

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
        with suppress(OutputError):  # which must not hide what stopped the run
            write()
        raise
    write()


def write_manifest(output: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a result file, whole or not at all."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_text_file(manifest_path(output), text, full=format_of(output).full_disk)


def finished_record(output: Path) -> dict[str, Any] | None:
    """Load the record of the run that finished a result file, or None."""
    try:
        record = dict(json.loads(manifest_path(output).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.get("status") == "done" else None


def recorded_inputs(output: Path) -> dict[str, Any] | None:
    """Load what the record of a result file says of the inputs; None where it does not."""
    try:
        found = json.loads(manifest_path(output).read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def earlier_record(output: Path) -> dict[str, Any]:
    """Read the record of the run that made the rows of a file.

    Raises:
        ResumeError: it is missing, or cannot be read.
    """
    path = manifest_path(output)
    remedy = "replace it with --overwrite"
    try:
        return complete_record(dict(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError as error:
        raise ResumeError(
            output, f"{path}, which says what made it, is missing: {remedy}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ResumeError(
            output, f"{path} does not say what made it ({error}): {remedy}"
        ) from error


def recorded_values(outputs: Sequence[Path], name: str) -> set[Any]:
    """Return the values of a setting, other than none, that the records of some files have."""
    found = set()
    for output in outputs:
        with suppress(ResumeError):
            found.add(earlier_record(output).get(name))
    return found - {None}


def complete_record(record: dict[str, Any]) -> dict[str, Any]:
    """Add what earlier versions did not record; their files had no column for the decision."""
    if "columns" in record:
        return record
    topk = record.get("topk")
    columns = early_columns(topk) if isinstance(topk, int) else []
    return {**record, "columns": columns, "threshold": record.get("threshold") or None}


def early_columns(topk: int) -> list[str]:
    """Return the columns of the files of versions that did not record them."""
    classes = [name for rank in range(1, topk + 1) for name in class_names(rank)]
    times = ["decode_ms", "preprocess_ms", "forward_ms"]
    return ["path", "status", *classes, *times, "batch_size", "error"]


def check_same(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to append to rows that were made with other settings.

    Args:
        output: a result file with rows.
        before: the record of the run that made them.
        now: what decides the rows of this run; other entries of ``before`` are ignored.

    Raises:
        ResumeError: lists every setting that differs.
    """
    recorded = {name: before.get(name, BEFORE.get(name)) for name in now}
    found = list(record_differences(recorded, now))
    if found:
        raise ResumeError(
            output,
            f"made with other settings: {'; '.join(found)}: use the same, or replace it with "
            "--overwrite",
        )


def record_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Yield what differs between two records, and how."""
    for name in sorted(before.keys() | now.keys()):
        key = f"{at}{name}"
        old, new = before.get(name), json.loads(json.dumps(now.get(name)))
        if key in FREE or old == new:
            continue
        if key == "columns":
            yield columns_that_differ(old or (), new)
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from record_differences(old, new, f"{key}.")
        elif isinstance(old, list) and isinstance(new, list):
            yield f"{key} {first_that_differs(old, new)}"
        else:
            advice = f" ({ADVICE[key]})" if key in ADVICE and old and new else ""
            yield f"{key} {short_value(old)} there, {short_value(new)} now{advice}"


def columns_that_differ(old: Collection[str], new: Collection[str]) -> str:
    """Describe the columns that one of two files lacks, or their order."""
    missing, extra = ([n for n in one if n not in other] for one, other in ((new, old), (old, new)))
    parts = [f"no column {', '.join(missing)} there"] * bool(missing)
    parts += [f"column {', '.join(extra)} there, not now"] * bool(extra)
    return ", ".join(parts) or "columns in another order there"


def first_that_differs(old: list[Any], new: list[Any]) -> str:
    """Describe the first difference between two lists."""
    for number, (one, other) in enumerate(zip(old, new, strict=False)):
        if one != other:
            return f"{number} {short_value(one)} there, {short_value(other)} now"
    return f"{len(old)} there, {len(new)} now"


def short_value(value: object) -> str:
    """Return a value as text, shortened if it is long."""
    text = escape_unprintable("nothing" if value is None else str(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
