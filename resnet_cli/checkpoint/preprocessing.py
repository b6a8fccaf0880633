"""How pictures are prepared for the network of a checkpoint, as far as anything records it."""

from collections.abc import Mapping

from resnet_cli.checkpoint.examination import Examination
from resnet_cli.checkpoint.hub import preprocess_of
from resnet_cli.checkpoint.locate import Location
from resnet_cli.preprocess import CAFFE, MSRA, PRESETS, Preprocess


def find_preprocess(examined: Examination, location: Location) -> tuple[Preprocess, str]:
    """What the checkpoint or the published weights record, else ``imagenet-v1``."""
    record, config = examined.record.get("preprocess"), examined.config
    if isinstance(record, Mapping):
        return Preprocess.from_record(record), "recorded in the checkpoint"
    if location.published is not None:
        return preprocess_of(location.published), f"of {location.published}"
    if config.preprocess is not None:
        return config.preprocess, config.source
    if examined.weights.layout.name == "caffe":
        return CAFFE, "of Caffe's ResNets"
    if examined.weights.layout.name == "msra":
        return MSRA, "of Detectron's ResNets"
    default = PRESETS["imagenet-v1"]
    grey = examined.found.in_channels == 1
    return default.with_channels(1) if grey else default, "imagenet-v1, as none is recorded"
