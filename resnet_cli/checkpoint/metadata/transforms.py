"""The transforms that a training script stored in its checkpoint -> Preprocess.

They are read off the objects of torchvision, albumentations and YOLOv5 without running them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from resnet_cli.checkpoint.metadata.class_names import unwrap_value
from resnet_cli.checkpoint.metadata.statistics import scale_statistics
from resnet_cli.checkpoint.tree import OPTIMIZER_KEYS, Foreign, items_inside, walk_containers
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import Preprocess

CHAINS = frozenset({"Compose", "Sequential"})
LARGEST = 1 << 31  # pixels of a side
MOST_STEPS = 200  # of a chain, including those of chains in it
WHOLE = "ImageClassification"  # the preset of torchvision's weights: all steps in one object

OTHER_USES = ("target", "inv", "denorm", "unnorm")
"""Parts of the names of transforms that do not prepare the images for the network."""

FOR_TRAINING = ("train", "augment")
FOR_EVALUATION = ("val", "test", "eval", "infer", "predict")

CONVERSIONS = frozenset({
    "ConvertImageDtype", "Identity", "MaybePILToTensor", "MaybeToTensor", "PILToTensor", "ToDtype",
    "ToImage", "ToImageTensor", "ToPILImage", "ToPureTensor", "ToTensor", "ToTensorV2",
})  # fmt: skip
"""Steps that change the type of an image, not its pixels."""

PILLOW_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
OPENCV_FILTERS = {0: "nearest", 1: "bilinear", 2: "bicubic"}
"""Filters of Pillow and of OpenCV by their numbers."""

Fields = dict[str, Any]


class UnknownStepError(Exception):
    """A step that Preprocess cannot express."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Transforms in their order, and the path of keys to them."""

    place: str
    steps: Sequence[Foreign]

    @property
    def is_random(self) -> bool:
        """Whether they augment, which only training does."""
        return any(step.kind.startswith(("Random", "ColorJitter")) for step in self.steps)

    @property
    def rank(self) -> int:
        """Order of choice by their path: for evaluation, for any use, for training."""
        words = self.place.lower()
        if any(word in words for word in FOR_TRAINING):
            return 2
        return 0 if any(word in words for word in FOR_EVALUATION) else 1


def find_transforms(tree: Any, channels: int) -> tuple[Preprocess | None, str] | None:
    """Find the preprocessing in the transforms of a checkpoint.

    Args:
        tree: what the file holds.
        channels: of the network's input.

    Returns:
        The settings, or None where a step is unknown; and their source, or what is unknown, in
        words. None where the file holds no such transforms.
    """
    read: list[tuple[Preprocess, str]] = []
    unknown = ""
    for pipeline in sorted(find_pipelines(tree), key=lambda found: found.rank):
        try:
            settings = settings_of_steps(pipeline.steps, channels)
        except UnknownStepError as error:
            unknown = unknown or f"the transforms under {pipeline.place} have {error}, unknown here"
        else:
            read += [(settings, pipeline.place)] if settings else []
    if not read:
        return (None, unknown) if unknown else None
    settings, place = read[0]
    others = [other for found, other in read if found != settings]
    unlike = f", unlike those under {others[0]}" if others else ""
    return settings, f"of the transforms in the checkpoint, under {place}{unlike}"


def find_pipelines(tree: Any) -> Iterator[Pipeline]:
    """Yield the transforms of images in a file, except those that augment."""
    for path, container in walk_containers(tree):
        for key, value in items_inside(container):
            place = f"{path}.{key}".strip(".")
            if isinstance(value, Foreign) and is_pipeline(value) and is_wanted(place):
                pipeline = Pipeline(place, list(steps_in(value)))
                if not pipeline.is_random:
                    yield pipeline


def is_pipeline(value: Foreign) -> bool:
    """Return whether an object consists of steps that prepare images."""
    return value.kind == WHOLE or (
        value.kind in CHAINS
        and any(step.kind in STEPS or step.kind in CONVERSIONS for step in steps_in(value))
    )


def is_wanted(place: str) -> bool:
    """Return whether transforms prepare the input of the network, by the path of keys to them."""
    words = place.lower().split(".")
    return not OPTIMIZER_KEYS & set(words) and not any(
        word.startswith(OTHER_USES) or "target" in word for word in words
    )


def steps_in(value: Foreign) -> Iterator[Foreign]:
    """Yield the steps of a chain, and of the chains in it.

    A chain that contains itself, or is too long, ends with itself, which is an unknown step.
    """
    waiting, room = [value], MOST_STEPS
    while waiting and room:
        step, room = waiting.pop(), room - 1
        if step.kind in CHAINS:
            attributes = step.attributes
            held = items_inside(attributes.get("transforms", attributes.get("_modules")))
            inner = [each for _, each in islice(held, MOST_STEPS) if isinstance(each, Foreign)]
            waiting += reversed(inner)
        else:
            yield step
    if waiting:
        yield value


def settings_of_steps(steps: Sequence[Foreign], channels: int) -> Preprocess | None:
    """Turn steps into settings; None where they set no size.

    Raises:
        UnknownStepError: a step, or an order of steps, that Preprocess cannot express.
    """
    fields: Fields = {}
    for step in steps:
        more = fields_of(step, channels)
        if fields.keys() & more.keys() or ("resize_size" in more and "crop_size" in fields):
            raise UnknownStepError(f"a second {step.kind}")
        fields |= more
    if not fields.keys() & {"resize_size", "crop_size"}:
        return None
    if "resize_size" not in fields:
        raise UnknownStepError("a crop without a resize")
    if fields.get("squash"):
        fields.setdefault("crop_size", fields["resize_size"])
    if "crop_size" not in fields:
        raise UnknownStepError("a resize of one side without a crop")
    blank = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    try:
        return Preprocess(**{**blank, **fields})
    except SettingError as error:
        raise UnknownStepError(str(error)) from error


def fields_of(step: Foreign, channels: int) -> Fields:
    """Return the fields of ``Preprocess`` that a step sets.

    Raises:
        UnknownStepError: Preprocess cannot express it.
    """
    if step.kind in CONVERSIONS or (step.kind == "Grayscale" and channels == 1):
        return {}
    reader = STEPS.get(step.kind)
    if reader is None:
        raise UnknownStepError(f"a {step.kind}")
    try:
        return reader(step, channels)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnknownStepError(f"a {step.kind} of damaged values") from error


def read_resize(step: Foreign, _: int) -> Fields:
    """Read a resize, of the short side or of both.

    Raises:
        UnknownStepError: the shape is not square, or the longest side is limited.
    """
    settings = step.attributes
    if settings.get("max_size") is not None and step.kind != "SmallestMaxSize":
        raise UnknownStepError("a Resize with max_size")
    size = settings.get("max_size" if step.kind == "SmallestMaxSize" else "size")
    if "height" in settings:
        size = [settings["height"], settings["width"]]
    sides = sides_of(size, step)
    return {"resize_size": sides[0], "squash": len(sides) == 2, "interpolation": filter_of(step)}


def read_crop(step: Foreign, _: int) -> Fields:
    """Read a centre crop.

    YOLOv5 crops the largest square and resizes it, which equals a resize of the short side first.
    """
    settings = step.attributes
    if "h" in settings:
        side = sides_of([settings["h"], settings.get("w")], step)[0]
        return {"resize_size": side, "crop_size": side}
    size = settings.get("size", [settings.get("height"), settings.get("width")])
    return {"crop_size": sides_of(size, step)[0]}


def sides_of(size: Any, step: Foreign) -> list[int]:
    """Return one number of pixels for the short side, or two that are equal.

    Raises:
        UnknownStepError: the size is neither.
    """
    sides = unwrap_value(size)
    sides = [sides] if isinstance(sides, int) else sides
    if not isinstance(sides, list) or not all(
        type(side) is int and side < LARGEST for side in sides
    ):
        raise UnknownStepError(f"a {step.kind} of unknown size")
    if len(sides) not in (1, 2) or len(set(sides)) > 1:
        raise UnknownStepError(f"a {step.kind} to {'x'.join(map(str, sides))}, which is not square")
    return sides


def filter_of(step: Foreign) -> str:
    """Return the name of the filter of a resize.

    Raises:
        UnknownStepError: an unknown filter.
    """
    kept = unwrap_value(step.attributes.get("interpolation", "bilinear"))
    name = kept[0] if isinstance(kept, list) and len(kept) == 1 else kept
    numbers = OPENCV_FILTERS if step.path.startswith("albumentations") else PILLOW_FILTERS
    name = numbers.get(name, name) if isinstance(name, int) else name
    if not isinstance(name, str):
        raise UnknownStepError(f"a {step.kind} with filter {name}")
    return name


def read_normalize(step: Foreign, channels: int) -> Fields:
    """Read mean and std; one number is that of all channels.

    Raises:
        UnknownStepError: they cannot be of pixels.
    """
    settings = step.attributes
    if settings.get("normalization", "standard") != "standard":
        raise UnknownStepError("a Normalize by each image's own statistics")
    scale = float(settings.get("max_pixel_value") or 255) / 255
    pair = scale_statistics(
        *(number_per_channel(settings.get(name), channels, scale) for name in ("mean", "std"))
    )
    if pair is None:
        raise UnknownStepError("a Normalize of other values than pixels")
    return {"mean": pair[0], "std": pair[1]}


def number_per_channel(value: Any, channels: int, scale: float) -> list[float] | None:
    """Return a number for each channel; None where their number differs."""
    tensor = value.tensor() if isinstance(value, Foreign) else None
    if tensor is not None and tensor.numel() > channels:
        return None
    found = unwrap_value(value if tensor is None else tensor.flatten().tolist())
    found = [found] if isinstance(found, int | float) else found
    if not isinstance(found, list) or not all(isinstance(number, int | float) for number in found):
        return None
    found = found * channels if len(found) == 1 else found
    return [scale * number for number in found] if len(found) == channels else None


def read_preset(step: Foreign, channels: int) -> Fields:
    """Read ``torchvision.transforms._presets.ImageClassification``."""
    settings = step.attributes
    return {
        "resize_size": sides_of(settings.get("resize_size"), step)[0],
        "crop_size": sides_of(settings.get("crop_size"), step)[0],
        "interpolation": filter_of(step),
        **read_normalize(step, channels),
    }


STEPS: Mapping[str, Callable[[Foreign, int], Fields]] = {
    "CenterCrop": read_crop,
    "Normalize": read_normalize,
    "Resize": read_resize,
    "SmallestMaxSize": read_resize,
    WHOLE: read_preset,
}
"""Readers of the steps that Preprocess can express, by the names of their classes."""
