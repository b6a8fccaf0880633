"""What ``resnet-cli inspect`` says of a checkpoint: every fact, class names, warnings."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torchvision import models

from conftest import DEMO, Run, trained
from inspecting import (
    KEYS,
    PUBLISHED,
    State,
    inspected,
    prefixed,
    refused,
    save_arrays,
    save_legacy,
    save_safetensors,
    save_script,
    saved,
    tiny,
)

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGENET: Any = models.ResNet18_Weights.IMAGENET1K_V1.transforms()


# every fact


def test_the_json_has_all_that_is_known_of_a_checkpoint(run: Run) -> None:
    path = saved(tiny())
    found = inspected(run, path)

    assert list(found)[: len(KEYS)] == list(KEYS)
    assert {key: found[key] for key in KEYS} == {
        "path": "model.pth",
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "pickle-zip",
        "layout": "torchvision",
        "state_key": "",
        "stripped_prefix": "",
        "model": "resnet18",
        "num_classes": 3,
        "in_channels": 3,
        "classes": ["class_0", "class_1", "class_2"],
        "classes_source": "none found: give --classes",
        "preprocess": found["preprocess"],
        "parameters": sum(p.numel() for p in models.resnet18(num_classes=3).parameters()),
        "dtype": "float32",
        "unsafe_globals": [],
        "warnings": [],
    }
    assert (
        found["preprocess"]
        | {
            "resize_size": IMAGENET.resize_size[0],
            "crop_size": IMAGENET.crop_size[0],
            "interpolation": IMAGENET.interpolation.value,
            "mean": IMAGENET.mean,
            "std": IMAGENET.std,
            "color": "rgb",
        }
        == found["preprocess"]
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(run: Run, name: str) -> None:
    found = inspected(run, saved(tiny(name, num_classes=1000)))

    assert found["model"] == name
    assert found["parameters"] == PUBLISHED[name]["num_params"]
    assert found["classes"] == PUBLISHED[name]["categories"]
    assert "ImageNet" in found["classes_source"]


FORMATS: dict[str, Callable[[State], None]] = {
    "pickle-legacy": save_legacy,
    "safetensors": save_safetensors,
    "pickle": save_arrays,
    "torchscript": save_script,
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated, and still in use
def test_the_format_is_reported(run: Run, kind: str) -> None:
    FORMATS[kind](tiny())
    found = inspected(run, Path("file"))

    assert found["format"] == kind
    assert (found["model"], found["num_classes"], found["dtype"]) == ("resnet18", 3, "float32")


def seconds(run: Run, path: Path) -> float:
    start = perf_counter()
    inspected(run, path)
    return perf_counter() - start


def test_arrays_of_numpy_are_not_looked_at_number_by_number(run: Run) -> None:
    save_arrays(tiny())

    assert seconds(run, Path("file")) < 1 + 10 * seconds(run, saved(tiny()))


@pytest.mark.parametrize(("wrap", "key", "prefix"), [
    (lambda s: {"epoch": 1, "state_dict": prefixed(s, "module.")}, "state_dict", "module."),
    (lambda s: {"a": {"b": [prefixed(s, "_orig_mod.net.")]}}, "a.b.0", "_orig_mod.net."),
    (lambda s: {"model_state_dict": s}, "model_state_dict", ""),
    (lambda s: prefixed(s, "model."), "", "model."),
])  # fmt: skip
def test_the_place_of_the_weights_is_reported(
    run: Run, wrap: Callable[[State], Any], key: str, prefix: str
) -> None:
    found = inspected(run, saved(wrap(tiny())))

    assert (found["state_key"], found["stripped_prefix"]) == (key, prefix)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_other_numbers_of_channels_are_shown(run: Run, channels: int) -> None:
    path = saved(tiny(in_channels=channels))
    found = inspected(run, path)
    shown = run("inspect", path).stdout

    assert found["in_channels"] == channels
    assert re.search(rf"^in channels +{channels}$", shown, re.MULTILINE)
    assert found["parameters"] == 11_178_051 + (channels - 3) * 64 * 7 * 7


def test_greys_are_normalised_as_one_channel(run: Run) -> None:
    settings = inspected(run, saved(tiny(in_channels=1)))["preprocess"]

    assert (settings["mean"], settings["std"]) == ([0.449], [0.226])


def test_no_normalisation_is_claimed_for_channels_that_images_do_not_have(run: Run) -> None:
    settings = inspected(run, saved(tiny(in_channels=4)))["preprocess"]

    assert settings is None or len(settings["mean"]) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_reported(run: Run, dtype: torch.dtype) -> None:
    found = inspected(run, saved(tiny(dtype=dtype)))

    assert found["dtype"] == str(dtype).removeprefix("torch.")
    assert found["warnings"] == []


def test_mixed_dtypes_are_reported(run: Run) -> None:
    state = tiny(dtype=torch.float16)
    found = inspected(run, saved({**state, "bn1.running_var": torch.ones(64)}))

    assert found["dtype"] == "float16, float32"


# class names


def test_class_names_of_the_file_come_with_their_place(run: Run) -> None:
    content = {"state_dict": tiny(), "hyper_parameters": {"Class_To_Idx": {"b": 1, "a": 0, "c": 2}}}
    found = inspected(run, saved(content))

    assert found["classes"] == ["a", "b", "c"]
    assert "hyper_parameters.Class_To_Idx" in found["classes_source"]


def test_class_names_beside_the_file_come_with_their_place(run: Run) -> None:
    Path("model.classes.txt").write_text("ants\nbées\n蟻\n", encoding="utf-8")
    found = inspected(run, saved(tiny()))

    assert found["classes"] == ["ants", "bées", "蟻"]
    assert found["classes_source"] == "model.classes.txt"


def test_a_list_of_the_wrong_length_is_warned_of_with_both_numbers(run: Run) -> None:
    found = inspected(run, saved({"state_dict": tiny(), "classes": ["a", "b"]}))

    (warning,) = found["warnings"]
    assert re.search(r"\b2 class names\b.*\b3 outputs\b", warning)
    assert found["classes"] is None
    assert found["num_classes"] == 3


def test_a_list_of_the_wrong_length_hides_nothing_else(run: Run) -> None:
    found = inspected(run, saved({"state_dict": tiny(), "classes": ["a", "b"]}))

    assert found["preprocess"] == inspected(run, saved(tiny(), "plain.pth"))["preprocess"]


def test_the_record_of_a_file_is_reported(run: Run) -> None:
    found = inspected(run, DEMO)

    assert (found["format"], found["model"]) == ("safetensors", "resnet18")
    assert found["classes"] == ["ants", "bees"]
    assert "metadata" in found["classes_source"]


# warnings


@pytest.mark.parametrize(("name", "value"), [
    ("conv1.weight", float("nan")),
    ("layer3.0.bn2.weight", float("inf")),
    ("fc.bias", -float("inf")),
])  # fmt: skip
def test_numbers_that_are_none_are_warned_of(run: Run, name: str, value: float) -> None:
    state = tiny()
    state[name] = state[name].clone()
    state[name][-1] = value
    result = run("inspect", saved(state), "--format", "json")
    found = json.loads(result.stdout)

    assert [w for w in found["warnings"] if name in w and re.search("NaN|infinity", w)]
    assert found["model"] == "resnet18"


def test_statistics_that_were_never_updated_are_warned_of(run: Run) -> None:
    fresh = inspected(run, saved(models.resnet18(num_classes=3).state_dict()))
    used = inspected(run, saved(trained().state_dict()))

    assert [w for w in fresh["warnings"] if "batch-norm statistics were never updated" in w]
    assert used["warnings"] == []


@pytest.mark.parametrize(("part", "value"), [("mean", 0.1), ("var", 0.9)])
def test_one_statistic_that_moved_shows_training(run: Run, part: str, value: float) -> None:
    state = models.resnet18(num_classes=3).state_dict()
    state[f"layer4.1.bn2.running_{part}"][-1] = value

    assert inspected(run, saved(state))["warnings"] == []


def test_statistics_of_a_network_that_saw_one_batch_are_not_warned_of(run: Run) -> None:
    network = models.resnet18(num_classes=3).train()
    network(torch.rand(2, 3, 32, 32))

    assert inspected(run, saved(network.state_dict()))["warnings"] == []


def test_unused_keys_are_warned_of(run: Run) -> None:
    extra = {
        "extra.weight": torch.ones(7),
        "criterion.weight": torch.ones(3),  # of a loss, which no prediction takes
        "model.bn1.total_ops": torch.zeros(1),  # of a profiler
        "n_averaged": torch.tensor(3),  # of an average
    }
    found = inspected(run, saved({"state_dict": {**prefixed(tiny(), "model."), **extra}}))

    (warning,) = found["warnings"]
    assert warning == "unused: extra.weight"


def test_optimizer_state_causes_no_warning(run: Run) -> None:
    state = tiny()
    momenta = {i: {"momentum_buffer": tensor} for i, tensor in enumerate(state.values())}
    optimizer = {"state": momenta, "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}]}
    content = {"epoch": 3, "state_dict": state, "optimizer": optimizer}

    assert inspected(run, saved(content))["warnings"] == []


# several weights


@pytest.fixture
def twins() -> Path:
    """Plain weights of 3 classes and averaged ones of 4: the number tells them apart."""
    return saved({"model": tiny(), "model_ema": tiny(num_classes=4)})


@pytest.mark.parametrize(("options", "key", "classes"), [
    ((), "model_ema", 4),
    (("--ema",), "model_ema", 4),
    (("--no-ema",), "model", 3),
    (("--state-key", "model"), "model", 3),
    (("--state-key", "model_ema", "--no-ema"), "model_ema", 4),
])  # fmt: skip
def test_of_several_weights_the_chosen_are_shown(
    run: Run, twins: Path, options: tuple[str, ...], key: str, classes: int
) -> None:
    found = inspected(run, twins, *options)

    assert (found["state_key"], found["num_classes"]) == (key, classes)
    (warning,) = found["warnings"]
    assert re.search(rf"several weights.*\bmodel\b.*\bmodel_ema\b.*these are {key}$", warning)


def test_a_state_key_that_is_not_there_is_refused_with_those_that_are(
    run: Run, twins: Path
) -> None:
    found, complaint = refused(run, twins, "--state-key", "teacher")

    assert re.search(r"'teacher'.*\bmodel\b.*\bmodel_ema\b", complaint)
    assert found["model"] is None
