import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet, ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, Weights

from conftest import DEMO, trained
from resnet_cli.checkpoint import (
    Checkpoint,
    LoadOptions,
    Location,
    load_checkpoint,
    locate_checkpoint,
    sha256_of_files,
)
from resnet_cli.checkpoint.locate import fetch_weights, find_published
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.checkpoint.network.detect import detect_network
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.preprocess import PRESETS, Preprocess

State = dict[str, Tensor]
Change = Callable[[State], Any]


def tiny(
    name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3, seed: int = 0
) -> State:
    """A state dict with every name and shape of a network, whose tensors are one number each.

    Spread over its shape such a number takes no room in a file, so the largest network saves in
    no time.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = models.get_model(name, num_classes=num_classes)
    state = {
        key: torch.rand((), generator=random).to(tensor.dtype).expand(tensor.shape)
        for key, tensor in network.state_dict().items()
    }
    if in_channels != 3:
        state["conv1.weight"] = state["conv1.weight"][:, :1].expand(-1, in_channels, -1, -1)
    return state


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def opened(path: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(
        locate_checkpoint(path, model=None, weights=None, progress=False), LoadOptions(**options)
    )


def refusal(path: Path, **options: Any) -> str:
    """The sentence in which a checkpoint is refused, by opening it or by building its network."""
    with pytest.raises(CheckpointError) as refused:
        opened(path, **options).network()
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def holds(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> bool:
    """Whether the network that runs has these very weights."""
    loaded = checkpoint.network().state_dict()
    return loaded.keys() == state.keys() and all(
        torch.equal(loaded[name], tensor) for name, tensor in state.items()
    )


@pytest.fixture(scope="session")
def network() -> ResNet:
    return trained()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(network: nn.Module, images: Tensor) -> Tensor:
    result: Tensor = network(images)
    return result


@pytest.mark.parametrize(("wrap", "key", "prefix"), [
    (lambda s: s, "", ""),
    (lambda s: {"epoch": 3, "model_state_dict": s, "best_acc": 0.5}, "model_state_dict", ""),
    (lambda s: {"state_dict": s, "optimizer": {"state": {}, "param_groups": []}}, "state_dict", ""),
    (lambda s: {"model": s}, "model", ""),
    (lambda s: {"whatever": s}, "whatever", ""),
    (lambda s: {"a": {"b": {"c": s}}}, "a.b.c", ""),
    (lambda s: [{"epoch": 1}, {"net": s}], "1.net", ""),
    (lambda s: prefixed(s, "module."), "", "module."),
    (lambda s: prefixed(s, "_orig_mod."), "", "_orig_mod."),
    (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
    (lambda s: prefixed(s, "_orig_mod.module."), "", "_orig_mod.module."),
    (lambda s: prefixed(s, "backbone.encoder."), "", "backbone.encoder."),
    (lambda s: {"state_dict": prefixed(s, "model.")}, "state_dict", "model."),
    (lambda s: {"n_averaged": torch.tensor(9), **prefixed(s, "module.")}, "", "module."),
    (lambda s: {"state_dict": {**prefixed(s, "net."), "criterion.weight": torch.ones(3)}},
     "state_dict", "net."),
])  # fmt: skip
def test_weights_are_found_wherever_they_are(wrap: Change, key: str, prefix: str) -> None:
    state = tiny()
    checkpoint = opened(saved(wrap(state)))

    assert (checkpoint.state_key, checkpoint.stripped_prefix) == (key, prefix)
    assert (checkpoint.model, checkpoint.num_classes, checkpoint.in_channels) == ("resnet18", 3, 3)
    assert holds(checkpoint, state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".ckpt", ".bin", ".tar", "", ".jpg"])
def test_the_format_follows_the_content_not_the_suffix(suffix: str) -> None:
    assert opened(saved(tiny(), f"model{suffix}")).format == "pickle-zip"


def save_plainly(state: State, path: Path) -> None:
    torch.save(state, path)


def save_as_of_old(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_wrapped(state: State, path: Path) -> None:
    torch.save({"state_dict": prefixed(state, "module.")}, path)


FORMS: dict[str, Callable[[State, Path], None]] = {
    "pickle-zip": save_plainly,
    "pickle-legacy": save_as_of_old,
    "safetensors": save_file,
    "wrapped": save_wrapped,
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_exactly_those_of_the_original_network(
    network: ResNet, images: Tensor, form: str
) -> None:
    FORMS[form](network.state_dict(), Path("model"))
    checkpoint = opened(Path("model"))
    loaded = checkpoint.network()

    assert checkpoint.format == (form if form != "wrapped" else "pickle-zip")
    assert not any(module.training for module in loaded.modules())
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(logits(loaded, images), logits(network, images))


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_bottlenecks_give_the_logits_of_the_original_network(images: Tensor, name: str) -> None:
    original = trained(name, num_classes=4)
    checkpoint = opened(saved(original.state_dict()))

    assert (checkpoint.model, checkpoint.num_classes) == (name, 4)
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_run_in_fp32(images: Tensor, dtype: torch.dtype) -> None:
    original = trained().to(dtype)
    torch.save(original.state_dict(), "model.pth")
    loaded = opened(Path("model.pth")).network()

    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.equal(logits(loaded, images), logits(original.float(), images))


def test_half_precision_safetensors_run_in_fp32() -> None:
    state = {name: tensor.contiguous() for name, tensor in trained().half().state_dict().items()}
    save_file(state, "model.safetensors")
    loaded = opened(Path("model.safetensors")).network().state_dict()

    assert loaded["layer4.1.bn2.running_var"].dtype == torch.float32
    assert torch.equal(loaded["fc.weight"], state["fc.weight"].float())
    assert loaded["bn1.num_batches_tracked"].dtype == torch.int64


def test_a_file_of_before_batches_were_counted_opens(network: ResNet, images: Tensor) -> None:
    state = network.state_dict()
    old = {name: state[name] for name in state if not name.endswith("num_batches_tracked")}

    assert torch.equal(logits(opened(saved(old)).network(), images), logits(network, images))


def safetensors(metadata: dict[str, str] | None) -> Path:
    path = Path("model.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in tiny().items()}, path, metadata)
    return path


def test_safetensors_without_metadata_open() -> None:
    checkpoint = opened(safetensors(None))

    assert (checkpoint.format, checkpoint.state_key) == ("safetensors", "")
    assert checkpoint.preprocess == PRESETS["imagenet-v1"]
    assert "imagenet-v1" in checkpoint.preprocess_source
    assert holds(checkpoint, tiny())


def test_safetensors_metadata_give_classes_and_preprocessing() -> None:
    settings = Preprocess(300, 288, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bgr")
    checkpoint = opened(
        safetensors(
            {
                "model": json.dumps("resnet18"),
                "classes": json.dumps(["ants", "bées", "c,d"]),
                "preprocess": json.dumps(settings.record()),
                "format": "pt",
            }
        )
    )

    assert checkpoint.classes.names == ("ants", "bées", "c,d")
    assert "metadata" in checkpoint.classes.source
    assert checkpoint.preprocess == settings
    assert checkpoint.preprocess_source == "recorded in the checkpoint"


@pytest.mark.parametrize("record", [{"angle": 3}, {"crop_size": 999}, {"resize_size": "big"}])
def test_a_recorded_preprocessing_that_cannot_be_obeyed_is_refused(record: Any) -> None:
    with pytest.raises(SettingError):
        opened(safetensors({"preprocess": json.dumps(record)}))


def test_the_demo_checkpoint_opens_with_all_that_it_records() -> None:
    checkpoint = opened(DEMO)

    assert (checkpoint.format, checkpoint.model, checkpoint.in_channels) == (
        "safetensors",
        "resnet18",
        3,
    )
    assert checkpoint.classes.names == ("ants", "bees")
    assert checkpoint.preprocess_source == "recorded in the checkpoint"


TWINS: dict[str, Callable[[State, State], Any]] = {
    "two keys": lambda plain, average: {"state_dict": plain, "state_dict_ema": average},
    "average first": lambda plain, average: {"model_ema": average, "model": plain},
    "capitals": lambda plain, average: {"net": plain, "EMA": prefixed(average, "module.")},
    "two prefixes": lambda plain, average: {
        "state_dict": {**prefixed(plain, "model."), **prefixed(average, "ema_model.")}
    },
}


@pytest.mark.parametrize("form", TWINS)
def test_averaged_weights_are_preferred_by_default(form: str) -> None:
    plain, average = tiny(seed=1), tiny(seed=2)
    path = saved(TWINS[form](plain, average))

    assert holds(opened(path), average)
    assert holds(opened(path, ema=False), plain)


@pytest.mark.parametrize("first", [True, False])
def test_an_average_is_known_by_its_counter_alone(*, first: bool) -> None:
    average = {**prefixed(tiny(seed=1), "module."), "n_averaged": torch.tensor(3)}
    both = {"a": average, "b": tiny()} if first else {"a": tiny(), "b": average}
    path = saved(both)

    assert holds(opened(path), tiny(seed=1))
    assert holds(opened(path, ema=False), tiny())


def test_the_only_weights_are_taken_with_any_preference() -> None:
    assert holds(opened(saved({"ema": tiny()}), ema=False), tiny())
    assert holds(opened(saved({"model": tiny()}), ema=True), tiny())


def test_the_letters_ema_inside_a_word_are_not_an_average() -> None:
    path = saved({"model": tiny(seed=1), "semantic": tiny(seed=2)})

    assert opened(path).state_key == "model"


@pytest.mark.parametrize("key", ["student", "teacher.net", "model_ema"])
def test_a_state_key_chooses_the_weights(key: str) -> None:
    states = {"student": tiny(seed=1), "teacher.net": tiny(seed=2), "model_ema": tiny(seed=3)}
    path = saved({"student": states["student"], "teacher": {"net": states["teacher.net"]},
                  "model_ema": states["model_ema"]})  # fmt: skip
    checkpoint = opened(path, state_key=key)

    assert checkpoint.state_key == key
    assert holds(checkpoint, states[key])


@pytest.mark.parametrize(("key", "seed"), [("encoder_q", 1), ("encoder_k", 2)])
@pytest.mark.parametrize("around", [lambda state: state, lambda state: {"state_dict": state}])
def test_a_state_key_may_be_a_prefix(around: Change, key: str, seed: int) -> None:
    twins = {**prefixed(tiny(seed=1), "encoder_q."), **prefixed(tiny(seed=2), "encoder_k.")}

    assert holds(opened(saved(around(twins)), state_key=key), tiny(seed=seed))


def test_a_state_key_that_is_not_there_is_refused_with_those_that_are() -> None:
    message = refusal(saved({"model": tiny(), "ema": tiny()}), state_key="teacher")

    assert "no weights under 'teacher': there are model, ema" in message


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_resnet_is_detected_by_its_shapes(name: str) -> None:
    with torch.device("meta"):
        state = models.get_model(name, num_classes=17).state_dict()
    detected = detect_network(state)

    assert detected.architecture.name == name
    assert detected.in_channels == 3
    assert detected.features == state["fc.weight"].shape[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_resnet_opens_from_a_file(name: str) -> None:
    path = saved(tiny(name, num_classes=5))
    checkpoint = opened(path, model=name)

    assert (checkpoint.model, checkpoint.num_classes) == (name, 5)
    assert holds(checkpoint, tiny(name, num_classes=5))


def test_a_network_of_one_channel_opens() -> None:
    original = trained(in_channels=1)
    checkpoint = opened(saved(original.state_dict()))
    images = torch.randn(2, 1, 64, 48, generator=torch.Generator().manual_seed(1))

    assert checkpoint.in_channels == 1
    assert (checkpoint.preprocess.mean, checkpoint.preprocess.std) == ((0.449,), (0.226,))
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


def test_a_head_without_bias_opens(images: Tensor) -> None:
    original = trained()
    original.fc = nn.Linear(512, 6, bias=False)
    checkpoint = opened(saved(original.state_dict()))

    assert checkpoint.num_classes == 6
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


class Program:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def program(form: str) -> Path:
    """A file that runs a program when it is unpickled without care."""
    path = Path("model.pth")
    content = {"state_dict": tiny(), "extra": Program()}
    if form == "zip":
        torch.save(content, path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"extra": Program()}, protocol=int(form)))
    return path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "0", "1", "2", "3", "4", "5"])
def test_a_program_in_a_checkpoint_does_not_run(form: str) -> None:
    path = program(form)
    if form in ("zip", "legacy"):
        assert holds(opened(path), tiny())  # what stands beside the program is read
    else:
        assert "it would import posix.system" in refusal(path)

    assert not Path("ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["0", "2", "4"])
def test_no_refusal_of_a_program_advises_to_switch_the_protection_off(form: str) -> None:
    message = refusal(program(form))

    assert "weights_only" not in message  # as torch does
    assert "trust" not in message


@pytest.mark.parametrize(("data", "sentence"), [
    (b"", "the file is empty"),
    (b"epoch 1: loss 0.3\n", "it is a text file, not a checkpoint"),
    ("épreuve 1\n".encode() * 200, "it is a text file, not a checkpoint"),
    (b'{"epoch": 1}', "it is a text file, not a checkpoint"),
    (b"weights {of a network}", "it is a text file, not a checkpoint"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "it is a web page"),
    (b"\n <html>404</html>", "it is a web page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 46830571\n",
     "it is a git-lfs pointer, not the checkpoint itself: run 'git lfs pull'"),
    (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
    (b"\x1f\x8b\x08" + bytes(600), "gzip"),
    (bytes(600), "it is not a checkpoint of a known format"),
    (b"\x80\x02garbage", "it is not a readable torch checkpoint"),
    (b"\x80", "it is not a readable torch checkpoint"),
    (b"PK\x03\x04", "the file is cut off"),
])  # fmt: skip
def test_a_file_that_is_not_a_checkpoint_is_identified(data: bytes, sentence: str) -> None:
    Path("model.pth").write_bytes(data)

    assert sentence in refusal(Path("model.pth"))


@pytest.mark.parametrize(("form", "sentence"), [
    ("pickle-zip", "the file is cut off: copy or download it again"),
    ("pickle-legacy", "damaged|cut off"),
    ("safetensors", "a damaged safetensors file"),
])  # fmt: skip
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_file_that_is_cut_off_says_so(form: str, sentence: str, share: float) -> None:
    FORMS[form]({name: t.contiguous() for name, t in tiny().items()}, Path("model"))
    os.truncate("model", int(share * Path("model").stat().st_size))

    assert re.search(sentence, refusal(Path("model")))


def test_a_zip_of_other_things_is_refused() -> None:
    with zipfile.ZipFile("model.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")

    assert "it is a zip archive of other things" in refusal(Path("model.zip"))


def test_arrays_of_numpy_are_refused() -> None:
    np.savez("model.npz", weight=np.zeros(3))

    assert "arrays of NumPy" in refusal(Path("model.npz"))


def test_a_folder_is_refused() -> None:
    Path("model").mkdir()

    assert "it is a folder without weights" in refusal(Path("model"))


def test_a_missing_file_is_refused() -> None:
    assert refusal(Path("gone.pth")) == "cannot load gone.pth: there is no such file"


@pytest.mark.parametrize(("content", "sentence"), [
    ({}, "no ResNet in it: it holds nothing"),
    (5, "no ResNet in it: it holds an int"),
    (torch.zeros(3), "no ResNet in it: it holds a Tensor"),
    ({"epoch": 1, "loss": 0.5},
     "there are no weights in it, only a dict of epoch (int), loss (float)"),
    ({"a": {"b": None}}, "there are no weights in it, only a dict of a (dict)"),
    ({"a": torch.zeros(3)}, "no ResNet in it: it holds a"),
    ({"layer1.0.conv2.weight": torch.zeros(3)}, "no ResNet in it: it holds layer1.0.conv2.weight"),
    ({f"features.{n}.weight": torch.zeros(1) for n in range(9)}, "it holds features.0.weight, "),
])  # fmt: skip
def test_a_checkpoint_of_something_else_says_what_it_holds(content: Any, sentence: str) -> None:
    assert sentence in refusal(saved(content))


def without(*names: str) -> Change:
    return lambda state: {name: state[name] for name in state if name not in names}


def with_tensor(name: str, *shape: int) -> Change:
    return lambda state: {**state, name: torch.zeros(shape)}


def deeper(state: State) -> State:
    return {**state, **{name.replace("layer1.1", "layer1.2"): tensor for name, tensor
                        in state.items() if name.startswith("layer1.1")}}  # fmt: skip


def gap(state: State) -> State:
    return {name.replace("layer1.1", "layer1.5"): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(("change", "sentence"), [
    (without("fc.weight", "fc.bias"), "resnet18 is in it, but no head"),
    (with_tensor("fc.weight", 3), r"fc\.weight and 1 more are left over"),
    (lambda state: {**state, "fc.weight": torch.zeros(3, 512)[:0]},
     r"fc\.weight and 1 more are left over"),
    (without("layer2.0.bn1.weight"), r"it is incomplete: layer2\.0\.bn1\.weight is missing from"),
    (without("bn1.running_mean"), r"bn1\.running_mean is missing from its resnet18$"),
    (without("layer3.1.conv1.weight"), r"layer3\.1\.conv1\.weight is missing from its resnet18$"),
    (without("layer4.0.conv1.weight"), r"layer4\.0\.conv1\.weight is missing from its resnet18$"),
    (without("layer1.0.conv1.weight"), r"it is incomplete: layer1\.0\.conv1\.weight is missing$"),
    (without("layer1.0.conv2.weight"), r"layer1\.0\.conv2\.weight is missing from its resnet18$"),
    (lambda state: prefixed(without("layer1.0.conv1.weight")(state), "x.module."),
     r"it is incomplete: x\.module\.layer1\.0\.conv1\.weight is missing$"),
    (lambda state: {n: t for n, t in state.items() if "layer3.1" not in n},
     r"\(2, 2, 1, 2\) BasicBlocks with 1 group of width 64 is in it, .* the nearest is resnet18, "),
    (with_tensor("fc2.weight", 3, 512), r"its head does not end with fc: fc2\.weight is behind it"),
    (with_tensor("layer1.0.extra.weight", 8), r"layer1\.0\.extra\.weight is left over"),
    (with_tensor("fc.bias", 5), r"fc\.bias has the shape \[5\] in place of \[3\]"),
    (with_tensor("fc.weight", 3, 100), r"fc\.weight and 1 more are left over"),
    (with_tensor("layer3.0.conv1.weight", 256, 128, 1, 1),
     r"layer3\.0\.conv1\.weight has the shape \[256, 128, 1, 1\] in place of"),
    (with_tensor("conv1.weight", 64, 3, 3, 3), "a ResNet-18 for small images"),
    (with_tensor("conv1.weight", 64, 3, 7), r"conv1\.weight has the shape \[64, 3, 7\]"),
    (with_tensor("conv1.weight", 64, 3, 7, 7, 1), r"has the shape \[64, 3, 7, 7, 1\]"),
    (without("conv1.weight"), r"conv1\.weight is missing"),
    (with_tensor("layer1.0.conv1.weight"), r"layer1\.0\.conv1\.weight has the shape \[\]"),
    (with_tensor("layer1.0.conv1.weight", 64), r"layer1\.0\.conv1\.weight has the shape \[64\]"),
    (with_tensor("layer1.0.conv1.weight", 0, 64, 3, 3), r"layer1\.0\.conv1\.weight has the shape"),
    (with_tensor("layer1.0.conv1.weight", 96, 64, 3, 3), "width 96"),
    (deeper, r"\(3, 2, 2, 2\) BasicBlocks .* nearest is resnet18, of \(2, 2, 2, 2\) BasicBlocks"),
    (gap, r"layer1\.1\.\S+ and \d+ more are missing"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(change: Change, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        opened(saved(change(tiny()))).network()


def test_a_bottleneck_without_its_last_convolution_is_still_one() -> None:
    state = without("layer1.0.conv3.weight")(tiny("resnet50"))

    assert refusal(saved(state)).endswith("layer1.0.conv3.weight is missing from its resnet50")


def test_weights_that_are_whole_numbers_are_refused() -> None:
    state = tiny()

    assert "conv1.weight" in refusal(saved({**state, "conv1.weight": state["conv1.weight"].char()}))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_quantised_weights_are_refused() -> None:
    kernel = torch.quantize_per_tensor(torch.rand(64, 64, 3, 3), 0.1, 0, torch.qint8)

    assert "quanti" in refusal(saved({**tiny(), "layer1.0.conv1.weight": kernel}))


def test_weights_without_values_are_refused() -> None:
    assert refusal(saved({name: tensor.to("meta") for name, tensor in tiny().items()}))


@pytest.mark.parametrize("name", ["conv1.weight", "layer4.1.bn2.running_var", "fc.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_not_finite_are_refused(
    name: str, value: float, dtype: torch.dtype
) -> None:
    state = tiny()
    broken = state[name].to(dtype).clone(memory_format=torch.contiguous_format)
    broken.view(-1)[-1] = value

    assert f"{name} holds NaN or infinity" in refusal(saved({**state, name: broken}))


def test_large_half_precision_weights_are_finite() -> None:
    state = {**tiny(), "fc.weight": torch.full((3, 512), 60_000.0, dtype=torch.float16)}

    assert torch.equal(opened(saved(state)).network().fc.weight, state["fc.weight"].float())


@pytest.mark.parametrize("wrong", ["resnet34", "resnet50", "wide_resnet50_2"])
def test_a_model_that_the_checkpoint_is_not_is_refused(wrong: str) -> None:
    message = refusal(saved(tiny()), model=wrong)

    assert f"as {wrong}: it is a resnet18 of 3 classes" in message


def test_the_architecture_is_detected_among_similar_ones() -> None:
    """Of one depth and one set of names, only the widths differ."""
    alike = ("resnet50", "resnext50_32x4d", "wide_resnet50_2")
    states = [tiny(name) for name in alike]

    assert len({tuple(state) for state in states}) == 1
    assert [detect_network(state).architecture.name for state in states] == list(alike)


def put(*names: str) -> None:
    for name in names:
        path = Path("checkpoints") / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def located(**options: str | None) -> Location:
    return locate_checkpoint(None, **{"model": None, "weights": None, **options}, progress=False)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "a.pkl", "a.ckpt", "a.bin",
                                  "a.pth.tar", "a.th", "A.PTH"])  # fmt: skip
def test_the_only_checkpoint_of_the_folder_is_taken(name: str) -> None:
    put(name, "README.md", "classes.txt", "config.json", "train.py", "grid.png")
    location = located()

    assert location.path == Path("checkpoints") / name
    assert location.reason == "the only checkpoint in ./checkpoints"
    assert location.published is None


def test_several_checkpoints_in_the_folder_are_an_error_that_names_them() -> None:
    put("b.pth", "a.safetensors", "README.md")

    with pytest.raises(CheckpointError, match=r"a\.safetensors, b\.pth: choose one with -c"):
        located()


def test_a_given_file_is_taken_regardless_of_the_folder() -> None:
    put("a.pth", "b.pth")
    location = locate_checkpoint(
        "checkpoints/b.pth", model="resnet50", weights=None, progress=False
    )

    assert (location.path, location.reason) == (Path("checkpoints/b.pth"), "given")


def test_a_file_and_published_weights_are_one_source_too_many() -> None:
    put("a.pth")

    with pytest.raises(CheckpointError, match=r"checkpoints/a\.pth and IMAGENET1K_V1: name one"):
        locate_checkpoint("checkpoints/a.pth", model=None, weights="IMAGENET1K_V1", progress=False)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def cache() -> Path:
    """Where torch.hub keeps what was downloaded."""
    return Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(("options", "file"), [
    ({}, "resnet18-f37072fd.pth"),
    ({"model": "resnet34"}, "resnet34-b627a593.pth"),
    ({"weights": "ResNet50_Weights.IMAGENET1K_V1"}, "resnet50-0676ba61.pth"),
])  # fmt: skip
def test_without_a_network_the_error_names_where_to_put_the_file(
    options: dict[str, str], file: str
) -> None:
    with pytest.raises(CheckpointError) as refused:
        located(**options)

    assert str(refused.value).startswith(
        f"cannot download https://download.pytorch.org/models/{file}"
    )
    assert "no route to host" in str(refused.value)
    assert f"put the file at {cache() / file}, or name a checkpoint with -c" in str(refused.value)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("options", [{"model": "resnet18"}, {"weights": "IMAGENET1K_V1"}])
def test_the_folder_is_not_looked_at_when_published_weights_are_asked_for(
    options: dict[str, str],
) -> None:
    put("a.pth", "b.pth")

    with pytest.raises(CheckpointError, match=r"cannot download .*resnet18-f37072fd"):
        located(**options)


def test_a_cached_file_of_another_hash_is_refused() -> None:
    path = cache() / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the weights")

    with pytest.raises(CheckpointError) as refused:
        located()
    assert str(refused.value) == (
        f"cannot load {path}: its sha256 is not f37072fd…: delete it and try again"
    )


def published(content: bytes, checksum: str) -> Weights:
    """Weights that are published in the folder of this test."""
    source = Path("server") / f"tiny-{checksum}.pth"
    source.parent.mkdir()
    source.write_bytes(content)
    return Weights(url=source.absolute().as_uri(), transforms=Preprocess, meta={})


def test_published_weights_are_downloaded_once() -> None:
    content = b"weights"
    checksum = hashlib.sha256(content).hexdigest()
    weights = published(content, checksum[:8])
    path = fetch_weights(weights, progress=False)
    Path(f"server/tiny-{checksum[:8]}.pth").unlink()

    assert path == cache() / f"tiny-{checksum[:8]}.pth"
    assert path.read_bytes() == content
    assert fetch_weights(weights, progress=False) == path
    assert sha256_of_files(path) == checksum


def test_a_download_of_another_hash_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(CheckpointError, match="invalid hash"):
        fetch_weights(published(b"something else", "01234567"), progress=False)

    assert list(cache().iterdir()) == []


@pytest.mark.parametrize(("model", "name", "expected"), [
    (None, "DEFAULT", ResNet18_Weights.IMAGENET1K_V1),
    ("resnet18", "DEFAULT", ResNet18_Weights.IMAGENET1K_V1),
    ("resnet50", "DEFAULT", ResNet50_Weights.IMAGENET1K_V2),
    ("resnet50", "IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
    (None, "ResNet50_Weights.IMAGENET1K_V2", ResNet50_Weights.IMAGENET1K_V2),
    ("resnet34", "ResNet34_Weights.DEFAULT", ResNet34_Weights.IMAGENET1K_V1),
])  # fmt: skip
def test_published_weights_are_found_by_name(
    model: str | None, name: str, expected: Weights
) -> None:
    assert find_published(model, name) is expected


@pytest.mark.parametrize(("model", "name", "sentence"), [
    ("resnet19", "DEFAULT", "cannot find the model 'resnet19': one of resnet18, resnet34"),
    (None, "IMAGENET1K_V7", "IMAGENET1K_V7 of resnet18: one of IMAGENET1K_V1, DEFAULT"),
    ("resnet18", "IMAGENET1K_V2", "IMAGENET1K_V2 of resnet18: one of IMAGENET1K_V1"),
    (None, "VGG16_Weights.DEFAULT", "VGG16_Weights.DEFAULT: one of ResNet18_Weights"),
    ("resnet18", "ResNet50_Weights.IMAGENET1K_V2", "into resnet18: they are weights of resnet50"),
    (None, "", "cannot find the weights"),
])  # fmt: skip
def test_a_wrong_name_of_weights_is_an_error_that_lists_the_right_ones(
    model: str | None, name: str, sentence: str
) -> None:
    with pytest.raises(SettingError) as refused:
        find_published(model, name)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(("weights", "settings"), [
    (ResNet18_Weights.IMAGENET1K_V1, Preprocess(resize_size=256)),
    (ResNet50_Weights.IMAGENET1K_V2, Preprocess(resize_size=232)),
])  # fmt: skip
def test_published_weights_bring_their_preprocessing(weights: Any, settings: Preprocess) -> None:
    path = saved(tiny(num_classes=1000))
    checkpoint = load_checkpoint(Location(path, "published", weights))

    assert checkpoint.preprocess == settings
    assert checkpoint.preprocess_source == f"of {weights}"


WILD = {
    "ArvinGuy_resnet18.pth": "git-lfs pointer",
    "BTMiao_model_best.pth.tar": "git-lfs pointer",
    "douzai_checkpoint.pth.tar": "no ResNet in it: it holds epoch, state_dict, best_prec1",
    "douzai_model_fp32.pt": "it holds a vggQ, not a state dict; its 23 tensors are",
    "douzai_model_int8.pth": "quantised",
    "resnet18-f37072fd.pth": "the file is cut off",
    "resnet20-12fca82f.th": "a ResNet-20 for small images",
}


def test_every_wild_file_is_known_here(data: Path) -> None:
    assert {path.name for path in (data / "checkpoints" / "wild").iterdir()} == set(WILD)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # of quantised tensors
@pytest.mark.parametrize("name", WILD)
def test_a_wild_file_is_refused_in_a_sentence(data: Path, name: str) -> None:
    message = refusal(data / "checkpoints" / "wild" / name)

    assert WILD[name] in message
    assert len(message) < 500


@pytest.mark.parametrize(("name", "key", "num_classes"), [
    ("resnet18_imagenet.pth", "", 1000),
    ("ants_bees_resnet18_epoch14.pkl", "model_state_dict", 2),
])  # fmt: skip
def test_a_real_checkpoint_opens(data: Path, name: str, key: str, num_classes: int) -> None:
    path = data / "checkpoints" / name
    checkpoint = opened(path)
    tree: Any = torch.load(path, weights_only=True)

    assert (checkpoint.model, checkpoint.in_channels) == ("resnet18", 3)
    assert (checkpoint.state_key, checkpoint.num_classes) == (key, num_classes)
    assert len(checkpoint.classes.names) == num_classes
    assert holds(checkpoint, tree[key] if key else tree)


def test_a_container_in_itself_ends() -> None:
    knot: dict[str, Any] = {"state_dict": tiny()}
    knot["self"] = knot
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    knot["shared"] = shared

    assert holds(opened(saved(knot)), tiny())


@pytest.mark.parametrize(("names", "shape", "sentence"), [
    (("fc.weight",), (10**8, 512), "fc.bias has the shape [3] in place of [100000000]"),
    (("fc.weight", "fc.bias"), (10**8, 512), "fc.weight is larger than its values"),
    (("bn1.num_batches_tracked",), (2**40,), "bn1.num_batches_tracked has the shape"),
])  # fmt: skip
def test_a_tensor_that_claims_terabytes_is_refused(
    names: tuple[str, ...], shape: tuple[int, ...], sentence: str
) -> None:
    vast = {name: torch.zeros(1).expand(shape[: 2 - at]) for at, name in enumerate(names)}

    assert sentence in refusal(saved({**tiny(), **vast}))


def test_a_negative_variance_is_refused() -> None:
    spoiled = {**tiny(), "bn1.running_var": torch.full((64,), -1.0)}

    assert "bn1.running_var holds a negative variance" in refusal(saved(spoiled))
