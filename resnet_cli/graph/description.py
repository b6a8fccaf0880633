"""What a network file of this program states of itself: our record, and names for Model API.

The record is JSON under the key ``resnet_cli``. Beside it stand the names that Intel's Model API
reads (https://github.com/open-edge-platform/model_api), so that it classifies with the same labels.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.graph import NORMALIZED, PIXELS, Description
from resnet_cli.preprocess import Preprocess

KEY = "resnet_cli"  # of the record
VERSION = 1  # of the record
MODEL_API = "model_info"  # the tag around Model API's names

NEWER = "a newer version of resnet-cli wrote it: upgrade resnet-cli, or export the file again"
DAMAGED = "the record that resnet-cli wrote into it is damaged: export the file again"

WORDS = {
    "input": (PIXELS, NORMALIZED),
    "activation": ("softmax", "sigmoid"),
    "precision": ("fp32", "fp16", "int8"),
}
"""Fields of the record that are one of a few words."""

INTERPOLATIONS = {
    "bilinear": "LINEAR",
    "bicubic": "CUBIC",
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
}
"""Our names of interpolations: Model API's."""


def as_properties(description: Description) -> dict[str, str]:
    """Return what an ONNX file carries, for its ``metadata_props``."""
    return {" ".join(path): value for path, value in as_rt_info(description).items()}


def as_rt_info(description: Description) -> dict[tuple[str, ...], str]:
    """Return what an OpenVINO file carries, each value for ``Model.set_rt_info(value, [*path])``.

    The values are ASCII or printable, so that XML can hold them.
    """
    values = {one.name: getattr(description, one.name) for one in fields(Description)}
    record = json.dumps({"version": VERSION} | values, default=dict)  # of a read-only mapping
    names = model_api_names(description)
    return {(KEY,): record} | {(MODEL_API, name): value for name, value in names.items()}


def model_api_names(description: Description) -> dict[str, str]:
    """Return the settings under which Model API classifies as this program does.

    It takes BGR images, as OpenCV reads them. It cannot resize to one size and crop to another: the
    nearest that it has is a square crop of the whole height or width. There is no setting for a
    network of one output.
    """
    if len(description.class_names) == 1:
        return {}
    preprocess = Preprocess.from_record(description.preprocess)
    names = {
        "model_type": "Classification",
        "model_name": description.model,
        "labels": " ".join(map(as_one_word, description.class_names)),
        "resize_type": "standard" if preprocess.squash else "crop",
        "interpolation_mode": INTERPOLATIONS[preprocess.interpolation],
        "reverse_input_channels": str(preprocess.color == "rgb"),
        "multilabel": str(description.activation == "sigmoid"),
        "output_raw_scores": "True",
        "confidence_threshold": "0.5",
    }
    return names | (scale_names(preprocess) if description.input == NORMALIZED else {})


def scale_names(preprocess: Preprocess) -> dict[str, str]:
    """Return the normalisation in Model API's names, for pixels of 0 to 255."""
    numbers = {"mean_values": preprocess.mean, "scale_values": preprocess.std}
    return {
        name: " ".join(f"{255 * value:.9g}" for value in values) for name, values in numbers.items()
    }


def as_one_word(label: str) -> str:
    """Spell a label without white space, which separates labels."""
    printable = "".join(letter if letter.isprintable() else " " for letter in label)
    return "_".join(printable.split()) or "_"


def description_from(metadata: Mapping[str, str]) -> Description | None:
    """Return what this program wrote of a network into its file; None where it wrote nothing.

    Fields that only a newer version knows are ignored, except those of the preprocessing, which
    decide the pixels.

    Args:
        metadata: the properties of an ONNX file, or the ``rt_info`` of OpenVINO.

    Raises:
        CheckpointError: it is damaged, or cannot be obeyed; the message names no file.
    """
    if KEY not in metadata:
        return None
    try:
        record = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(DAMAGED) from error
    if not isinstance(record, dict) or not is_count(record.get("version")):
        raise CheckpointError(DAMAGED)
    problem = NEWER if record["version"] > VERSION else DAMAGED
    known = {one.name: record[one.name] for one in fields(Description) if one.name in record}
    if not all(CHECKS[name](value) for name, value in known.items()):
        raise CheckpointError(problem)
    return describe_network(known, problem)


def describe_network(known: dict[str, Any], problem: str) -> Description:
    """Build the description from the checked fields of a record.

    Raises:
        CheckpointError: ``problem``; or a setting of the preprocessing that is not possible.
    """
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    try:
        description = Description(**(known | lists))
        preprocess = Preprocess.from_record(description.preprocess)
    except TypeError as error:  # a field that has to be there is missing
        raise CheckpointError(problem) from error
    except SettingError as error:
        raise CheckpointError(str(error)) from error
    return replace(description, preprocess=preprocess.record())


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_text(value: Any) -> bool:
    """Return whether a value is a string."""
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    """Return whether a value is a list of strings."""
    return isinstance(value, list) and all(map(is_text, value))


def is_record(value: Any) -> bool:
    """Return whether a value is an object of JSON."""
    return isinstance(value, dict)


CHECKS: Mapping[str, Callable[[Any], bool]] = {
    **{one.name: is_text for one in fields(Description)},
    **{name: words.__contains__ for name, words in WORDS.items()},
    "class_names": lambda value: is_texts(value) and bool(value),
    "notes": is_texts,
    "preprocess": is_record,
    "calibration": is_record,
    "agreement": is_record,
    "made_up": lambda value: isinstance(value, bool),
}
"""What each field of a record must be."""
