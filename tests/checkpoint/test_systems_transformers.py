"""Networks and folders of transformers: the same file, the same probabilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image
from torch import Tensor

from against import CLASSES, check, largest_shift, opened, trained
from resnet_cli.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

TRANSFORMERS: Any = transformers  # its types have gaps


BASIC = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


@pytest.fixture
def _quiet() -> Iterator[None]:
    TRANSFORMERS.utils.logging.disable_progress_bar()
    yield
    TRANSFORMERS.utils.logging.enable_progress_bar()


def transformers_network(channels: int = 3, **config: Any) -> Any:
    config |= {
        "num_channels": channels,
        "id2label": dict(enumerate(CLASSES)),
        "label2id": {name: index for index, name in enumerate(CLASSES)},
    }
    return trained(
        TRANSFORMERS.ResNetForImageClassification(TRANSFORMERS.ResNetConfig(**config)), channels
    )


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize(("config", "model", "shard"), [
    (BASIC, "resnet18", "1GB"),
    ({**BASIC, "channels": 1}, "resnet18", "10MB"),
    ({}, "resnet50", "1GB"),
    ({"downsample_in_bottleneck": True}, "resnet50", "1GB"),
])  # fmt: skip
def test_networks_of_transformers(config: dict[str, Any], model: str, shard: str) -> None:
    network = transformers_network(**config)
    network.save_pretrained("folder", max_shard_size=shard)
    checkpoint = check("folder", lambda images: network(images).logits, model=model, num_classes=4,
                       layout="transformers", stripped_prefix="resnet.")  # fmt: skip

    assert checkpoint.classes.names == tuple(CLASSES)
    assert (len(checkpoint.files) > 1) == (shard == "10MB")


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("config", [
    {"hidden_act": "gelu"},
    {"downsample_in_first_stage": True},
    {"embedding_size": 32},
])  # fmt: skip
def test_changed_networks_of_transformers_are_refused(config: dict[str, Any]) -> None:
    TRANSFORMERS.ResNetForImageClassification(
        TRANSFORMERS.ResNetConfig(**BASIC, **config)
    ).save_pretrained("folder")

    with pytest.raises(CheckpointError, match=next(iter(config))):
        opened("folder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers without a processor."""
    path = tmp_path_factory.mktemp("transformers")
    TRANSFORMERS.ResNetForImageClassification(TRANSFORMERS.ResNetConfig(**BASIC)).save_pretrained(
        path
    )
    return path


def pillow_processor(kind: str) -> Any:
    """The processor that uses Pillow, which has had two names."""
    name = f"{kind}ImageProcessor"
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


PLAIN_COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875, **PLAIN_COLOURS}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 2}),
    ("ConvNext", {}),  # 384 pixels, without a crop
    ("ViT", {}),  # squeezed into a square
    ("ViT", {"size": 160, "resample": 3, **PLAIN_COLOURS}),
    ("ViT", {"do_normalize": False}),
    ("Bit", {}),
    ("Bit", {"size": {"shortest_edge": 256}, "crop_size": 224, "resample": 2, **PLAIN_COLOURS}),
    ("Bit", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
]


@pytest.mark.parametrize(("kind", "settings"), PROCESSORS)
def test_images_are_prepared_as_a_processor_of_transformers_states(
    folder: Path, kind: str, settings: dict[str, Any]
) -> None:
    processor = pillow_processor(kind)(**settings)
    processor.save_pretrained(folder)
    checkpoint = opened(folder)

    def theirs(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    assert checkpoint.preprocess_source == "of preprocessor_config.json"
    assert largest_shift(checkpoint, theirs) < 1e-3


@pytest.mark.parametrize(("settings", "message"), [
    ({"do_resize": False}, "not resized"),
    ({"do_rescale": False}, "not scaled"),
    ({"size": {"height": 192, "width": 224}}, "192x224"),
    ({"resample": 1}, "filter 1"),
])  # fmt: skip
def test_what_a_processor_does_besides_is_refused(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    pillow_processor("ViT")(**settings).save_pretrained(folder)

    with pytest.raises(CheckpointError, match=message):
        opened(folder)
