"""Networks of torchvision, their heads and what is built around them: the same probabilities."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import ResNet

from against import LARGEST, Forward, check, difference, opened, saved, trained
from heads import ACTIVE, HEADS, JOINED, Pointwise
from resnet_cli.errors import CheckpointError
from systems import Parted, cut, fastai_head, headless, resnet

pytestmark = pytest.mark.usefixtures("one_thread")


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
def test_a_whole_module_shows_its_head(head: str) -> None:
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
def test_a_whole_module_shows_which_layers_dilate(dilated: tuple[bool, bool, bool]) -> None:
    network = trained(resnet("resnet50", dilated=dilated))
    checkpoint = check(saved(network), network, model="resnet50")

    assert checkpoint.variant.dilated == dilated


def test_the_tensors_of_a_dilated_network_need_the_option() -> None:
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
