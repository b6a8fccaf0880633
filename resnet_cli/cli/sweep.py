"""One run of ``benchmark``: each row as soon as there is one, then the files and what it means."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_cli.benchmark import Benchmark, Row, Settings
from resnet_cli.benchmark.compare import differences, measured
from resnet_cli.benchmark.formats import as_csv, as_json, columns, header, row_line
from resnet_cli.benchmark.subject import environment
from resnet_cli.benchmark.sweep import measure
from resnet_cli.benchmark.verdict import Options, verdict
from resnet_cli.checkpoint import Checkpoint
from resnet_cli.cli.stdio import echo
from resnet_cli.cli.terminal import above_the_bar, note, progress_bar, say_left_out
from resnet_cli.errors import OutputError, OutputNameError
from resnet_cli.results import check_new, saying
from resnet_cli.runtimes import PRECISIONS, has_units
from resnet_cli.runtimes.fusion import fusable
from resnet_cli.runtimes.winograd import saves
from resnet_cli.system import available_cores
from resnet_cli.text import amount

WIDE = 200  # characters, where stdout is no terminal and COLUMNS is not set


def write_json(result: Benchmark, path: Path) -> None:
    """Write everything."""
    path.write_text(as_json(result), encoding="utf-8")


def write_csv(result: Benchmark, path: Path) -> None:
    """Write the rows."""
    path.write_text(as_csv(result), encoding="utf-8")


def write_png(result: Benchmark, path: Path) -> None:
    """Draw the rows."""
    from resnet_cli.benchmark.plot import plot

    plot(result, path)


FILES: dict[str, Callable[[Benchmark, Path], None]] = {
    ".json": write_json,
    ".csv": write_csv,
    ".png": write_png,
}


def check_outputs(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse, before anything is measured, what could not be written.

    Raises:
        OutputError: an unknown suffix, no folder, a file that is there, or one named twice.
    """
    taken: set[Path] = set()
    for path in outputs:
        if path.suffix.lower() not in FILES:
            raise OutputNameError(
                f"cannot write {path}: the suffix must be one of {', '.join(FILES)}"
            )
        if path.resolve() in taken:
            raise OutputNameError(f"cannot write {path} twice: name each output once")
        taken.add(path.resolve())
        check_new(path, overwrite=overwrite)


def run(
    checkpoint: Checkpoint,
    settings: Settings,
    outputs: Sequence[Path],
    *,
    earlier: Mapping[str, Any] | None,
    progress: str,
) -> None:
    """Measure, and show each row as soon as there is one.

    The rows that there are when a run is cut short are written as well.

    Args:
        checkpoint: the network.
        settings: what is measured.
        outputs: files.
        earlier: a run to compare with.
        progress: ``auto``, ``on`` or ``off``.
    """
    where = environment(settings.device, settings.workers)
    note(
        f"{checkpoint.model} on {where['device']}, {amount(settings.workers, 'worker')}, "
        f"torch {where['torch']}"
    )
    now = {"environment": where, "settings": settings.record()}
    for difference in () if earlier is None else differences(now, checkpoint.model, earlier):
        note(f"not the same, {difference}", "Warning")
    rows: list[Row] = []
    try:
        show(rows, checkpoint, settings, earlier, progress)
    except (KeyboardInterrupt, SystemExit):
        note(conclusion(rows, settings))
        raise
    finally:
        said = conclusion(rows, settings)
        if rows:
            write(Benchmark(**now, rows=tuple(rows), verdict=said), outputs)
    echo(said)


def show(
    rows: list[Row],
    checkpoint: Checkpoint,
    settings: Settings,
    earlier: Mapping[str, Any] | None,
    progress: str,
) -> None:
    """Measure row after row into ``rows``."""
    before = None if earlier is None else measured(earlier)
    width = shutil.get_terminal_size(fallback=(WIDE, 24)).columns
    shown, left_out = columns(settings.percentiles, before, width)
    echo(header(shown))
    say_left_out(left_out, width)
    with progress_bar(settings.total, progress, unit="row") as bar:
        for row in measure(checkpoint, settings):
            rows.append(row)
            with above_the_bar():
                echo(row_line(shown, row))
            bar.update()


def conclusion(rows: Sequence[Row], settings: Settings) -> str:
    """The verdict, and whether it is on all that was to be measured."""
    if not rows:
        return "nothing was measured"
    options = Options(
        compiling=compiling(settings),
        workers=settings.workers,
        cores=available_cores(),
        bf16=has_units(settings.device, "bf16"),
    )
    said = verdict(rows, options)
    if len(rows) == settings.total:
        return said
    return f"stopped after {len(rows)} of {settings.total} rows; {said}"


def compiling(settings: Settings) -> frozenset[str]:
    """Precisions in which ``--compile``, which was not given, would be faster.

    On the CPU a fused network gains by it where its convolutions are Winograd's.
    """
    if settings.compiled:
        return frozenset()
    if settings.device.type != "cpu":
        return frozenset(settings.precisions)
    return frozenset(
        precision
        for precision in settings.precisions
        if saves(PRECISIONS[precision], compiled=True) or not fusable(PRECISIONS[precision])
    )


def write(result: Benchmark, outputs: Sequence[Path]) -> None:
    """Write every file that can be written.

    Raises:
        OutputError: the first that could not.
    """
    errors = [error for path in outputs if (error := complaint(result, path)) is not None]
    for error in errors:
        raise error


def complaint(result: Benchmark, path: Path) -> OutputError | None:
    """Write one file, whole or not at all, and return why it could not be."""
    place = path.resolve()  # a link stays one
    new = place.with_name(f".resnet-cli-{os.getpid()}.new")
    try:
        with saying(path):
            try:
                FILES[path.suffix.lower()](result, new)
                new.replace(place)
            finally:
                new.unlink(missing_ok=True)
    except OutputError as error:
        return error
    return None
