"""``resnet-cli benchmark``: how fast a network runs here."""

from math import isfinite
from pathlib import Path

import click

from resnet_cli.cli.options import (
    OUTPUT,
    POSITIVE,
    compile_each_option,
    debug_option,
    device_option,
    exclude_option,
    hidden_option,
    progress_option,
)
from resnet_cli.cli.sections import Command

PRECISIONS = ("fp32", "bf16", "fp16")

LARGEST = 10**9  # images of a pass; no machine holds them, and torch counts no further than 2^63

LONGEST = 40  # characters of a wrong value that are repeated


def parse_sizes(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Read batch sizes with commas between them."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:  # int() takes no more than some thousand digits either
        raise click.BadParameter(f"{value[:LONGEST]!r} is not like 1,8,32") from None
    if not all(1 <= size <= LARGEST for size in found):
        raise click.BadParameter(f"{value[:LONGEST]!r} is not of 1 to {LARGEST:,} images each")
    return found


def check_seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """See that a duration comes to an end."""
    if not (isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is not a number of seconds above 0")
    return value


def parse_precisions(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Read precisions with commas between them."""
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if not set(parts) <= set(PRECISIONS):
        raise click.BadParameter(f"{value!r} is not some of {', '.join(PRECISIONS)}")
    return parts


def parse_percents(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    """Read percentiles with commas between them."""
    try:
        found = tuple(dict.fromkeys(as_shown(part) for part in value.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 <= percent <= 100 for percent in found):
        raise click.BadParameter(f"{value[:LONGEST]!r} is not percents such as 50,90,99")
    return found


def as_shown(text: str) -> float:
    """A number with no more digits than its name has: p99.9."""
    return float(f"{float(text):g}") + 0.0  # which makes nothing of the sign of zero


@click.command(cls=Command)
@click.argument("subject", metavar="[MODEL or CHECKPOINT]", default="resnet18")
@device_option
@click.option(
    "-b",
    "--batch-size",
    "batch_sizes",
    callback=parse_sizes,
    metavar="N,N,…",
    default="1,8,32",
    help="Images in one pass: each of them is measured.",
)
@click.option(
    "--precision",
    "wanted_precisions",
    callback=parse_precisions,
    metavar="NAME,…",
    default="fp32",
    help="Arithmetic of the network, fp32, bf16, fp16: each of them is measured.",
)
@compile_each_option
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    show_default="all cores",
    help="CPU threads: streams of the network on the CPU, decoders in front of a GPU.",
)
@click.option(
    "--img-size",
    type=click.IntRange(32, 16384),
    metavar="N",
    default=224,
    help="Pixels of a side of the images.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    show_default="none",
    help="Folder of images: measures predict from files to labels as well.",
)
@exclude_option
@hidden_option
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    default=3,
    help="Passes of each stream that are not counted.",
)
@click.option(
    "--duration",
    type=float,
    callback=check_seconds,
    metavar="S",
    default=3.0,
    help="Seconds of each row, three passes at the least.",
)
@click.option(
    "--iters",
    type=POSITIVE,
    metavar="N",
    show_default="as many as --duration has room for",
    help="Passes of each stream in place of --duration.",
)
@click.option(
    "--percentiles",
    callback=parse_percents,
    metavar="P,P,…",
    default="50,90,99",
    help="Percent of the batches whose latency is shown.",
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
@click.option("--overwrite", is_flag=True, help="Write over existing files.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    show_default="none",
    help="An earlier .json: shows how much faster each row is, and what else differs.",
)
@progress_option
@debug_option
def benchmark_command(
    *,
    subject: str,
    device: str,
    batch_sizes: tuple[int, ...],
    wanted_precisions: tuple[str, ...],
    compile: bool,
    workers: int | None,
    img_size: int,
    images: Path | None,
    exclude: tuple[str, ...],
    hidden: bool,
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

    MODEL is one of the ten ResNets by name, with random weights: nothing is downloaded. CHECKPOINT
    is a file; without either it is resnet18. Throughput, latency of a batch, and the share of what
    this machine can do at that precision, measured in the same run; a ~ marks figures that spread
    too widely to be trusted.
    """
    from resnet_cli.benchmark import BenchmarkSettings
    from resnet_cli.benchmark.compare import read_benchmark
    from resnet_cli.benchmark.subject import Photographs, find_measured
    from resnet_cli.benchmark.sweep import as_they_run
    from resnet_cli.benchmark.timing import Effort
    from resnet_cli.cli.sweep import check_benchmark_outputs, run_benchmark
    from resnet_cli.cli.terminal import showing_notes_of_images
    from resnet_cli.runtimes import find_runtime
    from resnet_cli.sources.folders import Sieve
    from resnet_cli.system import available_cores

    check_benchmark_outputs(outputs, overwrite=overwrite)
    earlier = None if compare is None else read_benchmark(compare)
    with showing_notes_of_images():
        runtime = find_runtime(device)
        settings = BenchmarkSettings(
            runtime=runtime,
            batch_sizes=batch_sizes,
            precisions=as_they_run(wanted_precisions, runtime),
            compiled=compile,
            workers=workers or available_cores(),
            img_size=img_size,
            photographs=None if images is None else Photographs(images, Sieve(hidden, exclude)),
            effort=Effort(warmup, duration, iters),
            percentiles=percentiles,
        )
        run_benchmark(find_measured(subject), settings, outputs, earlier=earlier, progress=progress)
