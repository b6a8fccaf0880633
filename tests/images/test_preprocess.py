import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms
from torchvision.models import WeightsEnum
from torchvision.transforms import InterpolationMode

from resnet_cli.checkpoint.metadata.preprocessing import preprocess_of
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import INTERPOLATIONS, PRESETS, Preprocess, adjust_preprocess
from resnet_cli.records import Pixels
from resnet_cli.runtimes.torch_runtime import Normalise

SIZES = [  # where rounding goes wrong, and what is smaller than the crop
    (500, 375), (375, 500), (257, 1001), (256, 347), (347, 256), (49, 98), (98, 49), (224, 224),
    (256, 256), (1, 1), (30, 20), (223, 3), (231, 403), (1000, 333),
]  # fmt: skip
PUBLISHED = [weights for name in ARCHITECTURES for weights in models.get_model_weights(name)]


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Noise over a slope: every pixel differs from its neighbours, and so does every channel."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 80, (height, width, 3))
    slope = np.linspace(0, 175, width)[None, :, None] * [1.0, 0.5, 0.0]
    return Image.fromarray((noise + slope).astype(np.uint8)).convert(mode)


def torchvision_pixels(image: Image.Image, settings: Preprocess) -> Pixels:
    """The transforms that people write in their training scripts, as [H, W, C]."""
    transform = transforms.Compose(
        [
            transforms.Resize(
                settings.resize_size, interpolation=InterpolationMode(settings.interpolation)
            ),
            transforms.CenterCrop(settings.crop_size),
            transforms.PILToTensor(),
        ]
    )
    pixels: Pixels = transform(image).permute(1, 2, 0).numpy()
    return pixels


def difference(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", [*PRESETS.values(), Preprocess(64, 64), Preprocess(65, 32)])
def test_pillow_pixels_are_those_of_torchvision(
    size: tuple[int, int], settings: Preprocess
) -> None:
    image = picture(size)
    pixels = settings(image)

    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, torchvision_pixels(image, settings))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(500, 375), (60, 90)])
def test_every_interpolation_is_that_of_torchvision(
    size: tuple[int, int], interpolation: str
) -> None:
    image = picture(size)
    settings = Preprocess(interpolation=interpolation)

    assert np.array_equal(settings(image), torchvision_pixels(image, settings))


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [  # recorded from torchvision 0.29, transforms.functional
        ((500, 375), (341, 256), (58, 16)),
        ((375, 500), (256, 341), (16, 58)),
        ((257, 1001), (256, 997), (16, 386)),  # 386.5 rounds to even, down
        ((256, 347), (256, 347), (16, 62)),  # 61.5 rounds to even, up
        ((49, 98), (256, 512), (16, 144)),  # a float scale gives 511
    ],
)
def test_pixels_are_those_of_pillow_at_the_recorded_places(
    size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = picture(size)
    (left, top) = corner
    expected = np.asarray(image.resize(resized, Image.Resampling.BILINEAR))
    expected = expected[top : top + 224, left : left + 224]

    np.testing.assert_array_equal(Preprocess()(image), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_array_pixels_are_within_two_levels(size: tuple[int, int], interpolation: str) -> None:
    image = picture(size)
    settings = Preprocess(interpolation=interpolation)
    pixels = settings(np.array(image))

    assert pixels.dtype == np.uint8
    assert difference(pixels, torchvision_pixels(image, settings)) <= 2


@pytest.mark.parametrize("mean_and_std", [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                                          ((0.5, 0.4, 0.0), (0.5, 1.0, 0.25))])  # fmt: skip
def test_normalising_is_that_of_torchvision(
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    mean, std = mean_and_std
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = transforms.Normalize(list(mean), list(std))(
        transforms.ToTensor()(Image.fromarray(values))
    )
    before = values.copy()
    normalised = Preprocess(mean=mean, std=std).normalise(values[None])
    by_torch = Normalise(mean, std)(torch.from_numpy(values).permute(2, 0, 1)[None])

    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised[0], expected.permute(1, 2, 0), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(normalised, by_torch.permute(0, 2, 3, 1))  # to the last bit
    assert np.array_equal(values, before)


def test_bgr_swaps_the_channels_and_nothing_else() -> None:
    image = picture((300, 280))
    rgb, bgr = Preprocess()(image), Preprocess(color="bgr")(image)

    assert not np.array_equal(rgb, bgr)
    assert np.array_equal(bgr, rgb[:, :, [2, 1, 0]])


@pytest.mark.parametrize("size", [(300, 280), (49, 98)])
def test_a_grey_picture_keeps_its_one_channel(size: tuple[int, int]) -> None:
    image = picture(size, "L")
    settings = Preprocess().with_channels(1)
    pixels = settings(image)
    expected = (torchvision_pixels(image, settings) / 255 - 0.449) / 0.226

    assert pixels.shape == (224, 224, 1)
    np.testing.assert_allclose(settings.normalise(pixels[None])[0], expected, rtol=0, atol=2e-6)


def test_a_normalisation_of_one_channel_that_is_recorded_stays() -> None:
    recorded = Preprocess(mean=(0.13,), std=(0.31,))

    assert recorded.with_channels(1) == recorded
    assert recorded.channels == 1


@pytest.mark.parametrize("channels", [2, 4, 9])
def test_other_channels_need_numbers_of_their_own(channels: int) -> None:
    with pytest.raises(SettingError, match=rf"{channels} input channels.* {channels} numbers"):
        Preprocess().with_channels(channels)


def test_one_mean_for_three_channels_is_refused_for_what_it_is() -> None:
    with pytest.raises(SettingError, match=r"(?i)mean .* 3 numbers"):
        Preprocess(mean=(0.5,), std=(0.5,)).with_channels(3)


@pytest.mark.parametrize("weights", PUBLISHED, ids=str)
def test_published_weights_keep_their_own_transforms(weights: WeightsEnum) -> None:
    image = picture((301, 263))
    settings = preprocess_of(weights)
    expected = weights.transforms()(image).permute(1, 2, 0)
    normalised = settings.normalise(settings(image)[None])[0]

    np.testing.assert_allclose(normalised, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("preset", "weights"), [
    ("imagenet-v1", models.ResNet50_Weights.IMAGENET1K_V1),
    ("imagenet-v2", models.ResNet50_Weights.IMAGENET1K_V2),
])  # fmt: skip
def test_presets_are_what_torchvision_evaluates_with(preset: str, weights: WeightsEnum) -> None:
    theirs = weights.transforms()
    ours = PRESETS[preset]

    assert [ours.resize_size] == theirs.resize_size
    assert [ours.crop_size] == theirs.crop_size
    assert ours.interpolation == theirs.interpolation.value
    assert list(ours.mean) == list(theirs.mean)
    assert list(ours.std) == list(theirs.std)
    assert ours.color == "rgb"


RECORDED = Preprocess(300, 288, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bgr")


def test_what_is_recorded_stays_where_nothing_is_given() -> None:
    assert adjust_preprocess(RECORDED, preset=None, given={}) == RECORDED
    assert (
        adjust_preprocess(RECORDED, preset=None, given={"crop_size": None, "mean": None})
        == RECORDED
    )


def test_a_preset_replaces_what_is_recorded() -> None:
    assert adjust_preprocess(RECORDED, preset="imagenet-v2", given={}) == Preprocess(
        resize_size=232
    )


def test_a_preset_keeps_to_the_channels_of_the_network() -> None:
    grey = Preprocess(mean=(0.1,), std=(0.2,))

    assert adjust_preprocess(grey, preset="imagenet-v2", given={}) == Preprocess(
        232, 224, "bilinear", (0.449,), (0.226,)
    )


@pytest.mark.parametrize("preset", [None, "imagenet-v1"])
def test_single_settings_lie_over_the_rest(preset: str | None) -> None:
    base = RECORDED if preset is None else PRESETS[preset]
    changed = adjust_preprocess(base, preset=preset, given={"resize_size": 400, "color": "rgb"})

    assert (changed.resize_size, changed.color) == (400, "rgb")
    assert (changed.crop_size, changed.mean, changed.std, changed.interpolation) == (
        base.crop_size, base.mean, base.std, base.interpolation,
    )  # fmt: skip


def test_given_settings_must_fit_the_recorded_ones() -> None:
    with pytest.raises(SettingError, match="cannot crop 512 pixels out of 300"):
        adjust_preprocess(RECORDED, preset=None, given={"crop_size": 512})


@pytest.mark.parametrize("settings", [RECORDED, Preprocess(), Preprocess().with_channels(1)])
def test_a_record_comes_back_from_json(settings: Preprocess) -> None:
    assert Preprocess.from_record(json.loads(json.dumps(settings.record()))) == settings


@pytest.mark.parametrize(("wrong", "complaint"), [
    ({"interpolation": "lanczos"}, "interpolation 'lanczos': one of bilinear, bicubic"),
    ({"color": "hsv"}, "color 'hsv': one of rgb, bgr"),
    ({"mean": [0.5, 0.5]}, "one number a channel"),
    ({"std": [0.5]}, "one number a channel"),
    ({"std": [0.2, 0.0, 0.2]}, "std above 0"),
    ({"std": [0.2, -1.0, 0.2]}, "std above 0"),
    ({"crop_size": 257}, "cannot crop 257 pixels out of 256"),
    ({"crop_size": 0}, "cannot crop 0 pixels"),
    ({"resize_size": -5}, "out of -5"),
    ({"brightness": 2, "angle": 3}, "unknown angle, brightness"),
    ({"resize_size": "large"}, "large"),
    ({"resize_size": None}, "None"),
    ({"resize_size": 256.5}, "256.5"),
    ({"crop_size": [224, 112]}, "224, 112"),
    ({"mean": 0.5}, "0.5"),
    ({"mean": ["red", "green", "blue"]}, "green"),
    ({"mean": [0.5, float("nan"), 0.5]}, "nan"),
])  # fmt: skip
def test_a_record_that_cannot_be_obeyed_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        Preprocess.from_record({**Preprocess().record(), **wrong})


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 9_001)])
@pytest.mark.parametrize("as_array", [False, True])
def test_a_line_of_pixels_takes_little_memory_and_keeps_its_middle(
    size: tuple[int, int], as_array: bool
) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    middle = [side // 2 for side in size]
    image.paste((200, 150, 100), (middle[0] - 8, middle[1] - 8, middle[0] + 9, middle[1] + 9))
    pixels = Preprocess()(np.array(image) if as_array else image)

    assert pixels.shape == (224, 224, 3)
    assert pixels[112, 112].tolist() == [200, 150, 100]
