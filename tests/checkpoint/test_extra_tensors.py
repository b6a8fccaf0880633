"""Tensors beside backbone and head: applied as the network does, reported or refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.transforms import v2

from pickled import opened, refusal
from resnet_cli import Classifier
from resnet_cli.checkpoint.convert import write_checkpoint
from resnet_cli.checkpoint.inspect import inspect_checkpoint
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import Location
from systems import resnet

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit", "ignore::DeprecationWarning")

Saves: dict[str, Callable[[nn.Module, Path], object]] = {
         "whole": torch.save, "script": lambda m, p: torch.jit.script(m).save(p),
         "trace": lambda m, p: torch.jit.trace(m, torch.rand(1, 3, 64, 64)).save(p),
         "export": lambda m, p: torch.export.save(
             torch.export.export(m, (torch.rand(1, 3, 64, 64),)), p)}  # fmt: skip


class Pair(nn.Module):
    """Takes a number off each channel and divides by another, under any two names."""

    def __init__(self, first: str, second: str, shape: tuple[int, ...], scale: float = 1) -> None:
        super().__init__()
        self.first, self.second, self.scale = first, second, scale
        mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.3, 0.25, 0.2])
        self.register_buffer(first, (mean * scale).view(shape))
        self.register_buffer(second, (std * scale).view(shape))

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (getattr(self, name).view(1, 3, 1, 1) for name in (self.first, self.second))
        return (images * self.scale - mean) / std


class Plain(nn.Module):
    """The same as people mostly write it, which TorchScript takes too."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.3, 0.25, 0.2]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Wrapped(nn.Module):
    """A network behind a module of any name."""

    def __init__(self, before: str, module: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.add_module(before, module)
        self.model, self.before = network, before

    def forward(self, images: Tensor) -> Tensor:
        return self.model(getattr(self, self.before)(images))


class Calibrated(nn.Module):
    """A network whose outputs are divided by a learned temperature."""

    def __init__(self, network: nn.Module, value: float) -> None:
        super().__init__()
        self.model, self.temperature = network, nn.Parameter(torch.tensor([value]))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) / self.temperature


class Functional(nn.Module):
    """A network that ends in a function, of which no module tells."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.model = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.model(images))


class Powers(nn.Module):
    """A generalised mean, as image retrieval pools."""

    def __init__(self, exponents: list[float]) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(exponents))

    def forward(self, features: Tensor) -> Tensor:
        p = self.p.view(1, -1, 1, 1)
        return features.clamp(min=1e-6).pow(p).mean((2, 3), keepdim=True).pow(1 / p)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of the size that the network sees, so that nothing is resized."""
    torch.manual_seed(5)
    path = tmp_path / "image.png"
    Image.fromarray(torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8).numpy()).save(path)
    return path


@pytest.fixture
def network() -> ResNet:
    torch.manual_seed(11)
    made = resnet().eval()
    nn.init.normal_(made.fc.weight, std=0.2)
    return made


def saved(content: Any) -> Path:
    path = Path("model.pth")
    torch.save(content, path)
    return path


def pixels(path: Path, *, normalised: bool = False, first: nn.Module | None = None) -> Tensor:
    """The image as torchvision's own transforms prepare it."""
    steps = [first] if first else []
    steps += [v2.CenterCrop(224), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    if normalised:
        steps.append(v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return v2.Compose(steps)(Image.open(path))[None]


def told(checkpoint: Path, image: Path) -> Tensor:
    """The probabilities that the program gives, by index."""
    classifier = Classifier.load(checkpoint, exact=True, device="cpu")
    (row,) = classifier.predict(image, topk=4)
    return torch.tensor([score.prob for score in sorted(row.scores, key=lambda one: one.index)])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.detach()[0], atol=2e-4, rtol=0)


@pytest.mark.parametrize(("before", "names", "shape", "scale", "around"), [
    ("normalizer", ("new_mean", "new_std"), (3, 1, 1), 1, "module."),
    ("preproc", ("mu", "sigma"), (3,), 1, ""),
    ("norm", ("pixel_mean", "pixel_std"), (1, 3, 1, 1), 255, "net."),
])  # fmt: skip
def test_the_normalisation_in_a_file_is_the_preprocessing(
    before: str, names: tuple[str, str], shape: tuple[int, ...], scale: float, around: str,
    network: ResNet, image: Path,
) -> None:  # fmt: skip
    whole = Wrapped(before, Pair(*names, shape, scale), network).eval()
    state = {around + name: tensor for name, tensor in whole.state_dict().items()}
    path = saved({"state_dict": state})
    found = opened(path)

    assert found.preprocess.mean == pytest.approx((0.5, 0.4, 0.3))
    assert f"{around}{before}.{names[0]}" in found.preprocess_source
    close(told(path, image), whole(pixels(image)).softmax(1))


@pytest.mark.parametrize("kind", Saves)
def test_a_whole_network_that_normalises_itself(kind: str, network: ResNet, image: Path) -> None:
    whole = nn.Sequential(Plain(), network).eval()
    path = image.with_name("whole.pt2" if kind == "export" else "whole.pt")
    Saves[kind](whole, path)

    close(told(path, image), whole(pixels(image)).softmax(1))


def test_numbers_of_torchvisions_own_transform_are_read(network: ResNet, image: Path) -> None:
    from torchvision.transforms import Normalize

    whole = nn.Sequential(Normalize([0.5, 0.4, 0.3], [0.3, 0.2, 0.2]), network).eval()

    close(told(saved(whole), image), whole(pixels(image)).softmax(1))


def test_buffers_that_are_not_saved_are_read(network: ResNet, image: Path) -> None:
    scale = Plain()
    scale._non_persistent_buffers_set |= {"mean", "std"}
    whole = Wrapped("scale", scale, network).eval()

    close(told(saved(whole), image), whole(pixels(image)).softmax(1))


def state_of(network: nn.Module, **beside: Tensor) -> dict[str, Tensor]:
    inside = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    return inside | {name.replace("__", "."): tensor for name, tensor in beside.items()}


def test_the_given_mean_goes_first(network: ResNet) -> None:
    from resnet_cli.preprocess import adjust_preprocess

    path = saved(state_of(network, n__mean=torch.full((3,), 0.5), n__std=torch.full((3,), 0.2)))
    given = {"mean": (0.1, 0.2, 0.3)}
    classifier = Classifier.load(
        path, preprocess=lambda own: adjust_preprocess(own, preset=None, given=given)
    )

    assert classifier.preprocess.mean == (0.1, 0.2, 0.3)
    assert classifier.preprocess.std == pytest.approx((0.2, 0.2, 0.2))


@pytest.mark.parametrize("arguments", [["--preset", "imagenet-v2"], ["--preset", "imagenet-v1"]])
def test_a_preset_keeps_the_numbers_of_a_network_that_normalises(
    arguments: list[str], network: ResNet, image: Path, run: Any
) -> None:
    whole = Wrapped("norm", Plain(), network).eval()
    path = saved(whole.state_dict())
    found = run("predict", image, "-c", path, "--exact", "-k", 4, "--format", "jsonl", *arguments)
    scores = sorted(json.loads(found.stdout)["predictions"], key=lambda one: one["index"])
    resize = v2.Resize(232 if "imagenet-v2" in arguments else 256)
    expected = whole(pixels(image, first=resize)).softmax(1)

    close(torch.tensor([score["prob"] for score in scores]), expected)


@pytest.mark.parametrize("normalised", [False, True])
def test_transforms_in_the_file_come_before_the_normalisation_of_the_network(
    normalised: bool, network: ResNet, image: Path
) -> None:
    own = [v2.Normalize((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))] if normalised else []
    steps = v2.Compose([v2.Resize(200), v2.CenterCrop(192), v2.PILToTensor(),
                        v2.ToDtype(torch.float32, scale=True), *own])  # fmt: skip
    whole = Wrapped("norm", Plain(), network).eval()
    path = saved({"model": whole.state_dict(), "val_transform": steps})

    close(told(path, image), whole(steps(Image.open(image))[None]).softmax(1))


def test_a_normalisation_that_the_transforms_repeat_counts_once(
    network: ResNet, image: Path
) -> None:
    steps = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage(),
                        v2.ToDtype(torch.float32, scale=True),
                        v2.Normalize((0.5, 0.4, 0.3), (0.3, 0.25, 0.2))])  # fmt: skip
    whole = Wrapped("denormalize", Plain(), network).eval()
    path = saved({"model": whole.state_dict(), "transform": steps})

    close(told(path, image), whole(pixels(image)).softmax(1))


@pytest.mark.parametrize("name", ["temperature", "T", "scaler.temp"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_temperature_divides(
    name: str, shape: tuple[int, ...], network: ResNet, image: Path
) -> None:
    path = saved({**state_of(network), name: torch.full(shape, 2.5)})

    assert any("temperature 2.5" in note for note in opened(path).notes)
    close(told(path, image), (network(pixels(image, normalised=True)) / 2.5).softmax(1))


@pytest.mark.parametrize("value", [torch.tensor(4.0), 4.0])
def test_a_temperature_beside_the_state_dict_divides(
    value: Tensor | float, network: ResNet, image: Path
) -> None:
    path = saved({"model": network.state_dict(), "temperature": value, "epoch": 3})

    close(told(path, image), (network(pixels(image, normalised=True)) / 4).softmax(1))


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_temperature_in_a_whole_network(kind: str, network: ResNet, image: Path) -> None:
    whole = Calibrated(network, 1.8).eval()
    path = image.with_name("calibrated.pt")
    Saves[kind](whole, path)

    close(told(path, image), whole(pixels(image, normalised=True)).softmax(1))


@pytest.mark.parametrize("exponents", [[3.0], torch.linspace(1.5, 4, 512).tolist()])
def test_a_generalised_mean_is_computed(
    exponents: list[float], network: ResNet, image: Path, tmp_path: Path
) -> None:
    network.avgpool = Powers(exponents)
    expected = network(pixels(image, normalised=True)).softmax(1)
    path, written = saved(network.state_dict()), tmp_path / "written.safetensors"
    write_checkpoint(load_checkpoint(Location(path, "")), written)

    close(told(path, image), expected)
    close(told(written, image), expected)


ENDS: Mapping[str, tuple[nn.Module, Any]] = {
    "sigmoid": (nn.Sigmoid(), torch.sigmoid),
    "softmax": (nn.Softmax(1), lambda logits: logits.softmax(1)),
    "log-softmax": (nn.LogSoftmax(1), lambda logits: logits.softmax(1)),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", Saves)
def test_the_end_of_a_network_is_not_applied_twice(
    end: str, kind: str, network: ResNet, image: Path
) -> None:
    module, finish = ENDS[end]
    path = image.with_name("end.pt")
    Saves[kind](nn.Sequential(network, module).eval(), path)

    close(told(path, image), finish(network(pixels(image, normalised=True))))


@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_an_end_in_code_is_read(kind: str, network: ResNet, image: Path) -> None:
    path = image.with_name("end.pt")
    Saves[kind](Functional(network).eval(), path)

    close(told(path, image), network(pixels(image, normalised=True)).sigmoid())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_multi_label_network_stays_one(
    suffix: str, network: ResNet, image: Path, tmp_path: Path
) -> None:
    head = nn.Sequential(network.fc, nn.Sigmoid())
    network.fc = head
    loaded, written = opened(saved(network)), tmp_path / f"written{suffix}"
    write_checkpoint(loaded, written)

    assert any(note.startswith("multi-label: ") for note in loaded.notes)
    assert opened(written).is_multi_label
    close(told(written, image), network(pixels(image, normalised=True)))


def test_evaluation_of_several_labels_has_no_loss(network: ResNet, image: Path, run: Any) -> None:
    network.fc = nn.Sequential(network.fc, nn.Sigmoid())
    folder = image.parent / "d" / "a"
    folder.mkdir(parents=True)
    image.rename(folder / "x.png")
    found = run("evaluate", folder.parent, "-c", saved(network), "--classes", "a,b,c,d",
                "--verify", "1", "-o", "metrics.json", "--device", "cpu")  # fmt: skip
    import json

    figures = json.loads(Path("metrics.json").read_text())

    assert found.exit_code == 0
    assert "no loss and no calibration" in found.stderr
    assert (figures["loss"], figures["ece"], figures["temperature"]) == (None, None, None)
    assert figures["run"]["multi_label"] is True


@pytest.mark.parametrize("beside", [
    {"criterion__weight": torch.ones(4)}, {"loss_fn__pos_weight": torch.ones(4)},
    {"class_weights": torch.ones(4)}, {"n_averaged": torch.tensor(3)},
    {"backbone__fc__total_ops": torch.zeros(1)}, {"val_acc__confmat": torch.ones(4, 4)},
    {"criterion__temperature": torch.tensor(0.07)},
], ids=lambda beside: next(iter(beside)))  # fmt: skip
def test_harmless_tensors_cause_no_note(beside: dict[str, Tensor], network: ResNet) -> None:
    assert opened(saved(state_of(network, **beside))).notes == ()


@pytest.mark.parametrize(("beside", "words"), [
    ({"extra__numbers": torch.ones(7)}, "unused: extra.numbers"),
    ({"aux_head__weight": torch.ones(9, 512), "aux_head__bias": torch.ones(9)},
     "unused: aux_head (2 tensors)"),
    ({"classifier2__weight": torch.ones(9, 512)}, "unused: classifier2.weight"),
    ({"decoder__up__weight": torch.ones(256, 512, 3, 3)}, "unused: decoder.up.weight"),
], ids=str)  # fmt: skip
def test_unused_tensors_are_named(
    beside: dict[str, Tensor], words: str, network: ResNet, image: Path
) -> None:
    path = saved(state_of(network, **beside))

    assert opened(path).notes == (words,)
    assert words in inspect_checkpoint(path).warnings
    close(told(path, image), network(pixels(image, normalised=True)).softmax(1))


@pytest.mark.parametrize("place", ["ema.shadow_params", "averaged"])
def test_averaged_weights_without_names_are_reported_unused(place: str, network: ResNet) -> None:
    outer, _, inner = place.partition(".")
    tensors = list(network.parameters())
    path = saved({"model": network.state_dict(), outer: {inner: tensors} if inner else tensors})

    assert f"unused: {place}, averaged weights without names" in opened(path).notes


@pytest.mark.parametrize(("name", "tensor"), [
    ("backbone.layer4.2.adapter.weight", torch.ones(16, 512)),
    ("attention.conv.weight", torch.ones(1, 2, 7, 7)),
    ("neck.weight", torch.ones(512)),
    ("mean", torch.full((3,), 0.5)),
    ("input.mean", torch.full((1, 3, 1, 1), -0.5)),
    ("logit_scale", torch.tensor(2.6)),
    ("log_temperature", torch.tensor(1.1)),
    ("scaler.inverse_temperature", torch.tensor([0.4])),
    ("temperature", torch.tensor([1.5, 2.0, 1.0, 1.0])),
    ("temperature", torch.tensor(-1.0)),
    ("log_temperature", torch.tensor(0.5)),
    ("head_inv_temperature", torch.tensor(0.5)),
    ("pooling.p", torch.tensor([3.0, 2.0])),
    ("colours.shift", torch.ones(1, 3, 1, 1)),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_tensors_that_would_change_predictions_are_refused_by_name(
    name: str, tensor: Tensor, network: ResNet
) -> None:
    assert name in refusal(saved({**state_of(network), name: tensor}))


def test_two_normalisations_are_refused(network: ResNet) -> None:
    pairs = {f"{one}__{kind}": torch.full((3,), value) for one, value in (("a", 0.2), ("b", 0.3))
             for kind in ("mean", "std")}  # fmt: skip

    assert "several ways (a.mean, b.mean)" in refusal(saved(state_of(network, **pairs)))


def test_tensors_between_backbone_and_head_are_refused(network: ResNet) -> None:
    state = {f"net.{n}": t for n, t in network.state_dict().items() if not n.startswith("fc.")}
    state |= {"middle.values": torch.ones(5), "head.weight": torch.ones(4, 512)}

    assert "middle.values" in refusal(saved(state | {"head.bias": torch.ones(4)}))


def test_rows_of_softmax_are_not_resumed_as_sigmoids(
    network: ResNet, image: Path, run: Any
) -> None:
    path = saved(network)
    assert run("predict", image, "-c", path, "-o", "r.csv").exit_code == 0
    record = Path("r.csv.run.json")
    earlier = record.read_text().replace('  "multi_label": false,\n', "")
    record.write_text(earlier)
    assert run("predict", image, "-c", path, "-o", "r.csv", "--resume").exit_code == 0
    record.write_text(earlier.replace('"state_key"', '"multi_label": true,\n  "state_key"'))

    assert (
        "multi_label True there, False now"
        in run("predict", image, "-c", path, "-o", "r.csv", "--resume").stderr
    )
