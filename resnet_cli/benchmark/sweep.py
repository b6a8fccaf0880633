"""The sweep of a benchmark: a row for each runtime, precision, batch size and mode."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from resnet_cli.benchmark import BenchmarkOptions, BenchmarkResult
from resnet_cli.benchmark.agreement import measure_agreement, name_unknown_agreement
from resnet_cli.benchmark.interference import Counts, Interference, compare_counts, read_counts
from resnet_cli.benchmark.load import load_classifier
from resnet_cli.benchmark.report import Choices, state_verdict
from resnet_cli.benchmark.rows import BenchmarkRow, fastest_row
from resnet_cli.benchmark.settings import (
    Cost,
    Setting,
    can_quantize,
    choose_settings,
    cost_of_an_image,
    find_side,
    graph_of,
    join_words,
    name_of,
)
from resnet_cli.benchmark.timing import Timing, count_streams, time_end_to_end, time_forward
from resnet_cli.benchmark.workload import (
    EndlessImages,
    describe_environment,
    find_measured_network,
    peak_gflops,
    versions_of_runtimes,
)
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.classifier import Classifier
from resnet_cli.errors import DeviceError
from resnet_cli.records import Progress
from resnet_cli.runtimes import PRECISIONS, QUANTIZED, Session
from resnet_cli.runtimes.torch_runtime import DTYPES
from resnet_cli.system import available_cores
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")

WIDE = 0.25  # spread of latencies from which a row cannot be trusted

FASTER = 1.02  # times the network alone, which end-to-end work cannot exceed

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")
"""Messages of allocators; those of the CPU raise a plain RuntimeError."""


def run_benchmark(
    model: str | Path = "resnet18",
    options: BenchmarkOptions | None = None,
    *,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Measure how fast a network runs on this machine.

    Args:
        model: a name of torchvision, which gets random weights, or a checkpoint file.
        options: what to measure; by default fp32 at batch sizes 1, 8 and 32.
        progress: receives the rows that are measured so far, and how many there will be.

    Raises:
        SettingError: no such model or file, or an option out of range.
        CheckpointError: the file holds no ResNet.
        DeviceError: no such device here.
        InputError: none of the images can be read.
    """
    sweep = Sweep.prepare(model, options or BenchmarkOptions())
    for done, _ in enumerate(sweep.measure(), start=1):
        if progress is not None:
            progress(done, sweep.total)
    return sweep.result()


@dataclass(frozen=True, slots=True)
class Sweep:
    """A benchmark that is ready to be measured, and its rows so far."""

    checkpoint: Checkpoint | ExportedCheckpoint
    options: BenchmarkOptions  # with what was chosen
    choices: tuple[Setting, ...]
    side: int  # pixels of the images
    images: EndlessImages | None
    cost: Cost
    environment: dict[str, Any]  # completed by what is noticed on the way
    rows: list[BenchmarkRow] = field(default_factory=list)
    peaks: dict[tuple[str, str], float | None] = field(default_factory=dict)  # GFLOP/s
    loaded: dict[Setting, Classifier] = field(default_factory=dict)  # one at most
    agreements: dict[Setting, str] = field(default_factory=dict)  # in words

    @classmethod
    def prepare(cls, model: str | Path, options: BenchmarkOptions) -> "Sweep":
        """Find the network, the runtimes and the images.

        Raises:
            UserError: as ``run_benchmark`` does.
        """
        workers = options.workers or available_cores()
        checkpoint = find_measured_network(str(model))
        chosen = choose_settings(options, graph_of(checkpoint))
        side = find_side(checkpoint, options.img_size)
        images = (
            None if options.images is None else EndlessImages(str(options.images), options.find)
        )
        return cls(
            checkpoint,
            replace(
                options,
                device=join_words(setting.runtime.device for setting in chosen),
                runtimes=tuple(dict.fromkeys(setting.name for setting in chosen)),
                precisions=tuple(dict.fromkeys(setting.precision for setting in chosen)),
                workers=workers,
            ),
            chosen,
            side,
            images,
            cost_of_an_image(checkpoint, side),
            describe_environment([setting.runtime for setting in chosen], workers)
            | versions_of_runtimes({setting.name for setting in chosen}),
        )

    @property
    def workers(self) -> int:
        """CPU threads."""
        return self.options.workers or available_cores()

    @property
    def model(self) -> str:
        """The architecture, or the name of a file that does not state it."""
        return name_of(self.checkpoint)

    @property
    def total(self) -> int:
        """Number of rows."""
        return len(self.choices) * len(self.options.batch_sizes) * len(self.options.modes)

    @property
    def headline(self) -> str:
        """The model and the machine, in a line."""
        libraries = (f"{name} {self.environment[name]}" for name in self.options.runtimes or ())
        return (
            f"{self.model} on {self.environment['device']}, "
            f"{amount(self.workers, 'worker')}, {', '.join(libraries)}"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The environment and the options, as the result records them."""
        record = self.options.record() | {"img_size": self.side}
        return {"environment": self.environment, "settings": record}

    def measure(self) -> Iterator[BenchmarkRow]:
        """Measure and yield each row, and keep it for the result."""
        begun = read_counts()
        for setting, batch in product(self.choices, self.options.batch_sizes):
            for row in self.measure_modes(setting, batch):
                self.rows.append(row)
                self.notice_others(row, begun)
                yield row
        self.measure_agreement()

    def measure_modes(self, setting: Setting, batch: int) -> Iterator[BenchmarkRow]:
        """Yield the row of the network alone, and that of everything from files to labels."""
        alone: BenchmarkRow | None = None
        for mode in self.options.modes:
            row = setting.row(mode, self.model, batch)
            if alone is None:
                row = alone = self.measure_row(setting, row)
            elif alone.images_per_second is None:  # what does not fit alone does not fit here
                row = replace(row, status=alone.status, error=alone.error)
            else:
                row = mark_doubtful(self.measure_row(setting, row), alone.images_per_second)
            yield row

    def notice_others(self, row: BenchmarkRow, begun: Counts | None) -> None:
        """Record what other work took so far, and say so at the first row that it disturbed."""
        so_far = compare_counts(begun, self.workers)
        self.environment["other_work"] = so_far and so_far.record()
        if row.status == "disturbed" and count_disturbed(self.rows) == 1:
            log.warning(
                "other work took %.0f%% of the cores that this benchmark needs: figures marked ~ "
                "are too low",
                100 * (row.other_work or 0),
            )

    def measure_agreement(self) -> None:
        """Compare the labels of the fastest setting with those of fp32."""
        best = fastest_row(self.rows)
        if best is None:
            return
        setting = self.setting_of(best)
        known = measure_agreement(self.checkpoint, setting, self.load_classifier, self.images)
        if known is not None:
            self.agreements[setting] = known

    def setting_of(self, row: BenchmarkRow) -> Setting:
        """Return the setting in which a row was measured."""
        kind = (row.runtime, row.precision)
        return next(one for one in self.choices if (one.name, one.precision) == kind)

    def result(self) -> BenchmarkResult:
        """Return the rows so far and the verdict on them."""
        return BenchmarkResult(**self.settings, rows=tuple(self.rows), verdict=self.verdict)

    @property
    def verdict(self) -> str:
        """What the rows so far show, and whether some are missing."""
        if not self.rows:
            return "nothing was measured"
        verdict = state_verdict(self.rows, self.describe_choices(fastest_row(self.rows)))
        if len(self.rows) == self.total:
            return verdict
        return f"stopped after {len(self.rows)} of {self.total} rows; {verdict}"

    def describe_choices(self, best: BenchmarkRow | None) -> Choices:
        """Return what was possible in the fastest setting, for the verdict."""
        setting = self.choices[0] if best is None else self.setting_of(best)
        runtime = setting.runtime
        asked = set(self.options.precisions or ())
        return Choices(
            compiling=frozenset(self.precisions_to_compile(setting)),
            workers=self.workers,
            cores=available_cores(),
            bf16="bf16" in runtime.precisions,
            int8=QUANTIZED not in asked and can_quantize(graph_of(self.checkpoint)),
            on_workers_cores=runtime.on_workers_cores,
            agreement=self.agreements.get(setting)
            or name_unknown_agreement(self.checkpoint, setting, self.images),
        )

    def precisions_to_compile(self, setting: Setting) -> Iterator[str]:
        """Yield the precision of a setting if ``--compile``, which was not given, would help."""
        if not self.options.compile and setting.runtime.compiling_pays(setting.precision):
            yield setting.precision

    def measure_row(self, setting: Setting, row: BenchmarkRow) -> BenchmarkRow:
        """Measure a row; one that runs out of memory says so in place of its figures."""
        try:
            self.check_room(setting, row)
            classifier = self.load_classifier(setting)
            peak = self.measure_peak(setting)
            setting.runtime.reset_peak_memory()
            before = read_counts()
            timing = self.time_row(classifier, row)
            others = compare_counts(before, self.workers)
            check_whole(classifier.session, row.batch_size)
        except (torch.OutOfMemoryError, DeviceError, RuntimeError, MemoryError) as error:
            return replace(row, status="out of memory", error=out_of_memory_message(error))
        self.record_algorithms(setting, row, classifier.session)
        done = self.complete_row(row, timing, peak, others)
        return replace(done, peak_memory_bytes=setting.runtime.peak_memory())

    def check_room(self, setting: Setting, row: BenchmarkRow) -> None:
        """Refuse a batch whose activations alone need more than the memory.

        Raises:
            MemoryError: names both sizes.
        """
        share = PRECISIONS[row.precision] / PRECISIONS["fp32"]
        needed = share * (self.cost.activation_bytes or 0) * row.batch_size
        needed *= count_streams(setting.runtime, self.workers)
        free = setting.runtime.available_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"not enough memory: the activations need {needed / 1e9:,.1f} GB, of which there "
                f"are {free / 1e9:,.1f}"
            )

    def load_classifier(self, setting: Setting) -> Classifier:
        """Load a classifier for one row; a network file serves all rows of its setting."""
        if setting not in self.loaded:
            self.loaded.clear()
            classifier = load_classifier(self.checkpoint, setting, self.side, self.images)
            if setting.runtime.suffix is None:  # torch adapts a network to its first batch
                return classifier
            self.loaded[setting] = classifier
        return self.loaded[setting]

    def measure_peak(self, setting: Setting) -> float | None:
        """Return this machine's peak in GFLOP/s, measured once for each device and precision.

        It is that of torch's kernels, whatever the runtime: the machine has one. None in int8,
        which torch does not multiply, and where it is not known what the network computes.
        """
        dtype = DTYPES.get(setting.precision)
        if dtype is None or self.cost.gflops is None:
            return None
        key = (setting.runtime.device, setting.precision)
        if key not in self.peaks:
            threads = min(self.workers, available_cores())
            self.peaks[key] = peak_gflops(setting.runtime, dtype, threads)
        return self.peaks[key]

    def time_row(self, classifier: Classifier, row: BenchmarkRow) -> Timing:
        """Time one setting."""
        workers, effort = self.workers, self.options.effort
        if row.mode == "forward" or self.images is None:
            return time_forward(
                classifier, batch=row.batch_size, side=self.side, workers=workers, effort=effort
            )
        return time_end_to_end(
            classifier,
            self.images,
            batch=row.batch_size,
            workers=workers,
            effort=effort,
        )

    def record_algorithms(self, setting: Setting, row: BenchmarkRow, session: Session) -> None:
        """Record which algorithms computed the convolutions, where the runtime says so."""
        if session.algorithms:
            counts = (f"{name} {count}" for name, count in session.algorithms.items())
            found = self.environment.setdefault("convolutions", {})
            found[f"{setting.words} batch {row.batch_size}"] = ", ".join(counts)

    def complete_row(
        self,
        row: BenchmarkRow,
        timing: Timing,
        peak: float | None,
        others: Interference | None,
    ) -> BenchmarkRow:
        """Return a row with its figures."""
        cost = self.cost.gflops
        gflops = None if cost is None else timing.images_per_second * cost
        return replace(
            row,
            images_per_second=timing.images_per_second,
            latency_ms={
                f"p{percent:g}": timing.percentile(percent) for percent in self.options.percentiles
            },
            gflops=gflops,
            peak_share=None if gflops is None or peak is None else gflops / peak,
            iterations=len(timing.latencies_ms),
            status=judge_figures(timing, others),
            other_work=None if others is None else round(others.taken, 3),
            stages=timing.stages,
        )


def judge_figures(timing: Timing, others: Interference | None) -> str:
    """Return the status of figures: what disturbed them, if anything did."""
    if others is not None and others.disturbs:
        return "disturbed"
    return "noisy" if timing.spread > WIDE else "ok"


def count_disturbed(rows: list[BenchmarkRow]) -> int:
    """Count the rows that other work disturbed."""
    return sum(row.status == "disturbed" for row in rows)


def mark_doubtful(row: BenchmarkRow, alone: float) -> BenchmarkRow:
    """Mark a row that is faster than the network alone: something disturbed one of the two.

    Args:
        row: end to end.
        alone: images per second of the network in the same setting.
    """
    doubtful = row.status == "ok" and row.speed > FASTER * alone
    return replace(row, status="noisy") if doubtful else row


def check_whole(session: Session, batch: int) -> None:
    """Check that a batch went through the network in one pass.

    Raises:
        MemoryError: it had to be split.
    """
    if session.limit is not None and session.limit < batch:
        raise MemoryError(f"not enough memory: predict runs it in passes of {session.limit}")


def out_of_memory_message(error: Exception) -> str:
    """Return the message of an error that means that memory ran out.

    Raises:
        Exception: the error itself, if it means anything else.
    """
    message = next(iter(str(error).splitlines()), type(error).__name__)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory or any(phrase in message.lower() for phrase in OUT_OF_MEMORY):
        return message
    raise error
