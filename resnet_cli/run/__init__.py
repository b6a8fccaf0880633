"""Items -> classifier -> rows in files: one run, new or resumed, with manifest and tally."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_cli.classifier import Classifier, PredictOptions
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Pause, Prediction, Progress
from resnet_cli.results import check_outputs
from resnet_cli.results.files.manifest import Output, keep_manifests, recorded_inputs
from resnet_cli.results.files.resume import SavedRows, read_resumed
from resnet_cli.results.options import COMMA, Dialect, WriterOptions
from resnet_cli.run.calibrate import calibrate_for_run
from resnet_cli.run.manifest import Destinations, Record, pin_inputs
from resnet_cli.run.tally import Tally
from resnet_cli.sources import Inputs
from resnet_cli.sources.in_memory import Source, inputs_of_source
from resnet_cli.sources.truth import folder_truth

Hold = Callable[[], AbstractContextManager[None]]


class Plan:
    """The items that are left, and which of several files lack a row for each of them."""

    def __init__(self, saved: Sequence[SavedRows]) -> None:
        """Begin with the rows that each file holds."""
        self.saved = saved
        self.wanted: deque[tuple[bool, ...]] = deque()  # of the items on their way
        self.kinds: dict[tuple[bool, ...], tuple[bool, ...]] = {}  # there are few of them

    def remaining(self, inputs: Inputs) -> Inputs:
        """Return the inputs without those that every file has a row for."""
        items = self.without_saved(inputs.items)
        if not self.saved:
            return inputs
        if inputs.total is None:
            return replace(inputs, items=items)
        left = list(items)
        return replace(inputs, items=left, total=len(left))

    def without_saved(self, items: Iterable[Item | Pause]) -> Iterator[Item | Pause]:
        """Yield what is left of a stream of items."""
        for item in items:
            if isinstance(item, Pause):
                yield item
                continue
            wanted = tuple(not saved.take(item.identity) for saved in self.saved)
            if any(wanted):
                self.wanted.append(self.kinds.setdefault(wanted, wanted))
                yield item

    def next(self, files: int) -> tuple[bool, ...]:
        """Return, for each file, whether it lacks a row for the next item; a new one lacks all."""
        return self.wanted.popleft() if self.saved else (True,) * files

    @property
    def vanished(self) -> int:
        """Return how many rows are of items that are no longer among the inputs."""
        return max((saved.untaken for saved in self.saved), default=0)


class Run:
    """A run of a classifier over items, planned and ready to begin.

    Attributes:
        classifier: loaded and ready.
        destinations: where the results go.
        options: how images are classified.
        inputs: all items, of which the manifests get a fingerprint.
        left: the items that are left to do.
        before: the fingerprint of all items in the record of each file that is resumed.
        plan: the rows of earlier runs in each file that is resumed.
        tally: counts and times so far.
        record: what made the results, as the manifests have it.
        outputs: the open files, once the run has begun.
    """

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        destinations: Destinations,
        options: PredictOptions,
        *,
        hold: Hold = nullcontext,
    ) -> None:
        """Plan a run; nothing is written yet.

        Args:
            classifier: loaded and ready.
            inputs: the items.
            destinations: where the results go.
            options: how images are classified.
            hold: surrounds the writing of a row, which a signal must not break.

        Raises:
            OutputError: a file cannot be resumed.
        """
        classifier.checkpoint.release()
        self.classifier = classifier
        self.destinations = destinations
        self.options = replace(
            options, topk=destinations.topk, thumbnails=destinations.want_thumbnails
        )
        self.hold = hold
        self.tally = Tally.of(classifier, options.threads)
        self.record = Record(classifier, self.tally, destinations.options.topk, options.threshold)
        self.inputs = pin_inputs(inputs, self.record.inputs)
        resumed = destinations.resumed
        self.before = [recorded_inputs(path) for path in resumed]
        # which takes the hash of the checkpoint: a tenth of the time of a single image
        self.plan = Plan(read_resumed(resumed, self.record.decisive) if resumed else [])
        self.left = self.plan.remaining(self.inputs)
        self.outputs: list[Output] = []
        if destinations.resume and self.left.total is not None and not self.left.listed:
            refuse_foreign_rows(destinations.files, self.plan)

    @property
    def earlier(self) -> int:
        """Return how many items have rows of earlier runs in every file."""
        if self.inputs.total is None or self.left.total is None:
            return 0
        return self.inputs.total - self.left.total

    @property
    def inputs_then(self) -> int | None:
        """Return how many inputs an earlier run had, if they were not the same as now.

        They differ by what is listed, or by the size, time or ETag of one. None as well while
        either is unknown.
        """
        now = self.record.inputs.record()
        others = [one for one in self.before if one is not None and now is not None and one != now]
        return others[0].get("files") if others else None

    @property
    def errors(self) -> int:
        """Return the error rows, also of earlier runs in the files."""
        return max([self.tally.errors, *(output.all_errors for output in self.outputs)])

    def rows(self) -> Generator[Prediction]:
        """Classify what is left, and write each row to the files before yielding it.

        Raises:
            ImageError: an unreadable image, with ``on_error="fail"``.
            OutputError: a file cannot be written.
        """
        destinations = self.destinations.describing(self.record, self.inputs)
        with (
            keep_manifests(self.record, self.record.stop) as begin,
            destinations.open(self.plan.saved) as (outputs, drawings),
            closing(self.classifier.classify(self.left, self.options)) as predictions,
        ):
            self.outputs += outputs
            begin(outputs)
            for prediction in predictions:
                self.keep(prediction)
                for draw in drawings:
                    draw(prediction)
                yield prediction
            self.record.finish()

    def keep(self, prediction: Prediction) -> None:
        """Count a row and write it to each file that lacks it."""
        with self.hold():
            self.tally.add(prediction)
            for output, lacks in zip(self.outputs, self.plan.next(len(self.outputs)), strict=True):
                if lacks:
                    output.add(prediction)

    def result(self) -> "RunResult":
        """Return what the run has done so far."""
        return RunResult(
            images=self.tally.images,
            errors=self.tally.errors,
            earlier=self.earlier,
            seconds=self.record.seconds,
            rows={output.path: output.all_rows for output in self.outputs},
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has done."""

    images: int  # items of this run, readable or not
    errors: int  # of those, unreadable ones
    earlier: int  # items that earlier runs had done
    seconds: float
    rows: dict[Path, int]  # in each file, also of earlier runs


def refuse_foreign_rows(files: Sequence[Path], plan: Plan) -> None:
    """Refuse to resume files without a row of these inputs.

    Raises:
        OutputError: names them.
    """
    foreign = [
        f"{file}: none of its {saved.rows:,} rows is of these inputs"
        for file, saved in zip(files, plan.saved, strict=True)
        if saved.rows and saved.untaken == saved.rows
    ]
    if foreign:
        raise OutputError(
            f"cannot resume {'; '.join(foreign)}: run it in the same folder with the same INPUT, "
            "or replace it with --overwrite"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How result files are written.

    Raises:
        OutputError: it would both resume and replace them.
    """

    resume: bool = False  # continue files that are there: their rows stay
    overwrite: bool = False  # replace files that are there
    grid_size: tuple[int, int] = (4, 4)  # rows and columns of a page
    report_limit: int = 10_000  # images in a report
    csv_dialect: Dialect = COMMA

    def __post_init__(self) -> None:
        """Check the values."""
        if self.resume and self.overwrite:
            raise OutputError("cannot both resume and overwrite the same files: choose one")


def predict_to_files(
    classifier: Classifier,
    source: Source,
    files: str | Path | Sequence[str | Path],
    *,
    predict: PredictOptions | None = None,
    output: OutputOptions | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Classify images into result files.

    Args:
        classifier: loaded and ready.
        source: what ``Classifier.predict`` takes.
        files: one or several, whose suffixes name the formats, as with ``-o``.
        predict: how images are classified.
        output: how the files are written; with ``resume`` only what they lack is classified.
        progress: is called after each item.

    Raises:
        InputError: nothing to classify, or one of the files.
        OutputError: a file cannot be written or resumed.
        ImageError: an unreadable image, with ``on_error="fail"``.
    """
    predict, output = predict or PredictOptions(), output or OutputOptions()
    paths = (Path(files),) if isinstance(files, str | Path) else tuple(map(Path, files))
    if not paths:
        raise OutputError("no file to write to: name one, or use Classifier.predict")
    check_outputs(paths, overwrite=output.overwrite, resume=output.resume)
    inputs = inputs_of_source(source, classifier.decoder.bands).without(list(map(str, paths)))
    resumed = paths if output.resume else ()
    classifier, inputs = calibrate_for_run(classifier, inputs, resumed=resumed)
    options = lay_out_results(classifier, inputs, predict, output)
    destinations = Destinations(options=options, files=paths, resume=output.resume)
    run = Run(classifier, inputs, destinations, predict)
    with closing(run.rows()) as rows:
        for done, _ in enumerate(rows, start=run.earlier + 1):
            if progress is not None:
                progress(done, inputs.total)
    return run.result()


def lay_out_results(
    classifier: Classifier, inputs: Inputs, predict: PredictOptions, output: OutputOptions
) -> WriterOptions:
    """Return how the results of a classifier are laid out in every format."""
    return WriterOptions(
        topk=classifier.topk(predict.topk),
        grid_rows=output.grid_size[0],
        grid_columns=output.grid_size[1],
        caption=f"{classifier.checkpoint.path.name}  ·  {classifier.checkpoint.model}",
        overwrite=output.overwrite,
        decides=predict.threshold is not None,
        parts=inputs.parts,
        boxes=inputs.boxes,
        dialect=output.csv_dialect,
        truth=folder_truth(classifier.class_names),
        report_limit=output.report_limit,
    )
