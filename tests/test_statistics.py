"""Mean and deviation as trainings keep them in their checkpoints."""

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

from resnet_cli.preprocess import PRESETS, Preprocess
from test_checkpoint import opened, saved, tiny

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
    {"transform": transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])},
], ids=lambda extras: next(iter(extras)))  # fmt: skip
def test_they_are_obeyed_however_they_are_kept(extras: dict[str, Any]) -> None:
    found = preprocess_of(extras)
    assert found.mean == pytest.approx(MEAN)
    assert found.std == pytest.approx(STD)
    assert (found.resize_size, found.crop_size, found.color) == (256, 224, "rgb")


@pytest.mark.parametrize("value", [0.25, [0.25], (0.25,), np.float64(0.25), torch.tensor(0.25)])
def test_one_channel_has_one_number(value: Any) -> None:
    found = preprocess_of({"mean": value, "std": 0.5}, in_channels=1)
    assert (found.mean, found.std) == ((0.25,), (0.5,))


def test_other_fields_beside_them_are_obeyed_too() -> None:
    kept = {"resize_size": 300, "crop_size": 200, "mean": MEAN, "std": STD, "color": "bgr"}
    assert preprocess_of({"preprocess": kept}) == Preprocess(
        resize_size=300, crop_size=200, mean=MEAN, std=STD, color="bgr"
    )


def test_other_fields_of_another_meaning_are_not() -> None:
    kept = {"crop_size": (200, 200), "interpolation": 3, "mean": MEAN, "std": STD}
    assert preprocess_of({"preprocess": kept}) == Preprocess(mean=MEAN, std=STD)


@pytest.mark.parametrize("extras", [
    {"mean": 0.5, "std": 0.5},
    {"mean": [0.5], "std": [0.5]},
    {"mean": None, "std": None},
    {"mean": "imagenet", "std": "imagenet"},
    {"mean": MEAN},
    {"mean": MEAN, "std": (0.5, 0.5, 0.0)},
    {"mean": MEAN, "std": (0.5, 0.5, float("nan"))},
    {"mean": (True, True, True), "std": STD},
    {"mean": (-3.0, 0.1, 9.0), "std": STD},
    {"mean": (900.0, 800.0, 700.0), "std": STD},
    {"optimizer": {"mean": MEAN, "std": STD}},
    {"target": {"mean": MEAN, "std": STD}},
    {"accuracy": {"mean": (0.7, 0.8, 0.9), "std": STD}},
    {"optimizer": {"param_groups": [{"mean": MEAN, "std": STD}]}},
], ids=str)  # fmt: skip
def test_what_is_no_mean_and_deviation_of_pixels_is_passed_over(extras: dict[str, Any]) -> None:
    assert preprocess_of(extras) == PRESETS["imagenet-v1"]


def test_the_note_says_where_they_stood() -> None:
    path = saved({"state_dict": tiny(), "args": Namespace(mean=MEAN, std=STD)})
    source = "imagenet-v1 with the mean and std in the checkpoint, under args.mean"
    assert opened(path).preprocess_source == source
