"""One run of ``benchmark``: each row as soon as there is one, then the files and what it means."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_cli.benchmark import Benchmark, BenchmarkSettings, Row
from resnet_cli.benchmark.compare import compare_settings, rows_with_speed
from resnet_cli.benchmark.formats import (
    benchmark_csv,
    benchmark_json,
    choose_columns,
    header_line,
    row_line,
)
from resnet_cli.benchmark.subject import describe_environment
from resnet_cli.benchmark.sweep import measure_sweep
from resnet_cli.benchmark.verdict import Choices, state_verdict
from resnet_cli.checkpoint import Checkpoint
from resnet_cli.cli.process import echo
from resnet_cli.cli.terminal import above_the_bar, print_note, progress_bar, say_left_out
from resnet_cli.errors import OutputError
from resnet_cli.files import check_new_files, naming_output, write_text_file
from resnet_cli.system import available_cores
from resnet_cli.text import amount

WIDE = 200  # characters, where stdout is no terminal and COLUMNS is not set


def write_json(result: Benchmark, path: Path) -> None:
    """Write everything."""
    write_text_file(path, benchmark_json(result))


def write_csv(result: Benchmark, path: Path) -> None:
    """Write the rows."""
    write_text_file(path, benchmark_csv(result))


def write_png(result: Benchmark, path: Path) -> None:
    """Draw the rows."""
    from resnet_cli.benchmark.plot import plot_benchmark

    plot_benchmark(result, path)


FILES: dict[str, Callable[[Benchmark, Path], None]] = {
    ".json": write_json,
    ".csv": write_csv,
    ".png": write_png,
}


def check_benchmark_outputs(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse, before anything is measured, what could not be written.

    Raises:
        OutputError: an unknown suffix, no folder, a file that is there, or one named twice.
    """
    check_new_files(((path, FILES) for path in outputs), overwrite=overwrite)


def run_benchmark(
    checkpoint: Checkpoint,
    settings: BenchmarkSettings,
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
    where = describe_environment(settings.runtime, settings.workers)
    print_note(
        f"{checkpoint.model} on {where['device']}, {amount(settings.workers, 'worker')}, "
        f"torch {where['torch']}"
    )
    now = {"environment": where, "settings": settings.record()}
    for difference in () if earlier is None else compare_settings(now, checkpoint.model, earlier):
        print_note(f"not the same, {difference}", "Warning")
    rows: list[Row] = []
    try:
        show_rows(rows, checkpoint, settings, earlier, progress)
    except (KeyboardInterrupt, SystemExit):
        print_note(state_conclusion(rows, settings))
        raise
    finally:
        said = state_conclusion(rows, settings)
        if rows:
            write_benchmark(Benchmark(**now, rows=tuple(rows), verdict=said), outputs)
    echo(said)


def show_rows(
    rows: list[Row],
    checkpoint: Checkpoint,
    settings: BenchmarkSettings,
    earlier: Mapping[str, Any] | None,
    progress: str,
) -> None:
    """Measure row after row into ``rows``."""
    before = None if earlier is None else rows_with_speed(earlier)
    width = shutil.get_terminal_size(fallback=(WIDE, 24)).columns
    shown, left_out = choose_columns(settings.percentiles, before, width)
    echo(header_line(shown))
    say_left_out(left_out, width)
    with progress_bar(settings.total, progress, unit="row") as bar:
        for row in measure_sweep(checkpoint, settings):
            rows.append(row)
            with above_the_bar():
                echo(row_line(shown, row))
            bar.update()


def state_conclusion(rows: Sequence[Row], settings: BenchmarkSettings) -> str:
    """The verdict, and whether it is on all that was to be measured."""
    if not rows:
        return "nothing was measured"
    options = Choices(
        compiling=precisions_to_compile(settings),
        workers=settings.workers,
        cores=available_cores(),
        bf16="bf16" in settings.runtime.precisions,
        on_workers_cores=settings.runtime.on_workers_cores,
    )
    said = state_verdict(rows, options)
    if len(rows) == settings.total:
        return said
    return f"stopped after {len(rows)} of {settings.total} rows; {said}"


def precisions_to_compile(settings: BenchmarkSettings) -> frozenset[str]:
    """Return the precisions in which ``--compile``, which was not given, would be faster."""
    if settings.compiled:
        return frozenset()
    return frozenset(filter(settings.runtime.compiling_pays, settings.precisions))


def write_benchmark(result: Benchmark, outputs: Sequence[Path]) -> None:
    """Write every file that can be written.

    Raises:
        OutputError: the first that could not.
    """
    errors = [error for path in outputs if (error := write_or_complain(result, path)) is not None]
    for error in errors:
        raise error


def write_or_complain(result: Benchmark, path: Path) -> OutputError | None:
    """Write one file, whole or not at all, and return why it could not be."""
    try:
        with naming_output(path):
            FILES[path.suffix.lower()](result, path)
    except OutputError as error:
        return error
    return None
