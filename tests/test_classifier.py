import subprocess
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import ResNet

import plain
from conftest import picture, trained
from items import items_of
from resnet_cli import Classifier, Prediction, Preprocess
from resnet_cli.checkpoint.loading import Checkpoint
from resnet_cli.errors import ImageError, InputError, SettingError
from resnet_cli.run.verify import verify_classifier
from resnet_cli.runtimes import SessionOptions
from resnet_cli.runtimes.torch_runtime import FromPixels, TorchSession

SIZES = [  # the whole-number arithmetic of resizing and cropping goes wrong at such as these
    (500, 375), (375, 500), (257, 1001), (256, 347), (49, 98), (224, 224), (640, 480), (231, 403),
    (300, 256), (1000, 333), (320, 260), (98, 49),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the plain loop does not fight other programs for cores
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of soft blots, plain colours and noise, so that labels differ."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number, size in enumerate(SIZES):
        path = folder / f"img{number}{'.png' if number % 4 == 3 else '.jpg'}"
        if number % 3 == 0:
            picture(path, size, seed=number)
        elif number % 3 == 1:
            Image.new("RGB", size, (20 * number, 255 - 20 * number, 128)).save(path)
        else:
            # not Image.effect_noise: it has no seed, and the labels would differ from run to run
            noise = np.random.default_rng(number).normal(128, 60 + 10 * number, size[::-1])
            grey = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            grey.convert("RGB").save(path, quality=95)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def network(pictures: list[Path]) -> ResNet:
    """A network of three classes, each of which wins on some of the pictures."""
    network = trained()
    with torch.inference_mode():
        images = torch.stack([plain.TRANSFORM(Image.open(p).convert("RGB")) for p in pictures])
        logits = network(images)
    scale = 1 / logits.std(dim=0)
    network.fc.weight.data.mul_(scale[:, None])
    network.fc.bias.data.sub_(logits.mean(dim=0)).mul_(scale)
    return network


@pytest.fixture(scope="module")
def expected(network: ResNet, pictures: list[Path]) -> Tensor:
    """Probabilities of the plain loop [pictures, 3]."""
    return torch.stack(list(plain.probabilities(network, pictures)))


@pytest.fixture(scope="module")
def file(network: ResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.pth"
    torch.save({"state_dict": network.state_dict(), "classes": ["ant", "bee", "cat"]}, path)
    return path


@pytest.fixture(scope="module")
def classifier(file: Path) -> Classifier:
    return Classifier.load(file, device="cpu")


@pytest.fixture(scope="module")
def exact(file: Path) -> Classifier:
    return Classifier.load(file, device="cpu", exact=True)


def dense(predictions: Sequence[Prediction]) -> Tensor:
    """Probabilities [N, classes] of predictions that kept every class."""
    table = torch.full((len(predictions), len(predictions[0].scores)), torch.nan)
    for row, prediction in zip(table, predictions, strict=True):
        for score in prediction.scores:
            row[score.index] = score.prob
    return table


def assert_close(actual: Tensor, expected: Tensor, most: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=most)


def test_the_images_of_these_tests_have_all_labels(expected: Tensor) -> None:
    best, second = expected.topk(2).values.T
    assert set(expected.argmax(dim=1).tolist()) == {0, 1, 2}
    assert (best - second).min() > 0.01


def test_exact_predictions_are_those_of_the_plain_loop(
    exact: Classifier, pictures: list[Path], expected: Tensor
) -> None:
    predictions = list(exact.predict(pictures, topk=3))
    assert [p.index for p in predictions] == expected.argmax(dim=1).tolist()
    assert_close(dense(predictions), expected, 1e-5)


def test_fast_predictions_are_close_to_the_plain_loop(
    classifier: Classifier, pictures: list[Path], expected: Tensor
) -> None:
    predictions = list(classifier.predict(pictures, topk=3))
    assert [p.index for p in predictions] == expected.argmax(dim=1).tolist()
    assert_close(dense(predictions), expected, 1e-2)


def test_photographs_get_the_label_of_the_plain_loop(data: Path) -> None:
    checkpoint = data / "checkpoints" / "resnet18_imagenet.pth"
    photographs = sorted((data / "photos" / "imagenet").glob("*.JPEG"))[::4][:40]
    expected = torch.stack(list(plain.probabilities(plain.load_resnet18(checkpoint), photographs)))
    predictions = list(Classifier.load(checkpoint, device="cpu").predict(photographs))

    assert len(predictions) == 40
    assert [p.index for p in predictions] == expected.argmax(dim=1).tolist()
    assert [p.prob for p in predictions] == pytest.approx(expected.amax(dim=1).tolist(), abs=1e-2)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("workers", [1, 2])
def test_batch_size_and_workers_change_no_row(
    exact: Classifier, pictures: list[Path], expected: Tensor, batch_size: int, workers: int
) -> None:
    predictions = list(exact.predict(pictures, topk=3, batch_size=batch_size, workers=workers))
    assert [p.path for p in predictions] == pictures
    assert [p.label for p in predictions] == [
        ["ant", "bee", "cat"][index] for index in expected.argmax(dim=1).tolist()
    ]
    assert_close(dense(predictions), expected, 1e-5)


def test_a_score_has_its_label_index_and_probability(
    classifier: Classifier, pictures: list[Path]
) -> None:
    for prediction in classifier.predict(pictures[:4], topk=3):
        scores = prediction.scores
        assert [s.label for s in scores] == [["ant", "bee", "cat"][s.index] for s in scores]
        assert sorted((s.prob for s in scores), reverse=True) == [s.prob for s in scores]
        assert sum(s.prob for s in scores) == pytest.approx(1, abs=1e-6)
        assert (prediction.label, prediction.index, prediction.prob) == (
            scores[0].label, scores[0].index, scores[0].prob
        )  # fmt: skip


@pytest.fixture
def with_broken(pictures: list[Path], tmp_path: Path) -> list[Path]:
    """The pictures with files that cannot be read before, between and after them."""
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(pictures[0].read_bytes()[:700])
    text = tmp_path / "text.png"
    text.write_text("no image")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    missing = tmp_path / "missing.jpg"
    paths = [torn, empty, *pictures, missing, tmp_path]
    for number in range(3, len(pictures), 2):
        paths.insert(number, [torn, text, empty, missing][number % 4])
    return paths


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 2), (64, 1)])
def test_broken_neighbours_change_nothing(
    exact: Classifier,
    pictures: list[Path],
    with_broken: list[Path],
    expected: Tensor,
    batch_size: int,
    workers: int,
) -> None:
    # a folder named as an input is searched, so the list goes by its own door
    listing = Path("list.txt")
    listing.write_text("".join(f"{path}\n" for path in with_broken))
    predictions = list(exact.predict("@list.txt", topk=3, batch_size=batch_size, workers=workers))

    assert [p.path for p in predictions] == with_broken
    good = [p for p in predictions if p.status == "ok"]
    assert [p.path for p in good] == pictures
    assert_close(dense(good), expected, 1e-5)
    for broken in (p for p in predictions if p.status == "error"):
        assert broken.error
        assert (broken.scores, broken.label, broken.index, broken.prob) == ((), None, None, None)
        assert broken.forward_ms is broken.batch_size is None


def test_a_run_of_broken_files_alone_is_all_error_rows(
    classifier: Classifier, with_broken: list[Path], pictures: list[Path]
) -> None:
    broken = [path for path in with_broken if path not in pictures and path.is_file()]
    predictions = list(classifier.predict(broken, batch_size=3))
    assert [p.path for p in predictions] == broken
    assert {p.status for p in predictions} == {"error"}


def test_an_input_named_twice_has_two_rows(classifier: Classifier, pictures: list[Path]) -> None:
    twice = [pictures[0], pictures[1], pictures[0]]
    first, _, again = classifier.predict(twice)
    assert (first.path, first.label) == (again.path, again.label)
    assert first.prob == pytest.approx(again.prob, abs=1e-5)


def test_ok_rows_have_times_and_the_size_of_their_batch(
    classifier: Classifier, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").touch()
    paths = [*pictures[:5], tmp_path / "broken.jpg", *pictures[5:9]]
    rows = list(classifier.predict(paths, batch_size=4, workers=1))

    assert [row.batch_size for row in rows] == [4, 4, 4, 4, 3, None, 3, 3, 2, 2]
    assert [row.warm_up for row in rows] == [True] * 4 + [False] * 6
    for row in rows:
        if row.status == "ok":
            parts = (row.decode_ms, row.preprocess_ms, row.forward_ms)
            assert all(part is not None and part > 0 for part in parts)
            assert row.total_ms == pytest.approx(sum(part or 0 for part in parts))
    assert len({row.forward_ms for row in rows[:4]}) == 1
    assert len({row.forward_ms for row in rows if row.status == "ok"}) == 3
    assert len({row.decode_ms for row in rows[:4]}) == 4


def test_without_a_batch_size_every_worker_has_work(
    classifier: Classifier, pictures: list[Path]
) -> None:
    sizes = [p.batch_size for p in classifier.predict(pictures, workers=2)]
    assert sizes == [3] * 12  # two batches for each, none of them smaller


class Hungry(nn.Module):
    """A network with memory for two images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 2:
            raise torch.OutOfMemoryError("no room")
        return self.network(x)


def test_a_batch_that_did_not_fit_has_the_same_rows_and_says_what_fitted(
    file: Path, pictures: list[Path], expected: Tensor
) -> None:
    exact = Classifier.load(file, device="cpu", exact=True)
    session = cast(TorchSession, exact.session)
    session.network = Hungry(cast(nn.Module, session.network))
    rows = list(exact.predict(pictures[:7], topk=3, batch_size=5, workers=1))

    assert [row.path for row in rows] == pictures[:7]
    assert_close(dense(rows), expected[:7], 1e-5)
    assert [row.batch_size for row in rows] == [2, 2, 2, 2, 1, 2, 2]


def test_a_top_probability_under_the_threshold_is_uncertain(
    classifier: Classifier, pictures: list[Path]
) -> None:
    sure = list(classifier.predict(pictures, topk=3))
    probs = sorted(cast(float, row.prob) for row in sure)
    threshold = (probs[3] + probs[4]) / 2
    rows = list(classifier.predict(pictures, topk=3, threshold=threshold))

    assert [row.decision == "uncertain" for row in rows].count(True) == 4
    assert {row.decision for row in sure} == {None}
    for row, before in zip(rows, sure, strict=True):
        uncertain = cast(float, before.prob) < threshold
        assert row.decision == ("uncertain" if uncertain else before.label)
        assert row.uncertain == uncertain
        assert (row.label, row.index) == (before.label, before.index)
        assert [s.prob for s in row.scores] == pytest.approx(
            [s.prob for s in before.scores], abs=1e-5
        )
        assert [s.label for s in row.scores] == [s.label for s in before.scores]


@pytest.mark.parametrize(
    ("classes", "given", "kept"),
    [(3, None, 1), (3, 2, 2), (3, 9, 3), (10, None, 1), (11, None, 5), (11, 1, 1), (11, 20, 11)],
)
def test_how_many_classes_are_kept(
    classifier: Classifier, pictures: list[Path], classes: int, given: int | None, kept: int
) -> None:
    network = trained(num_classes=classes)
    session = classifier.runtime.load(network, SessionOptions(preprocess=classifier.preprocess))
    names = tuple(f"class_{index}" for index in range(classes))
    wider = replace(classifier, session=session, class_names=names)

    [row] = wider.predict(pictures[0], topk=given)
    assert len(row.scores) == wider.topk(given) == kept


def test_with_on_error_fail_the_error_row_is_the_last(
    classifier: Classifier, pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.touch()
    rows: list[Prediction] = []
    before = set(threading.enumerate())
    with pytest.raises(ImageError, match=r"broken\.jpg: the file is empty") as caught:
        rows.extend(
            classifier.predict([*pictures[:3], broken, *pictures], batch_size=2, on_error="fail")
        )

    assert [row.path for row in rows] == [*pictures[:3], broken]
    assert [row.status for row in rows] == ["ok", "ok", "ok", "error"]
    assert len(str(caught.value).splitlines()) == 1
    assert set(threading.enumerate()) == before  # while the error is held


def test_predictions_are_a_stream(classifier: Classifier, pictures: list[Path]) -> None:
    before = set(threading.enumerate())
    stream = classifier.predict(pictures, batch_size=1, workers=1)
    assert next(stream).path == pictures[0]
    stream.close()
    assert set(threading.enumerate()) == before


def test_nothing_to_classify_is_an_input_error(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images found"):
        list(classifier.predict(tmp_path))


@pytest.mark.parametrize("exact_decoder", [False, True])
def test_thumbnails_are_small_images_of_the_same_shape(
    classifier: Classifier, exact: Classifier, tmp_path: Path, *, exact_decoder: bool
) -> None:
    wide = tmp_path / "wide.jpg"
    Image.new("RGB", (600, 300), (200, 30, 60)).save(wide)
    small = tmp_path / "small.png"
    Image.new("L", (30, 40), 99).save(small)
    (tmp_path / "torn.jpg").write_bytes(wide.read_bytes()[:300])
    chosen = exact if exact_decoder else classifier
    paths = [wide, small, tmp_path / "torn.jpg"]
    thumbnails = [row.thumbnail for row in chosen.predict(paths, thumbnails=True)]

    assert thumbnails[0] is not None
    assert thumbnails[1] is not None
    assert thumbnails[2] is None
    assert [t.size for t in thumbnails if t] == [(256, 128), (30, 40)]
    assert [t.mode for t in thumbnails if t] == ["RGB", "RGB"]
    red, green, blue = cast(tuple[int, ...], thumbnails[0].getpixel((128, 64)))
    assert max(abs(red - 200), abs(green - 30), abs(blue - 60)) <= 3
    assert thumbnails[1].getpixel((5, 5)) == (99, 99, 99)


def test_without_being_asked_there_are_no_thumbnails(
    classifier: Classifier, pictures: list[Path]
) -> None:
    assert [row.thumbnail for row in classifier.predict(pictures[:2])] == [None, None]


def test_verify_finds_the_same_labels(classifier: Classifier, with_broken: list[Path]) -> None:
    found = verify_classifier(classifier, items_of(with_broken))
    assert found.images == len(SIZES)  # broken ones are left out
    assert found.flips == ()
    assert 0 < found.largest_difference < 1e-2


def test_verify_finds_flips_when_the_network_is_spoiled(file: Path, pictures: list[Path]) -> None:
    spoiled = Classifier.load(file, device="cpu")
    head = cast(ResNet, cast(FromPixels, cast(TorchSession, spoiled.session).network).network).fc
    head.weight.data.neg_()
    head.bias.data.neg_()
    found = verify_classifier(spoiled, items_of(pictures[:4]))

    assert found.images == 4
    assert found.flips == tuple(items_of(pictures[:4]))  # the best class has become the worst
    assert found.largest_difference > 0.1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_that_runs_needs_no_weights_of_its_checkpoint(
    file: Path, pictures: list[Path], precision: str
) -> None:
    classifier = Classifier.load(file, device="cpu", precision=precision)
    before = [row.scores for row in classifier.predict(pictures)]
    assert isinstance(classifier.checkpoint, Checkpoint)
    held = [
        weakref.ref(tensor.untyped_storage()) for tensor in classifier.checkpoint.state.values()
    ]
    assert any(storage() is not None for storage in held)

    classifier.checkpoint.release()

    assert [storage() for storage in held if storage() is not None] == []
    assert [row.scores for row in classifier.predict(pictures)] == before


def test_verify_finds_nothing_in_nothing(classifier: Classifier) -> None:
    assert verify_classifier(classifier, []).images == 0


def test_preprocessing_can_be_given(file: Path, network: ResNet, pictures: list[Path]) -> None:
    settings = Preprocess(
        resize_size=80, crop_size=64, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2,) * 3
    )
    transform = transforms.Compose(
        [
            transforms.Resize(80, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.2]),
        ]
    )
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in pictures])
    with torch.inference_mode():
        expected = network(images).softmax(dim=1)

    given = Classifier.load(file, device="cpu", exact=True, preprocess=settings)
    assert given.preprocess == settings
    assert_close(dense(list(given.predict(pictures, topk=3))), expected, 1e-5)


def test_preprocessing_can_be_changed(file: Path) -> None:
    changed = Classifier.load(
        file, device="cpu", preprocess=lambda recorded: replace(recorded, crop_size=192)
    )
    assert changed.preprocess == Preprocess(resize_size=256, crop_size=192)


def test_bgr_turns_the_channels_round(file: Path, network: ResNet, tmp_path: Path) -> None:
    path = picture(tmp_path / "picture.png")
    image = plain.TRANSFORM(Image.merge("RGB", Image.open(path).split()[::-1]))
    with torch.inference_mode():
        expected = network(image.unsqueeze(0)).softmax(dim=1)

    bgr = Classifier.load(file, device="cpu", exact=True, preprocess=Preprocess(color="bgr"))
    assert_close(dense(list(bgr.predict(path, topk=3))), expected, 1e-5)


def test_a_network_of_one_channel_sees_greys(pictures: list[Path], tmp_path: Path) -> None:
    network = trained(in_channels=1)
    torch.save(network.state_dict(), tmp_path / "grey.pth")
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.449], [0.226]),
        ]
    )
    images = torch.stack([transform(Image.open(path).convert("L")) for path in pictures[:5]])
    with torch.inference_mode():
        expected = network(images).softmax(dim=1)

    grey = Classifier.load(tmp_path / "grey.pth", device="cpu")
    rows = list(grey.predict(pictures[:5], topk=3, thumbnails=True))
    assert_close(dense(rows), expected, 1e-5)
    assert [row.thumbnail.mode for row in rows if row.thumbnail] == ["RGB"] * 5


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat"], ["not cat", "cat"]),
        (["dog", "cat"], ["dog", "cat"]),
        (None, ["class_0", "class_1"]),
    ],
)
def test_a_network_of_one_output_is_a_sigmoid(
    sigmoid: tuple[ResNet, Path],
    pictures: list[Path],
    names: list[str] | None,
    labels: list[str],
) -> None:
    network, path = sigmoid
    images = torch.stack([plain.TRANSFORM(Image.open(p).convert("RGB")) for p in pictures[:6]])
    with torch.inference_mode():
        ones = network(images).sigmoid()[:, 0]

    single = Classifier.load(path, classes=names, device="cpu", exact=True)
    rows = list(single.predict(pictures[:6], topk=5))
    assert_close(dense(rows), torch.stack([1 - ones, ones], dim=1), 1e-5)
    assert {row.index for row in rows} == {0, 1}
    assert [row.label for row in rows] == [labels[one > 0.5] for one in ones.tolist()]
    assert [len(row.scores) for row in single.predict(pictures[:2])] == [1, 1]


@pytest.fixture(scope="module")
def sigmoid(network: ResNet, tmp_path_factory: pytest.TempPathFactory) -> tuple[ResNet, Path]:
    single = trained(num_classes=1)
    single.load_state_dict(network.state_dict() | {
        "fc.weight": network.fc.weight[:1], "fc.bias": network.fc.bias[:1]
    })  # fmt: skip
    path = tmp_path_factory.mktemp("sigmoid") / "sigmoid.pth"
    torch.save(single.state_dict(), path)
    return single, path


def test_an_unknown_precision_is_refused(file: Path) -> None:
    with pytest.raises(SettingError, match="one of fp32, bf16, fp16"):
        Classifier.load(file, device="cpu", precision="int4")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_to_the_plain_loop(
    file: Path, pictures: list[Path], expected: Tensor, precision: str
) -> None:
    half = Classifier.load(file, device="cpu", precision=precision)
    rows = list(half.predict(pictures[:4], topk=3))
    assert_close(dense(rows), expected[:4], 6e-2)


def test_the_record_holds_what_decides_the_predictions(classifier: Classifier, file: Path) -> None:
    record = classifier.record()
    digest = subprocess.run(["sha256sum", file], capture_output=True, check=True, text=True)
    assert record["checkpoint"] == {"path": str(file), "sha256": digest.stdout.split()[0]}
    assert record["model"] == "resnet18"
    assert record["classes"] == ["ant", "bee", "cat"]
    assert record["preprocess"]["resize_size"] == 256
    assert (record["device"], record["precision"]) == ("cpu", "fp32")
    assert [record[key] for key in DECODING] == ["apply", "ignore", None, 178_956_970]


def test_the_record_holds_how_files_become_pixels(file: Path) -> None:
    record = Classifier.load(
        file, device="cpu", upright=False, srgb=True, background="#336699", max_pixels=5_000
    ).record()
    assert [record[key] for key in DECODING] == ["ignore", "srgb", "#336699", 5_000]


DECODING = ("exif", "icc", "background", "max_pixels")


def test_the_distribution_has_every_class_by_its_index(checkpoint: Path, photos: Path) -> None:
    classifier = Classifier.load(checkpoint, device="cpu")
    for row in classifier.predict(photos, topk=2, distribution=True):
        assert row.distribution is not None
        assert len(row.scores) == 2
        assert row.distribution.sum() == pytest.approx(1)
        for score in row.scores:
            assert row.distribution[score.index] == pytest.approx(score.prob)
    assert all(row.distribution is None for row in classifier.predict(photos))
