"""Mean and deviation as trainings keep them in their checkpoints."""

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

from checkpoints import opened, saved, tiny
from resnet_cli.preprocess import PRESETS, Preprocess

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.125)


def preprocess_of(extras: dict[str, Any], in_channels: int = 3) -> Preprocess:
    state = tiny(in_channels=in_channels)
    return opened(saved({"state_dict": state, **extras})).preprocess


@pytest.mark.parametrize("extras", [
    {"mean": MEAN, "std": STD},
    {"Mean": list(MEAN), "Std": list(STD)},
    {"config": {"data": {"img_mean": MEAN, "img_std": STD}}},
    {"args": Namespace(lr=0.1, mean=list(MEAN), std=list(STD))},
    {"hyper_parameters": SimpleNamespace(image_mean=MEAN, image_std=STD)},
    {"norm": {"mean": np.array(MEAN), "std": np.array(STD)}},
    {"norm": {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}},
    {"norm": {"mean": torch.tensor(MEAN).view(3, 1, 1), "std": torch.tensor(STD).view(3, 1, 1)}},
    {"pixel_mean": [255 * x for x in MEAN], "pixel_std": [255 * x for x in STD]},
    {"transform": transforms.Normalize(MEAN, STD)},
    {"transform": transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])},
], ids=lambda extras: next(iter(extras)))  # fmt: skip
def test_they_are_obeyed_however_they_are_kept(extras: dict[str, Any]) -> None:
    found = preprocess_of(extras)
    assert found.mean == pytest.approx(MEAN)
    assert found.std == pytest.approx(STD)
    assert (found.resize_size, found.crop_size, found.color) == (256, 224, "rgb")


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_one_channel_has_one_number(kind: Any) -> None:
    found = preprocess_of({"mean": kind([0.25]), "std": kind([0.5])}, in_channels=1)
    assert (found.mean, found.std) == ((0.25,), (0.5,))


BARE: dict[str, dict[str, Any]] = {
    "scores of folds": {"mean": 0.91, "std": 0.02},
    "milliseconds": {"mean": 12.0, "std": 0.5},
    "a target": {"normalizer": {"mean": torch.tensor(38.2), "std": torch.tensor(13.1)}},
    "a time": {"log": {"data_time": {"mean": [0.3], "std": [0.1]}}},
    "gradients": {"grad_norm": {"mean": [0.3], "std": [0.1]}},
    "no number that is a float": {"config": {"mean": [10**400], "std": [1]}},
}


@pytest.mark.parametrize("kind", BARE)
def test_numbers_of_other_things_are_left_alone(kind: str) -> None:
    assert preprocess_of(BARE[kind], in_channels=1).mean == (0.449,)


def test_a_tensor_without_numbers_is_ignored() -> None:
    odd = torch.tensor([1, 2, 3], dtype=torch.uint8).view(torch.bits8)
    assert preprocess_of({"mean": odd, "std": torch.tensor(STD)}) == PRESETS["imagenet-v1"]


def test_settings_may_reverse_the_colours() -> None:
    bgr = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "to_rgb": False}
    found = preprocess_of({"img_norm_cfg": bgr})
    assert found.color == "bgr"
    assert found.mean == pytest.approx((103.53 / 255, 116.28 / 255, 123.675 / 255))
    assert preprocess_of({"cfg": {"pixel_mean": MEAN, "pixel_std": STD, "format": "BGR"}}) == (
        Preprocess(mean=MEAN, std=STD, color="bgr")
    )


def test_other_fields_beside_them_are_obeyed_too() -> None:
    kept = {"resize_size": 300, "crop_size": 200, "mean": MEAN, "std": STD, "color": "bgr"}
    assert preprocess_of({"preprocess": kept}) == Preprocess(
        resize_size=300, crop_size=200, mean=MEAN, std=STD, color="bgr"
    )


@pytest.mark.parametrize("others", [
    {"crop_size": (200, 200), "resize_size": 300},
    {"crop_size": 32},
    {"resize_size": 32},
    {"resize_size": 32, "crop_size": 64},
    {"resize_size": 300, "crop_size": 200, "interpolation": 3},
    {"interpolation": "bicubic"},
], ids=str)  # fmt: skip
def test_other_fields_of_another_meaning_are_not(others: dict[str, Any]) -> None:
    kept = {"mean": MEAN, "std": STD, **others}
    assert preprocess_of({"args": Namespace(**kept)}) == Preprocess(mean=MEAN, std=STD)


@pytest.mark.parametrize("extras", [
    {"mean": 0.5, "std": 0.5},
    {"mean": [0.5], "std": [0.5]},
    {"mean": None, "std": None},
    {"mean": "imagenet", "std": "imagenet"},
    {"mean": MEAN},
    {"mean": MEAN, "std": (0.5, 0.5, 0.0)},
    {"mean": (2.3, 1.2, 0.5), "std": STD},
    {"config": {"mean": (123.675, 116.28, 103.53), "std": STD}},
    {"stats": {"mean": (12.0, 30.0, 5.0), "std": (3.0, 3.0, 3.0)}},
    {"normalizer": {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}},
    {"val": {"confidence": {"mean": MEAN, "std": STD}}},
    {"target_transform": transforms.Normalize(MEAN, STD)},
    {"mean": MEAN, "std": (0.5, 0.5, float("nan"))},
    {"mean": (True, True, True), "std": STD},
    {"mean": (-3.0, 0.1, 9.0), "std": STD},
    {"mean": (900.0, 800.0, 700.0), "std": STD},
    {"optimizer": {"mean": MEAN, "std": STD}},
    {"target": {"mean": MEAN, "std": STD}},
    {"accuracy": {"mean": (0.7, 0.8, 0.9), "std": STD}},
    {"optimizer": {"param_groups": [{"mean": MEAN, "std": STD}]}},
], ids=str)  # fmt: skip
def test_other_means_and_deviations_are_ignored(extras: dict[str, Any]) -> None:
    assert preprocess_of(extras) == PRESETS["imagenet-v1"]


def test_the_note_names_their_key() -> None:
    path = saved({"state_dict": tiny(), "args": Namespace(mean=MEAN, std=STD)})
    source = "imagenet-v1 with the mean and std in the checkpoint, under args.mean"
    assert opened(path).preprocess_source == source
