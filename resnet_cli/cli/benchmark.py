"""``resnet-cli benchmark``: how fast a network runs here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_cli.cli.options import POSITIVE, debug_option, progress_option
from resnet_cli.errors import OutputError

if TYPE_CHECKING:
    from resnet_cli.benchmark import Benchmark, Settings
    from resnet_cli.checkpoint import Checkpoint

PRECISIONS = ("fp32", "bf16", "fp16")

SUFFIXES = (".json", ".csv", ".png")


def sizes(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Read batch sizes with commas between them."""
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not like 1,8,32")
    return tuple(dict.fromkeys(map(int, parts)))


def precisions(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Read precisions with commas between them."""
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if not set(parts) <= set(PRECISIONS):
        raise click.BadParameter(f"{value!r} is not some of {', '.join(PRECISIONS)}")
    return parts


def percents(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    """Read percentiles with commas between them."""
    try:
        found = tuple(dict.fromkeys(float(part) for part in value.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 <= percent <= 100 for percent in found):
        raise click.BadParameter(f"{value!r} is not like 50,90,99")
    return found


@click.command()
@click.argument("subject", metavar="[MODEL or CHECKPOINT]", default="resnet18")
@click.option(
    "--device",
    metavar="NAME",
    default="auto",
    help="Where the network runs: auto, cpu, cuda, cuda:1, mps.",
)
@click.option(
    "-b",
    "--batch-size",
    "batch_sizes",
    callback=sizes,
    metavar="N,N,…",
    default="1,8,32",
    help="Images in one pass: each of them is measured.",
)
@click.option(
    "--precision",
    "wanted_precisions",
    callback=precisions,
    metavar="NAME,…",
    default="fp32",
    help="Arithmetic of the network, fp32, bf16, fp16: each of them is measured.",
)
@click.option(
    "--compile/--no-compile",
    default=False,
    help="Run through torch.compile, anew for each batch size.",
)
@click.option(
    "-j",
    "--workers",
    type=POSITIVE,
    metavar="N",
    show_default="all cores",
    help="CPU threads: streams of the network on the CPU, decoders in front of a GPU.",
)
@click.option(
    "--img-size",
    type=click.IntRange(min=32),
    metavar="N",
    default=224,
    help="Pixels of a side of the pictures.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    show_default="none",
    help="Photographs: measures predict from files to labels as well.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    default=3,
    help="Passes of each stream that are not counted.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
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
    callback=percents,
    metavar="P,P,…",
    default="50,90,99",
    help="Percent of the batches whose latency is shown.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(path_type=Path),
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
def benchmark(
    subject: str,
    device: str,
    batch_sizes: tuple[int, ...],
    wanted_precisions: tuple[str, ...],
    compile: bool,
    workers: int | None,
    img_size: int,
    images: Path | None,
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
    is a file. Throughput, latency of a batch, and the share of what this machine can do at that
    precision, measured in the same run; a ~ marks figures that spread too widely to be trusted.
    """
    from resnet_cli.benchmark import Settings
    from resnet_cli.benchmark.compare import read_benchmark
    from resnet_cli.benchmark.subject import find_measured
    from resnet_cli.benchmark.timing import Effort
    from resnet_cli.devices import available_cores, find_device

    check_outputs(outputs, overwrite=overwrite)
    earlier = None if compare is None else read_benchmark(compare)
    settings = Settings(
        device=find_device(device),
        batch_sizes=batch_sizes,
        precisions=wanted_precisions,
        compiled=compile,
        workers=workers or available_cores(),
        img_size=img_size,
        images=images,
        effort=Effort(warmup, duration, iters),
        percentiles=percentiles,
    )
    result = run(find_measured(subject), settings, earlier, progress)
    for path in outputs:
        write(result, path)


def check_outputs(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse, before anything is measured, what could not be written."""
    from resnet_cli.writers import check_new

    for path in outputs:
        if path.suffix.lower() not in SUFFIXES:
            raise OutputError(
                f"cannot write {path}: the suffix must be one of {', '.join(SUFFIXES)}"
            )
        check_new(path, overwrite=overwrite)


def run(
    checkpoint: "Checkpoint",
    settings: "Settings",
    earlier: Mapping[str, Any] | None,
    progress: str,
) -> "Benchmark":
    """Measure, and show each row as soon as there is one."""
    from resnet_cli.benchmark import Benchmark, measure
    from resnet_cli.benchmark.compare import differences, speeds
    from resnet_cli.benchmark.environment import environment
    from resnet_cli.benchmark.formats import aligned, cells, header, widths
    from resnet_cli.benchmark.verdict import verdict
    from resnet_cli.cli.terminal import above_the_bar, note, progress_bar, showing_notes

    where = environment(settings.device, settings.workers)
    note(
        f"{checkpoint.model} on {where['device']}, {settings.workers} workers, "
        f"torch {where['torch']}"
    )
    before = None if earlier is None else speeds(earlier)
    compared = before is not None
    columns = widths(settings.percentiles, compared=compared)
    click.echo(aligned(header(settings.percentiles, compared=compared), columns))
    rows = []
    with showing_notes(), progress_bar(settings.total, progress, unit="row") as bar:
        for row in measure(checkpoint, settings):
            rows.append(row)
            with above_the_bar():
                click.echo(aligned(cells(row, before), columns))
            bar.update()
    said = verdict(rows, compiled=settings.compiled, workers=settings.workers)
    click.echo(said)
    result = Benchmark(where, settings.record(), tuple(rows), said)
    for difference in () if earlier is None else differences(result, earlier):
        note(f"not the same, {difference}", "Warning")
    return result


def write(result: "Benchmark", path: Path) -> None:
    """Write a benchmark as the suffix of the file says."""
    from resnet_cli.benchmark.formats import as_csv, as_json

    if path.suffix.lower() == ".png":
        from resnet_cli.benchmark.plot import plot

        plot(result, path)
    else:
        text = as_json(result) if path.suffix.lower() == ".json" else as_csv(result)
        path.write_text(text, encoding="utf-8")
