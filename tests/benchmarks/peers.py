"""Time ``predict`` beside what people would use in its place: same photographs, same checkpoint.

Run by hand on a machine that does nothing else, with the ``bench`` extra:

    python tests/benchmarks/peers.py PHOTOS --checkpoint resnet18=FILE

Each contender lives in a process of its own, is asked for few images and for many in turn with all
the others, round after round, and its speed is the slope between the two: what it takes to begin
is left out, and told on its own (from nothing to the first label). Ratios are taken round by round.
At the end stands what int8 and the other runtimes have to reach, and what a whole process takes for
one photograph with a network file in place of a checkpoint. A model without a checkpoint has random
weights: the same work, and labels that mean nothing.
The roofline is the best forward pass and the decoder alone, on the same core one after the other;
"others" is the same of the forward passes that are not ours, and "its own" of the very network that
a contender of ours runs: what that leaves is lost between the two.
"""

import multiprocessing as mp
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.contenders import CONTENDERS, SIZES, Task

CORES = 2  # of the machine that the figures in README are of; -j says otherwise

# fmt: off
BASES = {  # what each of ours is held against
    "fp32": (
        "tutorial loop", "timm fp32", "ONNX Runtime fp32, our decoder",
        "OpenVINO fp32, our decoder", "roofline fp32", "roofline fp32, others",
    ),
    "bf16": (
        "tutorial loop", "timm bf16 channels-last", "OpenVINO bf16, our decoder", "roofline bf16",
        "roofline bf16, others",
    ),
    "int8": ("tutorial loop", "timm bf16 channels-last", "predict fp32", "predict bf16"),
}
# fmt: on

GOALS = (  # of ours, what it is held against, and the least ratio
    ("predict int8", "predict fp32", 2.5),
    ("predict int8", "tutorial loop", 5.0),
    ("predict int8", "timm bf16 channels-last", 2.2),
    ("predict int8", "roofline int8, its own", 0.92),
    ("predict bf16 by openvino", "OpenVINO bf16, our decoder", 0.97),
)

LONGEST_START, LARGEST_START = 1.0, 0.35  # seconds for one photograph; and of what a .pth takes


def serve(name: str, task: Task, pipe: Connection) -> None:
    """Be one contender: prepare, then label so many images as often as asked."""
    paths = sorted(str(path) for path in task.folder.glob("*.jpg"))
    label = CONTENDERS[name](task)
    label(paths[:1])
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            count = pipe.recv()
            begun = perf_counter()
            labels = label(paths[:count])
            pipe.send((perf_counter() - begun, labels))


class Contender:
    """The parent's end of a process."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        begun = perf_counter()
        self.process = context.Process(target=serve, args=(name, task, theirs))
        self.process.start()
        theirs.close()
        self.pipe.recv()
        self.start_s = perf_counter() - begun
        self.rates: list[float] = []
        self.labels: list[int] = []

    def time(self, count: int) -> float:
        """Seconds for so many images."""
        self.pipe.send(count)
        seconds, self.labels = self.pipe.recv()
        return float(seconds)

    def round(self, few: int, many: int) -> None:
        """One slope."""
        short, long = self.time(few), self.time(many)
        self.rates.append((many - few) / (long - short))


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, type=click.Choice([*SIZES]), default=[*SIZES])
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="MODEL=FILE")
@click.option("--rounds", default=5, help="Rounds, after one that is not counted.")
@click.option("--few", type=int, help="Images of the short run, in place of the usual number.")
@click.option("--many", type=int, help="Images of the long run, in place of the usual number.")
@click.option("-j", "--workers", default=CORES, help="Cores.")
@click.option("--busy", default=0, help="Other processes that compute all the while.")
@click.option("--only", multiple=True, help="Names (or parts of them) of contenders; all if none.")
def main(
    photos: Path,
    models: tuple[str, ...],
    checkpoints: tuple[str, ...],
    rounds: int,
    few: int | None,
    many: int | None,
    workers: int,
    busy: int,
    only: tuple[str, ...],
) -> None:
    """Print images per second of each contender, and the ratios that matter, for each model."""
    files = dict(one.split("=", 1) for one in checkpoints)
    for model in models:
        usual_few, usual_many = SIZES[model]
        with TemporaryDirectory() as folder, others(busy):
            os.environ["RESNET_CLI_CACHE"] = str(Path(folder, "cache"))  # begins are those without
            file = Path(files[model]) if model in files else random_weights(model, Path(folder))
            task = Task(Path(folder, "photos"), file.resolve(), model, workers)
            link_photos(photos, task.folder, many or usual_many)
            click.echo(f"\n{model}")
            names = [name for name in CONTENDERS if not only or any(part in name for part in only)]
            contenders = [started(name, task) for name in names]
            starts = Starts(task)
            for number in range(rounds + 1):
                for contender in contenders:
                    contender.round(few or usual_few, many or usual_many)
                starts.round()
                click.echo(f"round {number} of {rounds} done", err=True)
            for contender in contenders:
                contender.pipe.close()
                contender.process.join()
            report(contenders, starts)


def random_weights(model: str, folder: Path) -> Path:
    """Save a model without training."""
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    path = folder / f"{model}.pth"
    torch.save(get_model(model, weights=None).state_dict(), path)
    return path


def link_photos(photos: Path, folder: Path, count: int) -> None:
    """Fill a folder with links to photographs, again and again until there are enough."""
    from resnet_cli.sources import find_inputs

    folder.mkdir()
    paths = islice(cycle([item.path for item in find_inputs([str(photos)]).known]), count)
    for number, path in enumerate(paths):
        (folder / f"{number:06}.jpg").symlink_to(Path(path).resolve())


class Starts:
    """Whole processes that classify one photograph: with a checkpoint, and with a network file."""

    def __init__(self, task: Task) -> None:
        from resnet_cli import Classifier

        self.photo = min(task.folder.glob("*.jpg"))
        converted = Classifier.load(task.checkpoint, device="cpu", runtime="openvino").graph
        assert converted is not None
        self.files = {"with the checkpoint": task.checkpoint, "with a .xml": converted.path}
        self.seconds: dict[str, list[float]] = {name: [] for name in self.files}

    def round(self) -> None:
        """One process each."""
        for name, file in self.files.items():
            begun = perf_counter()
            words = [
                sys.executable,
                "-m",
                "resnet_cli",
                "predict",
                str(self.photo),
                "-c",
                str(file),
            ]
            subprocess.run(words, check=True, capture_output=True)
            self.seconds[name].append(perf_counter() - begun)

    def report(self) -> None:
        """Print the medians without the first round, and their ratio."""
        without, with_file = (values[1:] for values in self.seconds.values())
        for name, values in self.seconds.items():
            spread = f"({min(values[1:]):.2f}, {max(values[1:]):.2f})"
            click.echo(f"one photograph {name:23}  {median(values[1:]):8.2f} s  {spread}")
        ratio = median(one / other for one, other in zip(with_file, without, strict=True))
        reached = median(with_file) <= LONGEST_START and ratio <= LARGEST_START
        click.echo(
            f"{verdict(reached)}: {median(with_file):.2f} s of at most {LONGEST_START}, and "
            f"{ratio:.2f} of at most {LARGEST_START} of what the checkpoint takes"
        )


@contextmanager
def others(count: int) -> Iterator[None]:
    """Let other processes compute meanwhile."""
    processes = [mp.get_context("spawn").Process(target=compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.kill()


def compute() -> None:
    """Keep a core busy."""
    while True:
        pass


def started(name: str, task: Task) -> Contender:
    """Start one contender, and say so."""
    contender = Contender(name, task)
    click.echo(f"{name}: first label after {contender.start_s:.1f} s", err=True)
    return contender


def report(contenders: Sequence[Contender], starts: Starts) -> None:
    """Print speeds, then ratios, then what is to be reached."""
    rates = {contender.name: contender.rates[1:] for contender in contenders}
    rates |= rooflines(rates)
    begins = {contender.name: f"{contender.start_s:.1f}" for contender in contenders}
    click.echo(f"{'':38}  images/s  (least, most)    start s")
    for name, values in rates.items():
        spread = f"({min(values):.1f}, {max(values):.1f})"
        click.echo(f"{name:38}  {median(values):8.1f}  {spread:16} {begins.get(name, ''):>6}")
    click.echo()
    for name in rates:
        if name.startswith("predict "):
            compare(name, rates)
    agree(contenders)
    click.echo()
    for ours, base, least in GOALS:
        if ours in rates and base in rates:
            ratio = median(ratios_of(rates[ours], rates[base]))
            click.echo(
                f"{verdict(ratio >= least)}: {ratio:.2f} of at least {least}: {ours} against {base}"
            )
    starts.report()


def verdict(reached: bool) -> str:
    """Say whether a goal is reached."""
    return "reached" if reached else "MISSED "


def ratios_of(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def rooflines(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """Every roofline that there are rates for."""
    passes = {name: values for name, values in rates.items() if name.startswith("forward")}
    found: dict[str, list[list[float]]] = {}
    for precision in BASES:
        alike = {name: values for name, values in passes.items() if precision in name}
        found[f"roofline {precision}"] = [*alike.values()]
        found[f"roofline {precision}, others"] = [v for n, v in alike.items() if "ours" not in n]
    for name in rates:
        if name.startswith("predict "):
            alone = passes.get(name.replace("predict", "forward alone: ours"))
            found[its_own(name)] = [alone] if alone else []
    lines = {name: roofline(values, rates.get("decoder alone")) for name, values in found.items()}
    return {name: line for name, line in lines.items() if line}


def roofline(passes: Sequence[list[float]], decoder: list[float] | None) -> list[float]:
    """Images/s of the best forward pass and the decoder alone, one after the other on a core."""
    if not passes or not decoder:
        return []
    best = [max(values) for values in zip(*passes, strict=True)]
    return [1 / (1 / network + 1 / files) for network, files in zip(best, decoder, strict=True)]


def its_own(name: str) -> str:
    """The roofline of the network that one of ours runs."""
    return name.replace("predict", "roofline") + ", its own"


def compare(name: str, rates: dict[str, list[float]]) -> None:
    """Print the ratios of one of ours, round by round."""
    precision = name.split()[1]
    for base in (*BASES[precision], its_own(name)):
        if base in rates:
            ratios = ratios_of(rates[name], rates[base])
            spread = f"({min(ratios):.2f}, {max(ratios):.2f})"
            click.echo(f"{name:24} against {base:32} {median(ratios):5.2f}  {spread}")


def agree(contenders: Sequence[Contender]) -> None:
    """Print how many labels differ from those of the tutorial loop."""
    by_name = {contender.name: contender.labels for contender in contenders}
    expected = by_name.get("tutorial loop")
    for name, labels in by_name.items():
        if expected and "alone" not in name and not name.startswith("transformers"):
            flips = sum(a != b for a, b in zip(expected, labels, strict=True))
            click.echo(f"{flips} of {len(labels)} labels differ: {name}")


if __name__ == "__main__":
    main()
