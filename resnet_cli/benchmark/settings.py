"""Runtimes and precisions that were asked for -> those that are measured, and what they run."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product

from resnet_cli.benchmark import BenchmarkOptions, BenchmarkRow
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.errors import ExtraError, OptionError, UserError
from resnet_cli.graph import Graph
from resnet_cli.graph.cost import count_macs
from resnet_cli.runtimes import QUANTIZED, Runtime, RuntimeOptions, find_runtime
from resnet_cli.runtimes.host import precisions_with_units
from resnet_cli.summary import summarize_network
from resnet_cli.summary.networks import Subject, SummaryOptions

log = logging.getLogger("resnet_cli")

USUAL_SIDE = 224  # pixels


@dataclass(frozen=True, slots=True)
class Setting:
    """A runtime and a precision of a sweep."""

    name: str  # of RUNTIMES
    runtime: Runtime
    precision: str
    compiled: bool

    @property
    def words(self) -> str:
        """Its name in a record."""
        return f"{self.name} {self.precision}"

    def row(self, mode: str, model: str, batch: int) -> BenchmarkRow:
        """Return a row before anything is measured."""
        device, runtime = self.runtime.device, self.name
        return BenchmarkRow(mode, model, device, runtime, self.precision, batch, self.compiled)


def choose_settings(options: BenchmarkOptions, graph: Graph | None) -> tuple[Setting, ...]:
    """Return every runtime with every precision that it computes here, each once.

    What a processor would emulate runs in fp32, as in ``predict``; a combination that is not
    possible is left out. Both are logged.

    Args:
        options: with the runtimes and precisions; None takes what ``predict`` would.
        graph: the network file that is measured; None for a checkpoint of tensors.

    Raises:
        UserError: none is possible; the reason of the first.
    """
    found: dict[tuple[str, str], Setting] = {}
    refused: list[UserError] = []
    asked = product(options.runtimes or (None,), options.precisions or (None,))
    for name, precision in asked:
        try:
            setting = find_setting(options, graph, name, precision)
        except UserError as error:
            refused.append(error)
        else:
            found.setdefault((setting.name, setting.precision), setting)
    if not found:
        raise refused[0]
    for reason in dict.fromkeys(map(str, refused)):
        log.warning("left out: %s", reason)
    return tuple(found.values())


def find_setting(
    options: BenchmarkOptions, graph: Graph | None, name: str | None, precision: str | None
) -> Setting:
    """Return a setting, in fp32 where the processor would emulate what is asked for.

    Raises:
        UserError: it is not possible.
    """
    compute = RuntimeOptions(runtime=name, device=options.device, precision=precision)
    chosen = compute.runtime_for(graph)
    runtime = find_runtime(options.device, chosen)
    if lacks(runtime, precision) and not is_quantized(graph):
        raise OptionError(f"{chosen} computes no {precision} here")
    if precision == QUANTIZED and not can_quantize(graph) and not is_quantized(graph):
        raise ExtraError(f"--precision {QUANTIZED}", "openvino")
    used = compute.precision_on(runtime, graph.precision if graph else "fp32")
    return Setting(chosen, runtime, used, options.compile and runtime.suffix is None)


def lacks(runtime: Runtime, precision: str | None) -> bool:
    """Return True for a precision that the processor has, but not the runtime."""
    possible = precisions_with_units() | {QUANTIZED}
    return precision in possible and precision not in runtime.precisions


def is_quantized(graph: Graph | None) -> bool:
    """Return True for a network file in int8."""
    return graph is not None and graph.precision == QUANTIZED


def can_quantize(graph: Graph | None) -> bool:
    """Return True for a network that is not in int8 yet, where what makes it so is installed."""
    return not is_quantized(graph) and all(map(find_spec, ("openvino", "nncf")))


def join_words(words: Iterable[str]) -> str:
    """Return different words, with commas between them."""
    return ", ".join(dict.fromkeys(words))


def graph_of(checkpoint: Checkpoint | ExportedCheckpoint) -> Graph | None:
    """Return the network file that is measured; None for a checkpoint of tensors."""
    return checkpoint.graph if isinstance(checkpoint, ExportedCheckpoint) else None


def find_side(checkpoint: Checkpoint | ExportedCheckpoint, asked: int | None) -> int:
    """Return the pixels of a side of the images: those asked for, or an exported file's own.

    Raises:
        OptionError: the file takes another size.
    """
    if not isinstance(checkpoint, ExportedCheckpoint):
        return asked or USUAL_SIDE
    recorded = checkpoint.preprocess
    side = asked or recorded.crop_size
    resized = max(side, recorded.resize_size)
    checkpoint.check_preprocess(replace(recorded, crop_size=side, resize_size=resized))
    return side


def name_of(checkpoint: Checkpoint | ExportedCheckpoint) -> str:
    """Return the architecture, or the name of a file that does not state it."""
    if isinstance(checkpoint, ExportedCheckpoint) and not checkpoint.graph.description:
        return checkpoint.path.name
    return checkpoint.model


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image takes of a network; None where that is not known."""

    gflops: float | None  # of convolutions and matrix products
    activation_bytes: int | None  # at most, in fp32


def cost_of_an_image(checkpoint: Checkpoint | ExportedCheckpoint, side: int) -> Cost:
    """Return the multiply-adds and activations of one image."""
    if isinstance(checkpoint, ExportedCheckpoint):
        macs = count_macs(checkpoint.graph, side)
        return Cost(None if macs is None else 2 * macs / 1e9, None)
    subject = Subject(
        checkpoint.model,
        str(checkpoint.path),
        next(checkpoint.blanks),
        checkpoint.in_channels,
        checkpoint.num_classes,
        is_resnet=True,
    )
    totals = summarize_network(subject, SummaryOptions(img_size=(side, side))).totals
    return Cost(totals.gflops, totals.peak_activation_bytes)
