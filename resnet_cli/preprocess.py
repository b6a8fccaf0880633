"""Preprocess: resize and crop an image, and the numbers that normalise it.

Pillow images are resized by Pillow, pixel for pixel as torchvision's transforms do it; arrays by
torchvision's tensor operators, which is quicker. torch is imported by the latter alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.errors import OptionError, SettingError
from resnet_cli.records import Pixels

LARGEST_SIZE = 8192  # pixels of a side, far more than any ResNet was trained with

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
}
"""torchvision's names: Pillow's filters."""

COLORS = ("rgb", "bgr")
SWITCH = (False, True)

IMAGE_CHANNELS = (1, 3)  # grey and RGB; other numbers are bands


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The preprocessing of an image: torchvision's classification preset, and its variants.

    The short side is resized to ``resize_size`` (the long side is rounded down), the centre is
    cropped, the values are scaled to 0..1 and normalised. The defaults are those of torchvision's
    ``IMAGENET1K_V1`` weights. Other libraries use ``squash`` and ``floor_crop``.
    """

    resize_size: int = 256  # short side, pixels
    crop_size: int = 224  # pixels
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # a value a channel, on the scale 0..1
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    color: str = "rgb"  # order of channels in training
    squash: bool = False  # resize both sides to resize_size, whatever the shape
    floor_crop: bool = False  # a centre between two pixels becomes the upper or left one
    # mean, std and color belong to the network, which normalises by itself: presets keep them
    fixed: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            OptionError: they are impossible, or would give other pixels than they say.
        """
        # lists come from JSON and from callers; the record itself holds tuples
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        for name, value, allowed in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("color", self.color, COLORS),
            ("squash", self.squash, SWITCH),
            ("floor_crop", self.floor_crop, SWITCH),
        ):
            if value not in allowed:
                words = ", ".join(map(str, allowed))
                raise OptionError(f"cannot use {name} {value!r}: one of {words}")
        if not all(isinstance(size, int) for size in (self.resize_size, self.crop_size)):
            raise OptionError(
                f"cannot resize to {self.resize_size} and crop {self.crop_size}: whole pixels"
            )
        if (
            len(self.mean) != len(self.std)
            or not all(map(isfinite, self.mean + self.std))
            or min(self.std, default=0) <= 0
        ):
            raise OptionError(
                f"cannot normalise with mean {self.mean} and std {self.std}: "
                "one number a channel each, std above 0"
            )
        if self.resize_size > LARGEST_SIZE:
            raise OptionError(
                f"cannot resize to {self.resize_size} pixels: {LARGEST_SIZE} at the most"
            )
        if not 0 < self.crop_size <= self.resize_size:
            raise OptionError(
                f"cannot crop {self.crop_size} pixels out of {self.resize_size}, the edge would be "
                f"black: set the crop (--img-size) to {self.resize_size} or less, or the resize "
                f"size to {self.crop_size} or more"
            )

    @property
    def words(self) -> str:
        """The settings in a few words, without the normalisation."""
        resize = f"squash to {self.resize_size}" if self.squash else f"resize {self.resize_size}"
        color = "grey" if self.channels == 1 else self.color
        return f"{resize}, crop {self.crop_size}, {self.interpolation}, {color}"

    @property
    def numbers(self) -> str:
        """The numbers of the normalisation."""
        means, stds = (
            ", ".join(f"{number:g}" for number in each) for each in (self.mean, self.std)
        )
        return f"mean {means}, std {stds}"

    @property
    def channels(self) -> int:
        """Number of input channels that the normalisation is for."""
        return len(self.mean)

    def __call__(self, image: Pixels | Image.Image) -> Pixels:
        """Resize and crop one image.

        Args:
            image: uint8 [H, W, C] or a Pillow image. Arrays are resized by torch, Pillow images by
                Pillow, pixel for pixel as torchvision's transforms do it.

        Returns:
            uint8 [crop_size, crop_size, C], not yet normalised.
        """
        if not isinstance(image, Image.Image) and self.interpolation != "bilinear":
            # only bilinear gives the same pixels by torch as by Pillow
            if image.shape[2] not in IMAGE_CHANNELS:
                bands = [self(image[:, :, [band]]) for band in range(image.shape[2])]
                return np.concatenate(bands, axis=2)
            image = image_of_pixels(image)
        height, width = size_of(image)
        if max(height, width) > WIDEST * min(height, width) and not self.squash:
            image = crop_centre(image, *narrow_size(height, width))
        cropped = self.cropped(self.resized(image))
        pixels = pixels_of_image(cropped) if isinstance(cropped, Image.Image) else cropped
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.color == "bgr" else pixels

    def resized(self, image: Pixels | Image.Image) -> Pixels | Image.Image:
        """Resize the short side, or both; the long side is rounded down, as torchvision does."""
        old = height, width = size_of(image)
        short, long = self.resize_size, int(self.resize_size * max(old) / min(old))
        new = (long, short) if width <= height else (short, long)
        if self.squash:
            new = (short, short)
        if new == old:
            return image
        if isinstance(image, Image.Image):
            return image.resize(new[::-1], INTERPOLATIONS[self.interpolation])
        return resize_by_torch(image, *new)

    def cropped(self, image: Pixels | Image.Image) -> Pixels | Image.Image:
        """Crop the centre of a resized image; torchvision rounds half pixels to even numbers."""
        if not self.floor_crop:
            return crop_centre(image, self.crop_size, self.crop_size)
        height, width = size_of(image)
        corner = (height - self.crop_size) // 2, (width - self.crop_size) // 2
        return crop_image(image, *corner, self.crop_size, self.crop_size)

    def normalise(self, pixels: Pixels) -> NDArray[np.float32]:
        """Map uint8 [N, H, W, C] to float32 (x / 255 - mean) / std."""
        shift, scale = (255 * np.array(numbers, np.float32) for numbers in (self.mean, self.std))
        return (pixels - shift) / scale

    def record(self) -> dict[str, Any]:
        """Return the settings as they are written into files."""
        return {name: value for name, value in asdict(self).items() if name != "fixed"}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Preprocess":
        """Read the settings out of a file.

        Raises:
            SettingError: an unknown name or value; ignoring it would give other pixels than the
                file asks for.
        """
        known = {one.name for one in fields(cls) if one.compare}
        unknown = sorted(set(record) - known)
        if unknown:
            raise SettingError(
                f"cannot obey the recorded preprocessing: unknown {', '.join(unknown)}"
            )
        try:
            return cls(**record)
        except OptionError as error:
            raise SettingError(str(error)) from error  # of a file, not of an option
        except (TypeError, ValueError) as error:
            raise SettingError(f"cannot obey the recorded preprocessing: {dict(record)}") from error

    def with_channels(self, channels: int) -> "Preprocess":
        """Return these settings for a network of ``channels`` input channels.

        One channel takes the mean and deviation of ImageNet in grey; settings with one number a
        channel are returned as they are.

        Raises:
            SettingError: mean and std of that many channels are unknown.
        """
        if self.channels == channels:
            return self
        if channels != 1:
            raise SettingError(
                f"cannot normalise {channels} input channels with mean {self.mean}: give mean and "
                f"std of {channels} numbers each (--mean, --std)"
            )
        return replace(self, mean=GREY_MEAN, std=GREY_STD)


def resize_by_torch(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 [H, W, C], bilinear with antialiasing, in the memory order that it has."""
    import torch
    from torchvision.transforms.v2 import functional

    image = torch.from_numpy(pixels).permute(2, 0, 1)
    resized: Pixels = functional.resize(image, [height, width]).permute(1, 2, 0).numpy()
    return resized


def size_of(image: Pixels | Image.Image) -> tuple[int, int]:
    """Return height and width."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def crop_centre(image: Pixels | Image.Image, height: int, width: int) -> Pixels | Image.Image:
    """Crop the centre of an image that is at least as large; half pixels round to even numbers."""
    old_height, old_width = size_of(image)
    corner = round((old_height - height) / 2), round((old_width - width) / 2)
    return crop_image(image, *corner, height, width)


def crop_image(
    image: Pixels | Image.Image, top: int, left: int, height: int, width: int
) -> Pixels | Image.Image:
    """Crop a rectangle."""
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + width, top + height))
    return image[top : top + height, left : left + width]


def pixels_of_image(image: Image.Image) -> Pixels:
    """Copy the values of a grey or RGB image, [H, W, C]."""
    values = np.array(image)
    return values[:, :, None] if values.ndim == 2 else values


def image_of_pixels(pixels: Pixels) -> Image.Image:
    """Make a grey or RGB image of values [H, W, C]."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def narrow_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the middle of a very long image, all that the crop needs.

    Resizing a line of 1x20000 pixels whole would take gigabytes, of which the crop keeps little.
    """
    longest = WIDEST * min(height, width)

    def narrow(side: int) -> int:  # the middle stays the middle: both ends lose the same
        return side if side <= longest else longest + (side - longest) % 2

    return narrow(height), narrow(width)


WIDEST = 100  # times as long as wide is still resized whole, as torchvision does

GREY_MEAN, GREY_STD = (0.449,), (0.226,)

PRESETS = {
    "imagenet-v1": Preprocess(resize_size=256),
    "imagenet-v2": Preprocess(resize_size=232),
}
"""The preprocessing of torchvision's two generations of ImageNet weights."""

CAFFE = Preprocess(
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255, 1 / 255, 1 / 255), color="bgr"
)
"""The preprocessing of Caffe's ResNets: means subtracted from values of 0 to 255."""

MSRA = replace(CAFFE, mean=(102.9801 / 255, 115.9465 / 255, 122.7717 / 255))
"""That of Detectron: https://github.com/facebookresearch/Detectron, core/config.py."""


def adjust_preprocess(
    recorded: Preprocess, *, preset: str | None, given: Mapping[str, Any]
) -> Preprocess:
    """Apply the user's choices to what a checkpoint records.

    Args:
        recorded: the base if ``preset`` is None.
        preset: a name of ``PRESETS``; only its sizes where its numbers are not the network's.
        given: fields of ``Preprocess``; None keeps a field.
    """
    base = recorded
    if preset is not None and (recorded.fixed or recorded.channels not in IMAGE_CHANNELS):
        base = replace(PRESETS[preset], mean=recorded.mean, std=recorded.std, color=recorded.color)
    elif preset is not None:
        base = PRESETS[preset].with_channels(recorded.channels)
    return replace(base, **{name: value for name, value in given.items() if value is not None})
