"""A network, and images if wanted -> how fast it runs here: rows, a verdict, files.

This module has the options, the rows and the result; ``sweep`` measures them.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from resnet_cli.benchmark.rows import BEFORE, ROW_KEYS, BenchmarkRow, fastest_row
from resnet_cli.benchmark.timing import Effort
from resnet_cli.errors import InputError, OptionError, OutputError
from resnet_cli.files import check_new_files, naming_output, write_text_file
from resnet_cli.runtimes import PRECISIONS, RUNTIMES
from resnet_cli.sources import FindOptions

RANGES = {
    "batch_sizes": (1, 10**9),  # no machine holds more, and torch counts no further than 2^63
    "workers": (1, 1024),
    "img_size": (32, 16384),
    "warmup": (0, 10**9),
    "iterations": (1, 10**9),
    "percentiles": (0, 100),
}
"""The least and the most that an option, or each of its values, may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """What ``run_benchmark`` measures, and how.

    There is a row for each runtime, precision, batch size and mode.

    Raises:
        OptionError: a value that no machine can measure.
    """

    device: str = "auto"  # cpu, cuda, cuda:1, mps
    batch_sizes: Sequence[int] = (1, 8, 32)
    runtimes: Sequence[str] | None = None  # of RUNTIMES; None: torch, or that of an exported file
    precisions: Sequence[str] | None = (
        None  # of PRECISIONS; None: fp32, or that of an exported file
    )
    compile: bool = False
    workers: int | None = None  # CPU threads: streams on the CPU, decoders for a GPU; None: cores
    img_size: int | None = None  # pixels of a side; None: 224, or those of an exported file
    images: str | Path | None = None  # an INPUT, to measure from files to labels too
    find: FindOptions = field(default_factory=FindOptions)  # what to take of ``images``
    warmup: int = 3  # passes of each stream that are not counted
    duration: float = 3.0  # seconds per row
    iterations: int | None = None  # passes of each stream, in place of seconds
    percentiles: Sequence[float] = (50, 90, 99)  # 0 to 100, of the latency of a batch

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("batch_sizes", "runtimes", "precisions", "percentiles"):
            if getattr(self, name) is not None and not getattr(self, name):
                raise OptionError(f"{name} must not be empty")
        check_names("runtime", self.runtimes or (), RUNTIMES)
        check_names("precision", self.precisions or (), PRECISIONS)
        if not (isfinite(self.duration) and self.duration > 0):
            raise OptionError(f"duration must be a number of seconds above 0, got {self.duration}")
        for name, (least, most) in RANGES.items():
            given = getattr(self, name)
            for value in given if isinstance(given, Sequence) else [given]:
                if value is not None and not least <= value <= most:
                    raise OptionError(f"{name} must be {least:,} to {most:,}, got {value}")

    @property
    def effort(self) -> Effort:
        """How long each row is measured."""
        return Effort(self.warmup, self.duration, self.iterations)

    @property
    def modes(self) -> tuple[str, ...]:
        """What is timed in each setting and batch size."""
        return ("forward",) if self.images is None else ("forward", "end-to-end")

    def record(self) -> dict[str, Any]:
        """Return the settings for JSON."""
        return {
            "device": self.device,
            "batch_sizes": list(self.batch_sizes),
            "runtimes": list(self.runtimes or ()),
            "precisions": list(self.precisions or ()),
            "compiled": self.compile,
            "workers": self.workers,
            "img_size": self.img_size,
            "images": None if self.images is None else str(self.images),
            "warmup": self.warmup,
            "duration": self.duration,
            "iterations": self.iterations,
            "percentiles": list(self.percentiles),
        }


def check_names(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        OptionError: lists those that are.
    """
    for name in names:
        if name not in known:
            raise OptionError(f"cannot use {kind} {name!r}: one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Everything that one benchmark measured."""

    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[BenchmarkRow, ...]
    verdict: str  # what limits the speed, and which option would change it

    @property
    def best(self) -> BenchmarkRow | None:
        """The fastest row, preferably end-to-end; None if nothing was measured."""
        return fastest_row(self.rows)

    def record(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "environment": self.environment,
            "settings": self.settings,
            "rows": [row.record() for row in self.rows],
            "verdict": self.verdict,
        }


def write_benchmark_json(result: BenchmarkResult, path: Path) -> None:
    """Write everything, the environment and the settings included."""
    write_text_file(path, json.dumps(result.record(), indent=2) + "\n")


def write_benchmark_csv(result: BenchmarkResult, path: Path) -> None:
    """Write the rows; each percentile has a column."""
    out = io.StringIO()
    percentiles = result.settings["percentiles"]
    latencies = [f"latency_ms_p{percent:g}" for percent in percentiles]
    names = [name for name in result.rows[0].record() if name != "latency_ms"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *latencies])
    for row in result.rows:
        record = row.record()
        times = [row.latency_ms.get(f"p{percent:g}") for percent in percentiles]
        writer.writerow([record[name] for name in names] + times)
    write_text_file(path, out.getvalue())


def write_benchmark_plot(result: BenchmarkResult, path: Path) -> None:
    """Draw the rows as a PNG."""
    from resnet_cli.benchmark.plot import plot_benchmark

    with naming_output(path):
        plot_benchmark(result, path)


BENCHMARK_FILES: dict[str, Callable[[BenchmarkResult, Path], None]] = {
    ".json": write_benchmark_json,
    ".csv": write_benchmark_csv,
    ".png": write_benchmark_plot,
}


def check_benchmark_outputs(paths: Sequence[Path], *, overwrite: bool = False) -> None:
    """Refuse files that ``save_benchmark`` could not write, before anything is measured.

    Raises:
        OutputError: an unknown suffix, a missing folder, an existing file, or one named twice.
    """
    check_new_files(((path, BENCHMARK_FILES) for path in paths), overwrite=overwrite)


def save_benchmark(result: BenchmarkResult, paths: Sequence[Path]) -> None:
    """Write a result into each file, in the format of its suffix; existing files are replaced.

    Raises:
        OutputError: for the first file that could not be written, once all others are.
    """
    errors = []
    for path in paths:
        try:
            BENCHMARK_FILES[path.suffix.lower()](result, path)
        except OutputError as error:
            errors.append(error)
    if errors:
        raise errors[0]


LARGEST_FILE = 16_000_000  # bytes; a thousand rows take a fortieth of that


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read the .json of an earlier benchmark.

    Raises:
        InputError: the file holds something else.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    try:
        record: Any = json.loads(data) if len(data) <= LARGEST_FILE else None
    except (ValueError, RecursionError):  # invalid JSON or Unicode, or a number of endless digits
        record = None
    if is_benchmark(record):
        return dict(record)
    raise InputError(
        f"cannot compare with {path}: it is not a .json that resnet-cli benchmark wrote"
    )


def is_benchmark(record: Any) -> bool:
    """Return True if an object has everything that a comparison needs, of the right types."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(part), dict) for part in ("environment", "settings"))
        and isinstance(record.get("rows"), list)
        and all(map(is_row_record, record["rows"]))
    )


def is_row_record(row: Any) -> bool:
    """Return True if an object is the record of a row."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("model"), str)
        and all(type((BEFORE | row).get(key)) is kind for key, kind in ROW_KEYS.items())
        and "images_per_second" in row
        and is_speed(row["images_per_second"])
    )


def is_speed(value: Any) -> bool:
    """Return True for a speed, or None where nothing was measured."""
    if value is None:
        return True
    try:
        return type(value) in (int, float) and isfinite(value) and value > 0
    except OverflowError:  # an integer larger than any float
        return False
