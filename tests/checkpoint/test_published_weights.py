"""Where a checkpoint comes from: a given file, the folder, or published weights."""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, Weights

from checkpoints import saved, tiny
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import Location, locate_checkpoint
from resnet_cli.checkpoint.published import fetch_weights, find_published
from resnet_cli.errors import CheckpointError, SettingError
from resnet_cli.files import sha256_of_files
from resnet_cli.preprocess import Preprocess


def put(*names: str) -> None:
    for name in names:
        path = Path("checkpoints") / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def located(**options: str | None) -> Location:
    return locate_checkpoint(None, **{"model": None, "weights": None, **options}, progress=False)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "a.pkl", "a.ckpt", "a.bin",
                                  "a.pth.tar", "a.th", "A.PTH"])  # fmt: skip
def test_the_only_checkpoint_of_the_folder_is_taken(name: str) -> None:
    put(name, "README.md", "classes.txt", "config.json", "train.py", "grid.png")
    location = located()

    assert location.path == Path("checkpoints") / name
    assert location.reason == "the only checkpoint in ./checkpoints"
    assert location.published is None


def test_several_checkpoints_in_the_folder_are_an_error_that_names_them() -> None:
    put("b.pth", "a.safetensors", "README.md")

    with pytest.raises(CheckpointError, match=r"a\.safetensors, b\.pth: choose one with -c"):
        located()


def test_a_given_file_is_taken_regardless_of_the_folder() -> None:
    put("a.pth", "b.pth")
    location = locate_checkpoint(
        "checkpoints/b.pth", model="resnet50", weights=None, progress=False
    )

    assert (location.path, location.reason) == (Path("checkpoints/b.pth"), "given")


def test_a_file_and_published_weights_are_one_source_too_many() -> None:
    put("a.pth")

    with pytest.raises(CheckpointError, match=r"checkpoints/a\.pth and IMAGENET1K_V1: name one"):
        locate_checkpoint("checkpoints/a.pth", model=None, weights="IMAGENET1K_V1", progress=False)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def cache() -> Path:
    """Where torch.hub keeps what was downloaded."""
    return Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(("options", "file"), [
    ({}, "resnet18-f37072fd.pth"),
    ({"model": "resnet34"}, "resnet34-b627a593.pth"),
    ({"weights": "ResNet50_Weights.IMAGENET1K_V1"}, "resnet50-0676ba61.pth"),
])  # fmt: skip
def test_without_a_network_the_error_names_where_to_put_the_file(
    options: dict[str, str], file: str
) -> None:
    with pytest.raises(CheckpointError) as refused:
        located(**options)

    assert str(refused.value).startswith(
        f"cannot download https://download.pytorch.org/models/{file}"
    )
    assert "no route to host" in str(refused.value)
    assert f"put the file at {cache() / file}, or name a checkpoint with -c" in str(refused.value)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("options", [{"model": "resnet18"}, {"weights": "IMAGENET1K_V1"}])
def test_the_folder_is_not_looked_at_when_published_weights_are_asked_for(
    options: dict[str, str],
) -> None:
    put("a.pth", "b.pth")

    with pytest.raises(CheckpointError, match=r"cannot download .*resnet18-f37072fd"):
        located(**options)


def test_a_cached_file_of_another_hash_is_refused() -> None:
    path = cache() / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the weights")

    with pytest.raises(CheckpointError) as refused:
        located()
    assert str(refused.value) == (
        f"cannot load {path}: its sha256 is not f37072fd…: delete it and try again"
    )


def published(content: bytes, checksum: str) -> Weights:
    """Weights that are published in the folder of this test."""
    source = Path("server") / f"tiny-{checksum}.pth"
    source.parent.mkdir()
    source.write_bytes(content)
    return Weights(url=source.absolute().as_uri(), transforms=Preprocess, meta={})


def test_published_weights_are_downloaded_once() -> None:
    content = b"weights"
    checksum = hashlib.sha256(content).hexdigest()
    weights = published(content, checksum[:8])
    path = fetch_weights(weights, progress=False)
    Path(f"server/tiny-{checksum[:8]}.pth").unlink()

    assert path == cache() / f"tiny-{checksum[:8]}.pth"
    assert path.read_bytes() == content
    assert fetch_weights(weights, progress=False) == path
    assert sha256_of_files(path) == checksum


def test_a_download_of_another_hash_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(CheckpointError, match="invalid hash"):
        fetch_weights(published(b"something else", "01234567"), progress=False)

    assert list(cache().iterdir()) == []


@pytest.mark.parametrize(("model", "name", "expected"), [
    (None, "DEFAULT", ResNet18_Weights.IMAGENET1K_V1),
    ("resnet18", "DEFAULT", ResNet18_Weights.IMAGENET1K_V1),
    ("resnet50", "DEFAULT", ResNet50_Weights.IMAGENET1K_V2),
    ("resnet50", "IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
    (None, "ResNet50_Weights.IMAGENET1K_V2", ResNet50_Weights.IMAGENET1K_V2),
    ("resnet34", "ResNet34_Weights.DEFAULT", ResNet34_Weights.IMAGENET1K_V1),
])  # fmt: skip
def test_published_weights_are_found_by_name(
    model: str | None, name: str, expected: Weights
) -> None:
    assert find_published(model, name) is expected


@pytest.mark.parametrize(("model", "name", "sentence"), [
    ("resnet19", "DEFAULT", "cannot find the model 'resnet19': one of resnet18, resnet34"),
    (None, "IMAGENET1K_V7", "IMAGENET1K_V7 of resnet18: one of IMAGENET1K_V1, DEFAULT"),
    ("resnet18", "IMAGENET1K_V2", "IMAGENET1K_V2 of resnet18: one of IMAGENET1K_V1"),
    (None, "VGG16_Weights.DEFAULT", "VGG16_Weights.DEFAULT: one of ResNet18_Weights"),
    ("resnet18", "ResNet50_Weights.IMAGENET1K_V2", "into resnet18: they are weights of resnet50"),
    (None, "", "cannot find the weights"),
])  # fmt: skip
def test_a_wrong_name_of_weights_is_an_error_that_lists_the_right_ones(
    model: str | None, name: str, sentence: str
) -> None:
    with pytest.raises(SettingError) as refused:
        find_published(model, name)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(("weights", "settings"), [
    (ResNet18_Weights.IMAGENET1K_V1, Preprocess(resize_size=256)),
    (ResNet50_Weights.IMAGENET1K_V2, Preprocess(resize_size=232)),
])  # fmt: skip
def test_published_weights_bring_their_preprocessing(weights: Any, settings: Preprocess) -> None:
    path = saved(tiny(num_classes=1000))
    checkpoint = load_checkpoint(Location(path, "published", weights))

    assert checkpoint.preprocess == settings
    assert checkpoint.preprocess_source == f"of {weights}"
