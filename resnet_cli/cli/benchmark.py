"""``resnet-cli benchmark``: how fast a network runs here."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_cli.cli.finding import finds_images
from resnet_cli.cli.options import (
    OUTPUT,
    POSITIVE,
    check_seconds,
    compile_each_option,
    debug_option,
    device_option,
    overwrite_option,
    progress_option,
)
from resnet_cli.cli.process import echo
from resnet_cli.cli.sections import Command

if TYPE_CHECKING:
    from resnet_cli.benchmark.sweep import Sweep
    from resnet_cli.sources import FindOptions

RUNTIMES = ("torch", "openvino", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

LARGEST = 10**9  # images of a pass; no machine holds more, and torch counts no further than 2^63

LONGEST = 40  # characters of an invalid value that a message repeats

WIDE = 200  # characters, where stdout is not a terminal and COLUMNS is not set


def parse_sizes(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Read batch sizes with commas between them."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:  # int() takes no more than some thousand digits either
        raise click.BadParameter(f"{value[:LONGEST]!r} is not like 1,8,32") from None
    if not all(1 <= size <= LARGEST for size in found):
        raise click.BadParameter(f"{value[:LONGEST]!r} is not of 1 to {LARGEST:,} images each")
    return found


def parse_names(
    _: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Read runtimes or precisions with commas between them."""
    if value is None:
        return None
    known = RUNTIMES if param.name == "runtimes" else PRECISIONS
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if not set(parts) <= set(known):
        raise click.BadParameter(f"{value!r} is not some of {', '.join(known)}")
    return parts


def parse_percents(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    """Read percentiles with commas between them."""
    try:
        found = tuple(dict.fromkeys(round_percentile(part) for part in value.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 <= percent <= 100 for percent in found):
        raise click.BadParameter(f"{value[:LONGEST]!r} is not percents such as 50,90,99")
    return found


def round_percentile(text: str) -> float:
    """Round a percentile to the digits that its name shows: p99.9."""
    return float(f"{float(text):g}") + 0.0  # turns -0 into 0


@click.command(cls=Command)
@click.argument("subject", metavar="[MODEL or CHECKPOINT]", default="resnet18")
@device_option
@click.option(
    "--runtime",
    "runtimes",
    callback=parse_names,
    metavar="NAME,…",
    show_default="torch, or openvino for int8; of an exported file its own",
    help="What computes the network, torch, openvino or onnxruntime; each one is measured in each "
    "precision that it has.",
)
@click.option(
    "-b",
    "--batch-size",
    "batch_sizes",
    callback=parse_sizes,
    metavar="N,N,…",
    default="1,8,32",
    help="Images in one pass; each number is measured.",
)
@click.option(
    "--precision",
    "precisions",
    callback=parse_names,
    metavar="NAME,…",
    show_default="fp32; of an exported file its own",
    help="Arithmetic of the network, fp32, bf16, fp16 or int8; each one is measured. int8 is "
    "calibrated on some of --images, else on random pixels.",
)
@compile_each_option
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    show_default="all cores",
    help="CPU threads: they run the network on the CPU, and decode images for a GPU.",
)
@click.option(
    "--img-size",
    type=click.IntRange(32, 16384),
    metavar="N",
    show_default="224; of an exported file its own",
    help="Side of the images, in pixels.",
)
@click.option(
    "--images",
    metavar="INPUT",
    show_default="none",
    help="Images, as 'predict' takes them; also measures predict from files to labels, and how "
    "often the labels of the fastest setting are those of fp32.",
)
@finds_images
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    default=3,
    help="Passes of each thread that are not counted.",
)
@click.option(
    "--duration",
    type=float,
    callback=check_seconds,
    metavar="S",
    default=3.0,
    help="Seconds per row, but at least three passes.",
)
@click.option(
    "--iters",
    type=POSITIVE,
    metavar="N",
    show_default="as many as fit into --duration",
    help="Passes of each thread, in place of --duration.",
)
@click.option(
    "--percentiles",
    callback=parse_percents,
    metavar="P,P,…",
    default="50,90,99",
    help="Percentiles of the latency of a batch.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OUTPUT,
    multiple=True,
    show_default="none",
    help="Write .json, .csv or a .png plot; repeatable.",
)
@overwrite_option
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    show_default="none",
    help="An earlier .json: show the speed of each row relative to it, and what else differs.",
)
@progress_option
@debug_option
def benchmark_command(
    *,
    subject: str,
    device: str,
    batch_sizes: tuple[int, ...],
    runtimes: tuple[str, ...] | None,
    precisions: tuple[str, ...] | None,
    compile: bool,
    workers: int | None,
    img_size: int | None,
    images: str | None,
    find: "FindOptions",
    warmup: int,
    duration: float,
    iters: int | None,
    percentiles: tuple[float, ...],
    outputs: tuple[Path, ...],
    overwrite: bool,
    compare: Path | None,
    progress: str,
) -> None:
    """Measure how fast a network runs here.

    MODEL is one of the ten ResNets by name and gets random weights; CHECKPOINT is a file, also one
    of ONNX or OpenVINO. The default is resnet18, and nothing is downloaded. The table shows
    throughput, the latency of a batch, and the share of this machine's peak at that precision,
    which is measured in the same run; ~ marks figures that vary too much to be trusted, or that
    other work on the machine disturbed.
    """
    from resnet_cli.benchmark import BenchmarkOptions, check_benchmark_outputs, read_benchmark
    from resnet_cli.benchmark.sweep import Sweep
    from resnet_cli.cli.terminal import showing_notes_of_images

    check_benchmark_outputs(outputs, overwrite=overwrite)
    earlier = None if compare is None else read_benchmark(compare)
    options = BenchmarkOptions(
        device=device,
        batch_sizes=batch_sizes,
        runtimes=runtimes,
        precisions=precisions,
        compile=compile,
        workers=workers,
        img_size=img_size,
        images=images,
        find=find,
        warmup=warmup,
        duration=duration,
        iterations=iters,
        percentiles=percentiles,
    )
    with showing_notes_of_images():
        report_sweep(Sweep.prepare(subject, options), earlier, outputs, progress)


def report_sweep(
    sweep: "Sweep", earlier: Mapping[str, Any] | None, outputs: Sequence[Path], progress: str
) -> None:
    """Measure and show row after row, then save them; an interrupted run saves those it has."""
    from resnet_cli.benchmark import save_benchmark
    from resnet_cli.benchmark.report import compare_settings
    from resnet_cli.cli.terminal import print_note

    print_note(sweep.headline)
    if earlier is not None:
        for difference in compare_settings(sweep.settings, sweep.model, earlier):
            print_note(f"not the same, {difference}", "Warning")
    try:
        show_rows(sweep, earlier, progress)
    except (KeyboardInterrupt, SystemExit):
        print_note(sweep.verdict)
        raise
    finally:
        if sweep.rows:
            save_benchmark(sweep.result(), outputs)
    echo(sweep.verdict)


def show_rows(sweep: "Sweep", earlier: Mapping[str, Any] | None, progress: str) -> None:
    """Print each row of the table once it is measured."""
    from resnet_cli.benchmark.report import layout_table, table_line
    from resnet_cli.cli.terminal import above_the_bar, progress_bar, say_left_out

    width = shutil.get_terminal_size(fallback=(WIDE, 24)).columns
    options = sweep.options
    table = layout_table(options.runtimes or (), options.percentiles, earlier, width)
    echo(table.header)
    say_left_out(table.left_out, width)
    with progress_bar(sweep.total, progress, unit="row") as bar:
        for row in sweep.measure():
            with above_the_bar():
                echo(table_line(table, row))
            bar.update()
