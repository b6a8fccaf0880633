"""Damage network files: each must be read rightly, or refused in a sentence, and crash nothing.

Run by hand; five thousand inputs take some minutes of one core:

    python tests/faults/fuzz_graphs.py --count 5000 --seed 0

What is read is loaded by its runtime and run once, as the program does, in a process that may take
two GB more than it has. Input number n of a seed is the same on every run; ``--only n`` repeats it.
"""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import click
import numpy as np
import onnx
from google.protobuf.message import DecodeError

sys.path.extend(str(Path(__file__).parents[2] / part) for part in ("", "tests", "tests/support"))

from faults.harms import HARMS
from faults.processes import ODD, limit_memory, outcomes_of, print_table
from network_files import (
    convert,
    in_half,
    of_pixels,
    quantized,
    save,
    save_external,
    small,
    varied,
    with_softmax,
)
from resnet_cli.errors import CheckpointError
from resnet_cli.graph import Graph, read_graph
from resnet_cli.graph.examine import scores_of
from resnet_cli.graph.openvino_files import find_port

CLEAN = ("ran", "not run", "refused")

Files = Mapping[str, bytes]  # content of each file of a network, by its suffix


def networks(folder: Path) -> dict[str, Files]:
    """Small networks in both formats."""
    made = {
        "small.onnx": save(small(), folder / "small.onnx"),
        "softmax.onnx": save(with_softmax(), folder / "softmax.onnx"),
        "pixels.onnx": save(of_pixels(), folder / "pixels.onnx"),
        "half.onnx": save(in_half(), folder / "half.onnx"),
        "int8.onnx": save(quantized(), folder / "int8.onnx"),
        "external.onnx": save_external(small(), folder / "external.onnx"),
        "varied.onnx": save(varied(), folder / "varied.onnx"),
        "varied.xml": convert(varied(), folder / "varied.xml"),
        "small.xml": convert(small(), folder / "small.xml"),
        "softmax.xml": convert(with_softmax(), folder / "softmax.xml"),
        "half.xml": convert(small(), folder / "half.xml", half=True),
        "int8.xml": convert(quantized(), folder / "int8.xml"),
    }
    return {
        kind: {
            file.name.removeprefix(path.stem): file.read_bytes()
            for file in sorted(folder.glob(f"{path.stem}.*"))
            if file.suffix in ((".xml", ".bin") if path.suffix == ".xml" else (".onnx", ".data"))
        }
        for kind, path in made.items()
    }


NUMBERS = (-1, 0, 1, 2, 3, 9, 255, 65536, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
WORDS = ("", "image", "scores", "c", "Relu", "Gemm", "Loop", "../x", "4", "f16", "x" * 5000)
VALUE = re.compile(rb'="([^"]*)"|>([-0-9]+)<')  # in XML


def change_value(data: bytearray, random: Random) -> None:
    """Write another number or word in place of a value of XML."""
    found = list(VALUE.finditer(data))
    if not found:
        return
    value = random.choice(found)
    begin, end = value.span(value.lastindex or 0)
    words = bytes(data[begin:end]).split(b",")
    words[random.randrange(len(words))] = str(random.choice(NUMBERS + WORDS)).encode()
    data[begin:end] = b",".join(words)


def change_field(data: bytearray, random: Random) -> None:
    """Write another number or word in place of a field of ONNX, or leave one out."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(data))
        owner, name, index = random.choice(list(fields_in(model)))
        if index is None and random.random() < 0.2:
            owner.ClearField(name)
        elif index is None:
            setattr(owner, name, other_value(getattr(owner, name), random))
        elif random.random() < 0.2:
            del getattr(owner, name)[index]
        else:
            values = getattr(owner, name)
            values[index] = other_value(values[index], random)
    except (DecodeError, UnicodeDecodeError, IndexError, TypeError, ValueError):
        return  # another harm has made it unreadable, or the number does not fit
    data[:] = model.SerializeToString()


def fields_in(message: Any) -> Iterator[tuple[Any, str, int | None]]:
    """Yield the owner, the name and the index of every value in a message."""
    for field, value in message.ListFields():
        several = value if field.is_repeated else [value]
        for index, one in enumerate(several):
            if field.message_type is not None:
                yield from fields_in(one)
            else:
                yield message, field.name, index if field.is_repeated else None


def other_value(value: Any, random: Random) -> Any:
    """A value of the same type."""
    if isinstance(value, int):
        return random.choice(NUMBERS)
    if isinstance(value, float):
        return float(random.choice(NUMBERS))
    word = random.choice(WORDS)
    return word.encode() if isinstance(value, bytes) else word


def choose(seed: int, number: int, files: Mapping[str, Files]) -> tuple[str, Files]:
    """The kind of one number, and its files, one of them damaged."""
    random = Random(f"{seed} {number}")
    kind = random.choice(list(files))
    suffix = random.choice(list(files[kind]))
    data = bytearray(files[kind][suffix])
    structural = {".xml": change_value, ".onnx": change_field}.get(suffix)
    harms = (*HARMS, *[structural] * 20) if structural else HARMS
    for _ in range(random.choice((1, 1, 1, 2))):
        if data:
            random.choice(harms)(data, random)
    return kind, dict(files[kind]) | {suffix: bytes(data)}


def outcome(path: Path) -> str:
    """How reading and running a network ended; one of ``CLEAN``, or what must not be."""
    try:
        graph = read_graph(path)
    except CheckpointError as error:
        return "refused" if str(error).isprintable() else f"says {str(error)!r}"
    try:
        images = images_for(graph)
        scores_of(graph, RUNS[graph.format](graph, images), len(images))
    except CheckpointError as error:
        return "refused" if str(error).isprintable() else f"says {str(error)!r}"
    except MemoryError:
        return "no memory"
    except Exception:  # noqa: BLE001 - whatever a library raises
        return "not run"
    return "ran"


def images_for(graph: Graph) -> Any:
    """Black images that a network takes."""
    height, width = graph.size or (8, 8)
    if height * width * graph.channels * (graph.batch or 1) > 1 << 26:
        raise ValueError("larger than any image")
    sizes = {"N": graph.batch or 1, "C": graph.channels, "H": height, "W": width}
    return np.zeros([sizes[axis] for axis in graph.layout], graph.dtype)


def run_onnx(graph: Graph, images: Any) -> Any:
    """Scores by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.path, options, enable_fallback=0)
    return session.run([graph.output], {graph.input: images})[0]


def run_openvino(graph: Graph, images: Any) -> Any:
    """Scores by OpenVINO."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph.path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return compiled([images])[find_port(compiled.outputs, graph.output)]


RUNS: Mapping[str, Callable[[Graph, Any], Any]] = {"onnx": run_onnx, "openvino": run_openvino}


def work(
    answers: Connection, seed: int, numbers: Sequence[int], files: Mapping[str, Files]
) -> None:
    """Read and run inputs one after the other; say how each ended."""
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder), files)
        limit_memory()
        for number in numbers:
            kind, damaged = choose(seed, number, files)
            try:
                answers.send((number, outcome(write(Path(folder), kind, damaged))))
            except Exception as error:  # noqa: BLE001 - the point is which there are
                answers.send((number, f"{type(error).__name__}: {error}"))


def warm_up(folder: Path, files: Mapping[str, Files]) -> None:
    """Import what runs networks before the memory is counted."""
    for kind in ("small.onnx", "small.xml"):
        assert outcome(write(folder, kind, files[kind])) == "ran"


def write(folder: Path, kind: str, files: Files) -> Path:
    """Write the files of a network; return the one that names it."""
    stem, _, suffix = kind.partition(".")
    for ending, data in files.items():
        (folder / f"{stem}{ending}").write_bytes(data)
    return folder / f"{stem}.{suffix}"


@click.command()
@click.option("--count", default=5_000, help="Inputs.")
@click.option("--start", default=0, help="Number of the first.")
@click.option("--seed", default=0, help="Of the random numbers.")
@click.option("--only", type=int, help="The number of one input to read again.")
@click.option("--keep", type=click.Path(path_type=Path), default="fuzzed", help="For what is odd.")
def main(count: int, start: int, seed: int, only: int | None, keep: Path) -> None:
    """Print how many inputs of each kind ended how; exit with 1 if any ended wrongly."""
    with tempfile.TemporaryDirectory() as folder:
        files = networks(Path(folder))
    numbers = range(start, start + count) if only is None else range(only, only + 1)
    table: Counter[tuple[str, str]] = Counter()
    begun = perf_counter()
    for number, ended in outcomes_of(work, seed, numbers, files):
        kind, damaged = choose(seed, number, files)
        table[kind, ended if ended in CLEAN else ODD] += 1
        if ended not in CLEAN:
            (keep / f"{seed}-{number}").mkdir(parents=True, exist_ok=True)
            write(keep / f"{seed}-{number}", kind, damaged)
            click.echo(f"{number} ({kind}): {ended}")
    odd = print_table(table, files, CLEAN)
    click.echo(f"{len(numbers)} inputs of seed {seed} in {perf_counter() - begun:.0f} s, {odd} odd")
    sys.exit(1 if odd else 0)


if __name__ == "__main__":
    main()
