"""One run of ``predict``: results to stdout and files, a report of it to stderr."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_cli.classifier import IMAGENET_COLOURS, Classifier
from resnet_cli.cli.destinations import Destinations
from resnet_cli.cli.signals import unbroken
from resnet_cli.cli.terminal import above_the_bar, print_note, print_on_stderr, progress_bar
from resnet_cli.errors import ImageError, UserError
from resnet_cli.records import Prediction
from resnet_cli.results import RESUMABLE
from resnet_cli.results.files.outputs import Output, keep_manifests, read_resumed
from resnet_cli.run.manifest import Fingerprint, Record
from resnet_cli.run.plan import Plan
from resnet_cli.run.tally import Tally
from resnet_cli.run.verify import verify_classifier
from resnet_cli.sources import Inputs, find_inputs
from resnet_cli.sources.folders import Sieve
from resnet_cli.system import available_cores
from resnet_cli.text import amount, first_few

MOST_SUGGESTED = 20  # class names


def find_images(
    inputs: Sequence[str], files: Sequence[Path], *, hidden: bool, exclude: Sequence[str]
) -> Inputs:
    """Find the images of a run that writes ``files``, and say what was passed over.

    Raises:
        InputError: nothing was found, or one of the files.
    """
    found = find_inputs(inputs, Sieve(hidden, exclude))
    for sentence in found.notes if found.total is not None else ():
        print_note(sentence)
    return found.without([str(file) for file in files]) if files else found


def run_prediction(
    classifier: Classifier,
    found: Inputs,
    destinations: Destinations,
    *,
    workers: int | None,
    progress: str,
    **settings: Any,
) -> int:
    """Classify the images that were found, and report on it.

    Args:
        classifier: loaded and ready.
        found: the images.
        destinations: where the results go.
        workers: threads; None takes all cores.
        progress: ``auto``, ``on`` or ``off``.
        settings: further arguments of ``Classifier.predict``.

    Returns:
        How many rows, also of earlier runs, are of pictures that could not be read.
    """
    classifier.checkpoint.release()
    threads = workers or available_cores()
    tally = Tally(threads, on_cpu=classifier.runtime.on_workers_cores)
    record = Record(classifier, tally, destinations.options.topk, settings["threshold"])
    found = pin_inputs(found, record.inputs)
    plan, left = plan_run(found, destinations, record)
    predictions = classifier.predict(
        left,
        topk=destinations.topk,
        workers=threads,
        thumbnails=destinations.want_thumbnails,
        **settings,
    )
    earlier = 0 if found.total is None or left.total is None else found.total - left.total
    on = way_on(destinations.paths, overwrite=destinations.options.overwrite)
    opened: list[Output] = []
    with (
        saying_how_far(tally, found.total, earlier=earlier, on=on),
        saying_what_is_held(opened),
        keep_manifests(record, record.stop) as begin,
        destinations.telling(record, found.paths).open(plan.saved) as (outputs, drawings),
        progress_bar(found.total, progress, initial=earlier) as bar,
        closing(predictions),
    ):
        opened += outputs
        begin(outputs)
        writes = [*drawings, destinations.to_stdout(earlier, found.total)]
        for prediction in predictions:
            keep_row(prediction, tally, outputs, plan)
            with above_the_bar():
                for write in writes:
                    write(prediction)
            bar.update()
        record.finish()
    if found.total is None:
        say_of_stream(found, plan)
    report_run(classifier, tally, record.seconds)
    return say_errors(tally.errors + errors_before(outputs, tally.errors), destinations)


def say_errors(errors: int, destinations: Destinations) -> int:
    """Say where the error rows are listed, and return how many there are."""
    if errors:
        print_note(f"{amount(errors, 'error')}: {destinations.errors_listed}")
    return errors


def plan_run(found: Inputs, destinations: Destinations, record: Record) -> tuple[Plan, Inputs]:
    """Find out what is left to do where files are resumed, and say it.

    Raises:
        UserError: a file cannot be resumed.
    """
    plan = Plan(read_resumed(destinations.resumed, record.decisive))
    left = plan.remaining(found)
    if destinations.resume:
        explain_resume(destinations.files, plan, left)
    return plan, left


def pin_inputs(found: Inputs, fingerprint: Fingerprint) -> Inputs:
    """Take the fingerprint of the inputs: at once, or of a stream as they come."""
    paths = fingerprint.through(found.paths)
    return replace(found, paths=paths if found.total is None else list(paths))


def keep_row(prediction: Prediction, tally: Tally, outputs: Sequence[Output], plan: Plan) -> None:
    """Count a row and write it to each file that has not got it, all of it before a signal ends."""
    with unbroken():
        tally.add(prediction)
        for output, wanted in zip(outputs, plan.next(len(outputs)), strict=True):
            if wanted:
                output.add(prediction)


def errors_before(outputs: Sequence[Output], errors: int) -> int:
    """Count the error rows of earlier runs, and say that they are there."""
    before = max([errors, *(output.all_errors for output in outputs)]) - errors
    if before:
        print_note(f"{amount(before, 'error row')} of earlier runs in the files")
    return before


@contextmanager
def saying_how_far(
    tally: Tally, total: int | None, *, earlier: int = 0, on: str = ""
) -> Iterator[None]:
    """Say how far a run has come that a signal ends.

    Args:
        tally: of this run.
        total: of all pictures; None while nobody knows.
        earlier: pictures that have rows of earlier runs.
        on: how to go on, or what there is.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        images = "images" if total is None else f"of {total:,} images"
        print_note(f"stopped after {earlier + tally.images:,} {images}{on}")
        raise


@contextmanager
def saying_what_is_held(outputs: Sequence[Output]) -> Iterator[None]:
    """Say how many rows each file has when a signal or an unreadable image ends a run."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, ImageError):
        for output in outputs:
            print_note(f"{output.path} holds {amount(output.saved.rows + output.rows, 'row')}")
        raise


def way_on(paths: Sequence[Path], *, overwrite: bool) -> str:
    """Say how to go on with files that a signal has cut short."""
    others = [path.name for path in paths if path.suffix.lower() not in RESUMABLE]
    if len(others) == len(paths):
        return ""
    instead = " in place of --overwrite" if overwrite else ""
    without = f", without {', '.join(others)}" if others else ""
    return f": to continue, run the same command with --resume{instead}{without}"


def explain_resume(files: Sequence[Path], plan: Plan, left: Inputs) -> None:
    """Say what each file holds, and how much is left.

    Raises:
        UserError: names every file that has nothing to do with the inputs.
    """
    if left.total is not None and not left.listed:
        refuse_foreign(files, plan)
    for file, saved in zip(files, plan.saved, strict=True):
        errors = f", {amount(saved.errors, 'error')} among them" if saved.errors else ""
        print_note(f"{file} holds {amount(saved.rows, 'row')}{errors}")
        if saved.damage:
            print_note(f"the end of {file} was incomplete and will be redone: {saved.damage}")
    if left.total is not None:
        print_note("no images left" if not left.total else f"{amount(left.total, 'image')} left")
        say_vanished(plan)


def refuse_foreign(files: Sequence[Path], plan: Plan) -> None:
    """Refuse files without a row of these inputs.

    Raises:
        UserError: names them.
    """
    foreign = [
        f"{file}: none of its {saved.rows:,} rows is of these inputs"
        for file, saved in zip(files, plan.saved, strict=True)
        if saved.rows and saved.untaken == saved.rows
    ]
    if foreign:
        raise UserError(
            f"cannot resume {'; '.join(foreign)}: run it in the same folder with the same INPUT, "
            "or replace it with --overwrite"
        )


def say_of_stream(found: Inputs, plan: Plan) -> None:
    """Say what is known of a stream only once it has ended."""
    say_vanished(plan)
    for sentence in found.notes:
        print_note(sentence)


def say_vanished(plan: Plan) -> None:
    """Say how many rows are of pictures that are gone."""
    if plan.vanished:
        rows, images = (amount(plan.vanished, noun) for noun in ("row", "image"))
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


def suggest_names(classifier: Classifier, found: Inputs) -> None:
    """Suggest the names of the images' folders as class names, where there are no others."""
    classes = classifier.checkpoint.classes
    if not classes.made_up or found.total is None:
        return
    folders = {Path(path).absolute().parent.name for path in found.paths}
    if len(folders) == len(classes.names) <= MOST_SUGGESTED and not any("," in n for n in folders):
        names = shlex.quote(",".join(sorted(folders)))
        print_note(f"--classes {names} may fit (the names of the folders; check the order)")


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


def verify_first(classifier: Classifier, found: Inputs, count: int) -> Inputs:
    """Compare the first images against plain fp32 on the CPU.

    Raises:
        UserError: a label differs.
    """
    first, everything = found.peek(count)
    result = verify_classifier(classifier, first)
    print_note(
        f"verified {amount(result.images, 'image')} against plain fp32 on the CPU: largest "
        f"difference of probability {result.largest_difference:.1e}, "
        f"{amount(len(result.flips), 'top-1 flip')}"
    )
    if result.flips:
        raise UserError(
            f"another label than plain fp32 on the CPU: {', '.join(map(str, result.flips))}: "
            "try --exact, or --precision fp32"
        )
    return everything
