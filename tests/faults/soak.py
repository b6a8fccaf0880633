"""Cut runs of ``predict`` off in every way, go on with --resume, and compare with one whole pass.

    python tests/faults/soak.py --rounds 100 --seed 0

A round is a folder of pictures and one or more faults: a signal at a random moment (SIGKILL,
SIGTERM, SIGINT, SIGHUP), a limit on the size of files, which fails as a full disk does, a picture
removed or truncated while the run goes. Then --resume runs to the end, and the rows of .csv,
.jsonl and .parquet have to be those of the pass that nothing disturbed: none lost, none doubled,
paths, order, status, label and index equal, probabilities within 1e-5. A picture that was touched
may have either fate.

Each run is a process of its own, forked from this one, which has imported torch already.
"""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from resnet_cli.cli import cli

DEMO = Path(__file__).parents[2] / "checkpoints" / "ants_bees_resnet18.safetensors"

PICTURES = 64
FILES = ("rows.csv", "rows.jsonl", "rows.parquet")
ODD_NAMES = (
    b"a, b.png", b'quo"te.png', b"new\nline.png", b"=1+1.png", b"caf\xe9.png", b"cr\r\nlf.png",
    b"\xe8\x9c\x82.png",
)  # fmt: skip

CATCHABLE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNALS = (signal.SIGKILL, *CATCHABLE)
WEIGHTS = (3, 1, 1, 1)  # of those
FAULTS = ("signal", "signal", "signal", "full", "removed", "truncated")

ENDS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
"""Exit statuses after a signal that a program can catch."""

TOLERANCE = 1e-5

Row = tuple[str, str, str | None, int | None, float | None]


def draw(folder: Path, seed: int) -> None:
    """Make small pictures, some of them broken or oddly named."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    names = [b"img%d.png" % number for number in range(PICTURES)]
    for number, name in enumerate([*names, *ODD_NAMES]):
        path = folder / os.fsdecode(name)
        pixels = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        with path.open("wb") as file:
            Image.fromarray(pixels).resize((48, 40)).save(file, "PNG")
        if number % 17 == 3:
            os.truncate(path, 60)


def start(arguments: Iterable[str], errors: Path, *, limit: int | None = None) -> int:
    """Fork a process that runs the program, and return its number."""
    # until the child can catch them, signals wait
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return child
    status = 1
    try:
        prepare(errors, limit)
        try:
            cli.main(list(arguments), prog_name="resnet-cli")
        finally:  # the status is settled, and a signal that comes now must not change it
            for number in CATCHABLE:
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # before the program was there to catch it, or just after
        status = 130
    finally:
        sys.stderr.flush()
        os._exit(status)


def prepare(errors: Path, limit: int | None) -> None:
    """Give a forked process the signals, streams and limits of one that a shell starts."""
    for number in CATCHABLE:
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def arguments(place: Path, *more: str) -> list[str]:
    """What is typed: a folder, then a list that names some pictures twice."""
    outputs = [word for name in FILES for word in ("-o", str(place / name))]
    return [
        "predict", "photos", "@list.txt", "-c", str(DEMO), "--device", "cpu", "-b", "4", "-j", "1",
        "--resize-size", "32", "--img-size", "32", "-k", "2", *outputs, *more,
    ]  # fmt: skip


def wait(child: int) -> int:
    """The status with which a process ended; minus the number of a signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def running(child: int) -> bool:
    """Whether a process has not ended yet; its status stays to be asked for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def number_or_none(text: str, kind: Callable[[str], Any]) -> Any:
    return kind(text) if text else None


def csv_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [
            (
                row["path"].removeprefix("./"), row["status"], row["label"] or None,
                number_or_none(row["index"], int), number_or_none(row["prob"], float),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def jsonl_rows(path: Path) -> list[Row]:
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        row = json.loads(line)
        best = (
            row["predictions"][0]
            if row["predictions"]
            else dict.fromkeys(("label", "index", "prob"))
        )
        rows.append((row["path"], row["status"], best["label"], best["index"], best["prob"]))
    return rows


def parquet_rows(path: Path) -> list[Row]:
    names = ["path", "status", "label", "index", "prob"]
    return [tuple(row[name] for name in names) for row in pq.read_table(path).to_pylist()]


READ = (csv_rows, jsonl_rows, parquet_rows)


def compare(found: list[Row], expected: list[Row], touched: set[str]) -> str | None:
    """What is wrong with rows, or None; pictures that were touched may have either fate."""
    counts = Counter(row[0] for row in found)
    wanted = Counter(row[0] for row in expected)
    if doubled := [path for path in counts if counts[path] > wanted[path]]:
        return f"doubled: {doubled[:3]}"
    if lost := [path for path in wanted if counts[path] < wanted[path] and path not in touched]:
        return f"lost: {lost[:3]}"
    ours = [row for row in found if row[0] not in touched]
    theirs = [row for row in expected if row[0] not in touched]
    for one, other in zip(ours, theirs, strict=True):
        near = one[4] == other[4] or abs((one[4] or 0) - (other[4] or 0)) <= TOLERANCE
        if one[:4] != other[:4] or not near:
            return f"wrong: {one} instead of {other}"
    return None


class Soak:
    """Rounds over one folder of pictures, and their counts."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Draw the pictures and make the pass that nothing disturbs."""
        self.folder = folder
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        draw(folder / "photos", seed)
        twice = [f"photos/img{number}.png" for number in (5, 5, 7, 60)]
        (folder / "list.txt").write_text("\n".join([*twice, "photos/gone.png", ""]))
        shutil.copytree(folder / "photos", folder / "untouched")
        os.chdir(folder)
        place = folder / "whole"
        place.mkdir()
        begun = time.monotonic()
        status = wait(start(arguments(place), folder / "errors.txt"))
        self.seconds = time.monotonic() - begun
        self.expected = [read(place / name) for read, name in zip(READ, FILES, strict=True)]
        complete = PICTURES + len(ODD_NAMES) + 5
        if status != 3 or {len(rows) for rows in self.expected} != {complete}:
            raise SystemExit((folder / "errors.txt").read_text())

    def round(self, number: int) -> None:
        """Disturb a run some times, go on until it is done, and compare."""
        place = self.folder / f"round{number}"
        place.mkdir()
        touched: set[str] = set()
        for _ in range(self.random.randint(2, 8)):
            fault = self.random.choice(FAULTS)
            if not self.disturbed(place, fault, touched):
                break
        errors = place / "errors.txt"
        status = wait(start(arguments(place, "--resume"), errors))
        if status != 3:
            self.problems.append(f"round {number}: status {status}: {errors.read_text()}")
        for read, name, expected in zip(READ, FILES, self.expected, strict=True):
            try:
                problem = compare(read(place / name), expected, touched)
            except (OSError, ValueError) as error:
                problem = f"cannot be read: {error}"
            if problem:
                self.problems.append(f"round {number}: {name}: {problem}")
        left = {path.name for path in place.iterdir()} - {"errors.txt"}
        if left != {end for name in FILES for end in (name, f"{name}.run.json")}:
            self.problems.append(f"round {number}: left over: {sorted(left)}")
        shutil.rmtree(place)
        self.mend(touched)

    def disturbed(self, place: Path, fault: str, touched: set[str]) -> bool:
        """Run once with a fault; whether the run was cut off."""
        limit = self.random.randint(3000, 8000) if fault == "full" else None
        child = start(arguments(place, "--resume"), place / "errors.txt", limit=limit)
        if fault != "full":
            self.pause(place, child)
        cut = None
        if fault in ("removed", "truncated"):
            self.touch(fault, touched)
            self.counts[fault] += 1
            time.sleep(self.random.uniform(0, 0.1))
        if fault != "full":
            [cut] = self.random.choices(SIGNALS, WEIGHTS)
            os.kill(child, cut)
        status = wait(child)
        if cut is not None:
            self.counts["signals too late" if status == 3 else cut.name] += 1
        self.judge(status, cut, place / "errors.txt")
        return status not in (0, 3)

    def pause(self, place: Path, child: int) -> None:
        """Wait for a random moment: of the start, or of the rows, or of the end."""
        if self.random.random() < 0.2:
            time.sleep(self.random.uniform(0, self.seconds))
            return
        table = place / FILES[0]
        size = table.stat().st_size if table.exists() else 0
        size += self.random.randint(0, 1500)
        while running(child) and not (table.exists() and table.stat().st_size > size):
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, 0.01))

    def judge(self, status: int, cut: signal.Signals | None, errors: Path) -> None:
        """Note an end that is none of those promised."""
        if cut is None:
            promised = {1, 3}
            self.counts["full disks" if status == 1 else "disks large enough"] += 1
        else:
            promised = {-cut, ENDS.get(cut, -cut), 3}
        text = errors.read_text() if errors.exists() else ""
        if status not in promised or "Traceback" in text:
            self.problems.append(f"status {status} after {cut}: {text}")

    def touch(self, fault: str, touched: set[str]) -> None:
        """Remove or truncate a picture."""
        picture = Path(f"photos/img{self.random.randrange(PICTURES)}.png")
        touched.add(str(picture))
        if not picture.exists():
            return
        if fault == "removed":
            picture.unlink()
        else:
            os.truncate(picture, 30)

    def mend(self, touched: set[str]) -> None:
        """Put pictures back as they were."""
        for name in touched:
            shutil.copy(self.folder / "untouched" / Path(name).name, name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # before any of its pools of threads is there to be forked
    with TemporaryDirectory(prefix="soak") as folder:
        soak = Soak(Path(folder), options.seed)
        for number in range(options.rounds):
            soak.round(number)
            sys.stderr.write(f"\r{number + 1} rounds, {len(soak.problems)} problems")
        os.chdir("/")
    killed = sum(soak.counts[number.name] for number in SIGNALS)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(soak.counts.items()))
    sys.stdout.write(f"{options.rounds} rounds, {killed} signals ({counts})\n")
    sys.stdout.write(f"{len(soak.problems)} problems\n" + "\n".join(soak.problems[:20]) + "\n")
    sys.exit(bool(soak.problems))


if __name__ == "__main__":
    main()
