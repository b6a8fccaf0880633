"""Changes of the preprocessing that people really train with, for the audit to try."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from resnet_cli.classifier import Classifier
from resnet_cli.preprocess import CAFFE, IMAGE_CHANNELS, Preprocess

BY_CHANNELS = {
    "0 to 1, not normalised": (0.0, 1.0),
    "-1 to 1": (0.5, 0.5),
    "0 to 255, not normalised": (0.0, 1 / 255),
}
"""What pixels are scaled to: mean and deviation of every channel."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One change of the preprocessing."""

    name: str
    flags: str  # that make ``predict`` do the same
    preprocess: Preprocess
    upright: bool


def list_trials(classifier: Classifier) -> list[Trial]:
    """Every change that makes a difference to the preprocessing as it is."""
    now, upright = classifier.preprocess, classifier.decoder.upright
    other = "bicubic" if now.interpolation == "bilinear" else "bilinear"
    crop = now.crop_size
    tried = [
        Trial("v1: resize 256, crop 224", size_flags(256, 224), with_sizes(now, 256, 224), upright),
        Trial("v2: resize 232, crop 224", size_flags(232, 224), with_sizes(now, 232, 224), upright),
        Trial(
            f"resize {crop}, no crop", size_flags(crop, crop), with_sizes(now, crop, crop), upright
        ),
        Trial(
            f"squash to {crop}",
            f"--squash {size_flags(crop, crop)}",
            replace(now, squash=True, resize_size=crop),
            upright,
        ),
        Trial(other, f"--interpolation {other}", replace(now, interpolation=other), upright),
        *scale_trials(now, upright=upright),
        *(color_trials(now, upright=upright) if now.channels == 3 else []),
        Trial(
            f"EXIF orientation {'ignored' if upright else 'applied'}",
            f"--exif {'ignore' if upright else 'apply'}",
            now,
            not upright,
        ),
    ]
    return [trial for trial in tried if (trial.preprocess, trial.upright) != (now, upright)]


def size_flags(resize: int, crop: int) -> str:
    """The flags of a size."""
    return f"--resize-size {resize} --img-size {crop}"


def with_sizes(now: Preprocess, resize: int, crop: int) -> Preprocess:
    """Another size, with the shape of the picture kept."""
    return replace(now, resize_size=resize, crop_size=crop, squash=False)


def scale_trials(now: Preprocess, *, upright: bool) -> Iterator[Trial]:
    """Other means and deviations."""
    if now.channels in IMAGE_CHANNELS:
        usual = Preprocess().with_channels(now.channels)
        yield scale_trial("ImageNet's mean and std", now, usual.mean, usual.std, upright)
    for name, (mean, std) in BY_CHANNELS.items():
        yield scale_trial(name, now, (mean,) * now.channels, (std,) * now.channels, upright)


def scale_trial(
    name: str, now: Preprocess, mean: tuple[float, ...], std: tuple[float, ...], upright: bool
) -> Trial:
    """Another mean and deviation."""
    return Trial(name, normalisation_flags(mean, std), replace(now, mean=mean, std=std), upright)


def normalisation_flags(mean: Sequence[float], std: Sequence[float]) -> str:
    """The flags of a mean and a deviation."""
    means, stds = (",".join(f"{value:.6g}" for value in values) for values in (mean, std))
    return f"--mean {means} --std {stds}"


def color_trials(now: Preprocess, *, upright: bool) -> Iterator[Trial]:
    """The other order of the channels: alone, with mean and deviation turned round, as Caffe's."""
    color = "bgr" if now.color == "rgb" else "rgb"
    turned = replace(now, color=color)
    yield Trial(color.upper(), f"--color {color}", turned, upright)
    both = replace(turned, mean=now.mean[::-1], std=now.std[::-1])
    flags = f"--color {color} {normalisation_flags(both.mean, both.std)}"
    yield Trial(f"{color.upper()}, mean and std too", flags, both, upright)
    caffe = replace(now, mean=CAFFE.mean, std=CAFFE.std, color="bgr")
    yield Trial(
        "Caffe: BGR less its means",
        f"--color bgr {normalisation_flags(caffe.mean, caffe.std)}",
        caffe,
        upright,
    )
