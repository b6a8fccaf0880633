"""Images that Python hands over: the rows of their files, and sentences for what is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import picture, trained
from resnet_cli import Classifier, Prediction, Preprocess
from resnet_cli.errors import ImageError, InputError, SettingError
from resnet_cli.pipeline.workers import Processes
from resnet_cli.records import Item


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    path = tmp_path_factory.mktemp("checkpoint") / "three.pth"
    torch.save(trained().state_dict(), path)
    return Classifier.load(path, device="cpu", preprocess=Preprocess(72, 64))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    names = ("a.png", "b.jpg", "c.png", "d.jpg")
    return [picture(tmp_path / name, (90, 70), seed=n) for n, name in enumerate(names)]


def probs(rows: Iterator[Prediction]) -> list[float | None]:
    return [row.prob for row in rows]


def test_each_kind_of_image_has_the_row_of_its_file(
    classifier: Classifier, files: list[Path]
) -> None:
    expected = probs(classifier.predict(files))
    kinds: list[Any] = [
        [Image.open(path) for path in files],
        [path.read_bytes() for path in files],
        [bytearray(path.read_bytes()) for path in files],
        [memoryview(path.read_bytes()) for path in files],
        (Image.open(path) for path in files),
    ]
    for several in kinds:
        rows = list(classifier.predict(several))
        assert [str(row.path) for row in rows] == [f"image-{n}" for n in range(4)]
        assert probs(iter(rows)) == pytest.approx(expected, abs=1e-5)
    for path, prob in zip(files, expected, strict=True):
        (row,) = classifier.predict(path.read_bytes())
        assert str(row.path) == "image-0"
        assert row.prob == pytest.approx(prob, abs=1e-5)


def test_arrays_are_rgb_grey_or_rgb_and_alpha(classifier: Classifier, files: list[Path]) -> None:
    image = Image.open(files[0])
    rgb, grey = np.asarray(image), np.asarray(image.convert("L"))
    rgba = np.dstack([rgb, grey])
    arrays: list[Any] = [rgb, rgba, grey, grey[:, :, None], rgb[:, :, ::-1]]
    of_colours, of_alpha, *of_greys, of_bgr = probs(classifier.predict(arrays))
    (row,) = classifier.predict(image.convert("L"))

    assert [of_colours, of_alpha] == pytest.approx(probs(classifier.predict(files[:1])) * 2)
    assert of_greys == pytest.approx([row.prob] * 2)
    assert of_bgr != of_colours


def test_an_array_of_several_images_is_several(classifier: Classifier) -> None:
    several = np.random.default_rng(0).integers(0, 256, (3, 70, 90, 3)).astype(np.uint8)

    assert probs(classifier.predict(several)) == probs(classifier.predict(list(several)))


def test_paths_and_images_are_mixed(classifier: Classifier, files: list[Path]) -> None:
    mixed: list[Any] = [files[0], files[1].read_bytes(), str(files[0].parent), Image.open(files[2])]
    rows = list(classifier.predict(mixed))

    assert [str(row.path) for row in rows] == [
        str(files[0]), "image-1", *map(str, files), "image-3",
    ]  # fmt: skip


def test_what_cannot_be_decoded_is_an_error_row(classifier: Classifier, files: list[Path]) -> None:
    torn = files[0].read_bytes()[:-2000]
    lazy = Image.open(files[2])
    lazy.fp.close()  # type: ignore[union-attr]
    rows = list(classifier.predict([b"no image", torn, b"", lazy, files[1].read_bytes()]))

    assert [row.status for row in rows] == ["error"] * 4 + ["ok"]
    assert rows[0].error == "is a text, not an image"
    with pytest.raises(ImageError, match="stopped at image-0"):
        list(classifier.predict(b"no image", on_error="fail"))


@pytest.mark.parametrize("wrong", [
    np.zeros((20, 30, 3)), np.zeros((3, 20, 30), np.uint8), np.zeros((20, 30, 2), np.uint8),
    np.zeros((0, 30, 3), np.uint8), np.zeros(5, np.uint8), 7, None, torch.zeros(3, 20, 30),
], ids=str)  # fmt: skip
def test_what_is_no_image_is_refused_at_the_call(classifier: Classifier, wrong: Any) -> None:
    good = np.zeros((20, 30, 3), np.uint8)
    for given in ([good, wrong], wrong):
        if isinstance(given, torch.Tensor):
            continue  # several rows of numbers, refused as they are taken
        with pytest.raises(SettingError, match=r"uint8 array \[H, W, C\]|uint8 \[H, W, C\]"):
            classifier.predict(given)


def test_nothing_is_refused_at_the_call(classifier: Classifier) -> None:
    with pytest.raises(InputError):
        classifier.predict([])


def test_a_stream_is_taken_no_further_than_the_workers_need(classifier: Classifier) -> None:
    taken = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        while True:
            taken += 1
            with Image.new("RGB", (70, 70), (taken % 256, 0, 0)) as image:
                yield image

    rows = classifier.predict(endless(), batch_size=2, workers=2)
    for _, row in zip(range(10), rows, strict=False):
        assert row.status == "ok"
    rows.close()
    assert taken < 30


def test_an_array_may_change_once_it_was_taken(classifier: Classifier) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 70, 90, 3)).astype(np.uint8)

    def reused() -> Iterator[np.ndarray]:
        room = np.empty_like(values[0])
        for one in values:
            room[:] = one
            yield room

    assert probs(classifier.predict(reused())) == probs(classifier.predict(list(values)))


def test_images_in_memory_go_to_processes(classifier: Classifier, files: list[Path]) -> None:
    given = [Item(f"image-{n}", content=path.read_bytes()) for n, path in enumerate(files)]
    given.append(Item("image-4", content=Image.open(files[0]).copy()))
    expected = classifier.loader()(given)
    with_processes = Processes(classifier.loader(), workers=1, size=5)
    try:
        batch = with_processes(given)
    finally:
        with_processes.close()

    assert np.array_equal(batch.pixels, expected.pixels)
    assert [sample.item for sample in batch.samples] == given
    assert not any(sample.item.content for sample in batch.samples)


def test_bands_of_arrays_feed_a_network_of_as_many(tmp_path: Path) -> None:
    torch.save(trained(in_channels=5).state_dict(), "five.pth")
    numbers = Preprocess(72, 64, mean=(0.4,) * 5, std=(0.2,) * 5)
    classifier = Classifier.load("five.pth", device="cpu", preprocess=numbers)
    values = np.random.default_rng(0).integers(0, 256, (64, 72, 7)).astype(np.uint8)
    (row,) = classifier.predict(values)
    chosen = Classifier.load("five.pth", device="cpu", preprocess=numbers, bands=(7, 6, 5, 4, 3))
    (other,) = chosen.predict(values)
    (same,) = classifier.predict(values[:, :, 6:1:-1])

    assert row.warning == "has 7 bands, of which 1, 2, 3, 4, 5 were used (--bands)"
    assert other.warning is None
    assert (other.label, other.prob) == (same.label, same.prob)
    assert row.prob != other.prob
    with pytest.raises(SettingError, match="5 input channels with 3 bands"):
        Classifier.load("five.pth", device="cpu", preprocess=numbers, bands=(1, 2, 3))
