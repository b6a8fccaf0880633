"""Preprocess: resize, crop, and the numbers of the normalisation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode, functional

from resnet_cli.errors import OptionError, SettingError

LARGEST_SIZE = 8192  # pixels of a side, far more than any ResNet was trained with

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "nearest-exact")
COLORS = ("rgb", "bgr")
SWITCH = (False, True)

IMAGE_CHANNELS = (1, 3)  # of the pictures that are not merely a number of bands


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What happens to pixels before the network: torchvision's classification preset.

    The short side is resized to ``resize_size`` (the long side is cut to an integer), the centre
    is cropped, the values are scaled to 0..1 and normalised. The defaults are those of
    torchvision's ``IMAGENET1K_V1`` weights. ``squash`` and
    ``floor_crop`` are ways of other libraries.
    """

    resize_size: int = 256  # short side, pixels
    crop_size: int = 224  # pixels
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # a value a channel, on the scale 0..1
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    color: str = "rgb"  # order of the channels that the network was trained on
    squash: bool = False  # resize both sides to resize_size, whatever the shape of the picture
    floor_crop: bool = False  # a centre between two pixels is the upper or left one
    # mean, std and color are facts of the network, which normalises by itself: no preset is
    fixed: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse settings that would give other pixels than they promise."""
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
        """The settings in short, without the normalisation."""
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

    def __call__(self, image: Tensor | Image.Image) -> Tensor:
        """Resize and crop one image.

        Args:
            image: uint8 [C, H, W] or a Pillow image; its resizing is that of its kind, which for
                Pillow is pixel for pixel what torchvision's transforms do.

        Returns:
            uint8 [C, crop_size, crop_size], not yet normalised.
        """
        if isinstance(image, Tensor) and self.interpolation != "bilinear":
            # only bilinear gives the same pixels for a tensor as for a picture
            if len(image) not in IMAGE_CHANNELS:
                return torch.cat([self(band) for band in image.split(1)])
            image = functional.to_pil_image(image)
        mode = InterpolationMode(self.interpolation)
        size = functional.get_size(image)
        if max(size) > WIDEST * min(size) and not self.squash:
            image = functional.center_crop(image, narrow_size(size))
        wanted = [self.resize_size] * (2 if self.squash else 1)  # one side keeps the shape
        resized = functional.resize(image, wanted, interpolation=mode, antialias=True)
        cropped = self.cropped(resized)
        pixels: Tensor = (
            cropped if isinstance(cropped, Tensor) else functional.pil_to_tensor(cropped)
        )
        return pixels.flip(0) if self.color == "bgr" else pixels

    def cropped(self, image: Any) -> Any:
        """The centre of a resized image; torchvision rounds half pixels to even numbers."""
        if not self.floor_crop:
            return functional.center_crop(image, [self.crop_size])
        height, width = functional.get_size(image)
        top, left = (height - self.crop_size) // 2, (width - self.crop_size) // 2
        return functional.crop(image, top, left, self.crop_size, self.crop_size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map uint8 [N, C, H, W] in host memory to float32 (x / 255 - mean) / std."""
        normalised: Tensor = self.normalisation()(pixels)
        return normalised

    def normalisation(self) -> "Normalise":
        """The last step as a module, whose numbers can be moved to a device once and for all."""
        return Normalise(self.mean, self.std)

    def record(self) -> dict[str, Any]:
        """The settings as they are written into files."""
        return {name: value for name, value in asdict(self).items() if name != "fixed"}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Preprocess":
        """Read the settings out of a file.

        Raises:
            SettingError: a name or value that this program does not know; obeying the rest of it
                would give other pixels than the file asks for.
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
            raise SettingError(str(error)) from error  # it is a file's, and not an option's
        except (TypeError, ValueError) as error:
            raise SettingError(f"cannot obey the recorded preprocessing: {dict(record)}") from error

    def with_channels(self, channels: int) -> "Preprocess":
        """These settings for a network of so many input channels.

        One channel takes the mean and the deviation of ImageNet's greys; what has one number a
        channel already stays as it is.
        """
        if self.channels == channels:
            return self
        if channels != 1:
            raise SettingError(
                f"cannot normalise {channels} input channels with mean {self.mean}: give mean and "
                f"std of {channels} numbers each (--mean, --std)"
            )
        return replace(self, mean=GREY_MEAN, std=GREY_STD)


class Normalise(nn.Module):
    """Maps uint8 [N, C, H, W] to float32 (x / 255 - mean) / std."""

    shift: Tensor  # float32 [1, C, 1, 1]
    scale: Tensor  # float32 [1, C, 1, 1]

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("shift", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("scale", 255 * torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise one batch, on the device that the buffers are on."""
        return pixels.float().sub_(self.row(self.shift, pixels)).div_(self.row(self.scale, pixels))

    def row(self, numbers: Tensor, pixels: Tensor) -> Tensor:
        """A number a channel [1, C, 1, 1] for each pixel of a row [1, C, 1, W].

        Beside channels-last pixels three numbers are too few for the processor's vectors: with a
        whole row in memory the same arithmetic takes an eighth of the time.
        """
        row = numbers.expand(-1, -1, -1, pixels.shape[-1])
        return row.contiguous(memory_format=torch.channels_last)


def narrow_size(size: list[int]) -> list[int]:
    """Height and width of the middle of a very long picture, all that the crop can need.

    Resizing a line of 1x20000 pixels whole would take gigabytes, of which the crop keeps little.
    """
    longest = WIDEST * min(size)
    # the middle stays the middle: as many pixels go on one side as on the other
    return [side if side <= longest else longest + (side - longest) % 2 for side in size]


WIDEST = 100  # times as long as wide is still resized whole, as torchvision does

GREY_MEAN, GREY_STD = (0.449,), (0.226,)

PRESETS = {
    "imagenet-v1": Preprocess(resize_size=256),
    "imagenet-v2": Preprocess(resize_size=232),
}
"""What torchvision evaluates its two generations of ImageNet weights with."""

CAFFE = Preprocess(
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255, 1 / 255, 1 / 255), color="bgr"
)
"""What Caffe's ResNets were trained with: means taken off the values from 0 to 255."""

MSRA = replace(CAFFE, mean=(102.9801 / 255, 115.9465 / 255, 122.7717 / 255))
"""The same for Detectron: https://github.com/facebookresearch/Detectron, core/config.py."""


def adjust_preprocess(
    recorded: Preprocess, *, preset: str | None, given: Mapping[str, Any]
) -> Preprocess:
    """Lay the user's choices over what a checkpoint records.

    Args:
        recorded: taken where ``preset`` is None.
        preset: a name of ``PRESETS``; its sizes alone where its numbers are not the network's.
        given: fields of ``Preprocess``; None leaves a field as it is.
    """
    base = recorded
    if preset is not None and (recorded.fixed or recorded.channels not in IMAGE_CHANNELS):
        base = replace(PRESETS[preset], mean=recorded.mean, std=recorded.std, color=recorded.color)
    elif preset is not None:
        base = PRESETS[preset].with_channels(recorded.channels)
    return replace(base, **{name: value for name, value in given.items() if value is not None})
