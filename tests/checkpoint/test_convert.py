import copy
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models, transforms
from torchvision.models import ResNet
from transformers import ResNetConfig, ResNetForImageClassification

from conftest import Run, picture, room_for, trained
from systems import HEADS as STATE_HEADS
from systems import MmHead, cut, d2l_first_edition, fastai_head, mm_classifier, to_detectron2

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth")

CLASSES = ["ants", "bées, 蜂", 'a "quoted"\nname']

SIDE = 64  # pixels: the last features are 2x2, so that pools and strides matter
SMALL = ("--device", "cpu", "-j", 1, "--exact", "--resize-size", SIDE + 8, "--img-size", SIDE)

MIDDLE = transforms.Compose([transforms.Resize(SIDE + 8), transforms.CenterCrop(SIDE)])
AS_IMAGENET = transforms.Compose(
    [
        MIDDLE,
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Delete the files of a test, which would fill a small disk together."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size > 1_000_000:
            path.unlink()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small pictures are done sooner by one thread than by several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pictures() -> Path:
    """A folder of three pictures."""
    for seed in range(3):
        picture(Path("images") / f"{seed}.png", (90 + 10 * seed, 100), seed=seed)
    return Path("images")


@torch.no_grad()
def calm(network: nn.Module, last: nn.Module, channels: int = 3) -> None:
    """Scale the last layer to logits of about 1, so that no probability is a mere 0 or 1."""
    images = torch.rand(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert isinstance(last, nn.Linear)
    last.weight.div_(network(images).abs().max())


@cache
def calm_resnet(name: str, num_classes: int, in_channels: int) -> ResNet:
    network = trained(name, num_classes=num_classes, in_channels=in_channels)
    calm(network, network.fc, in_channels)
    return network


def resnet(name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3) -> ResNet:
    """A network with the statistics of a trained one, of the test's own."""
    return copy.deepcopy(calm_resnet(name, num_classes, in_channels))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict of a resnet18 with three classes."""
    path = tmp_path_factory.mktemp("checkpoint") / "three.pth"
    torch.save(resnet().state_dict(), path)
    return path


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def written(run: Run, source: Path, output: str, *options: object) -> Path:
    """Convert, and see that nothing stands on stdout or beside the output."""
    before = set(Path().iterdir())
    result = run("convert", source, output, *options)
    assert (result.exit_code, result.stdout) == (0, "")
    assert set(Path().iterdir()) == before | {Path(output)}
    return Path(output)


def complaint(run: Run, *arguments: object, status: int = 1) -> str:
    """The one line in which a conversion is refused."""
    before = set(Path().iterdir())
    result = run("convert", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert set(Path().iterdir()) == before
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def state_in(path: Path) -> State:
    """The weights of a converted file, as the library of its format reads them."""
    if path.suffix == ".pth":
        state: State = torch.load(path, weights_only=True)["state_dict"]
        return state
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal to the last bit, signs of zeros and types too."""
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape) == (b.dtype, b.shape)
        and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        for a, b in ((one[name], other[name]) for name in one)
    )


def in_torchvision(path: Path, name: str = "resnet18", head: nn.Module | None = None) -> ResNet:
    """Torchvision's own network, which takes the tensors of a file or raises."""
    network: ResNet = models.get_model(name, num_classes=3)
    network.fc = head or network.fc
    network.load_state_dict(state_in(path), strict=True)
    return network.eval()


@torch.no_grad()
def expected(network: nn.Module, transform: Callable[[Any], Tensor] = AS_IMAGENET) -> Tensor:
    """Probabilities [pictures, classes], by torchvision's transforms and the network itself."""
    paths = sorted(Path("images").iterdir())
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    logits: Tensor = network(images)
    found = logits.softmax(dim=1)
    assert found.min() > 0.001  # or a wrong network might give the same
    assert not torch.allclose(found[0], found[1], atol=1e-5)
    return found


def predicted(run: Run, path: Path, *options: object) -> tuple[Tensor, list[str]]:
    """Probabilities [pictures, classes] of predict, and the labels of the best."""
    result = run("predict", "images", "-c", path, "--format", "jsonl", "-k", 9, *SMALL, *options)
    assert result.exit_code == 0
    rows = [json.loads(line)["predictions"] for line in result.stdout.splitlines()]
    ordered = [sorted(row, key=lambda score: score["index"]) for row in rows]
    found = torch.tensor([[score["prob"] for score in row] for row in ordered])
    return found, [row[0]["label"] for row in rows]


def close(one: Tensor, other: Tensor, limit: float = 1e-6) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= limit


# what is in the files


def test_safetensors_are_readable_by_their_own_library(run: Run, checkpoint: Path) -> None:
    Path("names.json").write_text(json.dumps(CLASSES))
    output = written(run, checkpoint, "out.safetensors", "--classes", "names.json")
    with safe_open(output, framework="pt") as file:
        metadata = file.metadata()

    assert metadata["model"] == "resnet18"
    assert json.loads(metadata["classes"]) == CLASSES
    assert metadata["format"] == "pt"  # what other loaders ask for
    settings = json.loads(metadata["preprocess"])
    assert (settings["resize_size"], settings["crop_size"]) == (256, 224)
    assert (settings["mean"], settings["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (settings["interpolation"], settings["color"]) == ("bilinear", "rgb")
    in_torchvision(output)


def test_a_pth_is_read_by_torch_without_trust(run: Run, checkpoint: Path) -> None:
    Path("names.json").write_text(json.dumps(CLASSES))
    output = written(run, checkpoint, "out.pth", "--classes", "names.json")
    content = torch.load(output, weights_only=True)

    assert content["classes"] == CLASSES
    assert content["model"] == "resnet18"
    assert content["preprocess"]["resize_size"] == 256
    assert same_bits(content["state_dict"], torch.load(checkpoint, weights_only=True))
    in_torchvision(output)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_placeholder_names_are_not_written(run: Run, checkpoint: Path, suffix: str) -> None:
    output = written(run, checkpoint, f"out{suffix}")

    assert b"class_0" not in output.read_bytes()
    (Path("out.classes.txt")).write_text("x\ny\nz\n")
    found = json.loads(run("inspect", output, "--format", "json").stdout)
    assert found["classes"] == ["x", "y", "z"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_class_names_and_preset_survive(run: Run, checkpoint: Path, suffix: str) -> None:
    Path("names.json").write_text(json.dumps(CLASSES))
    given = ("--classes", "names.json", "--preset", "imagenet-v2")
    output = written(run, checkpoint, f"out{suffix}", *given)
    again = written(run, output, f"again{SUFFIXES[suffix == '.safetensors']}")

    for path in (output, again):
        found = json.loads(run("inspect", path, "--format", "json").stdout)
        assert found["classes"] == CLASSES
        assert found["preprocess"]["resize_size"] == 232
        assert found["warnings"] == []
        assert found["unsafe_globals"] == []


def test_the_settings_of_a_folder_of_timm_travel_with_the_file(run: Run, pictures: Path) -> None:
    folder = Path("hub")
    folder.mkdir()
    torch.save(resnet().state_dict(), folder / "pytorch_model.bin")
    settings = {
        "input_size": [3, SIDE, SIDE], "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7],
        "crop_pct": 0.9, "interpolation": "bicubic",
    }  # fmt: skip
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps({**config, "label_names": ["x", "y", "z"]}))
    output = written(run, folder, "out.safetensors")
    own = ("--resize-size", SIDE * 10 // 9, "--img-size", SIDE)
    with safe_open(output, framework="pt") as file:
        recorded = json.loads(file.metadata()["preprocess"])

    assert (recorded["resize_size"], recorded["crop_size"]) == (SIDE * 10 // 9, SIDE)
    assert (recorded["mean"], recorded["std"]) == (settings["mean"], settings["std"])
    assert recorded["interpolation"] == "bicubic"
    before, after = (predicted(run, path, *own) for path in (folder, output))
    assert close(before[0], after[0])
    assert before[1] == after[1]


def test_a_new_file_may_be_read_by_those_who_may_read_any_new_file(
    run: Run, checkpoint: Path
) -> None:
    Path("other").touch()

    for suffix in SUFFIXES:
        output = written(run, checkpoint, f"out{suffix}")
        assert output.stat().st_mode == Path("other").stat().st_mode


# the round trip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_round_trip_is_exact(run: Run, dtype: torch.dtype) -> None:
    state = resnet().to(dtype).state_dict()
    state["fc.bias"][0] = -0.0
    state["bn1.bias"][0] = torch.finfo(dtype).smallest_normal / 4  # a subnormal number
    state["bn1.num_batches_tracked"] += 2**40
    there = written(run, saved(state), "there.safetensors")
    back = written(run, there, "back.pth")

    assert same_bits(state_in(there), state)
    assert same_bits(state_in(back), state)


def test_the_round_trip_from_safetensors_is_exact_with_all_that_is_recorded(run: Run) -> None:
    state = resnet().state_dict()
    save_file(state, "model.safetensors", {"classes": json.dumps(CLASSES)})
    paths = [written(run, Path("model.safetensors"), "first.safetensors")]
    paths += [written(run, paths[0], "there.pth")]
    paths += [written(run, paths[1], "back.safetensors")]

    assert all(same_bits(state_in(path), state) for path in paths)
    with safe_open(paths[0], framework="pt") as one, safe_open(paths[2], framework="pt") as other:
        assert json.loads(one.metadata()["classes"]) == CLASSES
        assert one.metadata() == other.metadata()


def tied(state: State) -> State:
    one = torch.ones(64)
    return {**state, **dict.fromkeys(("bn1.weight", "layer1.0.bn1.weight"), one)}


def overlapping(state: State) -> State:
    ones = torch.ones(512)
    return {**state, "bn1.weight": ones[64:128], "layer4.0.bn1.weight": ones}


def flat(state: State) -> State:
    whole = torch.cat([tensor.double().flatten() for tensor in state.values()]).float()
    pieces = whole.split([tensor.numel() for tensor in state.values()])
    return {
        name: piece.view(tensor.shape) if tensor.is_floating_point() else tensor
        for (name, tensor), piece in zip(state.items(), pieces, strict=True)
    }


def channels_last(state: State) -> State:
    return {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("lay", [tied, overlapping, flat, channels_last])
def test_tensors_of_any_memory_layout_are_written(run: Run, lay: Callable[[State], State]) -> None:
    state = lay(resnet().state_dict())
    source = saved(state)

    for suffix in SUFFIXES:
        output = written(run, source, f"out{suffix}")
        found = state_in(output)
        assert all(torch.equal(found[name], state[name]) for name in state)
        assert output.stat().st_size < 1.01 * source.stat().st_size


def test_a_file_of_before_batches_were_counted_loads_strictly(run: Run) -> None:
    state = resnet().state_dict()
    old = {name: state[name] for name in state if not name.endswith("num_batches_tracked")}
    output = written(run, saved(old), "out.safetensors")

    assert same_bits(state_in(output), old)
    in_torchvision(output)


# half precision


def test_half_writes_weights_in_fp16(run: Run, pictures: Path) -> None:
    network = resnet()
    source = saved(network.state_dict())
    output = written(run, source, "out.safetensors", "--half")
    found = state_in(output)

    for name, weight in network.named_parameters():
        assert torch.equal(found[name], weight.half())
    assert output.stat().st_size < 0.51 * source.stat().st_size
    assert close(predicted(run, output)[0], expected(network), 0.01)


def test_half_spoils_no_statistics(run: Run) -> None:
    state = resnet().state_dict()
    state["bn1.running_var"][:2] = torch.tensor([1e5, 1e-9])  # infinity and nothing in fp16
    found = state_in(written(run, saved(state), "out.pth", "--half"))

    for name in ("bn1.running_mean", "bn1.running_var"):
        assert torch.equal(found[name], state[name])


def test_half_of_half_changes_nothing(run: Run) -> None:
    state = resnet().half().state_dict()

    assert same_bits(state_in(written(run, saved(state), "out.pth", "--half")), state)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_does_not_fit_fp16_is_refused(run: Run, suffix: str) -> None:
    state = resnet().state_dict()
    state["layer1.0.bn1.weight"][3] = 70_000.0  # 65,504 is the largest
    line = complaint(run, saved(state), f"out{suffix}", "--half")

    assert "layer1.0.bn1.weight" in line
    assert re.search("fp16|--half", line)
    assert not re.search("holds NaN", line)


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
        file.write("5")  # the peak starts anew
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


# heads that tensors alone do not tell


def settle(network: nn.Module, last: nn.Module) -> nn.Module:
    """Give a network the statistics and biases of a trained one, and mixed answers."""
    torch.manual_seed(1)
    for name, tensor in [*network.named_buffers(), *network.named_parameters()]:
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.data.uniform_(-0.1, 0.1)
    calm(network.eval(), last)
    return network


def norm_and_gelu() -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(), nn.Linear(512, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(),
        nn.Linear(32, 3),
    )  # fmt: skip


HEADS: dict[str, Callable[[], nn.Linear | nn.Sequential]] = {
    "batch norm and GELU": norm_and_gelu,
    "layer norm and tanh": lambda: nn.Sequential(
        nn.LayerNorm(512, eps=1e-2), nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 3)
    ),
    "leaky ReLU and a large epsilon": lambda: nn.Sequential(
        nn.Linear(512, 32), nn.LeakyReLU(), nn.BatchNorm1d(32, eps=0.5), nn.Linear(32, 3)
    ),
    "no bias": lambda: nn.Linear(512, 3, bias=False),
}


def with_head(head: nn.Linear | nn.Sequential) -> ResNet:
    network = resnet()
    network.fc = head
    settle(network, head if isinstance(head, nn.Linear) else head[-1])
    return network


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_survives_with_its_activations(run: Run, pictures: Path, kind: str) -> None:
    network = with_head(HEADS[kind]())
    source = saved(network)  # the module itself, which alone tells its activations
    there = written(run, source, "there.safetensors")
    back = written(run, there, "back.pth")

    own = expected(network)
    before, after = predicted(run, source)[0], predicted(run, back)[0]
    assert close(before, own, 1e-5)
    assert close(before, after)


def test_a_head_in_the_form_of_torch_takes_the_tensors(run: Run, pictures: Path) -> None:
    network = with_head(norm_and_gelu())
    output = written(run, saved(network), "out.safetensors")
    layers = [layer for layer in norm_and_gelu() if not isinstance(layer, nn.Dropout)]

    again = in_torchvision(output, head=nn.Sequential(*layers))
    assert close(expected(again), expected(network))


def test_a_note_says_that_torchvision_has_another_head(run: Run) -> None:
    result = run("convert", saved(with_head(norm_and_gelu())), "out.pth")

    assert re.search("^Note: .*(head|gelu)", result.stderr, re.MULTILINE | re.IGNORECASE)


def test_activations_that_were_taken_for_granted_stay_so(run: Run) -> None:
    source = saved(with_head(norm_and_gelu()).state_dict())
    output = written(run, source, "out.safetensors")
    before, after = (
        json.loads(run("inspect", path, "--format", "json").stdout)["warnings"]
        for path in (source, output)
    )

    assert [warning for warning in before if "ReLU" in warning]
    assert after == before


CONVENTIONAL = (
    "norm before the activation",
    "norm behind the activation",
    "norm without weights",
    "no activation",
    "two layers with names",
    "nested",
)
"""Heads of which only a state dict is known, and the rest by convention."""


@pytest.mark.parametrize("kind", CONVENTIONAL)
def test_a_head_by_convention_survives(run: Run, pictures: Path, kind: str) -> None:
    head = STATE_HEADS[kind](512, 3)
    network = resnet()
    network.fc = head
    settle(network, next(reversed(list(head.modules()))))
    output = written(run, saved(network.state_dict()), "out.safetensors")

    assert close(predicted(run, output)[0], expected(network), 1e-5)


@pytest.mark.parametrize("names", [["ants", "bees"], ["bees"]])
def test_a_single_output_survives_with_its_names(
    run: Run, pictures: Path, names: list[str]
) -> None:
    network = resnet(num_classes=1)
    source = saved({"net": network.state_dict(), "classes": names})
    output = written(run, source, "out.pth")
    before, after = predicted(run, source), predicted(run, output)

    assert torch.load(output, weights_only=True)["classes"] == names
    assert close(before[0], after[0])
    assert before[1] == after[1]


def test_one_channel_survives_with_its_normalisation(run: Run, pictures: Path) -> None:
    source = saved(resnet(in_channels=1).state_dict())
    output = written(run, source, "out.safetensors")
    with safe_open(output, framework="pt") as file:
        settings = json.loads(file.metadata()["preprocess"])

    assert (settings["mean"], settings["std"]) == ([0.449], [0.226])
    assert close(predicted(run, source)[0], predicted(run, output)[0])


# layouts of other systems, whose network is torchvision's

System = tuple[Path, nn.Module]  # its file or folder, and its own network, which gives logits


class OfTransformers(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.model = ResNetForImageClassification(ResNetConfig(**{"num_labels": 3, **settings}))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).logits
        return logits


def transformers_folder(**settings: Any) -> System:
    """A folder with what the library itself needs."""
    torch.manual_seed(0)
    network = OfTransformers(**settings)
    settle(network, network.model.classifier[1])
    Path("hub").mkdir()
    network.model.config.save_pretrained("hub")
    save_file(network.model.state_dict(), "hub/model.safetensors", {"format": "pt"})
    return Path("hub"), network


def read_transformers() -> System:
    return transformers_folder(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512]
    )


def of_mmpretrain() -> System:
    head = MmHead(512, 3)
    network = settle(mm_classifier(resnet(), head), head.fc)
    meta = {"epoch": 9, "dataset_meta": {"classes": ("ants", "bees", "wasps")}}
    return saved({"meta": meta, "state_dict": network.state_dict()}), network


def read_detectron2() -> System:
    """What its tool makes of torchvision's file: arrays of NumPy under its names."""
    network = resnet()
    arrays = {to_detectron2(name): tensor.numpy() for name, tensor in network.state_dict().items()}
    path = Path("R-18.pkl")
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision"}))
    return path, network


def of_d2l() -> System:
    torch.manual_seed(0)
    network = d2l_first_edition(3, num_classes=3)
    settle(network, network[-1])
    return saved(network.state_dict()), network


SAME: dict[str, Callable[[], System]] = {
    "transformers": read_transformers,
    "mmpretrain": of_mmpretrain,
    "detectron2": read_detectron2,
    "d2l": of_d2l,
}


@pytest.mark.parametrize("layout", SAME)
def test_torchvision_computes_with_the_converted_file_what_the_system_does(
    run: Run, pictures: Path, layout: str
) -> None:
    source, network = SAME[layout]()
    found = json.loads(run("inspect", source, "--format", "json").stdout)
    output = written(run, source, "out.safetensors")

    before, after, own = predicted(run, source), predicted(run, output), expected(network)
    assert found["layout"] == layout
    assert found["warnings"] == []
    assert close(expected(in_torchvision(output)), own, 1e-5)
    assert close(before[0], own, 1e-5)
    assert close(before[0], after[0])
    assert before[1] == after[1]


@pytest.mark.parametrize("layout", ["mmpretrain", "detectron2"])
def test_a_plain_network_of_torchvision_has_no_notes(run: Run, layout: str) -> None:
    result = run("convert", SAME[layout]()[0], "out.pth")

    assert not re.search("stride|pool|dilate|torchvision|beside", result.stderr)


# variants: the same tensors in a network that computes otherwise


def of_fastai() -> System:
    head = fastai_head(512, 3)
    network = settle(nn.Sequential(cut(resnet(), -2), head), head[-1])
    return saved({"model": network.state_dict(), "opt": {"state": [], "hypers": []}}), network


def dilated() -> System:
    original = resnet("resnet50")
    network = models.resnet50(num_classes=3, replace_stride_with_dilation=[False, True, True])
    network.load_state_dict(original.state_dict())
    return saved(original.state_dict()), network.eval()


def strided_in_1x1() -> System:
    return transformers_folder(
        layer_type="bottleneck", depths=[3, 4, 6, 3], hidden_sizes=[256, 512, 1024, 2048],
        downsample_in_bottleneck=True,
    )  # fmt: skip


OTHER: dict[str, tuple[Callable[[], System], tuple[str, ...], str]] = {
    # options of the original, and a word of the note
    "fastai": (of_fastai, (), "maxima"),
    "dilated": (dilated, ("--dilation",), "dilate"),
    "strided in 1x1": (strided_in_1x1, (), "stride in their first 1x1"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_a_variant_survives_without_a_flag_and_a_note_says_what_it_is(
    run: Run, pictures: Path, kind: str
) -> None:
    make, options, word = OTHER[kind]
    source, network = make()
    result = run("convert", source, "there.safetensors", *options)
    assert result.exit_code == 0
    back = written(run, Path("there.safetensors"), "back.pth")

    own = expected(network)
    before, after = predicted(run, source, *options)[0], predicted(run, back)[0]
    assert word in result.stderr
    assert close(before, own, 1e-5)
    assert close(before, after)
    if kind != "fastai":  # whose head torchvision has not
        assert not close(expected(in_torchvision(back, "resnet50")), own, 0.001)


def as_caffe(image: Image.Image) -> Tensor:
    """Blue, green and red from 0 to 255, without their means."""
    pixels: Tensor = transforms.functional.pil_to_tensor(MIDDLE(image)).flip(0).float()
    return pixels - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)


def to_caffe(name: str) -> str:
    """What Caffe's authors call a layer: res2a_branch2a is layer1.0.conv1."""
    name = re.sub(r"^bn1", "bn_conv1", name).replace("fc.", "fc1000.")
    for part, branch, kind in (
        ("downsample.0", "1", "res"), ("downsample.1", "1", "bn"), ("conv1", "2a", "res"),
        ("bn1", "2a", "bn"), ("conv2", "2b", "res"), ("bn2", "2b", "bn"),
    ):  # fmt: skip
        found = re.fullmatch(rf"layer(\d)\.(\d)\.{re.escape(part)}\.(\w+)", name)
        if found:
            stage, block, own = int(found[1]) + 1, "ab"[int(found[2])], found[3]
            return f"{kind}{stage}{block}_branch{branch}.{own}"
    return name


def test_caffes_pool_and_colours_survive(run: Run, pictures: Path) -> None:
    network = resnet()
    network.fc.weight.data /= 60  # for pixels from 0 to 255
    state = network.state_dict()
    source = saved({to_caffe(name): tensor for name, tensor in state.items()})
    result = run("convert", source, "there.safetensors")
    back = written(run, Path("there.safetensors"), "back.pth")

    assert "max pool" in result.stderr
    assert same_bits(state_in(back), state)
    wrong = expected(network, as_caffe)
    network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    own = expected(network, as_caffe)
    before, after = predicted(run, source)[0], predicted(run, back)[0]
    assert close(before, own, 1e-5)
    assert close(before, after)
    assert not close(before, wrong, 0.001)


# containers


def test_the_shards_of_a_folder_become_one_file(run: Run) -> None:
    state = resnet().state_dict()
    folder = Path("run")
    folder.mkdir()
    table = {name: f"{name.split('.')[0]}.safetensors" for name in state}
    for shard in set(table.values()):
        tensors = {name: state[name] for name in state if table[name] == shard}
        save_file(tensors, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))

    assert same_bits(state_in(written(run, folder, "out.safetensors")), state)


def test_of_several_weights_the_chosen_are_written(run: Run) -> None:
    states = {"model": resnet().state_dict(), "model_ema": resnet(num_classes=4).state_dict()}
    source = saved(states)

    for options, key in (((), "model_ema"), (("--no-ema",), "model")):
        output = written(run, source, f"{key}.safetensors", *options)
        assert same_bits(state_in(output), states[key])
    chosen = written(run, source, "chosen.pth", "--state-key", "model")
    assert same_bits(state_in(chosen), states["model"])


def test_original_and_converted_file_give_the_same_rows(
    run: Run, checkpoint: Path, photos: Path
) -> None:
    names = ("--classes", "ants,bees,wasps")
    commands: list[tuple[object, ...]] = [(checkpoint, *names)]
    commands += [(written(run, checkpoint, f"out{suffix}", *names),) for suffix in SUFFIXES]
    runs = []
    for command in commands:
        result = run("predict", photos, "--format", "jsonl", "-k", 2, *SMALL, "-c", *command)
        runs.append([json.loads(line) for line in result.stdout.splitlines()])

    assert [len(rows) for rows in runs] == [10, 10, 10]
    for row, *others in zip(*runs, strict=True):
        for other in others:
            assert (other["path"], other["status"]) == (row["path"], "ok")
            for score, same in zip(row["predictions"], other["predictions"], strict=True):
                assert (same["label"], same["index"]) == (score["label"], score["index"])
                assert abs(same["prob"] - score["prob"]) <= 1e-6


# a backbone alone


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_backbone_is_written_without_a_head(run: Run, suffix: str) -> None:
    state = {name: t for name, t in resnet().state_dict().items() if not name.startswith("fc.")}
    source = saved({"model": {f"backbone.{name}": tensor for name, tensor in state.items()}})
    result = run("convert", source, f"out{suffix}")
    output = Path(f"out{suffix}")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "a backbone alone" in result.stderr
    assert same_bits(state_in(output), state)
    missing = models.resnet18().load_state_dict(state_in(output), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    refused = run("predict", source, "-c", output)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "no head" in refused.stderr
    again = written(run, output, f"again{suffix}")
    assert same_bits(state_in(again), state)


def test_a_backbone_has_no_classes_to_name(run: Run) -> None:
    state = {name: t for name, t in resnet().state_dict().items() if not name.startswith("fc.")}

    assert "no head" in complaint(run, saved(state), "out.pth", "--classes", "a,b,c")


# what a file says of itself, and does not hold


def layers(*kinds: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "eps": 1e-5} for kind in kinds]


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"head": layers("linear", "relu", "linear")}, "recorded head is linear, relu, linear,"),
        ({"head": layers("relu")}, "recorded head is relu,"),
        ({"head": []}, "recorded head is none,"),
        ({"head": layers("linear", "silu", "linear"), "model": "resnet18"}, "recorded head is"),
        ({"head": "linear"}, "recorded head is not supported"),
        ({"model": "resnet34"}, "record says resnet34, its tensors are of a resnet18"),
        ({"model": 5}, "record says 5"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_that_does_not_fit_the_tensors_is_refused(
    run: Run, suffix: str, record: dict[str, Any], sentence: str
) -> None:
    state = resnet().state_dict()
    if suffix == ".pth":
        path = saved({"state_dict": state, "written_by": "resnet-cli", **record})
    else:
        path = Path("model.safetensors")
        as_text = {key: v if isinstance(v, str) else json.dumps(v) for key, v in record.items()}
        save_file(state, path, {"written_by": "resnet-cli", **as_text})

    assert sentence in complaint(run, path, "out.pth")


def test_a_recorded_head_with_other_layers_than_its_own_is_refused(run: Run) -> None:
    network = resnet()
    network.fc = nn.Sequential(nn.Linear(512, 9), nn.Tanh(), nn.Linear(9, 3))
    content = {"state_dict": network.state_dict(), "written_by": "resnet-cli"}

    for kinds in (("linear", "linear"), ("tanh", "linear", "linear")):
        said = complaint(run, saved({**content, "head": layers(*kinds)}), "o.pth")
        assert re.search("recorded head|its modules lack it", said)
    half = saved({**content, "head": layers("linear", "relu")})
    assert "tensors of fc.2, and its modules lack it" in complaint(run, half, "o.pth")
    written(run, saved({**content, "head": layers("linear", "tanh", "linear")}), "out.pth")
