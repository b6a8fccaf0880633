"""Converted networks compute what the original ones do: heads, other systems, variants."""

import json
import pickle
import re
from collections.abc import Callable
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

from conftest import Run
from converting import (
    MIDDLE,
    SUFFIXES,
    calm,
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
from heads import HEADS as STATE_HEADS
from systems import MmHead, cut, d2l_first_edition, fastai_head, mm_classifier, to_detectron2

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

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
def test_a_head_survives_with_its_activations(run: Run, three_images: Path, kind: str) -> None:
    network = with_head(HEADS[kind]())
    source = saved(network)  # the module itself, which alone tells its activations
    there = written(run, source, "there.safetensors")
    back = written(run, there, "back.pth")

    own = expected(network)
    before, after = predicted(run, source)[0], predicted(run, back)[0]
    assert close(before, own, 1e-5)
    assert close(before, after)


def test_a_head_in_the_form_of_torch_takes_the_tensors(run: Run, three_images: Path) -> None:
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
def test_a_head_by_convention_survives(run: Run, three_images: Path, kind: str) -> None:
    head = STATE_HEADS[kind](512, 3)
    network = resnet()
    network.fc = head
    settle(network, next(reversed(list(head.modules()))))
    output = written(run, saved(network.state_dict()), "out.safetensors")

    assert close(predicted(run, output)[0], expected(network), 1e-5)


@pytest.mark.parametrize("names", [["ants", "bees"], ["bees"]])
def test_a_single_output_survives_with_its_names(
    run: Run, three_images: Path, names: list[str]
) -> None:
    network = resnet(num_classes=1)
    source = saved({"net": network.state_dict(), "classes": names})
    output = written(run, source, "out.pth")
    before, after = predicted(run, source), predicted(run, output)

    assert torch.load(output, weights_only=True)["classes"] == names
    assert close(before[0], after[0])
    assert before[1] == after[1]


def test_one_channel_survives_with_its_normalisation(run: Run, three_images: Path) -> None:
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
    run: Run, three_images: Path, layout: str
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
    run: Run, three_images: Path, kind: str
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


def test_caffes_pool_and_colours_survive(run: Run, three_images: Path) -> None:
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
        ({"head": "linear"}, "recorded head is not supported: linear"),
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
