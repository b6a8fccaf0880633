"""What ``resnet-cli convert`` refuses, and what a full disk, a signal or a large file leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision import models

from conftest import Run, room_for
from converting import SUFFIXES, complaint, resnet, same_bits, saved, state_in, written

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

# refusals


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_file_is_kept_by_default(run: Run, checkpoint: Path, suffix: str) -> None:
    output = Path(f"out{suffix}")
    output.write_bytes(b"precious")
    line = complaint(run, checkpoint, output)

    assert f"cannot write {output}" in line
    assert "--overwrite" in line
    assert output.read_bytes() == b"precious"
    assert same_bits(
        state_in(written(run, checkpoint, str(output), "--overwrite")),
        torch.load(checkpoint, weights_only=True),
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_may_be_converted_onto_itself_with_overwrite(
    run: Run, checkpoint: Path, suffix: str
) -> None:
    path = written(run, checkpoint, f"model{suffix}")
    before = path.read_bytes()

    assert "--overwrite" in complaint(run, path, path)
    assert path.read_bytes() == before
    written(run, path, str(path), "--overwrite", "--classes", "x,y,z")
    assert same_bits(state_in(path), torch.load(checkpoint, weights_only=True))
    assert b"classes" in path.read_bytes()


@pytest.mark.parametrize("output", ["out.onnx", "out", "out.pth.gz", "out.pt"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(
    run: Run, checkpoint: Path, output: str
) -> None:
    line = complaint(run, checkpoint, output, status=2)

    assert f"cannot write {output}" in line
    assert all(suffix in line for suffix in SUFFIXES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_place_that_cannot_be_written_is_named(run: Run, checkpoint: Path, suffix: str) -> None:
    Path(f"folder{suffix}").mkdir()

    for output in (f"nowhere/out{suffix}", f"folder{suffix}", f"/proc/out{suffix}"):
        assert f"cannot write {output}: " in complaint(run, checkpoint, output, "--overwrite")


def test_class_names_that_do_not_fit_are_refused(run: Run, checkpoint: Path) -> None:
    assert "2 class names" in complaint(run, checkpoint, "out.pth", "--classes", "a,b")


def test_a_wrong_list_in_the_file_is_put_right_by_another(run: Run, checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    source = saved({"state_dict": state, "classes": ["a", "b"]})

    assert "--classes" in complaint(run, source, "out.pth")
    output = written(run, source, "out.pth", "--classes", "x,y,z")
    assert torch.load(output, weights_only=True)["classes"] == ["x", "y", "z"]


def test_weights_that_are_not_finite_are_refused(run: Run) -> None:
    state = resnet().state_dict()
    state["layer2.1.bn2.bias"][5] = float("nan")

    assert "layer2.1.bn2.bias holds NaN" in complaint(run, saved(state), "out.pth")


# a crash while writing


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("room", [4_000, 20_000_000])
def test_a_full_disk_leaves_the_old_file_whole_and_nothing_else(
    run: Run, checkpoint: Path, suffix: str, room: int
) -> None:
    output = Path(f"out{suffix}")
    output.write_bytes(b"precious")
    with room_for(room):
        line = complaint(run, checkpoint, output, "--overwrite")

    assert f"cannot write {output}: " in line
    assert output.read_bytes() == b"precious"


STOPPED = """
import json, os, signal, sys, time
from hashlib import sha256
from pathlib import Path
from torchvision.models import ResNet
from resnet_cli.checkpoint import convert  # that the runs need not import it
from resnet_cli.cli import cli

source, output = sys.argv[1:]

def run():
    child = os.fork()
    if child == 0:
        try:
            cli(["convert", source, output, "--overwrite"])
        finally:
            os._exit(0)
    return child

def hashed():
    return sha256(Path(output).read_bytes()).hexdigest()

os.waitpid(run(), 0)
names = {hashed(): "new", sha256(b"precious").hexdigest(): "old"}
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
    for later in (0, 0.02):
        Path(output).write_bytes(b"precious")
        child = run()
        while os.listdir() == [output] and os.stat(output).st_size == 8:
            time.sleep(0.0005)  # until it writes
        time.sleep(later)
        os.kill(child, number)
        os.waitpid(child, 0)
        print(json.dumps([number.name, names.get(hashed(), "broken"), os.listdir()]))
os.waitpid(run(), 0)
print(json.dumps(["none", names.get(hashed(), "broken"), os.listdir()]))
"""


def test_a_run_that_is_stopped_leaves_the_old_file_or_the_new_one(checkpoint: Path) -> None:
    command = (sys.executable, "-c", STOPPED, checkpoint, "out.pth")
    done = subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    attempts = [json.loads(line) for line in done.stdout.splitlines()]

    assert len(attempts) == 7
    assert {kind for _, kind, _ in attempts} <= {"old", "new"}
    for number, _, files in attempts:  # the last run cleans up behind one that was killed
        assert files == ["out.pth"] or number == "SIGKILL"


# memory

PEAK = """
import gc, sys
from torchvision.models import ResNet
from resnet_cli.checkpoint import convert
from resnet_cli.cli import cli

def peak():
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])

source, *outputs = sys.argv[1:]
before = peak()
for output in outputs:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset the peak
    cli(["convert", source, output], standalone_mode=False)
    print(peak() - before)
    gc.collect()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_a_large_network_is_never_held_twice_over() -> None:
    with torch.device("meta"):
        network = models.resnet152()
    state = {
        name: torch.full(tensor.shape, 0.5).to(tensor.dtype)
        for name, tensor in network.state_dict().items()
    }
    weights = sum(tensor.nbytes for tensor in state.values())
    command = (sys.executable, "-c", PEAK, saved(state), "out.safetensors", "out.pth")
    done = subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    peaks = [int(line) for line in done.stdout.split()]

    assert len(peaks) == 2
    assert max(peaks) < 2.2 * weights  # the file as it is mapped, and one copy
