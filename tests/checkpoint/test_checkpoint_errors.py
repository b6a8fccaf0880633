"""Files that are refused as checkpoints, each in one sentence, and run no program."""

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import FORMS, Change, State, holds, opened, prefixed, refusal, saved, tiny
from resnet_cli.errors import CheckpointError


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
