"""The sweep: a row for each precision, batch size and mode."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product

import torch

from resnet_cli.benchmark import BenchmarkSettings, Row
from resnet_cli.benchmark.modes import count_streams, time_end_to_end, time_forward
from resnet_cli.benchmark.peak import peak_gflops
from resnet_cli.benchmark.timing import Timing
from resnet_cli.checkpoint import Checkpoint
from resnet_cli.classifier import Classifier, RuntimeOptions
from resnet_cli.errors import DeviceError
from resnet_cli.runtimes import PRECISIONS, Runtime, Session
from resnet_cli.runtimes.torch_runtime import DTYPES
from resnet_cli.summary import Totals, summarise_network
from resnet_cli.summary.networks import Subject
from resnet_cli.system import available_cores

log = logging.getLogger("resnet_cli")

WIDE = 0.25  # spread from which a row is not to be trusted

FASTER = 1.02  # times the network alone, beyond which more work cannot be done in less time

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
"""What torch's allocators say; that of the CPU has no class of its own for it."""


def as_they_run(precisions: Iterable[str], runtime: Runtime) -> tuple[str, ...]:
    """The arithmetic that ``predict`` uses for each of some precisions, each once.

    What a processor would emulate runs in fp32, which a warning says.
    """
    used: dict[str, None] = {}
    for precision in precisions:
        if precision in runtime.precisions:
            used[precision] = None
        else:
            log.warning("%s on this processor would be emulated: fp32 is measured", precision)
            used["fp32"] = None
    return tuple(used)


def measure_sweep(checkpoint: Checkpoint, settings: BenchmarkSettings) -> Iterator[Row]:
    """Measure a sweep, a row at a time.

    Args:
        checkpoint: the network, with weights of any kind.
        settings: what is measured.

    Yields:
        A row for each precision, batch size and mode.
    """
    sweep = Sweep(checkpoint, settings, cost_of_an_image(checkpoint, settings.img_size))
    for precision, batch in product(settings.precisions, settings.batch_sizes):
        alone: Row | None = None  # the network without photographs before it
        for mode in settings.modes:
            row = sweep.row(mode, precision, batch)
            if alone is None:
                row = alone = sweep.measured(row)
            elif alone.images_per_second is None:  # what does not fit alone does not fit here
                row = replace(row, status=alone.status, error=alone.error)
            else:
                row = mark_doubtful(sweep.measured(row), alone.images_per_second)
            yield row


def mark_doubtful(row: Row, alone: float) -> Row:
    """Mark a row that is faster than the network alone: something disturbed one of the two.

    Args:
        row: end to end.
        alone: images per second of the network in the same setting.
    """
    impossible = (row.images_per_second or 0.0) > FASTER * alone
    return replace(row, status="noisy") if impossible else row


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the rows of a benchmark share."""

    checkpoint: Checkpoint
    settings: BenchmarkSettings
    cost: Totals  # of one image
    peaks: dict[str, float | None] = field(default_factory=dict)  # GFLOP/s

    def row(self, mode: str, precision: str, batch: int) -> Row:
        """A row before anything was measured."""
        device, compiled = self.settings.runtime.device, self.settings.compiled
        return Row(mode, self.checkpoint.model, device, precision, batch, compiled)

    def measured(self, row: Row) -> Row:
        """A row with its figures, or with why there are none."""
        try:
            self.check_room(row)
            classifier = self.ready(row.precision)
            peak = self.peak(row.precision)
            self.settings.runtime.reset_peak_memory()
            timing = self.timed(classifier, row)
            check_whole(classifier.session, row.batch_size)
        except (torch.OutOfMemoryError, DeviceError, RuntimeError, MemoryError) as error:
            return replace(row, status="out of memory", error=out_of_memory_message(error))
        return self.completed(row, timing, peak)

    def check_room(self, row: Row) -> None:
        """Refuse a batch whose activations alone are more than the memory.

        Raises:
            MemoryError: says how much is missing.
        """
        runtime, workers = self.settings.runtime, self.settings.workers
        share = PRECISIONS[row.precision] / PRECISIONS["fp32"]
        needed = share * self.cost.peak_activation_bytes * row.batch_size
        needed *= count_streams(runtime, workers)
        there = runtime.available_memory()
        if there is not None and needed > there:
            raise MemoryError(
                f"not enough memory: the activations need {needed / 1e9:,.1f} GB, of which there "
                f"are {there / 1e9:,.1f}"
            )

    def ready(self, precision: str) -> Classifier:
        """A classifier of its own for each row: a compiled network is made for one batch size."""
        side = self.settings.img_size
        if self.settings.compiled:
            torch.compiler.reset()  # which compiles only so many batch sizes of one network
        return Classifier.of(
            self.checkpoint,
            reason="to be measured",
            compute=RuntimeOptions(
                device=self.settings.runtime.device,
                precision=precision,
                compile=self.settings.compiled,
            ),
            preprocess=lambda recorded: replace(
                recorded, crop_size=side, resize_size=max(side, recorded.resize_size)
            ),
        )

    def peak(self, precision: str) -> float | None:
        """What this machine can do, measured once for each precision."""
        if precision not in self.peaks:
            threads = min(self.settings.workers, available_cores())
            self.peaks[precision] = peak_gflops(self.settings.runtime, DTYPES[precision], threads)
        return self.peaks[precision]

    def timed(self, classifier: Classifier, row: Row) -> Timing:
        """Time one setting."""
        workers, effort = self.settings.workers, self.settings.effort
        if row.mode == "forward" or self.settings.photographs is None:
            side = self.settings.img_size
            return time_forward(
                classifier, batch=row.batch_size, side=side, workers=workers, effort=effort
            )
        return time_end_to_end(
            classifier,
            self.settings.photographs,
            batch=row.batch_size,
            workers=workers,
            effort=effort,
        )

    def completed(self, row: Row, timing: Timing, peak: float | None) -> Row:
        """A row with what was measured."""
        gflops = timing.images_per_second * self.cost.gflops
        return replace(
            row,
            images_per_second=timing.images_per_second,
            latency_ms={
                f"p{percent:g}": timing.percentile(percent) for percent in self.settings.percentiles
            },
            gflops=gflops,
            peak_share=None if peak is None else gflops / peak,
            peak_memory_bytes=self.settings.runtime.peak_memory(),
            iterations=len(timing.latencies_ms),
            status="noisy" if timing.spread > WIDE else "ok",
            stages=timing.stages,
        )


def check_whole(session: Session, batch: int) -> None:
    """See that a batch went through the network in one pass.

    Raises:
        MemoryError: it had to be cut.
    """
    if session.limit is not None and session.limit < batch:
        raise MemoryError(f"not enough memory: predict runs it in passes of {session.limit}")


def out_of_memory_message(error: Exception) -> str:
    """The message of an error that means that memory ran out.

    Raises:
        Exception: the error itself, if it means anything else.
    """
    message = next(iter(str(error).splitlines()), type(error).__name__)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory or any(phrase in message.lower() for phrase in OUT_OF_MEMORY):
        return message
    raise error


def cost_of_an_image(checkpoint: Checkpoint, side: int) -> Totals:
    """Multiply-adds and activations of one image."""
    subject = Subject(
        checkpoint.model,
        str(checkpoint.path),
        next(checkpoint.blanks),
        checkpoint.in_channels,
        checkpoint.num_classes,
        is_resnet=True,
    )
    return summarise_network(subject, img_size=(side, side)).totals
