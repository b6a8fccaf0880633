"""A benchmark for people: its table, the verdict, and what differs from an earlier benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from resnet_cli.benchmark.rows import BenchmarkRow, RowKey, fastest_row, row_key
from resnet_cli.benchmark.timing import Stages
from resnet_cli.display import TableColumn, TextTable
from resnet_cli.text import amount

DROPPED = ("GFLOP/s", "MB", "peak")
"""Columns that a narrow terminal leaves out, in this order; files always have them."""

BUSY = 0.8  # of its speed alone, from which a stage is what the others wait for
RISING = 1.05  # times the speed of the next smaller batch

SWEEP = frozenset({"batch_sizes", "images", "percentiles", "precisions", "runtimes"})
"""Settings that say which rows there are: their differences share one line."""

NOTICED = frozenset({"date", "other_work", "convolutions"})
"""What of an environment is known only once all is measured, or always differs."""

DOUBTFUL = ("noisy", "disturbed")
"""Statuses of figures that are marked."""

SHOWN = 60  # characters of a value

MODE: TableColumn[BenchmarkRow] = TableColumn(
    title="mode", text=lambda row: row.mode, width=len("end-to-end")
)

SETTINGS: tuple[TableColumn[BenchmarkRow], ...] = (
    TableColumn(title="prec", text=lambda row: row.precision),
    TableColumn(title="batch", text=lambda row: str(row.batch_size), align="right"),
)

SPEED: TableColumn[BenchmarkRow] = TableColumn(
    title="images/s",
    text=lambda row: three_digits(row.images_per_second) + noise_mark(row),
    align="right",
)

COSTS: tuple[TableColumn[BenchmarkRow], ...] = (
    TableColumn(title="GFLOP/s", text=lambda row: three_digits(row.gflops), align="right"),
    TableColumn(title="peak", text=lambda row: peak_cell(row), align="right", width=5),
    TableColumn(title="MB", text=lambda row: memory_cell(row), align="right", width=5),
)


def setting_columns(runtimes: Sequence[str]) -> list[TableColumn[BenchmarkRow]]:
    """Return the columns before the figures; torch alone need not be named in every row."""
    wide = max(map(len, runtimes))
    runtime = TableColumn[BenchmarkRow](title="runtime", text=lambda row: row.runtime, width=wide)
    return [MODE, *([runtime] if set(runtimes) != {"torch"} else []), *SETTINGS]


def layout_table(
    runtimes: Sequence[str],
    percentiles: Sequence[float],
    earlier: Mapping[str, Any] | None,
    width: int,
) -> TextTable[BenchmarkRow]:
    """Lay out the table of a benchmark, whose rows are printed as they are measured.

    Args:
        runtimes: that are measured.
        percentiles: of the latency.
        earlier: record of a benchmark to compare with, for a column of ratios.
        width: terminal cells of a line.
    """
    latencies = [
        TableColumn(
            title=f"p{percent:g} ms",
            text=partial(latency_cell, name=f"p{percent:g}"),
            align="right",
            width=6,
        )
        for percent in percentiles
    ]
    columns = [*setting_columns(runtimes), SPEED, *latencies, *COSTS]
    if earlier is not None:
        ratio = partial(ratio_cell, before=rows_with_speed(earlier))
        columns.append(TableColumn(title="ratio", text=ratio, align="right"))
    return TextTable.fit(columns, width=width, dropped=DROPPED)


def table_line(table: TextTable[BenchmarkRow], row: BenchmarkRow) -> str:
    """Return the line of a row; one that was not measured says why in place of its figures."""
    if row.images_per_second is not None:
        return table.line(row)
    titles = [column.title for column in table.columns]
    settings = table.columns[: titles.index(SPEED.title)]
    return table.join([*(column.text(row) for column in settings), row.status])


def three_digits(value: float | None) -> str:
    """Return a figure with one decimal, or none from a thousand on."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def peak_cell(row: BenchmarkRow) -> str:
    """Return the share of the machine's peak, marked where it is above 100 %."""
    if row.peak_share is None:
        return ""
    return f"{row.peak_share:.0%}" + "~" * (row.peak_share > 1)


def memory_cell(row: BenchmarkRow) -> str:
    """Return the peak of memory in megabytes."""
    return f"{(row.peak_memory_bytes or 0) / 1e6:.0f}"


def noise_mark(row: BenchmarkRow) -> str:
    """Return the mark of a figure that varies too much to be trusted, or nothing."""
    return "~" if row.status in DOUBTFUL else ""


def latency_cell(row: BenchmarkRow, *, name: str) -> str:
    """Return the latency of a batch at one percentile, in milliseconds."""
    return three_digits(row.latency_ms.get(name))


def ratio_cell(row: BenchmarkRow, *, before: Mapping[RowKey, Mapping[str, Any]]) -> str:
    """Return the speed over the earlier one, marked if either is doubtful; nothing without both."""
    then = before.get(row_key(row.record()))
    if then is None:
        return ""
    mark = "~" if then.get("status") in DOUBTFUL else noise_mark(row)
    return f"{row.speed / then['images_per_second']:.2f}{mark}"


def rows_with_speed(earlier: Mapping[str, Any]) -> dict[RowKey, Mapping[str, Any]]:
    """Return the measured rows of a benchmark's record by what identifies them."""
    return {row_key(row): row for row in earlier["rows"] if row["images_per_second"]}


def compare_settings(
    now: Mapping[str, Mapping[str, Any]], model: str, earlier: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what differs from an earlier benchmark: a ratio means little between two machines.

    Args:
        now: ``environment`` and ``settings``.
        model: that is measured.
        earlier: from ``read_benchmark``.
    """
    models = sorted({row["model"] for row in earlier["rows"]})
    if models != [model]:
        yield f"model: {cut_value(', '.join(models))} then, {model} now"
    sweep = []
    for part in ("environment", "settings"):
        for name in sorted(earlier[part].keys() | now[part].keys()):
            before, after = (record[part].get(name) for record in (earlier, now))
            if before == after or name in NOTICED:
                continue
            difference = f"{cut_value(name)}: {cut_value(before)} then, {cut_value(after)} now"
            if name in SWEEP:
                sweep.append(difference)
            else:
                yield difference
    if sweep:
        yield "; ".join(sweep)


def cut_value(value: object) -> str:
    """Return a value as text, cut where it is long."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "none" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices that the user made, and those that were possible."""

    compiling: frozenset[str]  # precisions without torch.compile in which it would be faster
    workers: int  # threads
    cores: int  # that this process may use
    bf16: bool = True  # the device has arithmetic for it
    on_workers_cores: bool = True  # the network runs where the images are decoded
    int8: bool = False  # the network could be quantised, and was not
    agreement: str = ""  # of the fastest setting with fp32, in words


def state_verdict(rows: Sequence[BenchmarkRow], options: Choices) -> str:
    """Say what limits the speed here, and which option would change it.

    Args:
        rows: of one benchmark, at least one.
        options: of that benchmark.
    """
    best = fastest_row(rows)
    if best is None:
        smallest = min(row.batch_size for row in rows)
        return (
            f"nothing could be measured: out of memory at --batch-size {smallest}: try a smaller "
            "one, or a smaller --img-size"
        )
    measured = [row for row in rows if row.images_per_second is not None]
    sentences = [name_limit(best, measured, options)]
    if options.agreement:
        sentences.append(options.agreement)
    for doubt, doubtful in list_doubts(measured):
        sentences.insert(0 if best in doubtful else 1, doubt)
    if len(measured) < len(rows):
        smallest = min(row.batch_size for row in rows if row.images_per_second is None)
        sentences.append(f"out of memory from --batch-size {smallest}")
    return "; ".join(sentences)


def list_doubts(
    measured: Sequence[BenchmarkRow],
) -> Iterator[tuple[str, Sequence[BenchmarkRow]]]:
    """Yield what makes figures doubtful, in words, and those figures."""
    noisy, disturbed = ([row for row in measured if row.status == kind] for kind in DOUBTFUL)
    among = f"of {amount(len(measured), 'row')}"
    if noisy:
        spread = "spreads" if len(noisy) == 1 else "spread"
        yield (
            f"too noisy: {len(noisy)} {among} {spread} too widely to be trusted: let nothing else "
            "run, or measure longer with --duration",
            noisy,
        )
    if disturbed:
        most = max(row.other_work or 0 for row in disturbed)
        is_slower = "is" if len(disturbed) == 1 else "are"
        yield (
            f"disturbed: other work took up to {most:.0%} of the cores: {len(disturbed)} {among} "
            f"{is_slower} faster when nothing else runs",
            disturbed,
        )


def name_limit(best: BenchmarkRow, measured: Sequence[BenchmarkRow], options: Choices) -> str:
    """Say what limits the speed of a row, unless its figures are too doubtful to tell."""
    described = describe_row(best, measured)
    if best.status == "disturbed":
        return f"{described}, with what other work left"
    if best.status == "noisy":
        return described
    if best.stages is not None:
        if options.on_workers_cores:
            if best.stages.prepare_ms > best.stages.forward_ms:
                return f"decode-bound: {described}: {advise_decoders(options)}"
        elif best.speed < BUSY * speed_alone(best, best.stages, measured):
            if best.speed > BUSY * 1000 * options.workers / best.stages.prepare_ms:
                return f"decode-bound: {described}: {advise_decoders(options)}"
            return (
                f"transfer-bound: {described}, though neither decoding nor the network is "
                "busy: a larger --batch-size makes fewer and larger copies"
            )
    return f"compute-bound: {described}: {give_advice(best, measured, options)}"


def speed_alone(row: BenchmarkRow, stages: Stages, measured: Sequence[BenchmarkRow]) -> float:
    """Return the images per second of the network alone, in the setting of an end-to-end row."""
    alone = replace(row, mode="forward")
    same = [other for other in alike(alone, measured) if other.batch_size == row.batch_size]
    return max((other.speed for other in same), default=1000 / stages.forward_ms)


def alike(row: BenchmarkRow, measured: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Return the rows that differ from a row by their batch size alone."""
    kind = (row.mode, row.runtime, row.precision)
    return [other for other in measured if (other.mode, other.runtime, other.precision) == kind]


def advise_decoders(options: Choices) -> str:
    """Say what makes decoding faster."""
    if options.workers < options.cores:
        return f"try --workers {options.cores}, of which {options.workers} were used"
    return f"images of fewer pixels or more cores than --workers {options.workers} would help"


def give_advice(best: BenchmarkRow, measured: Sequence[BenchmarkRow], options: Choices) -> str:
    """Name the options that were not tried and may be faster."""
    untried = []
    if options.bf16 and {row.precision for row in measured} == {"fp32"}:
        untried.append("--precision bf16")
    if options.int8 and options.on_workers_cores:
        untried.append("--precision int8")
    if best.precision in options.compiling:
        untried.append("--compile")
    if is_rising(best, measured):
        untried.append(f"a --batch-size over {best.batch_size}")
    if options.on_workers_cores and options.workers < options.cores:
        untried.append(f"--workers {options.cores}")
    return f"try {' or '.join(untried)}" if untried else "only a smaller --img-size would be faster"


def is_rising(best: BenchmarkRow, measured: Sequence[BenchmarkRow]) -> bool:
    """Return True if the largest batch is clearly faster than the next smaller one."""
    others = alike(best, measured)
    smaller = [row for row in others if row.batch_size < best.batch_size]
    if not smaller or best.batch_size < max(row.batch_size for row in others):
        return False
    return best.speed > RISING * max(smaller, key=lambda row: row.batch_size).speed


def describe_row(row: BenchmarkRow, measured: Sequence[BenchmarkRow]) -> str:
    """Say which setting a row has, and how fast it is."""
    share = "" if row.peak_share is None else f", {row.peak_share:.0%} of this machine's peak"
    if (row.peak_share or 0) > 1:
        share += (
            " (3x3 convolutions take fewer multiplications than are counted, or this machine was "
            "slower while its peak was measured)"
        )
    runtime = "" if row.runtime == "torch" else f" by {row.runtime}"
    return (
        f"{row.mode} in {row.precision}{runtime} with --batch-size {row.batch_size} is fastest, "
        f"{row.speed:.1f} images/s{state_gain(row, measured)}{share}"
    )


def state_gain(row: BenchmarkRow, measured: Sequence[BenchmarkRow]) -> str:
    """Say how many times faster a row is than torch in fp32, at the best batch size of each."""
    plain = replace(row, runtime="torch", precision="fp32")
    speed = max((other.speed for other in alike(plain, measured) if is_plain(other)), default=None)
    if speed is None or is_plain(row):
        return ""
    return f", {row.speed / speed:.2f} times torch in fp32"


def is_plain(row: BenchmarkRow) -> bool:
    """Return True for torch in fp32 without its compiler."""
    return (row.runtime, row.precision, row.compiled) == ("torch", "fp32", False)
