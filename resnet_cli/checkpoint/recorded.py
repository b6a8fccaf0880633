"""What a checkpoint, and the files beside it, state about the network; read before the tensors.

This program records in its own checkpoints what tensors do not show, so that they stand alone. The
config.json of timm and transformers names the network, how it computes where tensors do not show
it, and how its images are prepared; the config.yaml of detectron2 states where the network strides.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import floor
from pathlib import Path
from typing import Any

from resnet_cli.checkpoint.network.activations import ACTIVATION_KINDS
from resnet_cli.checkpoint.network.architectures import (
    ACTIVATIONS,
    PLAIN,
    Head,
    Variant,
    architecture_of_timm,
)
from resnet_cli.checkpoint.tree import Contents, Part, items_of
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.preprocess import Preprocess

MARK = "resnet-cli"  # under "written_by"

KEYS = ("model", "classes", "preprocess", "variant", "head", "activation")

SHARED = ("model", "classes", "preprocess")  # keys that other programs write in the same form

KNOWN = frozenset(field.name for field in fields(Variant))

EPS = 1e-5  # of a norm without a recorded one

KINDS = {
    "linear": "Linear",
    "batch_norm": "BatchNorm1d",
    "layer_norm": "LayerNorm",
    **{ours: theirs for theirs, ours in ACTIVATION_KINDS.items() if ours in ACTIVATIONS},
}
"""Kinds of layers in a head, and their classes in torch.nn."""


def read_record(contents: Contents) -> Mapping[str, Any]:
    """Read what a file states about itself: safetensors metadata, or a .pth of this program."""
    if contents.metadata:
        mine = contents.metadata.get("written_by") == MARK
        keys = KEYS if mine else SHARED
        return {key: contents.metadata_json(key) for key in keys}
    tree = contents.tree
    if isinstance(tree, Mapping) and tree.get("written_by") == MARK:
        return {key: tree.get(key) for key in KEYS}
    return {}


def record_of(head: Head, variant: Variant) -> dict[str, Any]:
    """Return what tensors do not show of a network, fit for JSON; empty for torchvision's own."""
    record: dict[str, Any] = {}
    if variant != Variant():
        record["variant"] = asdict(variant)
    if len(head) > 1:
        record["head"] = [{"kind": layer.kind, "eps": layer.eps} for layer in head]
    return record


def variant_from(record: Any) -> Variant | None:
    """Turn a recorded variant into one; None where there is no record.

    Raises:
        CheckpointError: the record is not one of this program.
    """
    if record is None:
        return None
    if not isinstance(record, Mapping) or not all(
        isinstance(record.get(field.name, field.default), type(field.default))
        for field in fields(Variant)
        if field.name != "dilated"
    ):
        raise CheckpointError(f"its recorded variant is not supported: {record}")
    dilated = record.get("dilated", PLAIN.dilated)
    if set(record) - KNOWN or not isinstance(dilated, list | tuple) or len(dilated) != 3:
        raise CheckpointError(f"its recorded variant is not supported: {record}")
    first, second, third = map(bool, dilated)
    return Variant(**{**record, "dilated": (first, second, third)})


def parts_from(record: Any) -> dict[str, Part]:
    """Turn a recorded head into its parts, by the names of its modules.

    Raises:
        CheckpointError: an unknown kind of layer.
    """
    if record is None:
        return {}
    if not isinstance(record, Sequence) or not all(
        isinstance(layer, Mapping)
        and isinstance(layer.get("kind"), str)
        and layer["kind"] in KINDS
        and isinstance(layer.get("eps", EPS), float)
        for layer in record
    ):
        raise CheckpointError(f"its recorded head is not supported: {record}")
    parts = {"fc": Part("Sequential")}
    for index, layer in enumerate(record):
        parts[f"fc.{index}"] = Part(KINDS[layer["kind"]], {"eps": layer.get("eps", EPS)})
    return parts


def as_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """Turn a record into the text values that safetensors metadata can hold."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in record.items()
    }


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
        raise CheckpointError(f"cannot use {path.with_name(CONFIG)}: {error}") from error
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


CAFFE_STYLE = re.compile(r"""\bstyle\W{1,5}caffe\b""")
"""Appears in the configuration that OpenMMLab's libraries store in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is stated about a network outside its tensors."""

    record: Mapping[str, Any]  # in the file itself; empty where it has none
    config: Config  # in the files beside it
    variant: Variant | None  # None where nothing states it
    parts: Mapping[str, Part] | None  # layers of the head; None where they are not recorded


def read_recorded(contents: Contents, path: Path) -> Recorded:
    """Read what a checkpoint and the files beside it state about the network.

    Raises:
        CheckpointError: damaged, of another network, or beyond what this program can do.
    """
    record, config = read_record(contents), find_config(path)
    head = record.get("head")
    return Recorded(
        record,
        config,
        variant_from(record.get("variant")) or config.variant or variant_of_style(contents.tree),
        None if head is None else parts_from(head),
    )


def variant_of_style(tree: Any) -> Variant | None:
    """Return the variant of OpenMMLab's ``style="caffe"``, or of torchvision's files in detectron2.

    None where the file states neither.
    """
    if not isinstance(tree, Mapping):
        return None
    if tree.get("__author__") == "torchvision":
        return PLAIN
    meta = tree.get("meta")
    for key, value in items_of(meta):
        if key in ("config", "cfg") and isinstance(value, str) and CAFFE_STYLE.search(value):
            return Variant(stride_in_1x1=True)
    return None
