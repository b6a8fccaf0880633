"""The package as it is imported, and calls of a classifier that are refused."""

import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import torch

import resnet_cli
from conftest import trained
from resnet_cli import Classifier, Preprocess
from resnet_cli.errors import SettingError


@pytest.mark.parametrize("name", resnet_cli.__all__)
def test_a_public_name_is_loaded_on_first_use(name: str) -> None:
    assert getattr(resnet_cli, name).__name__ == name
    assert name in dir(resnet_cli)


def test_no_module_takes_the_place_of_a_public_name() -> None:
    modules = {module.name for module in iter_modules(resnet_cli.__path__)}
    assert not modules & set(resnet_cli.__all__)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = resnet_cli.Clasifier


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import resnet_cli, sys; dir(resnet_cli); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_predictions_that_are_no_numbers_stop_the_run(tmp_path: Path, photos: Path) -> None:
    network = trained()
    for norm in (network.bn1, network.layer4[1].bn2):
        norm.weight.data *= 1e30  # finite each, and too much together
    torch.save(network.state_dict(), "vast.pth")
    classifier = Classifier.load("vast.pth", device="cpu")

    with pytest.raises(SettingError, match="the network gave NaN or infinity in fp32"):
        list(classifier.predict(photos))


def test_streams_that_overlap_give_the_threads_back(checkpoint: Path, photos: Path) -> None:
    classifier = Classifier.load(checkpoint, device="cpu")
    torch.set_num_threads(2)
    first, second = classifier.predict(photos), classifier.predict(photos)
    next(first), next(second)
    assert (len(list(first)), len(list(second))) == (9, 9)

    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "settings",
    [{"topk": 0}, {"topk": -1}, {"batch_size": 0}, {"workers": -1}, {"threshold": 5},
     {"on_error": "stop"}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(
    checkpoint: Path, photos: Path, settings: dict[str, Any]
) -> None:
    classifier = Classifier.load(checkpoint, device="cpu")
    with pytest.raises(SettingError, match=rf"{next(iter(settings))}(=| must be)"):
        next(classifier.predict(photos, **settings))


def test_three_means_for_one_channel_are_refused(tmp_path: Path) -> None:
    torch.save(trained(in_channels=1).state_dict(), "grey.pth")
    with pytest.raises(SettingError, match="cannot normalise 1 channels"):
        Classifier.load("grey.pth", preprocess=Preprocess(mean=(0.1, 0.2, 0.3)), device="cpu")


def test_five_channels_without_a_mean_each_are_refused() -> None:
    torch.save(trained(in_channels=5).state_dict(), "five.pth")
    with pytest.raises(SettingError, match=r"5 input channels .* 5 numbers each"):
        Classifier.load("five.pth", device="cpu")
