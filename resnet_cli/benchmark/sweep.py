"""The sweep of a benchmark: a row for each precision, batch size and mode."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from resnet_cli.benchmark import BenchmarkOptions, BenchmarkResult, BenchmarkRow
from resnet_cli.benchmark.report import Choices, state_verdict
from resnet_cli.benchmark.timing import Timing, count_streams, time_end_to_end, time_forward
from resnet_cli.benchmark.workload import (
    EndlessImages,
    describe_environment,
    find_measured_network,
    peak_gflops,
)
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.classifier import Classifier
from resnet_cli.errors import DeviceError
from resnet_cli.records import Progress
from resnet_cli.runtimes import PRECISIONS, Runtime, RuntimeOptions, Session, find_runtime
from resnet_cli.runtimes.torch_runtime import DTYPES
from resnet_cli.sources import FindOptions
from resnet_cli.summary import Totals, summarize_network
from resnet_cli.summary.networks import Subject, SummaryOptions
from resnet_cli.system import available_cores
from resnet_cli.text import amount

log = logging.getLogger("resnet_cli")

WIDE = 0.25  # spread of latencies from which a row cannot be trusted

FASTER = 1.02  # times the network alone, which end-to-end work cannot exceed

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
"""Messages of torch's allocators; the one for the CPU raises a plain RuntimeError."""


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
            progress(done, sweep.options.total)
    return sweep.result()


def runnable_precisions(precisions: Iterable[str], runtime: Runtime) -> tuple[str, ...]:
    """Return the precisions in which ``predict`` would run, each once.

    What a processor would emulate runs in fp32, which is logged.
    """
    used: dict[str, None] = {}
    for precision in precisions:
        if precision in runtime.precisions:
            used[precision] = None
        else:
            log.warning("%s on this processor would be emulated: fp32 is measured", precision)
            used["fp32"] = None
    return tuple(used)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A benchmark that is ready to be measured, and its rows so far."""

    checkpoint: Checkpoint
    options: BenchmarkOptions  # with a device by name, precisions that it has, and workers
    runtime: Runtime
    images: EndlessImages | None
    cost: Totals  # of one image
    environment: Mapping[str, Any]
    rows: list[BenchmarkRow] = field(default_factory=list)
    peaks: dict[str, float | None] = field(default_factory=dict)  # GFLOP/s

    @classmethod
    def prepare(cls, model: str | Path, options: BenchmarkOptions) -> "Sweep":
        """Find the device, the images and the network.

        Raises:
            UserError: as ``run_benchmark`` does.
        """
        runtime = find_runtime(options.device)
        workers = options.workers or available_cores()
        find = FindOptions(hidden=options.hidden, exclude=options.exclude)
        precisions = runnable_precisions(options.precisions, runtime)
        images = None if options.images is None else EndlessImages(Path(options.images), find)
        checkpoint = find_measured_network(str(model))
        return cls(
            checkpoint,
            replace(options, device=runtime.device, precisions=precisions, workers=workers),
            runtime,
            images,
            cost_of_an_image(checkpoint, options.img_size),
            describe_environment(runtime, workers),
        )

    @property
    def workers(self) -> int:
        """CPU threads."""
        return self.options.workers or available_cores()

    @property
    def headline(self) -> str:
        """The model and the machine, in a line."""
        return (
            f"{self.checkpoint.model} on {self.environment['device']}, "
            f"{amount(self.workers, 'worker')}, torch {self.environment['torch']}"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The environment and the options, as the result records them."""
        return {"environment": self.environment, "settings": self.options.record()}

    def measure(self) -> Iterator[BenchmarkRow]:
        """Measure and yield each row, and keep it for the result."""
        for precision, batch in product(self.options.precisions, self.options.batch_sizes):
            for row in self.measure_modes(precision, batch):
                self.rows.append(row)
                yield row

    def measure_modes(self, precision: str, batch: int) -> Iterator[BenchmarkRow]:
        """Yield the row of the network alone, and that of everything from files to labels."""
        alone: BenchmarkRow | None = None
        for mode in self.options.modes:
            row = self.empty_row(mode, precision, batch)
            if alone is None:
                row = alone = self.measure_row(row)
            elif alone.images_per_second is None:  # what does not fit alone does not fit here
                row = replace(row, status=alone.status, error=alone.error)
            else:
                row = mark_doubtful(self.measure_row(row), alone.images_per_second)
            yield row

    def result(self) -> BenchmarkResult:
        """Return the rows so far and the verdict on them."""
        return BenchmarkResult(**self.settings, rows=tuple(self.rows), verdict=self.verdict)

    @property
    def verdict(self) -> str:
        """What the rows so far show, and whether some are missing."""
        if not self.rows:
            return "nothing was measured"
        choices = Choices(
            compiling=self.precisions_to_compile,
            workers=self.workers,
            cores=available_cores(),
            bf16="bf16" in self.runtime.precisions,
            on_workers_cores=self.runtime.on_workers_cores,
        )
        verdict = state_verdict(self.rows, choices)
        if len(self.rows) == self.options.total:
            return verdict
        return f"stopped after {len(self.rows)} of {self.options.total} rows; {verdict}"

    @property
    def precisions_to_compile(self) -> frozenset[str]:
        """The precisions in which ``--compile``, if it was not given, would be faster."""
        if self.options.compile:
            return frozenset()
        return frozenset(filter(self.runtime.compiling_pays, self.options.precisions))

    def empty_row(self, mode: str, precision: str, batch: int) -> BenchmarkRow:
        """Return a row before anything is measured."""
        model, options = self.checkpoint.model, self.options
        return BenchmarkRow(mode, model, options.device, precision, batch, options.compile)

    def measure_row(self, row: BenchmarkRow) -> BenchmarkRow:
        """Measure a row; one that runs out of memory says so in place of its figures."""
        try:
            self.check_room(row)
            classifier = self.load_classifier(row.precision)
            peak = self.measure_peak(row.precision)
            self.runtime.reset_peak_memory()
            timing = self.time_row(classifier, row)
            check_whole(classifier.session, row.batch_size)
        except (torch.OutOfMemoryError, DeviceError, RuntimeError, MemoryError) as error:
            return replace(row, status="out of memory", error=out_of_memory_message(error))
        return self.complete_row(row, timing, peak)

    def check_room(self, row: BenchmarkRow) -> None:
        """Refuse a batch whose activations alone need more than the memory.

        Raises:
            MemoryError: names both sizes.
        """
        share = PRECISIONS[row.precision] / PRECISIONS["fp32"]
        needed = share * self.cost.peak_activation_bytes * row.batch_size
        needed *= count_streams(self.runtime, self.workers)
        free = self.runtime.available_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"not enough memory: the activations need {needed / 1e9:,.1f} GB, of which there "
                f"are {free / 1e9:,.1f}"
            )

    def load_classifier(self, precision: str) -> Classifier:
        """Load a classifier for one row: a compiled network is made for one batch size."""
        side = self.options.img_size
        if self.options.compile:
            torch.compiler.reset()  # it compiles a network for a few batch sizes only
        return Classifier.of(
            self.checkpoint,
            reason="to be measured",
            compute=RuntimeOptions(
                device=self.runtime.device, precision=precision, compile=self.options.compile
            ),
            preprocess=lambda recorded: replace(
                recorded, crop_size=side, resize_size=max(side, recorded.resize_size)
            ),
        )

    def measure_peak(self, precision: str) -> float | None:
        """Return this machine's peak in GFLOP/s, measured once for each precision."""
        if precision not in self.peaks:
            threads = min(self.workers, available_cores())
            self.peaks[precision] = peak_gflops(self.runtime, DTYPES[precision], threads)
        return self.peaks[precision]

    def time_row(self, classifier: Classifier, row: BenchmarkRow) -> Timing:
        """Time one setting."""
        workers, effort = self.workers, self.options.effort
        if row.mode == "forward" or self.images is None:
            side = self.options.img_size
            return time_forward(
                classifier, batch=row.batch_size, side=side, workers=workers, effort=effort
            )
        return time_end_to_end(
            classifier,
            self.images,
            batch=row.batch_size,
            workers=workers,
            effort=effort,
        )

    def complete_row(self, row: BenchmarkRow, timing: Timing, peak: float | None) -> BenchmarkRow:
        """Return a row with its figures."""
        gflops = timing.images_per_second * self.cost.gflops
        return replace(
            row,
            images_per_second=timing.images_per_second,
            latency_ms={
                f"p{percent:g}": timing.percentile(percent) for percent in self.options.percentiles
            },
            gflops=gflops,
            peak_share=None if peak is None else gflops / peak,
            peak_memory_bytes=self.runtime.peak_memory(),
            iterations=len(timing.latencies_ms),
            status="noisy" if timing.spread > WIDE else "ok",
            stages=timing.stages,
        )


def mark_doubtful(row: BenchmarkRow, alone: float) -> BenchmarkRow:
    """Mark a row that is faster than the network alone: something disturbed one of the two.

    Args:
        row: end to end.
        alone: images per second of the network in the same setting.
    """
    return replace(row, status="noisy") if row.speed > FASTER * alone else row


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


def cost_of_an_image(checkpoint: Checkpoint, side: int) -> Totals:
    """Return the multiply-adds and activations of one image."""
    subject = Subject(
        checkpoint.model,
        str(checkpoint.path),
        next(checkpoint.blanks),
        checkpoint.in_channels,
        checkpoint.num_classes,
        is_resnet=True,
    )
    return summarize_network(subject, SummaryOptions(img_size=(side, side))).totals
