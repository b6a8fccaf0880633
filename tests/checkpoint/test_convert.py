"""What ``resnet-cli convert`` writes: names, settings and tensors of a checkpoint."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from conftest import Run
from converting import (
    SIDE,
    SMALL,
    SUFFIXES,
    State,
    close,
    complaint,
    expected,
    in_torchvision,
    predicted,
    resnet,
    same_bits,
    saved,
    state_in,
    written,
)

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

CLASSES = ["ants", "bées, 蜂", 'a "quoted"\nname']


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict of a resnet18 with three classes."""
    path = tmp_path_factory.mktemp("checkpoint") / "three.pth"
    torch.save(resnet().state_dict(), path)
    return path


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


def test_the_settings_of_a_folder_of_timm_travel_with_the_file(
    run: Run, three_images: Path
) -> None:
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


def test_half_writes_weights_in_fp16(run: Run, three_images: Path) -> None:
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
