"""The files beside the weights -> Config: config.json, preprocessor_config.json, config.yaml.

Those of timm and transformers name the network, how it computes where tensors do not show it, and
how its images are prepared; that of detectron2 states where the network strides.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.network.architectures import PLAIN, Variant, architecture_of_timm
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.preprocess import Preprocess

CONFIG = "config.json"
SETTINGS = "config.yaml"
MOST_SETTINGS = 1 << 20  # characters of it
STRIDE = re.compile(r"^\s*STRIDE_IN_1X1:\s*(true|false)\s*$", re.MULTILINE)
PROCESSORS = ("preprocessor_config.json", "processor_config.json")

RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters, as transformers writes them."""

PROBLEMS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}
"""Kinds of classification in transformers, and the activation that each applies to the outputs."""

HARMLESS = frozenset(
    {"in_chans", "num_classes", "drop_rate", "drop_path_rate", "pretrained", "global_pool"}
)
"""Arguments of timm's models that tensors show, or that only matter in training."""

WARPED = 384  # pixels; from this size on ConvNextImageProcessor squashes images, below it crops


@dataclass(frozen=True, slots=True)
class Config:
    """What the files beside the weights state; empty where there are none that are known."""

    library: str | None = None  # timm, transformers or detectron2
    variant: Variant | None = None
    preprocess: Preprocess | None = None
    source: str = ""  # of the preprocessing, in words
    activation: str | None = None  # turns outputs into probabilities: softmax or sigmoid


def find_config(path: Path) -> Config:
    """Read the settings beside a checkpoint file.

    Raises:
        CheckpointError: they describe another network, or need what this program cannot do.
    """
    config = read_object(path.with_name(CONFIG))
    if not config:
        return read_detectron2(path.with_name(SETTINGS))
    try:
        if "architecture" in config or "pretrained_cfg" in config:
            return read_timm(config)
        if config.get("model_type") == "resnet":
            return read_transformers(config, path)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"cannot obey {path.with_name(CONFIG)}: {error}") from error
    except SettingError as error:
        raise CheckpointError(f"{path.with_name(CONFIG)}: {error}") from error
    return Config()


def read_object(path: Path) -> Mapping[str, Any]:
    """Read the object in a JSON file; an empty one where the file is missing.

    Raises:
        CheckpointError: the file is damaged; ignoring it silently could give wrong predictions.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} beside it is not valid JSON: fix it, or move it away"
        ) from error
    return found if isinstance(found, dict) else {}


def read_detectron2(path: Path) -> Config:
    """Read from the config.yaml of detectron2 in which convolution bottlenecks stride."""
    if not path.is_file():
        return Config()
    with path.open(encoding="utf-8", errors="replace") as file:
        match = STRIDE.search(file.read(MOST_SETTINGS))
    return Config("detectron2", Variant(stride_in_1x1=match[1] == "true")) if match else Config()


def read_timm(config: Mapping[str, Any]) -> Config:
    """Read the config.json of timm.

    Raises:
        CheckpointError: the network is not one of torchvision's.
    """
    name = str(config.get("architecture") or "")
    if name and architecture_of_timm(name) is None:
        raise CheckpointError(f"it is timm's {name}, which is another network than torchvision's")
    if config.get("global_pool", "avg") != "avg":
        raise CheckpointError(f"its last pool is {config['global_pool']}, torchvision's an average")
    given = config.get("model_args") or {}
    changes = ", ".join(sorted(key for key in given if key not in HARMLESS))
    if changes:
        raise CheckpointError(f"it is timm's {name} with other {changes} than torchvision's")
    settings = config.get("pretrained_cfg", config)
    if "mean" not in settings:
        return Config("timm")
    _, height, width = settings.get("input_size", (3, 224, 224))
    size = side_of_size({"height": height, "width": width})
    mode = settings.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise CheckpointError(f"its images are prepared with crop mode {mode}: unknown here")
    preprocess = Preprocess(
        resize_size=floor(size / float(settings.get("crop_pct") or 0.875)),
        crop_size=size,
        interpolation=settings.get("interpolation") or "bilinear",
        mean=settings["mean"],
        std=settings["std"],
        squash=mode == "squash",
    )
    return Config("timm", PLAIN, preprocess, f"of timm's {CONFIG}")


def read_transformers(config: Mapping[str, Any], path: Path) -> Config:
    """Read the config.json of transformers, and the settings of its image processor.

    Raises:
        CheckpointError: the network is not one of torchvision's.
    """
    for key, usual in (
        ("hidden_act", "relu"),
        ("downsample_in_first_stage", False),
        ("embedding_size", 64),
    ):
        if config.get(key, usual) != usual:
            raise CheckpointError(f"its {key} is {config[key]}, torchvision's {usual}")
    problem = config.get("problem_type") or "single_label_classification"
    if problem not in PROBLEMS:
        raise CheckpointError(f"its problem_type is {problem}: no classes to tell apart")
    activation = PROBLEMS[problem]
    variant = Variant(stride_in_1x1=bool(config.get("downsample_in_bottleneck", False)))
    for name in PROCESSORS:
        record = read_object(path.with_name(name))
        record = record.get("image_processor", record)
        if "image_mean" in record or "do_normalize" in record:
            prepared = read_image_processor(record)
            return Config("transformers", variant, prepared, f"of {name}", activation)
    return Config("transformers", variant, activation=activation)


def read_image_processor(record: Mapping[str, Any]) -> Preprocess:
    """Turn the settings of an image processor of transformers into preprocessing.

    Raises:
        CheckpointError: it needs what this program cannot do.
    """
    size, crop = side_of_size(record.get("size", 224)), side_of_size(record.get("crop_size", 224))
    kind = record.get("image_processor_type") or record.get("feature_extractor_type") or ""
    squash = not isinstance(record.get("size"), Mapping) or "shortest_edge" not in record["size"]
    if str(kind).startswith("ConvNext"):
        squash = size >= WARPED
        resize, crop = (size, size) if squash else (int(size / crop_share(record)), size)
    else:
        resize, crop = size, crop if record.get("do_center_crop") else size
        if not squash and not record.get("do_center_crop"):
            raise CheckpointError("its images are not cropped to one size: unknown here")
    if not record.get("do_resize", True) or not record.get("do_rescale", True):
        raise CheckpointError("its images are not resized, or not scaled to 0 … 1: unknown here")
    normal = record.get("do_normalize", True)
    scale = 255 * float(record.get("rescale_factor") or 1 / 255)  # of values from 0 to 1
    mean, std = (record["image_mean"], record["image_std"]) if normal else ((0,) * 3, (1,) * 3)
    filter_number = record.get("resample", 2)
    if filter_number not in RESAMPLING:
        raise CheckpointError(f"its images are resized with filter {filter_number}: unknown here")
    return Preprocess(
        resize_size=resize,
        crop_size=crop,
        interpolation=RESAMPLING[filter_number],
        mean=tuple(value / scale for value in mean),
        std=tuple(value / scale for value in std),
        squash=squash,
        floor_crop=True,
    )


def crop_share(record: Mapping[str, Any]) -> float:
    """Return the share of the resized side that ConvNextImageProcessor keeps."""
    return float(record.get("crop_pct") or 224 / 256)


def side_of_size(size: Any) -> int:
    """Return the pixels of a side.

    Raises:
        CheckpointError: height and width differ.
    """
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size["height"] != size["width"]:
        raise CheckpointError(f"its images are {size['height']}x{size['width']}: squares only")
    return int(size["height"])
