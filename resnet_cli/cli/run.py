"""Reports of a run on the terminal: what it found and loaded, how far it came, what limits it."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from resnet_cli.classifier import IMAGENET_COLOURS, Classifier
from resnet_cli.cli.loading import Load
from resnet_cli.cli.options import refuse_checkpoints
from resnet_cli.cli.process import echo
from resnet_cli.cli.terminal import (
    StandardOutput,
    above_the_bar,
    bar_wanted,
    draw_progress,
    print_note,
    print_on_stderr,
    progress_bar,
)
from resnet_cli.errors import ImageError
from resnet_cli.results.formats import format_of
from resnet_cli.run import Run
from resnet_cli.run.calibrate import calibrate_for_run
from resnet_cli.run.manifest import Destinations
from resnet_cli.run.tally import Tally, note_interruption
from resnet_cli.run.verify import Forecast, forecast_run, suggest_class_names, verify_first
from resnet_cli.sources import FindOptions, Inputs, find_inputs
from resnet_cli.text import amount, duration_words, escape_unprintable, first_few


def load_and_find(
    load: Load,
    inputs: Sequence[str],
    files: Sequence[Path],
    *,
    find: FindOptions,
    calibration: Sequence[str],
    resumed: Sequence[Path],
    verify: int,
    progress: str,
) -> tuple[Classifier, Inputs]:
    """Find the images of a run and load its classifier, and report on both.

    Args:
        load: loads the classifier.
        inputs: as typed.
        files: that will be written.
        find: what to take in folders, globs and lists.
        calibration: inputs to calibrate int8 on; none takes some of ``inputs``.
        resumed: result files that the run continues.
        verify: images to compare against plain fp32 on the CPU first.
        progress: ``auto``, ``on`` or ``off``.

    Raises:
        InputError: nothing was found, or one of the files.
        UserError: a label differs from that of plain fp32.
    """
    refuse_checkpoints(inputs)
    found = find_inputs(inputs, find)
    for sentence in found.notes if found.total is not None else ():
        print_note(sentence)
    if files:
        found = found.without(list(map(str, files)))
    classifier = load(progress=bar_wanted(progress))
    describe_classifier(classifier)
    for sentence in suggest_class_names(classifier, found.folder_names):
        print_note(sentence)
    given = find_inputs(calibration, replace(find, boxes=())) if calibration else None
    classifier, found = calibrate_for_run(classifier, found, given, resumed=resumed)
    return classifier, verify_first(classifier, found, verify) if verify else found


def report_rows(run: Run, stdout: StandardOutput, *, progress: str) -> int:
    """Do a run, with its rows on stdout and a report of it on stderr.

    Args:
        run: planned.
        stdout: what goes there.
        progress: ``auto``, ``on`` or ``off``.

    Returns:
        The error rows, also of earlier runs in the files.
    """
    explain_resume(run)
    total, destinations = run.inputs.total, run.destinations
    rest = way_to_continue(destinations.paths, overwrite=destinations.options.overwrite)
    with (
        note_interruption(run.tally, total, earlier=run.earlier, rest=rest),
        saying_what_is_held(run),
        progress_bar(total, progress, initial=run.earlier) as bar,
        closing(run.rows()) as rows,
    ):
        write = stdout.writer(run.earlier, total)
        for prediction in rows:
            with above_the_bar():
                write(prediction)
            bar.update()
    if total is None:
        report_stream(run)
    report_run(run.classifier, run.tally, run.record.seconds)
    report_errors(run, stdout)
    return run.errors


def report_errors(run: Run, stdout: StandardOutput) -> None:
    """Say how many rows are errors, and where they are listed."""
    before = run.errors - run.tally.errors
    if before:
        print_note(f"{amount(before, 'error row')} of earlier runs in the files")
    if run.errors:
        print_note(f"{amount(run.errors, 'error')}: {where_errors_are(run.destinations, stdout)}")


def where_errors_are(destinations: Destinations, stdout: StandardOutput) -> str:
    """Say where the images that could not be read are listed."""
    formats = {path: format_of(path) for path in destinations.files}
    tables = [path for path, each in formats.items() if not each.thumbnails]
    pages = [path for path, each in formats.items() if each.thumbnails and not each.grid]
    if tables:
        return f"see the rows with status error in {tables[0]}"
    if pages:
        return f"see {pages[0]}"
    return stdout.error_words


@contextmanager
def saying_what_is_held(run: Run) -> Iterator[None]:
    """Say how many rows each file has when a signal or an unreadable image ends a run."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, ImageError):
        for output in run.outputs:
            print_note(f"{output.path} holds {amount(output.all_rows, 'row')}")
        raise


def way_to_continue(paths: Sequence[Path], *, overwrite: bool) -> str:
    """Say how to continue files that a signal has cut short."""
    others = [path.name for path in paths if not format_of(path).resumable]
    if len(others) == len(paths):
        return ""
    instead = " in place of --overwrite" if overwrite else ""
    without = f", without {', '.join(others)}" if others else ""
    return f": to continue, run the same command with --resume{instead}{without}"


def explain_resume(run: Run) -> None:
    """Say what each file that is resumed holds, and how much is left."""
    if not run.destinations.resume:
        return
    for file, saved in zip(run.destinations.files, run.plan.saved, strict=True):
        errors = f", {amount(saved.errors, 'error')} among them" if saved.errors else ""
        print_note(f"{file} holds {amount(saved.rows, 'row')}{errors}")
        if saved.damage:
            print_note(f"the end of {file} was incomplete and will be redone: {saved.damage}")
    left = run.left.total
    if left is not None:
        print_note("no images left" if not left else f"{amount(left, 'image')} left")
        report_vanished(run)
        report_changed(run)


def report_stream(run: Run) -> None:
    """Say what is known of a stream only once it has ended."""
    report_vanished(run)
    report_changed(run)
    for sentence in run.inputs.notes:
        print_note(sentence)


def report_changed(run: Run) -> None:
    """Say that some inputs are not as in an earlier run, whose rows stay."""
    then, now = run.inputs_then, run.record.inputs.inputs
    if then is None:
        return
    what = "some changed since" if then == now else f"{then:,} then, {now:,} now"
    print_note(
        f"the inputs are not those of the earlier run ({what}, by path, size, time or ETag): its "
        "rows stay as they are: use --overwrite to replace them"
    )


def report_vanished(run: Run) -> None:
    """Say how many rows are of images that are missing now."""
    if run.plan.vanished:
        rows, images = (amount(run.plan.vanished, noun) for noun in ("row", "image"))
        print_note(f"kept {rows} of earlier runs: {images} no longer among the inputs")


def describe_classifier(classifier: Classifier) -> None:
    """Say which checkpoint, class names and preprocessing were taken, and why."""
    checkpoint = classifier.checkpoint
    facts = ", ".join([checkpoint.model, *checkpoint.whereabouts])
    print_note(f"checkpoint {checkpoint.path} ({classifier.reason}): {facts}")
    for sentence in checkpoint.notes:
        print_note(sentence)
    names = classifier.class_names
    print_note(f"{len(names):,} classes: {first_few(names)} ({checkpoint.classes.source})")
    preprocess = classifier.preprocess
    usual = (preprocess.mean, preprocess.std) == IMAGENET_COLOURS
    settings = preprocess.words if usual else f"{preprocess.words}, {preprocess.numbers}"
    print_note(f"preprocessing: {settings} ({classifier.preprocess_source})")


def report_run(classifier: Classifier, tally: Tally, seconds: float) -> None:
    """Say how long it took and what limited it."""
    device = classifier.runtime.description
    print_on_stderr(
        f"{device}, {classifier.precision}, {amount(tally.workers, 'worker')}: "
        f"{amount(tally.images, 'image')}, {amount(tally.errors, 'error')} in {seconds:.2f} s: "
        f"{tally.images / seconds:.1f} images/s"
    )
    if tally.warnings:
        print_note(f"{amount(tally.warnings, 'image')} with a warning: see the rows")
    if tally.images:
        means = ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in tally.means().items())
        print_on_stderr(f"per image: {means}: {tally.limit(seconds)}")


def report_forecast(run: Run, stdout: StandardOutput, *, progress: str) -> int:
    """Try a sample of a run, and report on the whole of it.

    Returns:
        The images of the sample that could not be read.
    """
    explain_resume(run)
    with draw_progress(None, progress) as show:
        forecast = forecast_run(run, progress=show)
    for line in (
        *describe_forecast(forecast),
        *describe_places(run, stdout),
        "dry run: nothing was written",
    ):
        echo(line)
    return forecast.errors


def describe_forecast(forecast: Forecast) -> Iterator[str]:
    """Say how many images there are, and how long they would take."""
    yield f"images: {'as many as come' if forecast.images is None else f'{forecast.images:,}'}"
    if forecast.tried:
        yield f"tried: {amount(forecast.tried, 'image')}, {amount(forecast.errors, 'error')}"
    if forecast.seconds:
        rate = f"{1 / forecast.seconds:.1f} images/s"
        total = ""
        if forecast.images is not None:
            total = f"about {duration_words(forecast.seconds * forecast.images)}, at "
        yield f"time: {total}{rate} with {amount(forecast.workers, 'worker')}"


def describe_places(run: Run, stdout: StandardOutput) -> Iterator[str]:
    """Say where the run would write, and what would become of the files that exist."""
    for number, path in enumerate(run.destinations.paths):
        if not path.exists():
            becomes = "new"
        elif run.destinations.resume:
            becomes = f"continued after {amount(run.plan.saved[number].rows, 'row')}"
        else:
            becomes = "replaced"
        yield escape_unprintable(f"writes: {path} ({becomes})")
    if not stdout.quiet:
        yield f"writes: stdout ({stdout.format})"
