"""Each system that trains ResNets against this program: the same file, the same probabilities.

The networks are the systems' own, or what ``systems`` writes anew, with seeded weights; they are
saved as their system saves them, and opened without being told anything.
"""

import json
import pickle
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import timm.data
import timm.models
import timm.utils
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models import ResNet

from conftest import Run
from resnet_cli.checkpoint import Checkpoint, Location, load_checkpoint
from resnet_cli.classifier import Classifier
from resnet_cli.errors import CheckpointError
from systems import (
    ACTIVE,
    HEADS,
    JOINED,
    LABELLESS,
    BottleneckBlock,
    D2lResNet18,
    Detectron2ResNet,
    MmHead,
    MmStackedHead,
    Parted,
    Pointwise,
    TeachingResNet,
    cut,
    d2l_chinese_edition,
    d2l_first_edition,
    fastai_head,
    headless,
    mm_classifier,
    resnet,
    to_detectron2,
)

LARGEST = 1e-5  # difference of a probability; 1e-4 is promised

CLASSES = ["crow", "daw", "jay", "rook"]

TIMM: Any = timm  # types of these two have gaps
TRANSFORMERS: Any = transformers

Forward = Callable[[Tensor], Tensor]
Network = TypeVar("Network", bound=nn.Module)
State = dict[str, Tensor]


def pictures(channels: int = 3) -> Tensor:
    """Two of blots and some noise, 48 pixels wide: unlike enough to be of different classes."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.randn(2, channels, 4, 4, generator=random)
    blots = functional.interpolate(coarse, (48, 48), mode="bicubic")
    shades = torch.randn(2, channels, 1, 1, generator=random)
    return 1.5 * blots + shades + 0.2 * torch.randn(blots.shape, generator=random)


def trained(network: Network, channels: int = 3) -> Network:
    """Give a network scales, shifts and statistics as training leaves them, and mixed answers."""
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.ndim == 1 and name.endswith("weight"):
            weight.data.uniform_(0.5, 1.0)
        elif weight.ndim == 1:
            weight.data.normal_(0, 0.2)
    modules = list(network.eval().modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None  # the statistics become those of the next batch
    images = pictures(channels)
    with torch.no_grad():
        network(torch.cat([images, images.flip(3)]))
    for norm in norms:
        norm.eval().momentum = 0.1
    if not isinstance(modules[-1], nn.BatchNorm1d):
        mix(network, next(m for m in reversed(modules) if isinstance(m, LINEAR)), images)
    return network


LINEAR = (nn.Linear, Pointwise)


def mix(network: nn.Module, last: nn.Module, images: Tensor) -> None:
    """Turn and scale the last layer, so that it tells the pictures apart."""

    def turn(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        weight, mean = layer.get_parameter("weight").data.flatten(1), inputs[0].mean(0)
        weight.sub_(torch.outer(weight @ mean, mean) / mean.dot(mean))  # what they have in common
        weight.mul_(1.5 / (inputs[0] @ weight.T).std(0).mean())

    hook = last.register_forward_hook(turn)
    with torch.no_grad():
        network(images)
    hook.remove()


def turned(network: Network) -> Network:
    """Make the last layer say the opposite: averaged weights are others than the last ones."""
    for weight in network.get_submodule("fc").parameters():
        weight.data.neg_()
    return network


def probabilities(logits: Tensor) -> Tensor:
    """Of each class; a single output is the logit of index 1."""
    if logits.shape[1] > 1:
        return logits.softmax(1)
    return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], 1)


def opened(path: str | Path, **options: Any) -> Checkpoint:
    return load_checkpoint(Location(Path(path), "as named"), **options)


def difference(checkpoint: Checkpoint, forward: Forward) -> float:
    """The largest difference between the probabilities of the program and of a system."""
    images = pictures(checkpoint.in_channels)
    with torch.inference_mode():
        ours = probabilities(checkpoint.network()(images))
        theirs = probabilities(forward(images))
    assert float((theirs - theirs[0]).abs().max()) > 0.02  # or nothing would be shown
    return float((ours - theirs).abs().max())


def check(path: str | Path, forward: Forward, **facts: Any) -> Checkpoint:
    """Open a file, and hold it against the system and against what is known of it."""
    checkpoint = opened(path)
    for name, value in facts.items():
        assert getattr(checkpoint, name) == value, name
    assert difference(checkpoint, forward) <= LARGEST
    return checkpoint


def saved(content: Any, path: str = "model.pth") -> str:
    torch.save(content, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small pictures are done sooner by one thread than by several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain() -> ResNet:
    """A trained ResNet-18 of torchvision, with four classes."""
    return trained(resnet())


@pytest.fixture(scope="module")
def other() -> ResNet:
    """The same with another head, as an average of weights differs from the last of them."""
    return turned(trained(resnet()))


# torchvision


@pytest.mark.parametrize("head", HEADS)
def test_a_head_in_the_place_of_fc(head: str) -> None:
    network = trained(resnet(fc=HEADS[head](512, 5)))

    check(saved(network.state_dict()), network, model="resnet18", num_classes=5,
          layout="torchvision", state_key="", stripped_prefix="")  # fmt: skip


@pytest.mark.parametrize("head", ["linear", "dropout", "two layers", "norm before the activation"])
def test_a_single_output_is_the_logit_of_the_second_class(head: str) -> None:
    network = trained(resnet(fc=HEADS[head](512, 1)))
    checkpoint = check(saved(network.state_dict()), network, num_classes=1)

    assert checkpoint.classes.names == ("class_0", "class_1")


@pytest.mark.parametrize("head", ACTIVE)
def test_a_whole_module_tells_its_head(head: str) -> None:
    network = trained(resnet(fc=ACTIVE[head](512, 5)))
    checkpoint = check(saved(network), network, model="resnet18", num_classes=5)

    assert checkpoint.notes == ()  # nothing was taken for granted


@pytest.mark.parametrize(("count", "logits"), [
    (5, torch.log),
    (1, torch.logit),
])  # fmt: skip
def test_a_whole_module_whose_outputs_are_probabilities(count: int, logits: Forward) -> None:
    end = nn.Softmax(dim=1) if count > 1 else nn.Sigmoid()
    network = trained(resnet(fc=nn.Sequential(nn.Linear(512, count), end)))

    check(saved(network), lambda images: logits(network(images)), num_classes=count)


def test_an_activation_with_settings_of_its_own_is_refused() -> None:
    network = resnet(fc=nn.Sequential(nn.Linear(512, 32), nn.LeakyReLU(0.2), nn.Linear(32, 4)))

    with pytest.raises(CheckpointError, match=r"a LeakyReLU with negative_slope 0\.2"):
        opened(saved(network))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_of_either_format(plain: ResNet, legacy: bool) -> None:
    torch.save(plain, "whole.pth", _use_new_zipfile_serialization=not legacy)

    check("whole.pth", plain, format="pickle-legacy" if legacy else "pickle-zip")


@pytest.mark.parametrize("dilated", [(False, True, True), (False, False, True)])
def test_a_whole_module_tells_which_layers_dilate(dilated: tuple[bool, bool, bool]) -> None:
    network = trained(resnet("resnet50", dilated=dilated))
    checkpoint = check(saved(network), network, model="resnet50")

    assert checkpoint.variant.dilated == dilated


def test_the_tensors_of_a_dilated_network_need_to_be_told() -> None:
    network = trained(resnet("resnet50", dilated=(False, True, True)))
    path = saved(network.state_dict())

    assert difference(opened(path, dilated=True), network) <= LARGEST
    assert difference(opened(path), network) > 100 * LARGEST


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_a_first_convolution_of_any_number_of_channels(channels: int) -> None:
    network = resnet()
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    trained(network, channels)

    check(saved(network.state_dict()), network, in_channels=channels)


@pytest.mark.parametrize(("place", "head"), [
    ("fc", "linear"),
    ("classifier", "dropout"),
    ("classifier", "names, norm and dropout"),
    ("head", "norm before the activation"),
    ("linear", "linear without bias"),
    ("my_layer", "two layers"),
])  # fmt: skip
def test_a_head_outside_of_the_backbone(place: str, head: str) -> None:
    network = trained(Parted(headless(resnet()), **{place: HEADS[head](512, 4)}))

    check(saved(network.state_dict()), network, stripped_prefix="backbone.", num_classes=4)


CUTS: dict[str, Callable[[], nn.Module]] = {
    "in a row": lambda: nn.Sequential(*cut(resnet()), nn.Flatten(), nn.Linear(512, 4)),
    "without the pool": lambda: nn.Sequential(
        *cut(resnet(), -2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 4)
    ),
    "in two": lambda: nn.Sequential(cut(resnet()), nn.Flatten(), nn.Linear(512, 4)),
    "in two, with layers": lambda: nn.Sequential(
        cut(resnet()), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 4)
    ),
    "in two, with a head of its own": lambda: nn.Sequential(
        cut(resnet()), nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(512, 4))
    ),
    "fc": lambda: Parted(cut(resnet()), fc=nn.Linear(512, 4)),
    "classifier": lambda: Parted(cut(resnet()), classifier=HEADS["dropout everywhere"](512, 4)),
    "a convolution": lambda: Parted(cut(resnet()), head=Pointwise(512, 4)),
}


@pytest.mark.parametrize("form", CUTS)
def test_a_backbone_that_is_cut_out_of_torchvisions(form: str) -> None:
    network = trained(CUTS[form]())

    check(saved(network.state_dict()), network, model="resnet18", num_classes=4,
          layout="sequential")  # fmt: skip


@pytest.mark.parametrize("form", ["in a row", "in two, with layers", "classifier"])
def test_a_whole_module_around_a_cut_backbone(form: str) -> None:
    network = trained(CUTS[form]())

    assert check(saved(network), network, model="resnet18", layout="sequential").notes == ()


def never_wrong(path: str, network: nn.Module) -> None:
    """A file is refused, or all of it answers."""
    try:
        checkpoint = opened(path)
    except CheckpointError:
        return
    assert checkpoint.num_classes == 4
    assert difference(checkpoint, network) <= LARGEST


@pytest.mark.parametrize(("form", "whole"), [
    *((form, False) for form in JOINED),
    ("two layers", True),
    ("behind the last layer in a sequential", True),
])  # fmt: skip
def test_no_layer_behind_a_backbone_is_left_out(form: str, whole: bool) -> None:
    network = trained(JOINED[form]())

    never_wrong(saved(network if whole else network.state_dict()), network)


ENDS: dict[str, Callable[[], nn.Module]] = {
    "behind the layers": lambda: nn.Sequential(
        cut(resnet()), nn.Flatten(), nn.Linear(512, 4), nn.Hardtanh()
    ),
    "before the layers": lambda: nn.Sequential(
        cut(resnet()), nn.Flatten(), nn.Tanh(), nn.Linear(512, 4)
    ),
    "behind the layers of a part": lambda: nn.Sequential(
        cut(resnet(), -2), nn.Sequential(*fastai_head(512, 4), nn.Hardtanh())
    ),
    "behind a part": lambda: nn.Sequential(cut(resnet(), -2), fastai_head(512, 4), nn.Hardtanh()),
    "before a part": lambda: nn.Sequential(cut(resnet(), -2), nn.Tanh(), fastai_head(512, 4)),
}


@pytest.mark.parametrize("place", ENDS)
def test_no_activation_around_the_layers_of_a_whole_module_is_left_out(place: str) -> None:
    network = trained(ENDS[place]())

    never_wrong(saved(network), network)


@pytest.mark.parametrize(("place", "part"), [
    ("avgpool", nn.AdaptiveMaxPool2d(1)),
    ("maxpool", nn.Identity()),  # as for small pictures
    ("maxpool", nn.AvgPool2d(3, stride=2, padding=1)),
    ("relu", nn.Identity()),
    ("layer1.0.relu", nn.Hardtanh()),
    ("layer1.0.relu", nn.GELU()),
    ("conv1", nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)),
    ("conv1", nn.Conv2d(3, 64, 7, stride=2, padding=2, bias=False)),
    ("conv1", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False, padding_mode="reflect")),
    ("bn1", nn.BatchNorm2d(64, eps=0.1)),  # which is right
])  # fmt: skip
def test_no_other_part_of_a_whole_module_is_taken_for_torchvisions(
    place: str, part: nn.Module
) -> None:
    network = resnet()
    network.set_submodule(place, part)
    trained(network)

    never_wrong(saved(network), network)


# Training with PyTorch alone


@pytest.fixture(scope="module")
def optimizer(plain: ResNet) -> dict[str, Any]:
    """The state of an optimizer that has made one step."""
    weights = [weight.detach().clone() for weight in plain.parameters() if weight.ndim == 1]
    made = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    made.step()
    return made.state_dict()


def test_the_imagenet_example_of_pytorch(plain: ResNet, optimizer: dict[str, Any]) -> None:
    content = {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": nn.DataParallel(plain).state_dict(),
        "best_acc1": torch.tensor(69.8),
        "optimizer": optimizer,
        "scheduler": {"step_size": 30, "last_epoch": 90},
    }

    check(saved(content, "model_best.pth.tar"), plain, model="resnet18", state_key="state_dict",
          stripped_prefix="module.")  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
def test_data_parallel(plain: ResNet, whole: bool) -> None:
    network = nn.DataParallel(plain)

    check(saved(network if whole else network.state_dict()), plain, stripped_prefix="module.")


def test_compiled(plain: ResNet) -> None:
    compiled: Any = torch.compile(plain, backend="eager")

    check(saved(compiled.state_dict()), plain, stripped_prefix="_orig_mod.")


def averaged(network: nn.Module) -> AveragedModel:
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))


@pytest.mark.parametrize("key", ["model_ema", "ema_state_dict", "ema"])
def test_an_average_is_preferred_to_the_weights_beside_it(
    plain: ResNet, other: ResNet, key: str
) -> None:
    content = {"model": plain.state_dict(), key: averaged(other).state_dict(), "epoch": 7}
    path = saved(content)

    check(path, other, state_key=key, stripped_prefix="module.")
    assert difference(opened(path, ema=False), plain) <= LARGEST


def test_an_average_alone(other: ResNet) -> None:
    check(saved(averaged(other).state_dict()), other, stripped_prefix="module.")


class Phase(Enum):
    TRAIN = "train"


class OmegaList:
    """Pickles as OmegaConf's lists do: nodes that hold their values."""

    def __init__(self, values: list[str]) -> None:
        self._metadata, self._parent = Namespace(ref_type=Any), None
        self._content = [OmegaText(value) for value in values]


class OmegaText:
    def __init__(self, value: str) -> None:
        self._metadata, self._val = Namespace(optional=True), value


SETTINGS: dict[str, Any] = {
    "list": {"class_names": CLASSES, "lr": 0.1},
    "tuple": {"classes": tuple(CLASSES)},
    "numpy": {"classes": np.array(CLASSES)},
    "name to index": {"class_to_idx": {name: index for index, name in enumerate(CLASSES)}},
    "index to name": {"idx_to_class": dict(enumerate(CLASSES))},
    "namespace": {"args": Namespace(labels=CLASSES, root=Path("data"), phase=Phase.TRAIN)},
    "omegaconf": {"cfg": {"data": {"class_names": OmegaList(CLASSES)}}},
    "at night": {"started": datetime(2026, 1, 2), "best": np.float64(0.5), "Class_Names": CLASSES},
}


@pytest.mark.parametrize("form", SETTINGS)
def test_lightning_checkpoints_name_their_classes(
    plain: ResNet, optimizer: dict[str, Any], form: str
) -> None:
    state = prefixed("model.", plain.state_dict())
    state |= {"criterion.weight": torch.ones(4), "val_acc.tp": torch.zeros(4, dtype=torch.int64)}
    content = {
        "epoch": 4,
        "global_step": 125,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"dirpath": "/tmp"}},
        "optimizer_states": [optimizer],
        "lr_schedulers": [{"T_max": 5, "last_epoch": 5}],
        "hparams_name": "kwargs",
        "hyper_parameters": SETTINGS[form],
    }
    checkpoint = check(saved(content, "last.ckpt"), plain, state_key="state_dict",
                       stripped_prefix="model.", layout="torchvision")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)
    assert checkpoint.classes.source.startswith("hyper_parameters.")


def test_the_average_of_lightning_is_where_the_weights_were(plain: ResNet, other: ResNet) -> None:
    content = {  # as EMAWeightAveraging writes it
        "epoch": 4,
        "state_dict": prefixed("model.", other.state_dict()),
        "current_model_state": prefixed("model.", plain.state_dict()),
        "averaging_state": {"n_averaged": torch.tensor(5)},
    }

    check(saved(content, "last.ckpt"), other, state_key="state_dict")


# timm


def timm_network(name: str = "resnet18", **settings: Any) -> nn.Module:
    network: nn.Module = TIMM.create_model(name, num_classes=4, **settings)
    return network


def zeros(name: str = "resnet18", **settings: Any) -> nn.Module:
    """A network of timm whose weights do not matter, and take no room."""
    with torch.device("meta"):
        network = timm_network(name, **settings)
    for module in network.modules():
        for key, weight in list(module.named_parameters(recurse=False)):
            module.register_parameter(key, nn.Parameter(torch.zeros(()).expand(weight.shape)))
        for key, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(key, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
    return network


def hub_folder(network: nn.Module, *, safe: bool = True, **config: Any) -> str:
    """A folder as timm uploads it."""
    TIMM.models.save_for_hf(network, "hub", model_config=config, safe_serialization=safe)
    return "hub"


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
)
def test_networks_of_timm(name: str) -> None:
    network = trained(timm_network(name))
    checkpoint = check(hub_folder(network, label_names=CLASSES), network, model=name,
                       num_classes=4, layout="timm", format="safetensors")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_the_checkpoint_saver_of_timm(averages: bool, told: bool) -> None:
    network, average = trained(timm_network()), None
    if averages:
        average = TIMM.utils.ModelEmaV3(network)
        turned(average.module)
    args = Namespace(model="resnet18", lr=0.1, data_dir=Path("data"), best=np.float32(0.5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    saver = TIMM.utils.CheckpointSaver(
        network, optimizer, args=args if told else None, model_ema=average
    )
    saver.save_checkpoint(3, metric=np.float64(71.5))
    expected = network if average is None else average.module.eval()

    check("model_best.pth.tar", expected, model="resnet18",
          state_key="state_dict_ema" if averages else "state_dict")  # fmt: skip
    assert difference(opened("model_best.pth.tar", ema=False), network) <= LARGEST


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Soft shapes with edges and grain, so that every pixel of a shift or a filter shows."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    hard = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST), np.float64)
    grain = random.normal(0, 12, soft.shape)
    return Image.fromarray((0.7 * soft + 0.3 * hard + grain).clip(0, 255).astype(np.uint8))


PHOTOGRAPHS = [(640, 480), (375, 500), (120, 90), (1001, 257), (347, 256), (300, 471)]
"""Width and height; the margins of the last two are halves of a pixel."""


def largest_shift(checkpoint: Checkpoint, theirs: Callable[[Image.Image], Tensor]) -> float:
    """The largest difference of a pixel that reaches the network, in levels of 255."""
    found = []
    for size in PHOTOGRAPHS:
        image = photograph(size)
        ours = checkpoint.preprocess.normalise(checkpoint.preprocess(image)[None])[0]
        levels = 255 * torch.tensor(checkpoint.preprocess.std).view(-1, 1, 1)
        assert ours.shape == theirs(image).shape
        found.append(float(((ours - theirs(image)) * levels).abs().max()))
    return max(found)


def timm_transform(network: nn.Module) -> Callable[[Image.Image], Tensor]:
    """What timm evaluates a network with."""
    config = TIMM.data.resolve_model_data_config(network)
    transform: Callable[[Image.Image], Tensor] = TIMM.data.create_transform(**config)
    return transform


@pytest.mark.parametrize(("name", "config"), [
    ("resnet18.a1_in1k", {}),  # 95 % of 224 pixels, bicubic
    ("resnet18.a3_in1k", {}),  # 160 pixels
    ("resnet18.tv_in1k", {}),  # torchvision's own: bilinear
    ("resnet18", {"mean": (0.1, 0.5, 0.7), "std": (0.2, 0.3, 0.4), "interpolation": "bilinear"}),
    ("resnet18", {"crop_pct": 1.0, "crop_mode": "squash"}),
    ("resnet18", {"crop_pct": 0.9, "crop_mode": "squash", "input_size": (3, 128, 128)}),
])  # fmt: skip
def test_pictures_are_prepared_as_a_folder_of_timm_says(name: str, config: dict[str, Any]) -> None:
    network = zeros(name, pretrained_cfg_overlay=config)
    checkpoint = opened(hub_folder(network, safe=False))
    transform = timm_transform(network)

    assert checkpoint.preprocess_source == "of timm's config.json"
    assert largest_shift(checkpoint, transform) < 1e-3


def test_a_folder_of_timm_from_file_to_probability() -> None:
    network = trained(timm_network())
    hub_folder(network, safe=False, label_names=CLASSES)
    photograph((500, 375)).save("photograph.png")
    transform = timm_transform(network)
    with torch.inference_mode():
        expected = network(transform(photograph((500, 375)))[None]).softmax(1)[0]
    (prediction,) = Classifier.load("hub", exact=True).predict("photograph.png", topk=4)

    assert {score.label for score in prediction.scores} == set(CLASSES)
    for score in prediction.scores:
        assert abs(score.prob - float(expected[CLASSES.index(score.label)])) <= LARGEST


@pytest.mark.parametrize(("size", "message"), [
    ({"crop_mode": "border"}, "crop mode border"),
    ({"interpolation": "lanczos"}, "lanczos"),
    ({"input_size": (3, 200, 240)}, "200x240"),
])  # fmt: skip
def test_what_cannot_be_done_to_pictures_is_refused(size: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        opened(hub_folder(zeros(pretrained_cfg_overlay=size), safe=False))


@pytest.mark.parametrize(("name", "sentence"), [
    ("resnet50d", "ResNet-D"),
    ("seresnet50", "SE-ResNet"),
    ("resnetblur18", "resnetblur18"),
    ("resnetaa50", "resnetaa50"),
    ("resnet26", "resnet26"),
    ("resnet50_gn", "ResNet without statistics of batch norm"),
])  # fmt: skip
def test_variants_of_timm_are_refused_by_name(name: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        opened(hub_folder(zeros(name), safe=False))


@pytest.mark.parametrize("settings", [
    {"output_stride": 8},
    {"act_layer": "gelu"},
    {"global_pool": "max"},
])  # fmt: skip
def test_changed_networks_of_timm_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(settings)).split("_")[-1]):
        opened(hub_folder(zeros(**settings), safe=False))


@pytest.mark.parametrize("arch", ["resnetblur18", "resnetblur18.in1k", "hf-hub:timm/resnetaa50.a1"])
@pytest.mark.parametrize("place", ["arch", "args"])
def test_variants_of_the_same_tensors_are_refused_by_what_they_are_called(
    plain: ResNet, arch: str, place: str
) -> None:
    told = {"arch": arch} if place == "arch" else {"args": Namespace(model=arch)}

    with pytest.raises(CheckpointError, match=r"resnet(blur18|aa50)"):
        opened(saved({**told, "state_dict": plain.state_dict()}))


# transformers

BASIC = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


@pytest.fixture
def _quiet() -> Iterator[None]:
    TRANSFORMERS.utils.logging.disable_progress_bar()
    yield
    TRANSFORMERS.utils.logging.enable_progress_bar()


def transformers_network(channels: int = 3, **config: Any) -> Any:
    config |= {
        "num_channels": channels,
        "id2label": dict(enumerate(CLASSES)),
        "label2id": {name: index for index, name in enumerate(CLASSES)},
    }
    return trained(
        TRANSFORMERS.ResNetForImageClassification(TRANSFORMERS.ResNetConfig(**config)), channels
    )


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize(("config", "model", "shard"), [
    (BASIC, "resnet18", "1GB"),
    ({**BASIC, "channels": 1}, "resnet18", "10MB"),
    ({}, "resnet50", "1GB"),
    ({"downsample_in_bottleneck": True}, "resnet50", "1GB"),
])  # fmt: skip
def test_networks_of_transformers(config: dict[str, Any], model: str, shard: str) -> None:
    network = transformers_network(**config)
    network.save_pretrained("folder", max_shard_size=shard)
    checkpoint = check("folder", lambda images: network(images).logits, model=model, num_classes=4,
                       layout="transformers", stripped_prefix="resnet.")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)
    assert (len(checkpoint.files) > 1) == (shard == "10MB")


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("config", [
    {"hidden_act": "gelu"},
    {"downsample_in_first_stage": True},
    {"embedding_size": 32},
])  # fmt: skip
def test_changed_networks_of_transformers_are_refused(config: dict[str, Any]) -> None:
    TRANSFORMERS.ResNetForImageClassification(
        TRANSFORMERS.ResNetConfig(**BASIC, **config)
    ).save_pretrained("folder")

    with pytest.raises(CheckpointError, match=next(iter(config))):
        opened("folder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers without a processor."""
    path = tmp_path_factory.mktemp("transformers")
    TRANSFORMERS.ResNetForImageClassification(TRANSFORMERS.ResNetConfig(**BASIC)).save_pretrained(
        path
    )
    return path


def pillow_processor(kind: str) -> Any:
    """The processor that uses Pillow, which has had two names."""
    name = f"{kind}ImageProcessor"
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


PLAIN_COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875, **PLAIN_COLOURS}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 2}),
    ("ConvNext", {}),  # 384 pixels, without a crop
    ("ViT", {}),  # squeezed into a square
    ("ViT", {"size": 160, "resample": 3, **PLAIN_COLOURS}),
    ("ViT", {"do_normalize": False}),
    ("Bit", {}),
    ("Bit", {"size": {"shortest_edge": 256}, "crop_size": 224, "resample": 2, **PLAIN_COLOURS}),
    ("Bit", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
]


@pytest.mark.parametrize(("kind", "settings"), PROCESSORS)
def test_pictures_are_prepared_as_a_processor_of_transformers_says(
    folder: Path, kind: str, settings: dict[str, Any]
) -> None:
    processor = pillow_processor(kind)(**settings)
    processor.save_pretrained(folder)
    checkpoint = opened(folder)

    def theirs(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    assert checkpoint.preprocess_source == "of preprocessor_config.json"
    assert largest_shift(checkpoint, theirs) < 1e-3


@pytest.mark.parametrize(("settings", "message"), [
    ({"do_resize": False}, "not resized"),
    ({"do_rescale": False}, "not scaled"),
    ({"size": {"height": 192, "width": 224}}, "192x224"),
    ({"resample": 1}, "filter 1"),
])  # fmt: skip
def test_what_a_processor_does_besides_is_refused(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    pillow_processor("ViT")(**settings).save_pretrained(folder)

    with pytest.raises(CheckpointError, match=message):
        opened(folder)


# fastai


@pytest.mark.parametrize(("name", "settings"), [
    ("resnet18", {}),
    ("resnet50", {}),
    ("resnet18", {"hidden": (256, 64)}),
    ("resnet18", {"hidden": ()}),
    ("resnet18", {"dropout": 0.0}),
    ("resnet18", {"first_bn": False}),
    ("resnet18", {"bn_final": True}),
    ("resnet34", {"concat_pool": False}),
])  # fmt: skip
def test_learners_of_fastai(name: str, settings: dict[str, Any]) -> None:
    features = 2048 if name == "resnet50" else 512
    network = trained(nn.Sequential(cut(resnet(name), -2), fastai_head(features, 4, **settings)))
    layout = "fastai" if settings.get("concat_pool", True) else "sequential"

    check(saved(network.state_dict()), network, model=name, num_classes=4, layout=layout,
          state_key="", stripped_prefix="0.")  # fmt: skip


def test_learners_of_fastai_with_their_optimizer() -> None:
    network = trained(nn.Sequential(cut(resnet(), -2), fastai_head(512, 4)))
    content = {"model": network.state_dict(), "opt": {"state": [{"mom": 0.9}], "hypers": []}}

    check(saved(content), network, layout="fastai", state_key="model", stripped_prefix="0.")


# mmpretrain


def mm_checkpoint(network: nn.Module, **meta: Any) -> dict[str, Any]:
    meta = {"epoch": 1, "iter": 4, "cfg": "model = dict(type='ImageClassifier')", **meta}
    return {"meta": meta, "state_dict": network.state_dict(), "optimizer": {"state": {}}}


@pytest.mark.parametrize(("name", "meta"), [
    ("resnet18", {"dataset_meta": {"classes": CLASSES}}),
    ("resnext50_32x4d", {"CLASSES": CLASSES}),  # of mmcls, before it was mmpretrain
])  # fmt: skip
def test_networks_of_mmpretrain(name: str, meta: dict[str, Any]) -> None:
    features = 512 if name == "resnet18" else 2048
    network = trained(mm_classifier(resnet(name), MmHead(features, 4)))
    checkpoint = check(saved(mm_checkpoint(network, **meta)), network, model=name, num_classes=4,
                       layout="mmpretrain", stripped_prefix="backbone.")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_the_caffe_style_of_mmpretrain_strides_first(key: str) -> None:
    network = trained(mm_classifier(resnet("resnet50"), MmHead(2048, 4), style="caffe"))
    config = "model = dict(backbone=dict(type='ResNet', depth=50, style='caffe'))"

    check(saved(mm_checkpoint(network, **{key: config})), network, model="resnet50")


def test_the_stacked_head_of_mmpretrain() -> None:
    network = trained(mm_classifier(resnet(), MmStackedHead(512, (64, 32), 4)))

    check(saved(mm_checkpoint(network)), network, num_classes=4)


def test_mmengine_keeps_the_average_where_the_weights_were(plain: ResNet, other: ResNet) -> None:
    """EMAHook swaps the two when it saves: ``ema_state_dict`` is for going on with training."""
    weights, average = (Parted(net, head=nn.Identity()).state_dict() for net in (plain, other))
    content = {
        "meta": {"epoch": 1, "mmengine_version": "0.10.7"},
        "state_dict": average,
        "message_hub": {"log_scalars": {}, "runtime_info": {}},
        "ema_state_dict": {"steps": torch.tensor(4), **prefixed("module.", weights)},
    }
    path = saved(content)

    check(path, other, state_key="state_dict")
    assert difference(opened(path, state_key="ema_state_dict"), plain) <= LARGEST


# detectron2


DEPTHS = (3, 4, 6, 3)  # of ResNet-50


def test_networks_of_detectron2() -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))

    check(saved({"model": network.state_dict(), "iteration": 9}), network, model="resnet50",
          num_classes=4, layout="detectron2", state_key="model")  # fmt: skip


def test_a_backbone_of_detectron2_has_no_head() -> None:
    content = {"model": prefixed("backbone.bottom_up.", Detectron2ResNet(DEPTHS).state_dict())}

    with pytest.raises(CheckpointError, match="resnet50 is in it, but no head"):
        opened(saved(content))


def test_what_detectron2_makes_of_torchvisions_files(plain: ResNet) -> None:
    arrays = {to_detectron2(name): tensor.numpy() for name, tensor in plain.state_dict().items()}
    content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    Path("R-18.pkl").write_bytes(pickle.dumps(content))

    check("R-18.pkl", plain, model="resnet18", layout="detectron2", format="pickle")


NOT_SAID = "whether bottlenecks stride"


def test_who_made_a_file_of_detectron2_tells_where_it_strides() -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))
    path = saved({"model": network.state_dict()})

    assert any(NOT_SAID in note for note in opened(path).notes)
    told = check(saved({"model": network.state_dict(), "__author__": "torchvision"}), network)
    assert told.notes == ()


@pytest.mark.parametrize(("said", "first"), [("true", True), ("false", False)])
def test_the_settings_beside_a_file_of_detectron2_tell_where_it_strides(
    said: str, *, first: bool
) -> None:
    network = trained(Detectron2ResNet(DEPTHS, 4))
    for block in network.modules():
        if first and isinstance(block, BottleneckBlock):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    Path("config.yaml").write_text(f"MODEL:\n  RESNETS:\n    STRIDE_IN_1X1: {said}\n")

    found = check(saved({"model": network.state_dict()}), network)
    assert not any(NOT_SAID in note for note in found.notes)


# Teaching


@pytest.mark.parametrize(("model", "settings"), [
    ("resnet50", {}),
    ("resnext50_32x4d", {"groups": 32, "width_per_group": 4}),
])  # fmt: skip
def test_networks_of_courses(model: str, settings: dict[str, Any]) -> None:
    network = trained(TeachingResNet(DEPTHS, 4, **settings))

    check(saved(network.state_dict()), network, model=model, num_classes=4, layout="torchvision")


def test_a_network_without_its_top_has_no_head() -> None:
    network = TeachingResNet(DEPTHS, 4, include_top=False)

    with pytest.raises(CheckpointError, match="resnet50 is in it, but no head"):
        opened(saved(network.state_dict()))


@pytest.mark.parametrize(("channels", "whole"), [(1, False), (3, False), (1, True)])
@pytest.mark.parametrize("edition", [d2l_first_edition, D2lResNet18, d2l_chinese_edition])
def test_the_resnet_of_dive_into_deep_learning(
    edition: Callable[[int], nn.Module], channels: int, whole: bool
) -> None:
    network = trained(edition(channels), channels)

    check(saved(network if whole else network.state_dict(), "resnet.params"), network,
          model="resnet18", num_classes=10, in_channels=channels, layout="d2l")  # fmt: skip


# Learning without labels


@pytest.mark.parametrize("system", LABELLESS)
def test_what_learned_without_labels_tells_no_classes(system: str, run: Run) -> None:
    path = saved(LABELLESS[system]())
    with pytest.raises(CheckpointError, match=r"resnet18 is in it, but no head"):
        opened(path)
    record = json.loads(run("inspect", path, "--format", "json").stdout)

    assert (record["model"], record["in_channels"]) == ("resnet18", 3)
