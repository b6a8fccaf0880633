"""Everything that wants a GPU, in at most ten minutes: tests, labels against the CPU's, speed.

Run by hand on a machine with one, from the root of the repository:

    python tests/benchmarks/gpu.py PHOTOS CHECKPOINT --out gpu/

Photographs are linked until there are ``--count`` files. Each is classified in fp32, bf16 and fp16,
plain and compiled, and its row is held against the CPU's in fp32. A step that fails or takes too
long is reported, and the next one goes on; what was printed and measured stays in ``--out``.
``--device cpu`` with a small ``--count`` tries the script itself where there is no GPU.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click

REPOSITORY = Path(__file__).parents[2]
PHOTOS = REPOSITORY / "sample_images"
CHECKPOINT = REPOSITORY / "checkpoints" / "ants_bees_resnet18.safetensors"

PRECISIONS = {"fp32": (0.999, 1e-3), "bf16": (0.97, 0.1), "fp16": (0.99, 0.02)}
"""The least share of equal labels, and the largest difference of a probability where they are."""

MODELS = ("resnet18", "resnet50")

PROGRAM = (sys.executable, "-m", "resnet_cli")

Row = Mapping[str, str]


@dataclass
class Report:
    """Steps under one clock; what each gave."""

    out: Path
    limit: float  # seconds for all
    begun: float = field(default_factory=perf_counter)
    failures: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def run(self, name: str, words: Sequence[object], most: float) -> float | None:
        """Run a command, and return its seconds; None if it failed or there was no time for it."""
        left = min(most, self.limit - (perf_counter() - self.begun))
        begun = perf_counter()
        log = self.out / f"{name}.log"
        log.unlink(missing_ok=True)
        try:
            if left <= 0:
                raise subprocess.TimeoutExpired(name, 0)
            with log.open("w") as file:
                subprocess.run(
                    list(map(str, words)), stdout=file, stderr=file, check=True, timeout=left
                )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            last = log.read_text().splitlines()[-1:] if log.exists() else []
            self.fail(name, f"{type(error).__name__} after {max(left, 0):.0f} s at most: {last}")
            return None
        seconds = perf_counter() - begun
        click.echo(f"{name}: {seconds:.1f} s")
        return seconds

    def fail(self, name: str, reason: str) -> None:
        """Note what is wrong."""
        self.failures.append(f"{name}: {reason}")
        click.echo(f"FAILED {name}: {reason}")

    def save(self) -> None:
        """Write everything that was measured."""
        text = json.dumps({"failures": self.failures, **self.results}, indent=1)
        (self.out / "gpu.json").write_text(text)


def link_photos(photos: Path, folder: Path, count: int) -> dict[str, str]:
    """Fill a folder with links; return the photograph behind each path in it."""
    from resnet_cli.sources import find_inputs

    folder.mkdir()
    behind = {}
    paths = [Path(item.path).resolve() for item in find_inputs([str(photos)]).known]
    for number, path in enumerate(islice(cycle(paths), count)):
        link = folder / f"{number:06}{path.suffix}"
        link.symlink_to(path)
        behind[str(link)] = str(path)
    return behind


def rows_of(path: Path) -> list[Row]:
    """Read the rows of a run."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def classify(
    report: Report, name: str, source: Path, words: Sequence[object]
) -> tuple[list[Row], float] | None:
    """Classify a folder; return the rows and the seconds."""
    rows = report.out / f"{name}.csv"
    seconds = report.run(
        name, [*PROGRAM, "predict", source, *words, "-q", "--overwrite", "-o", rows], 150
    )
    return None if seconds is None else (rows_of(rows), seconds)


def compare(
    rows: Sequence[Row], behind: Mapping[str, str], expected: Mapping[str, Row]
) -> dict[str, Any]:
    """Hold rows against those of the CPU, photograph by photograph."""
    pairs = [(row, expected[behind[row["path"]]]) for row in rows]
    equal = [(one, other) for one, other in pairs if one["label"] == other["label"]]
    differences = [
        abs(float(one["prob"]) - float(other["prob"])) for one, other in equal if one["prob"]
    ]
    return {
        "rows": len(rows),
        "in_order": [row["path"] for row in rows] == list(behind),
        "errors": sum(bool(row["error"]) != bool(other["error"]) for row, other in pairs),
        "equal_labels": len(equal) / len(pairs),
        "largest_difference": max(differences, default=0.0),
    }


def check_labels(report: Report, photos: Path, checkpoint: Path, device: str, count: int) -> None:
    """Classify files on the GPU in each way, and compare."""
    with TemporaryDirectory() as temporary:
        links = Path(temporary, "photos")
        behind = link_photos(photos, links, count)
        plain = classify(report, "cpu", photos, ["-c", checkpoint, "--device", "cpu"])
        if plain is None:
            return
        expected = {str(Path(row["path"]).resolve()): row for row in plain[0]}
        for compiled, precision in product((False, True), PRECISIONS):
            name = f"predict-{precision}{'-compiled' * compiled}"
            words = ["-c", checkpoint, "--device", device, "--precision", precision]
            done = classify(report, name, links, [*words, *["--compile"] * compiled])
            if done is None:
                continue
            rows, seconds = done
            found = compare(rows, behind, expected) | {"seconds": seconds}
            report.results[name] = found
            for reason in list_doubts(found, count, *PRECISIONS[precision]):
                report.fail(name, reason)


def list_doubts(
    found: Mapping[str, Any], count: int, least_equal: float, largest: float
) -> Iterator[str]:
    """Yield what is wrong with the rows of a run."""
    if found["rows"] != count or not found["in_order"] or found["errors"]:
        yield f"not a row for each file, in order, as on the CPU: {found}"
    if found["equal_labels"] < least_equal:
        yield f"{found['equal_labels']:.2%} of the labels are those of the CPU"
    if found["largest_difference"] > largest:
        yield f"a probability differs by {found['largest_difference']:.4f}"


def measure(report: Report, device: str, sizes: str, side: int) -> None:
    """Benchmark both networks."""
    for model in MODELS:
        file = report.out / f"benchmark-{model}.json"
        words = ["benchmark", model, "--device", device, "-b", sizes, "--img-size", side]
        words += ["--precision", "fp32,bf16,fp16", "--duration", 1, "--overwrite", "-o", file]
        if report.run(f"benchmark-{model}", [*PROGRAM, *words], 120) is not None:
            record = json.loads(file.read_text())
            report.results[f"benchmark-{model}"] = record
            for row in record["rows"]:
                speed = row["images_per_second"] or 0
                setting = f"{model} {row['precision']:5} batch {row['batch_size']:4}"
                click.echo(f"  {setting} {speed:9.1f} images/s  {row['status']}")


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True), default=PHOTOS)
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True), default=CHECKPOINT)
@click.option("--out", type=click.Path(path_type=Path), default=Path("gpu"), show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--count", default=2000, show_default=True, help="Files to classify.")
@click.option("--sizes", default="1,32,256", show_default=True, help="Batches to benchmark.")
@click.option("--side", default=224, show_default=True, help="Pixels of a side, to benchmark.")
@click.option("--limit", default=570.0, show_default=True, help="Seconds for everything.")
@click.option("--tests/--no-tests", default=True, help="Run the tests that need a GPU first.")
def main(
    photos: Path,
    checkpoint: Path,
    out: Path,
    device: str,
    count: int,
    sizes: str,
    side: int,
    limit: float,
    tests: bool,
) -> None:
    """Run all steps; the exit status is 1 if one of them failed."""
    out.mkdir(parents=True, exist_ok=True)
    report = Report(out.resolve(), limit)
    checkpoint = checkpoint.resolve()
    if tests:
        words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
        report.run("tests", [*words, REPOSITORY / "tests"], 200)
    measure(report, device, sizes, side)
    check_labels(report, photos.resolve(), checkpoint, device, count)
    report.save()
    click.echo(f"{len(report.failures)} failed; all of it is in {report.out}")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
