"""What libjpeg prints of an image stands in its row, and all else still reaches stderr."""

import csv
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import io

from conftest import Run, picture
from items import items_of
from resnet_cli.images import Decoder
from resnet_cli.images import native_warnings as overheard
from resnet_cli.pipeline.batches import Loader
from resnet_cli.pipeline.workers import Processes
from resnet_cli.preprocess import Preprocess
from resnet_cli.results.columns import restore_prediction

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux alone")

SAID = "Corrupt JPEG data: "


def corrupt(path: Path, extra: int = 3) -> Path:
    """A JPEG with bytes too many before a marker, of which libjpeg says how many there are."""
    file = BytesIO()
    pixels = np.random.default_rng(extra).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 128)).save(file, "JPEG", quality=80)
    data = file.getvalue()
    path.write_bytes(data[:-2] + bytes(extra) + data[-2:])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        picture(tmp_path / "d" / f"good{number}.jpg", (120, 100), seed=number)
    for number in (3, 7, 11):
        corrupt(tmp_path / "d" / f"good{number}_corrupt.jpg", 10 * number)
    return tmp_path / "d"


@pytest.fixture
def warnings(folder: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What libjpeg itself prints of each file."""
    said = {}
    for path in folder.iterdir():
        io.decode_jpeg(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8))
        if line := capfd.readouterr().err.strip():
            said[path.name] = f"warning: {line}"
    assert set(said) == {f"good{n}_corrupt.jpg" for n in (3, 7, 11)}
    assert len(set(said.values())) == 3
    return said


def test_a_warning_stands_in_the_row_of_its_image(
    folder: Path, checkpoint: Path, tmp_path: Path, warnings: dict[str, str]
) -> None:
    command = ["predict", folder, "-c", checkpoint, "-o", "a.csv", "-o", "a.jsonl", "-b", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "resnet_cli", *map(str, command), "-j", "4"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    with Path("a.csv").open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    nested = [
        restore_prediction(json.loads(line)) for line in Path("a.jsonl").read_text().splitlines()
    ]

    assert len(rows) == 15
    assert {row["status"] for row in rows.values()} == {"ok"}
    said = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert said == warnings
    assert {row.path.name: row.remark for row in nested if row.warning} == said
    assert "Note: 3 images with a warning: see the rows\n" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(SAID)]
    assert done.stdout.count(f"warning: {SAID}") == 3


def test_a_run_without_warnings_says_nothing_of_them(
    run: Run, checkpoint: Path, folder: Path
) -> None:
    result = run("predict", folder / "good1.jpg", "-c", checkpoint)
    assert "with a warning" not in result.output


def test_decoder_processes_listen_too(folder: Path) -> None:
    load = Loader(Decoder(), Preprocess(48, 40), channels=3)
    items = items_of(sorted(folder.iterdir()))
    with overheard.listen_to_libraries():
        processes = Processes(load, workers=2, size=20)
        try:
            samples = processes(items).samples
        finally:
            processes.close()

    named = {Path(sample.item.path).name for sample in samples if sample.warning}
    assert named == {f"good{n}_corrupt.jpg" for n in (3, 7, 11)}


PROGRAM = """
import os, signal, sys
from resnet_cli.images.native_warnings import listen_to_libraries, output_during
with listen_to_libraries():
    os.write(2, b"native\\n")
    print("python", file=sys.stderr)
    print(output_during(lambda: os.write(2, b"mine\\n")))
    os.write(2, b"late\\n")
    if sys.argv[1] != "0":
        os.kill(os.getpid(), int(sys.argv[1]))
os.write(2, b"after\\n")
"""


def test_what_libtiff_says_of_damage_is_in_the_row(
    run: Run, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fax = Image.effect_noise((120, 80), 90).convert("1")
    fax.save(tmp_path / "a.tif", compression="group4")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[200:204] = b"\xff\x13\x00\x77"
    (tmp_path / "a.tif").write_bytes(data)
    result = run("predict", tmp_path / "a.tif", "-c", checkpoint, "--format", "csv")

    assert "warning: Fax4Decode: " in result.stdout
    assert "Fax4Decode" not in result.stderr + capfd.readouterr().err


@pytest.mark.parametrize("number", [0, 6, 9, 11])
def test_other_lines_reach_stderr_even_from_a_crash(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(number)], capture_output=True, text=True
    )
    assert done.returncode == -number
    assert number or done.stdout == "(5, 'mine')\n"
    expected = {"native", "python", "late"} | ({"after"} if number == 0 else set())
    assert set(done.stderr.splitlines()) == expected


def test_a_closed_stderr_is_no_hindrance(folder: Path, checkpoint: Path) -> None:
    command = f'"{sys.executable}" -m resnet_cli predict {folder} -c {checkpoint} 2>&-'
    done = subprocess.run(command, shell=True, capture_output=True, text=True)

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 15


def test_what_libraries_print_without_end_blocks_nobody() -> None:
    program = (
        "import os\nfrom resnet_cli.images.native_warnings import listen_to_libraries\n"
        "with listen_to_libraries():\n    for _ in range(300): os.write(2, bytes(1000))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert len(done.stderr) == 300_000
