"""The options that say which classifier a command loads, and how they load it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial, wraps
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import click

from resnet_cli.cli.options import (
    POSITIVE,
    PathOrUrl,
    classes_option,
    compile_option,
    device_option,
    dilation_option,
    ema_option,
    preset_option,
    several_classes_option,
    state_key_option,
    trust_option,
)

CHUNK, CHUNKS = 1 << 20, 1 << 10
"""Bytes read at once, and how often: of a larger file only the beginning is read."""


def read_ahead(files: Iterable[Path | str]) -> Thread:
    """Bring files into the system's memory while PyTorch is imported, which takes longer.

    What is not a file is skipped: opening it will report more. URLs are text.

    Returns:
        The thread that does it, which need not be waited for.
    """
    here = tuple(file for file in files if isinstance(file, Path))
    thread = Thread(target=read_to_nowhere, args=(here,), daemon=True)
    thread.start()
    return thread


def read_to_nowhere(files: Iterable[Path]) -> None:
    """Read files and drop what was read."""
    nowhere = bytearray(CHUNK)
    for file in files:
        with suppress(OSError, ValueError):
            if file.is_file():  # a pipe would be waited for
                with file.open("rb", buffering=0) as opened:
                    for _ in range(CHUNKS):
                        if not opened.readinto(nowhere):
                            break


if TYPE_CHECKING:
    from resnet_cli.classifier import Adjust, Classifier

Command = Callable[..., Any]


class Load(Protocol):
    """Loads the classifier that the options of a command describe."""

    def __call__(self, *, progress: bool) -> "Classifier":
        """Load it; ``progress`` lets a download draw its bar."""


class LoadAll(Protocol):
    """Loads the classifiers that the options of a command describe, at least one."""

    def __call__(self, *, progress: bool) -> "list[Classifier]":
        """Load them; ``progress`` lets a download draw its bar."""


CHECKPOINT = "RESNET_CLI_CHECKPOINT"  # environment variable

PREPROCESS_FIELDS = {  # option: field of Preprocess
    "resize_size": "resize_size",
    "img_size": "crop_size",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
    "color": "color",
    "squash": "squash",
}


def parse_numbers(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Parse numbers with commas between them, one a channel."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not like 0.485,0.456,0.406") from None


def band_numbers(_: click.Context, __: click.Parameter, value: str | None) -> list[int] | None:
    """Parse numbers of bands with commas between them."""
    parts = [] if value is None else value.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not like 4,3,2")
    return [int(part) for part in parts] or None


checkpoint_option, checkpoints_option = (
    click.option(
        "-c",
        "--checkpoint",
        type=PathOrUrl(path_type=Path),
        multiple=several,
        envvar=CHECKPOINT,
        show_envvar=True,
        show_default="the one in ./checkpoints, else the ImageNet weights of --model",
        help="Checkpoint file, or its URL; model, classes and head size are read from it."
        + " Repeat it to compare." * several,
    )
    for several in (False, True)
)

PREPROCESS_OPTIONS = (
    preset_option,
    click.option(
        "--resize-size", type=POSITIVE, metavar="N", show_default="of the preset",
        help="Pixels of the short side after resizing.",
    ),
    click.option(
        "--img-size", type=POSITIVE, metavar="N", show_default="of the preset",
        help="Pixels of each side of the centre crop that the network sees.",
    ),
    click.option(
        "--interpolation",
        type=click.Choice(["bilinear", "bicubic", "nearest", "nearest-exact"]),
        show_default="of the preset",
        help="How pixels are resized.",
    ),
    click.option(
        "--mean", callback=parse_numbers, metavar="R,G,B", show_default="of the preset",
        help="Mean taken off each channel, on the scale 0 to 1.",
    ),
    click.option(
        "--std", callback=parse_numbers, metavar="R,G,B", show_default="of the preset",
        help="Deviation that divides each channel, on the scale 0 to 1.",
    ),
    click.option(
        "--color",
        type=click.Choice(["rgb", "bgr"]),
        show_default="of the preset",
        help="Order of the channels that the network was trained on.",
    ),
    click.option(
        "--squash/--no-squash",
        default=None,
        show_default="what the checkpoint records, else --no-squash",
        help="Resize both sides to --resize-size, whatever the shape of the image.",
    ),
)  # fmt: skip

LOAD_OPTIONS = (
    checkpoint_option,
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        show_default="read from the checkpoint, resnet18 without one",
        help="Architecture, by torchvision's name.",
    ),
    click.option(
        "--weights",
        metavar="NAME",
        show_default="DEFAULT",
        help="Torchvision's weights by name, such as IMAGENET1K_V1 or "
        "ResNet50_Weights.IMAGENET1K_V2; downloaded when they are not in the torch hub cache.",
    ),
    classes_option,
    state_key_option,
    ema_option,
    dilation_option,
    trust_option,
    click.option(
        "--runtime",
        type=click.Choice(["torch", "openvino", "onnxruntime"]),
        show_default="torch, or openvino for int8; of an exported file its own",
        help="What computes the network. A checkpoint is converted for openvino and onnxruntime, "
        "and the result kept in the cache.",
    ),
    device_option,
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
        show_default="fp32; int8 of a network file in int8",
        help="Arithmetic of the network. int8 (by OpenVINO) is calibrated on some of the images, "
        "and its agreement with fp32 on others is said.",
    ),
    compile_option,
    click.option(
        "--cache/--no-cache",
        default=True,
        show_default=True,
        help="Keep converted networks in the folder that RESNET_CLI_CACHE names, else in the "
        "user's cache folder.",
    ),
    *PREPROCESS_OPTIONS,
    click.option(
        "--exact",
        is_flag=True,
        help="Decode and resize by Pillow, pixel for pixel as torchvision's transforms do; about "
        "1 ms of a core more per image. Otherwise at most two levels of 255 off. Greys of 16 "
        "bits are scaled to 8 either way, where Pillow alone would clip them.",
    ),
    click.option(
        "--exif",
        type=click.Choice(["apply", "ignore"]),
        default="apply",
        help="Turn images upright by their EXIF orientation, or take the pixels as stored; HEIC is "
        "always upright.",
    ),
    click.option(
        "--icc",
        type=click.Choice(["ignore", "srgb"]),
        default="ignore",
        help="Leave colour profiles out, as training did, or convert to sRGB; a broken profile is "
        "left out.",
    ),
    click.option(
        "--background",
        metavar="COLOUR",
        show_default="none: alpha is dropped",
        help="Lay transparent images over a colour: a name of CSS, or #rrggbb.",
    ),
    click.option(
        "--max-pixels",
        type=POSITIVE,
        metavar="N",
        show_default="178956970, Pillow's limit",
        help="Refuse an image of more pixels before memory is taken for it.",
    ),
    click.option(
        "--bands", callback=band_numbers, metavar="R,G,B",
        show_default="the colours, of more than four bands the first ones",
        help="Which bands of each image feed the network, counted from 1: as many as it has input "
        "channels.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadValues:
    """The values of ``LOAD_OPTIONS``, by their names."""

    checkpoint: Path | str | tuple[Path | str, ...] | None
    classes: str | tuple[str, ...] | None
    model: str | None
    weights: str | None
    state_key: str | None
    ema: bool
    dilation: bool
    trust_checkpoint: bool
    runtime: str | None
    device: str
    precision: str | None
    compile: bool
    cache: bool
    preset: str | None
    resize_size: int | None
    img_size: int | None
    interpolation: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    color: str | None
    squash: bool | None
    exact: bool
    exif: str
    icc: str
    background: str | None
    max_pixels: int | None
    bands: list[int] | None


def loads_classifier(command: Command) -> Command:
    """Add the options that say what is loaded; the command receives ``load``, which loads it."""
    return with_load(command, LOAD_OPTIONS, load_classifier)


def loads_classifiers(command: Command) -> Command:
    """Add the options for several checkpoints; the command receives ``load``, which loads all."""
    several = {checkpoint_option: checkpoints_option, classes_option: several_classes_option}
    options = [several.get(option, option) for option in LOAD_OPTIONS]
    return with_load(command, options, load_classifiers)


def with_load(command: Command, options: Sequence[Command], load: Callable[..., Any]) -> Command:
    """Add options, and hand their values to ``load`` in place of the command."""

    @wraps(command)
    def wrapper(**given: Any) -> Any:  # as click calls a command
        values = LoadValues(**{field.name: given.pop(field.name) for field in fields(LoadValues)})
        chosen = values.checkpoint or ()
        read_ahead(chosen if isinstance(chosen, tuple) else (chosen,))
        return command(load=partial(load, values), **given)

    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper


def adjusts_preprocess(command: Command) -> Command:
    """Add the options of the preprocessing; the command receives ``adjust``, which applies them."""

    @wraps(command)
    def wrapper(**given: Any) -> Any:  # as click calls a command
        settings = {name: given.pop(name) for name in ("preset", *PREPROCESS_FIELDS)}
        return command(adjust=adjust_by(settings), **given)

    for option in reversed(PREPROCESS_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def adjust_by(settings: Mapping[str, Any]) -> "Adjust":
    """Return what changes a recorded preprocessing as the values of the options say."""
    from resnet_cli.preprocess import adjust_preprocess

    given = {field: settings[option] for option, field in PREPROCESS_FIELDS.items()}
    return partial(adjust_preprocess, preset=settings["preset"], given=given)


def load_classifier(values: LoadValues, *, progress: bool) -> "Classifier":
    """Load the classifier that the options describe.

    Raises:
        CheckpointError: says so where the checkpoint is from the environment variable.
    """
    from resnet_cli.errors import CheckpointError

    source = click.get_current_context().get_parameter_source("checkpoint")
    from_environment = source is click.core.ParameterSource.ENVIRONMENT
    if from_environment and values.weights is not None:  # the command line goes first
        values, from_environment = replace(values, checkpoint=None), False
    try:
        classifier = load_described(values, progress=progress)
    except CheckpointError as error:
        if not from_environment:
            raise
        raise CheckpointError(f"{error} (the checkpoint is from {CHECKPOINT})") from error
    return replace(classifier, reason=f"from {CHECKPOINT}") if from_environment else classifier


def load_described(values: LoadValues, *, progress: bool) -> "Classifier":
    """Build the library's options from the values, and load the classifier."""
    from resnet_cli.checkpoint.locate import LoadOptions
    from resnet_cli.classifier import Classifier
    from resnet_cli.images import DecodeOptions
    from resnet_cli.runtimes import RuntimeOptions

    (place,) = values.checkpoint if isinstance(values.checkpoint, tuple) else (values.checkpoint,)
    return Classifier.from_options(
        place,
        weights=values.weights,
        load=LoadOptions(
            classes=values.classes,
            model=values.model,
            state_key=values.state_key,
            ema=values.ema,
            dilated=values.dilation,
            trusted=values.trust_checkpoint,
        ),
        decode=DecodeOptions(
            exact=values.exact,
            upright=values.exif == "apply",
            srgb=values.icc == "srgb",
            background=values.background,
            max_pixels=values.max_pixels,
            bands=values.bands,
        ),
        compute=RuntimeOptions(
            runtime=values.runtime,
            device=values.device,
            precision=values.precision,
            compile=values.compile,
            cache=values.cache,
        ),
        preprocess=adjust_by(
            {name: getattr(values, name) for name in ("preset", *PREPROCESS_FIELDS)}
        ),
        progress=progress,
    )


def load_classifiers(values: LoadValues, *, progress: bool) -> list["Classifier"]:
    """Load each checkpoint, with its own class names or those of all."""
    given, classes = values.checkpoint, values.classes
    places = given if isinstance(given, tuple) and given else (None,)
    names = classes if isinstance(classes, tuple) else ()
    if len(names) not in (0, 1, len(places)):
        raise click.UsageError(
            f"--classes is given {len(names)} times for {len(places)} checkpoints: once for all, "
            "or once for each, in their order"
        )
    lists = names if len(names) > 1 else [*names, None][:1] * len(places)
    return [
        load_classifier(replace(values, checkpoint=place, classes=one), progress=progress)
        for place, one in zip(places, lists, strict=True)
    ]
